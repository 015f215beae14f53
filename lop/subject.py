"""What `lop certify`, `lop diagnose` and `lop clone` look at: a network, its weights and a batch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from lop.deferred import Deferred
from torch_experiments.support.choices import json_object

if TYPE_CHECKING:
    import torch

    from torch_experiments.support import hub, loading
    from torch_experiments.units import entry, inputs
    from torch_experiments.units.inputs import Inputs
else:
    torch = Deferred("torch")
    loading, inputs = Deferred("torch_experiments.support.loading"), Deferred("torch_experiments.units.inputs")
    hub, entry = Deferred("torch_experiments.support.hub"), Deferred("torch_experiments.units.entry")


@dataclass(frozen=True)
class Subject:
    """A network and its batch, as the command line names them.

    Attributes:
        model: module:function that makes the network, such as my_package.models:make; or none, with --hf.
        hf: A model of transformers with its weights instead: ORG/NAME on the Hugging Face hub, with @REVISION if
            you like, or a folder that save_pretrained wrote. Only safetensors are read.
        input: Shape of one input, such as 3,64,64; random inputs are used unless --batch is given.
        checkpoint: Weights: .safetensors, or a file of torch.save with tensors alone, such as a state dict or
            {"model": state dict, "optimizer": state dict}.
        settings: Keyword arguments of the function, as JSON, such as '{"width": 64}'.
        batch: Your data: a .safetensors file with a tensor named inputs, or with one for each argument of the
            network by its name, and one named targets if there are any; or a .npy file of inputs.
        samples: Number of random inputs.
        tokens: Draw integers below this number instead of Gaussian inputs.
        seed: Seed of everything that is drawn.
        dtype: Convert the network first.
        call: Method that is called in the place of forward, such as get_action_and_value.
    """

    model: Positional[str] = ""
    hf: str = ""
    input: str = ""
    checkpoint: Path | None = None
    settings: str = "{}"
    batch: Path | None = None
    samples: int = 64
    tokens: int | None = None
    seed: int = 0
    dtype: Literal["float32", "float64", "bfloat16"] | None = None
    call: str | None = None

    @property
    def named(self) -> str:
        """What the network is called: as it was given, with its checkpoint."""
        name = self.hf or self.model
        return name if self.checkpoint is None else f"{name} with {self.checkpoint.name}"

    def load(self, box: tuple[float, float] | None = None) -> tuple[torch.nn.Module, loading.Batch]:
        """Return the network with its weights, and the batch; random inputs are drawn in ``box`` if there is one.

        Raises:
            ValueError, FileNotFoundError: for what does not fit; the message names the option.
        """
        model = self._made()
        if self.checkpoint is not None:
            loading.load_weights(model, self.checkpoint)
        if self.dtype is not None:
            model = model.to(getattr(torch, self.dtype))
        batch = self._batch(model, box)
        with entry.calling(model, self.call):
            _check_runs(model, batch.inputs)
        return model, batch

    def _made(self) -> torch.nn.Module:
        if bool(self.model) == bool(self.hf):
            raise ValueError("model: give one network, as module:function or by --hf ORG/NAME")
        if self.model:
            return loading.build(self.model, json_object("settings", self.settings))
        name, _, revision = self.hf.partition("@") if not Path(self.hf).is_dir() else (self.hf, "", "")
        return hub.pretrained(name, revision or None)

    def _batch(self, model: torch.nn.Module, box: tuple[float, float] | None) -> loading.Batch:
        if self.batch is not None:
            return loading.read_batch(self.batch, model)
        shape = _shape(self.input)
        if self.hf and box is None:
            return loading.Batch(hub.example(model, shape, self.samples, self.seed))
        if not shape:
            raise ValueError("input: is missing; give the shape of one input, --input 3,64,64, or --batch FILE")
        return loading.random_batch(model, shape, self.samples, tokens=self.tokens, box=box, seed=self.seed)


def _shape(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(n) for n in text.split(",")) if text else ()
    except ValueError:
        raise ValueError(
            f"input: got {text!r}; write the sizes of one input with commas, such as 3,64,64"
        ) from None


def _check_runs(model: torch.nn.Module, batch: Inputs) -> None:
    """Run two samples, so that inputs of a wrong shape or kind end with a message that names the options."""
    try:
        with torch.random.fork_rng(devices=[]), inputs.evaluating(model):
            inputs.call(model, inputs.first_samples(batch, 2))
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        given = " and ".join(f"{tuple(x.shape)}, {x.dtype}" for x in inputs.flatten(batch))
        raise ValueError(
            f"input: the network cannot run on inputs of shape {given} "
            f"({str(error).splitlines()[0]}); give the shape of one input without the batch (--input 3,64,64), "
            "--tokens N for integers below N, or --batch FILE"
        ) from error
