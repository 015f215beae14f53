"""Everything that determines the numbers of a run of continual training, and what identifies its record."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

import torch

from torch_experiments import remedies
from torch_experiments.lab import streams
from torch_experiments.lab.images.augment import Augmentation
from torch_experiments.lab.models import ARCHITECTURES
from torch_experiments.lab.training import optimizers
from torch_experiments.support.choices import at_least_one, choose

Settings = tuple[tuple[str, Any], ...]
Protocol = Literal["corrected", "published"]
Precision = Literal["float32", "float64", "tf32", "bf16"]
LATER = {
    "size": None,
    "trapped": False,
    "first": 0,
    "betas": optimizers.BETAS,
    "weight_decay": None,
}  # younger than some records; left out of the identity at these values
REVISION = 1  # raise it when the same config would give other numbers: old records are then left alone


@dataclass(frozen=True)
class Config:
    """Everything that determines the numbers of a run but its seed.

    Attributes:
        experiment: name of the record.
        data: ``"digits"``, a folder or a zip (`torch_experiments.lab.images.formats`).
        size: edge in pixels to which images are reduced by means over areas; None leaves them as they are.
        stream, stream_settings: of `torch_experiments.lab.streams`.
        tasks: how many.
        first: number in the stream of the first of them; a network may see the last tasks of another run alone.
        steps: optimizer steps a task.
        arch: a key of `ARCHITECTURES`; norm, affine, activation, dropout and ``arch_settings`` (width, depth, …)
            are its arguments.
        batch: images a step.
        optimizer: ``"adam"``, ``"sgd"``, ``"adamw"``, ``"rmsprop"`` or ``"muon"`` (for matrices, AdamW for the
            rest) with rate ``lr`` and, for sgd, ``momentum``; its state is kept across tasks.
        betas: of adam, adamw and, in muon, of what AdamW trains.
        weight_decay: of adamw and muon, apart from the gradient; torch's default if None (0.01 and 0.1).
        head: at the start of every task the head is set to ``"zero"``, drawn ``"fresh"``, or ``"keep"``.
        protocol: ``"published"`` measures on the first images of a task, which JL25's data have sorted by class,
            and keeps the optimizer's moments of a head that is set to zero; ``"corrected"`` measures on a batch
            with all classes in turn and forgets these moments.
        remedy, remedy_settings: of `torch_experiments.remedies`.
        padding, flip, jitter: of `torch_experiments.lab.images.augment.Augmentation`.
        measure_every: steps between measurements, which are taken at both ends of a task besides.
        trapped: whether saturated units and the share of free parameters are measured at the end of every task.
        probe_train, probe_test: images of the two metric batches.
        precision: ``"float32"``, ``"float64"``, or on a GPU ``"tf32"`` or ``"bf16"`` (autocast).
        compile: whether `torch.compile` is used.
        device: a torch device.

    Raises:
        ValueError: for a value that a field does not take; the message names the field and what is allowed.

    >>> config = Config(stream="permuted", arch_settings=(("width", 64), ("depth", 3)))
    >>> config.tasks * config.steps, config.dtype
    (2500, torch.float32)
    >>> Config(arch="mpl")
    Traceback (most recent call last):
    ValueError: arch: got 'mpl'; allowed are 'mlp', 'cnn', 'resnet18', 'vit'
    """

    experiment: str = "run"
    data: str = "digits"
    size: int | None = None
    stream: str = "class_split"
    stream_settings: Settings = ()
    tasks: int = 5
    first: int = 0
    steps: int = 500
    arch: str = "mlp"
    arch_settings: Settings = ()
    norm: str = "none"
    affine: bool = True
    activation: str | None = None
    dropout: float = 0.0
    batch: int = 128
    optimizer: optimizers.Name = "adam"
    lr: float = 1e-3
    momentum: float = 0.9
    betas: tuple[float, float] = optimizers.BETAS
    weight_decay: float | None = None
    head: Literal["zero", "fresh", "keep"] = "zero"
    protocol: Protocol = "corrected"
    remedy: str = "none"
    remedy_settings: Settings = ()
    padding: int = 0
    flip: bool = False
    jitter: float = 0.0
    measure_every: int = 100
    trapped: bool = False
    probe_train: int = 500
    probe_test: int = 250
    precision: Precision = "float32"
    compile: bool = False
    device: str = "cpu"

    def __post_init__(self) -> None:
        choose("stream", self.stream, streams.STREAMS)
        choose("arch", self.arch, ARCHITECTURES)
        optimizers.check(self.optimizer, self.momentum, self.betas, self.weight_decay)
        choose("head", self.head, dict.fromkeys(("zero", "fresh", "keep")))
        choose("protocol", self.protocol, dict.fromkeys(("corrected", "published")))
        choose("precision", self.precision, dict.fromkeys(("float32", "float64", "tf32", "bf16")))
        remedies.make(self.remedy, **dict(self.remedy_settings))
        if self.size is not None and self.size < 1:
            raise ValueError(f"size: got {self.size}; it has to be at least 1, or None for images as they are")
        if self.first < 0:
            raise ValueError(f"first: got {self.first}; the tasks of a stream are numbered from 0")
        Augmentation(self.padding, self.flip, self.jitter)
        if not 0 <= self.lr < math.inf:
            raise ValueError(f"lr: got {self.lr}; it has to be a finite number, at least 0")
        at_least_one(
            **{
                name: getattr(self, name)
                for name in ("tasks", "steps", "batch", "measure_every", "probe_train", "probe_test")
            }
        )

    @property
    def dtype(self) -> torch.dtype:
        """Return the dtype of parameters and images."""
        return torch.float64 if self.precision == "float64" else torch.float32


def run_identity(config: Config, seed: int, fingerprint: str) -> dict[str, Any]:
    """Return what identifies the record of one run: all settings, the content of the data, and the seed.

    >>> about = run_identity(Config(arch_settings=(("width", 64),)), 3, "0123456789abcdef")
    >>> about["arch_settings"], about["seed"], about["data"], "size" in about
    ({'width': 64}, 3, '0123456789abcdef', False)
    """
    every = dataclasses.asdict(config)
    settings = {name: value for name, value in every.items() if name not in LATER or value != LATER[name]}
    for name in [name for name in settings if name.endswith("_settings")]:
        settings[name] = dict(sorted(settings[name]))
    return settings | {"revision": REVISION, "seed": seed, "data": fingerprint}
