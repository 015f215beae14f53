"""What `lop certify`, `lop diagnose` and `lop clone` do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from simulate.files import replacing
from torch_experiments.certificates.certificate import certify
from torch_experiments.cloning.exact import Mode, clone, layout
from torch_experiments.cloning.verification import verify
from torch_experiments.diagnostics import diagnose
from torch_experiments.support import loading
from torch_experiments.units.inputs import call, evaluating

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Subject:
    """A network and its batch, as the command line names them.

    Attributes:
        model: ``module:function``.
        settings: its keyword arguments, as JSON.
        checkpoint: of its weights.
        shape: of one input; used without ``batch``.
        samples, tokens, seed: of random inputs.
        batch: file of inputs (and targets).
        dtype: of the weights; None leaves them.
        box: bounds of the inputs; random ones are drawn in it.
    """

    model: str
    settings: str = "{}"
    checkpoint: Path | None = None
    shape: Sequence[int] = ()
    samples: int = 64
    tokens: int | None = None
    seed: int = 0
    batch: Path | None = None
    dtype: str | None = None
    box: tuple[float, float] | None = None

    def load(self) -> tuple[nn.Module, loading.Batch]:
        """Return the network with its weights, and the batch.

        Raises:
            ValueError, FileNotFoundError: for what does not fit; the message names the option.
        """
        model = loading.build(self.model, _json("settings", self.settings))
        if self.checkpoint is not None:
            loading.load_weights(model, self.checkpoint)
        if self.dtype is not None:
            model = model.to(DTYPES[self.dtype])
        batch = self._batch(model)
        _check_runs(model, batch.inputs)
        return model, batch

    def _batch(self, model: nn.Module) -> loading.Batch:
        if self.batch is not None:
            return loading.read_batch(self.batch, model)
        if not self.shape:
            raise ValueError("input: is missing; give the shape of one input, --input 3,64,64, or --batch FILE")
        given = {"tokens": self.tokens, "box": self.box, "seed": self.seed}
        return loading.random_batch(model, self.shape, self.samples, **given)  # type: ignore[arg-type]


def run_certify(
    subject: Subject,
    optimizer: str | None,
    optimizer_settings: str,
    html: Path | None,
    as_json: bool,
) -> None:
    """Print the certificate of a network, as a table or as JSON; write it as HTML."""
    model, batch = subject.load()
    settings = _json("optimizer-settings", optimizer_settings)
    rule = optimizer and loading.make_optimizer(model, optimizer, settings, subject.checkpoint)
    found = certify(model, batch.inputs, rule or None, targets=batch.targets, box=subject.box)
    if html is not None:
        _write(html, found.to_html().encode())
    _show(found.to_dict() if as_json else found, as_json)
    if subject.batch is None and not as_json:
        print(f"observed on {subject.samples} random inputs; use --batch FILE for your data")
    if html is not None and not as_json:
        print(f"wrote {html}")


def run_diagnose(subject: Subject, full: bool, as_json: bool) -> None:
    """Print the diagnostics of a network, as a table or as JSON."""
    model, batch = subject.load()
    found = diagnose(model, batch.inputs, batch.targets, metrics="full" if full else "fast")
    _show(dict(found) if as_json else found, as_json)
    if subject.batch is None and not as_json:
        print(f"on {subject.samples} random inputs, without gradients; use --batch FILE for your data")


def run_clone(subject: Subject, factor: int, mode: Mode, out: Path) -> None:
    """Write the weights of a clone as safetensors, and print what was verified and which sizes changed."""
    from safetensors.torch import save

    if out.suffix != ".safetensors":
        raise ValueError(f"out: got {out.name}; the file has to end in .safetensors")
    model, batch = subject.load()
    source = torch.Generator().manual_seed(subject.seed)
    wide = clone(model, factor, mode, source, example_inputs=batch.inputs)
    if mode in ("equal", "equitable", "rows"):
        place = layout(model, factor, example_inputs=batch.inputs)
        checked = verify(wide, model, place, batch.inputs)
        print(f"verified: outputs differ by {checked.function:.1e} (relative) on {checked.samples} samples")
    tensors = {name: t.detach().contiguous() for name, t in wide.state_dict().items()}
    _write(out, save(_untied(tensors), {"factor": str(factor), "mode": mode, "format": "pt"}))
    for name, tensor in model.state_dict().items():
        if tensor.shape != tensors[name].shape:
            print(f"{name}: {tuple(tensor.shape)} -> {tuple(tensors[name].shape)}")
    print(f"wrote {out}")


def _untied(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return tensors that share no memory, as safetensors wants them."""
    return {name: t.clone() for name, t in tensors.items()}


def _check_runs(model: nn.Module, inputs: torch.Tensor) -> None:
    """Run two samples, so that inputs of a wrong shape or kind end with a message that names the options."""
    try:
        with torch.random.fork_rng(devices=[]), evaluating(model):
            call(model, inputs[:2])
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        raise ValueError(
            f"input: the network cannot run on inputs of shape {tuple(inputs.shape)}, {inputs.dtype} "
            f"({str(error).splitlines()[0]}); give the shape of one input without the batch (--input 3,64,64), "
            "--tokens N for integers below N, or --batch FILE"
        ) from error


def _json(option: str, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{option}: {text!r} is no JSON ({error}); write for instance '{{\"width\": 64}}'"
        ) from error
    if not isinstance(found, dict):
        raise ValueError(f"{option}: got {text!r}; it has to be a JSON object, such as '{{\"width\": 64}}'")
    return found


def _show(found: Any, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        Console().print(found)


def _write(file: Path, content: bytes) -> None:
    if not file.parent.is_dir():
        raise ValueError(f"{file}: there is no folder {file.parent}; make it first")
    with replacing(file) as part:
        part.write_bytes(content)
