"""Entries without gradient because of frozen units: those that are claimed have none, and none is missed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.torch_experiments.certificates.frozen.planted import (
    PLANTED,
    Source,
    certified,
    gradients,
    inputs,
    reasons,
)
from theory.certificates import Firmness
from torch_experiments.certificates.frozen.analysis import frozen_units


@pytest.mark.parametrize("name", PLANTED)
def test_claimed_entries_have_no_gradient(name: str) -> None:
    model, x, found = certified(name)
    for seed in range(3):
        for n, g in gradients(model, x, seed).items():
            assert (g[found.entries[n]] == 0).all()
    assert sum(int(m.sum()) for m in found.entries.values()) > 0


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_all_weights_into_and_out_of_dead_units_are_claimed_and_no_others(name: str) -> None:
    """A weight from unit ``u`` to unit ``v`` is held exactly if one of them is dead; a pixel is its channel."""
    model, x, found = certified(name)
    entries = found.entries
    dead = torch.zeros(x.shape[1], dtype=torch.bool)
    with torch.no_grad():
        for layer, module in model.named_children():
            if isinstance(module, nn.Linear | nn.Conv2d):
                W = entries[f"{layer}.weight"]
                dead = dead.repeat_interleave(W.shape[1] // len(dead))
                follower = torch.relu(module(x)).movedim(1, 0).flatten(1)
                after = (follower == 0).all(1) & torch.tensor(layer != "head")
                expected = (after[:, None] | dead).reshape(*W.shape[:2], *[1] * (W.ndim - 2)).expand(W.shape)
                assert torch.equal(W, expected)
                assert torch.equal(entries[f"{layer}.bias"], after)
                dead = after
            x = module(x)


@pytest.mark.parametrize("name", PLANTED)
def test_entries_of_firmer_reasons_have_no_gradient_on_other_data(name: str) -> None:
    model, x, found = certified(name)
    for seed in range(3):
        for n, g in gradients(model, inputs(*x.shape, seed=seed + 1), seed).items():
            assert (g[found.entries_of(Firmness.INTERVAL)[n]] == 0).all()
        for n, g in gradients(model, 50 * inputs(*x.shape, seed=seed + 1), seed).items():
            assert (g[found.entries_of(Firmness.SIGN)[n]] == 0).all()
    fewer, more = found.entries_of(Firmness.SIGN), found.entries
    assert all((~fewer[n] | more[n]).all() for n in more)


def test_a_path_that_depends_on_numbers_claims_no_entries() -> None:
    model = Source(torch.relu).double()
    plain = frozen_units(model, inputs(4, 3))
    assert any(m.any() for m in plain.entries.values())
    model.f = lambda h: torch.where(h > 0, h, 0 * h.mean(1, keepdim=True))
    with torch.no_grad():
        model.second.weight[1], model.second.bias[1] = 0, -1
    found = frozen_units(model, inputs(4, 3))
    assert ("relu", 1) in reasons(found)
    assert not any(m.any() for m in found.entries.values())
    assert [m.layer for m in found.missing] == ["entries"]


class StraightThrough(torch.autograd.Function):
    """Forward a ReLU, backward the identity."""

    @staticmethod
    def forward(_ctx: Any, z: Tensor) -> Tensor:
        return z.clamp(min=0)

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


@pytest.mark.parametrize("f", [StraightThrough.apply, lambda z: z.clamp(min=0)])
def test_no_entry_is_claimed_where_torch_computes_a_gradient(f: Callable[[Tensor], Tensor]) -> None:
    model = Source(f).double()
    model.first.bias.data[0] = -50
    found = frozen_units(model, inputs(6, 3))
    claimed = int(found.entries["first.weight"][0].sum())
    assert claimed == (0 if f == StraightThrough.apply else 3)
    told = any("torch.autograd.Function" in missing.why for missing in found.missing)
    assert told == (f == StraightThrough.apply)


class Power(nn.Module):
    def forward(self, h: Tensor) -> Tensor:
        return h.pow(60)


def test_random_numbers_that_overflow_are_named_and_claim_nothing() -> None:
    layers = [m for _ in range(4) for m in (nn.Linear(4, 4), Power())]
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), *layers, nn.Linear(4, 2)).double()
    with torch.no_grad():
        for p in model.parameters():
            p *= 0.1
        model[0].bias[1] = -50.0
    found = frozen_units(model, torch.randn(8, 3).double())
    assert any(unit.layer == "1" and unit.unit == 1 for unit in found.units)
    assert any("overflow" in missing.why and "0.weight" in missing.why for missing in found.missing)
    assert not any(bool(mask.any()) for mask in found.entries.values())


def test_exponentials_are_no_overflow() -> None:
    class Exponential(nn.Module):
        def forward(self, h: Tensor) -> Tensor:
            return torch.exp(h)

    layers = [m for _ in range(5) for m in (nn.Linear(4, 4), Exponential())]
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), *layers, nn.Linear(4, 2)).double()
    with torch.no_grad():
        for p in model.parameters():
            p *= 0.1
        model[0].bias[1] = -50.0
    found = frozen_units(model, torch.randn(8, 3).double())
    dead = len(found.units)
    assert dead >= 1
    assert int(found.entries["0.weight"].sum()) == 3 * dead
    assert int(found.entries["2.weight"].sum()) == 4 * dead


class Distances(nn.Module):
    """Tokens that get a bias by their clamped distance, which is counted in integers, as in T5."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.bias, self.head = nn.Linear(3, 6), nn.Embedding(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[1])
        apart = (places - 2).abs().clamp(max=3)
        apart += (apart > 2).to(torch.long) * 0
        return self.head(torch.relu(self.embed(x) + self.bias(apart)))


def test_integers_of_positions_are_as_they_are() -> None:
    torch.manual_seed(0)
    model = Distances()
    with torch.no_grad():
        model.embed.bias[:2] = -100.0
    found = frozen_units(model, torch.randn(8, 5, 3))
    assert found.entries["head.weight"].sum(0).tolist() == [2, 2, 0, 0, 0, 0]
