"""Networks with planted frozen units."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

from torch_experiments.certificates.frozen.analysis import Frozen, frozen_units
from torch_experiments.lab.models import cnn, mlp, resnet18

DOUBLE = torch.float64


Planted = tuple[nn.Module, Tensor]


def inputs(*shape: int, seed: int = 0) -> Tensor:
    """Return inputs in [−1, 1]."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE) * 2 - 1


def reasons(found: Frozen) -> dict[tuple[str, int], str]:
    """Return the reasons by layer and unit."""
    return {(u.layer, u.unit): str(u.reason) for u in found.units}


@torch.no_grad()
def nonpositive(layer: nn.Module, unit: int, bias: float = -0.1) -> None:
    """Make the weights into a unit negative."""
    layer.weight[unit] = -layer.weight[unit].abs() - 0.01
    layer.bias[unit] = bias


def planted_mlp() -> Planted:
    model = mlp(4, 3, width=8, depth=3, dtype=DOUBLE)
    nonpositive(model.linear2, 5)
    with torch.no_grad():
        model.linear1.bias[2] = -20
    return model, inputs(6, 4)


def planted_cnn() -> Planted:
    model = cnn(8, 3, width=4, depth=2, hidden=6, dtype=DOUBLE)
    nonpositive(model.conv2, 3)
    nonpositive(model.linear, 1, 0.0)
    return model, inputs(3, 3, 8, 8)


def planted_resnet() -> Planted:
    model = resnet18(3, width=4, stages=(2, 1, 1, 1), norm="batch", dtype=DOUBLE).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(generator=torch.Generator().manual_seed(0))
    block = model.stage1[1]
    with torch.no_grad():
        block.conv1.weight[2] = -block.conv1.weight[2].abs()
        block.norm1.weight[2], block.norm1.bias[2] = 0.5, -0.2
        block.norm1.running_mean[2] = 0.3
    return model, inputs(2, 3, 4, 4)


class Functional(nn.Module):
    """Functional activations, in place and not, a skip, a concatenation and a tied layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again = nn.Linear(4, 6), nn.Linear(6, 6)
        self.side, self.head = nn.Linear(6, 5), nn.Linear(11, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return two numbers a sample."""
        h = nn.functional.relu(self.first(x))
        h = h + self.again(h).relu_()
        h = h + torch.relu(self.again(h))
        return self.head(torch.cat([h, nn.functional.relu6(self.side(h))], -1))


def planted_functional() -> Planted:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = Functional().double()
    nonpositive(model.side, 4)
    nonpositive(model.again, 0)
    return model, inputs(5, 4)


PLANTED: dict[str, tuple[Callable[[], Planted], dict[tuple[str, int], str]]] = {
    "mlp": (planted_mlp, {("act1", 2): "interval", ("act2", 5): "sign"}),
    "cnn": (planted_cnn, {("act2", 3): "sign", ("act", 1): "sign"}),
    "resnet": (planted_resnet, {("stage1.1.act1", 2): "sign"}),
    "functional": (
        planted_functional,
        {("relu#2", 0): "sign", ("relu#3", 0): "sign", ("hardtanh", 4): "sign"},
    ),
}


@cache
def certified(name: str) -> tuple[nn.Module, Tensor, Frozen]:
    """Return a planted network that no test changes, its inputs, and its frozen units."""
    model, x = PLANTED[name][0]()
    return model, x, frozen_units(model, x, box=(-1, 1))


def gradients(model: nn.Module, x: Tensor, seed: int) -> dict[str, Tensor]:
    """Return the gradients of a random loss."""
    model.zero_grad()
    y = model(x)
    generator = torch.Generator().manual_seed(seed)
    target = torch.randn(y.shape, generator=generator, dtype=y.dtype)
    (y * target + 0.1 * (y - target) ** 2).sum().backward()
    return {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in model.named_parameters()}


class Source(nn.Module):
    """A layer, a function of it, and a layer with units that are non-positive combinations of it."""

    def __init__(self, f: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.f = f
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first, self.second, self.head = nn.Linear(3, 8), nn.Linear(8, 4), nn.Linear(4, 2)
        nonpositive(self.second, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return two numbers a sample."""
        return self.head(self.second(self.f(self.first(x))).relu())
