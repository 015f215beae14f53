"""What an architecture of the zoo is, and how its inputs look in the form of its documentation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

SAMPLES, LENGTH, TOKENS, CLASSES, PIXELS = 4, 8, 48, 3, 32


@dataclass(frozen=True)
class Architecture:
    """A network with small random weights and a batch for it.

    Attributes:
        name: of the class or of the model.
        family: what kind of network it is.
        package: that it needs, as it is imported.
        build: makes it from a configuration; the seed is set by who calls.
        inputs: makes a batch, as the package's documentation calls the network.
    """

    name: str
    family: str
    package: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], Any]

    def __str__(self) -> str:
        """Return name, kind and package."""
        return f"{self.name}, {self.family}, {self.package}"

    @property
    def installed(self) -> bool:
        """Whether its package is."""
        return find_spec(self.package) is not None

    def made(self, seed: int = 0) -> nn.Module:
        """Return the network with weights drawn from ``seed``, in training mode."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = self.build().float().train().requires_grad_()
            for p in model.parameters():  # a head or a gate that begins at zero hides all that lies before it
                if p.ndim > 1 and not bool(p.any()):
                    nn.init.normal_(p, std=0.02)
            return model

    def batch(self, seed: int = 1) -> Any:
        """Return a batch drawn from ``seed``."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.inputs()


def images(channels: int = 3, size: int = PIXELS) -> Tensor:
    """Return a batch of images."""
    return torch.randn(SAMPLES, channels, size, size)


def tokens(length: int = LENGTH, count: int = TOKENS) -> Tensor:
    """Return a batch of tokens; the first three are kept for padding, begin and end."""
    return torch.randint(3, count, (SAMPLES, length))


def padding(length: int = LENGTH) -> Tensor:
    """Return a tokenizer's mask of a batch: the second sentence is shorter by two, the last by one."""
    mask = torch.ones(SAMPLES, length, dtype=torch.long)
    mask[1, -2:] = 0
    mask[-1, -1:] = 0
    return mask


def sentences(**more: Any) -> Mapping[str, Any]:
    """Return a tokenizer's batch of padded sentences, with further arguments."""
    mask = padding()
    ids = torch.where(mask.bool(), tokens(), 0)
    return {"input_ids": ids, "attention_mask": mask, **more}


def classes() -> Tensor:
    """Return a class a sample."""
    return torch.arange(SAMPLES) % CLASSES


def own_tokens(ignored: int = -100) -> dict[str, Any]:
    """Return a batch whose labels are its own tokens, as language models are trained."""
    batch = dict(sentences())
    labels = torch.where(batch["attention_mask"].bool(), batch["input_ids"], ignored)
    return {**batch, "labels": labels}
