"""Activations that are spelled out are judged as those with a name are."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from torch_experiments import certify
from torch_experiments.certificates.frozen.analysis import frozen_units
from torch_experiments.certificates.frozen.composites import composites
from torch_experiments.units import trace

UNITS, DEAD = 6, -1000.0
RECTIFIERS: dict[str, Callable[[Tensor], Tensor]] = {
    "maximum": lambda h: torch.maximum(h, torch.zeros(())),
    "maximum of a tensor": lambda h: torch.max(h, torch.zeros_like(h)),
    "minimum": lambda h: -torch.minimum(-h, h.new_zeros(())),
    "where": lambda h: torch.where(h > 0, h, 0.0),
    "product": lambda h: h * (h > 0),
    "product of numbers": lambda h: h * (h > 0).to(h.dtype),
    "masked fill": lambda h: h.masked_fill(h < 0, 0.0),
    "mean with its size": lambda h: (h + h.abs()) / 2,
    "sign": lambda h: h * (h.sign() + 1) / 2,
    "clamp by a tensor": lambda h: h.clamp(min=torch.zeros(())),
    "two ends": lambda h: torch.minimum(torch.maximum(h, torch.zeros(())), torch.full((), 6.0)),
    "between": lambda h: h * ((h > 0) & (h < 5)),
    "gelu_new": lambda h: 0.5 * h * (1 + torch.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h.pow(3)))),
    "gelu": lambda h: 0.5 * h * (1 + torch.erf(h / math.sqrt(2))),
    "silu": lambda h: h * torch.sigmoid(h),
    "mish": lambda h: h * torch.tanh(torch.log(1 + torch.exp(h))),
    "softplus": lambda h: torch.log(1 + h.exp()),
    "hardswish": lambda h: h * nn.functional.relu6(h + 3) / 6,
}
ALIVE: dict[str, Callable[[Tensor], Tensor]] = {
    "a leaky one": lambda h: torch.where(h > 0, h, 0.01 * h),
    "a skip": lambda h: torch.relu(h) + h,
    "straight through": lambda h: h + (torch.relu(h) - h).detach(),
    "a shrunk one": lambda h: h - torch.tanh(h),
    "a ratio": lambda h: h / (1 + h.abs()),
    "another unit": lambda h: h * (h.roll(1, -1) > 0),
}


class Net(nn.Module):
    def __init__(self, f: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.o, self.f = nn.Linear(4, UNITS), nn.Linear(UNITS, 3), f

    def forward(self, x: Tensor) -> Tensor:
        return self.o(self.f(self.a(x)))


def drawn(f: Callable[[Tensor], Tensor], dead: int = 2) -> tuple[Net, Tensor]:
    torch.manual_seed(0)
    model, x = Net(f).double(), torch.randn(40, 4).double()
    with torch.no_grad():
        model.a.bias[dead] = DEAD
    return model, x


@pytest.mark.parametrize("name", RECTIFIERS)
def test_a_dead_unit_is_found_with_its_entries(name: str) -> None:
    model, x = drawn(RECTIFIERS[name])
    found = certify(model, x, parts=("frozen",))
    assert {unit.unit for unit in found.frozen.units} == {2}
    model(x).square().sum().backward()
    assert bool((model.a.weight.grad[2] == 0).all())
    assert {n: int(m.sum()) for n, m in found.frozen.entries.items() if m.any()} == {
        "a.weight": 4,
        "a.bias": 1,
        "o.weight": 3,
    }
    assert not found.unreached
    assert found.free_fraction == pytest.approx(1 - 8 / found.parameters)


@pytest.mark.parametrize("name", ALIVE)
def test_a_unit_with_a_gradient_holds_no_entries(name: str) -> None:
    model, x = drawn(ALIVE[name])
    found = certify(model, x, parts=("frozen",))
    model(x).square().sum().backward()
    assert bool(model.a.weight.grad[2].any())
    assert not any(bool(mask[2].any()) for n, mask in found.frozen.entries.items() if n.startswith("a."))


@given(st.sampled_from([*RECTIFIERS, *ALIVE]), st.sets(st.integers(0, UNITS - 1)), st.integers(0, 99))
def test_what_is_claimed_has_no_gradient_and_what_has_none_is_claimed_or_listed(
    name: str, dead: set[int], seed: int
) -> None:
    torch.manual_seed(seed)
    model, x = Net((RECTIFIERS | ALIVE)[name]).double(), torch.randn(9, 4).double()
    with torch.no_grad():
        model.a.bias[list(dead)] = DEAD
    found = certify(model, x, parts=("frozen",))
    model(x).square().sum().backward()
    silent = {n: p.grad == 0 for n, p in model.named_parameters()}
    assert all(bool(silent[n][mask].all()) for n, mask in found.frozen.entries.items())
    listed = sum(part.entries for part in found.unreached)
    claimed = sum(int(mask.sum()) for mask in found.frozen.entries.values())
    assert claimed + listed == sum(int(mask.sum()) for mask in silent.values())


def test_a_surrogate_gradient_is_not_passed_over() -> None:
    class Spike(torch.autograd.Function):
        @staticmethod
        def forward(ctx, h):  # type: ignore[no-untyped-def]
            ctx.save_for_backward(h)
            return (h > 0).to(h.dtype)

        @staticmethod
        def backward(ctx, g):  # type: ignore[no-untyped-def]
            return g / (1 + ctx.saved_tensors[0].abs()) ** 2

    model, x = drawn(Spike.apply)
    found = frozen_units(model, x)
    assert not found.units
    assert not any(bool(mask.any()) for mask in found.entries.values())


def test_a_module_of_several_operations_is_one_activation() -> None:
    class NewGelu(nn.Module):
        def forward(self, h: Tensor) -> Tensor:
            return RECTIFIERS["gelu_new"](h)

    model, x = drawn(NewGelu())
    found = frozen_units(model, x)
    assert found.sizes == {"f": UNITS}
    assert [(unit.layer, unit.unit, unit.zero) for unit in found.units] == [("f", 2, True)]


def test_bounds_of_a_part_are_still_used() -> None:
    model, x = drawn(RECTIFIERS["hardswish"])
    found = frozen_units(model, x, box=(-9, 9))
    assert {str(unit.reason) for unit in found.units} == {"interval", "observed"}


def test_functions_that_are_nowhere_flat_or_have_a_name_are_no_composites() -> None:
    for f in (
        torch.relu,
        lambda h: 2 * torch.relu(h) + 1,
        torch.square,
        lambda h: 3 * h - 1,
        lambda h: h * h.mean(),
    ):
        assert not composites(trace(Net(f), torch.randn(5, 4)))


def test_a_tensor_that_is_changed_in_place_is_no_pre_activation() -> None:
    assert not composites(trace(Net(lambda h: h.mul_(h > 0)), torch.randn(5, 4)))


def test_whole_batches_and_dropout_are_observed() -> None:
    """Units that are dead on the first samples alone are not frozen; what dropout draws shifts no order."""
    torch.manual_seed(0)
    layers = [nn.Linear(4, UNITS), Net(RECTIFIERS["product"]), nn.Dropout(0.5), nn.Linear(3, 2)]
    layers[1].a = nn.Identity()  # type: ignore[assignment]
    model, x = nn.Sequential(*layers).double(), torch.randn(40, 4).double()
    with torch.no_grad():
        model[0].weight[2], model[0].bias[2] = 0, DEAD
        model[0].weight[3], model[0].bias[3] = torch.tensor([100.0, 0, 0, 0]), 0
        x[:, 0] = -x[:, 0].abs()
        x[-1, 0] = 5.0
    for training in (False, True):
        found = frozen_units(model.train(training), x[:7], batches=[x])
        assert {unit.unit for unit in found.units} == {2}
