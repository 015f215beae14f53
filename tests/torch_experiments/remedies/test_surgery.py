"""Weights and the optimizer's state change together or not at all, for every optimizer of torch."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torch_experiments import remedies
from torch_experiments.remedies.surgery import Moments, Slice, Whole, commit, forgotten, zeroed

OPTIMIZERS: dict[str, Any] = {
    "SGD": {"momentum": 0.9},
    "Adam": {"amsgrad": True},
    "AdamW": {},
    "Adamax": {},
    "NAdam": {},
    "RAdam": {},
    "RMSprop": {"momentum": 0.9, "centered": True},
    "Adagrad": {},
    "Adadelta": {},
    "Rprop": {},
    "ASGD": {},
    "Muon": {},
}
X = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4, bias=False), nn.Tanh(), nn.Linear(4, 2, bias=False)).double()


def trained(name: str) -> tuple[nn.Sequential, torch.optim.Optimizer]:
    model = network()
    optimizer = getattr(torch.optim, name)(model.parameters(), lr=0.01, **OPTIMIZERS[name])
    for _ in range(3):
        optimizer.zero_grad()
        model(X).square().sum().backward()
        optimizer.step()
    return model, optimizer


def photograph(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    states = [v for state in optimizer.state.values() for v in state.values() if isinstance(v, Tensor)]
    return [t.detach().clone() for t in (*model.parameters(), *states)]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_all_state_of_a_replaced_unit_is_zero_and_that_of_its_neighbours_is_kept(name: str) -> None:
    model, optimizer = trained(name)
    before = {id(p): copy.deepcopy(optimizer.state[p]) for p in model.parameters()}
    bound = remedies.ReDo().on(model, optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        remedies.replace(bound.network, {"0": torch.tensor([2])}, 0)
    others, seen = torch.tensor([0, 1, 3]), 0
    for p, dim in zip(model.parameters(), (0, 1), strict=True):
        for key, value in optimizer.state[p].items():
            if isinstance(value, Tensor) and value.shape == p.shape:
                seen += 1
                assert not value.select(dim, 2).any(), key
                old = before[id(p)][key].index_select(dim, others)
                assert torch.equal(value.index_select(dim, others), old), key
            elif isinstance(value, Tensor):
                assert torch.equal(value, before[id(p)][key]), key
    assert seen


def test_state_that_cannot_be_split_is_named_once() -> None:
    model = network()
    optimizer = torch.optim.Adafactor(model.parameters(), lr=0.01)
    model(X).square().sum().backward()
    optimizer.step()
    moments = Moments(optimizer)
    with pytest.warns(UserWarning, match="'row_var', 'col_var'"):
        found = [moments(p) for p in model.parameters()]
    assert found == [{}, {}]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        moments(model[0].weight)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("failing", range(1, 9))
def test_an_interrupted_remedy_leaves_nothing_half_changed(
    error: type[BaseException], failing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, optimizer = trained("Adam")
    bound = remedies.ReDo().on(model, optimizer)
    before, count = photograph(model, optimizer), 0
    write = Slice.write

    def interrupted(edit: Slice) -> None:
        nonlocal count
        count += 1
        if count == failing:
            raise error
        write(edit)

    monkeypatch.setattr(Slice, "write", interrupted)
    with pytest.raises(error):
        remedies.replace(bound.network, {"0": torch.tensor([2])}, 0)
    assert count > failing
    assert same(photograph(model, optimizer), before)


def test_without_an_interruption_all_is_changed() -> None:
    model, optimizer = trained("Adam")
    before = photograph(model, optimizer)
    remedies.replace(remedies.ReDo().on(model, optimizer).network, {"0": torch.tensor([2])}, 0)
    changed = [not torch.equal(a, b) for a, b in zip(photograph(model, optimizer), before, strict=True)]
    assert changed[:2] == [True, True]
    assert sum(changed) == 2 + 2 * 3


def test_a_fresh_start_that_fails_keeps_weights_and_memory() -> None:
    class Broken(dict[Any, Any]):
        def clear(self) -> None:
            super().clear()
            raise KeyboardInterrupt

    model, optimizer = trained("Adam")
    network = remedies.Fresh().on(model, optimizer).network
    before = photograph(model, optimizer)
    memory = Broken(optimizer.state)
    with pytest.raises(KeyboardInterrupt):
        remedies.Fresh().apply(type(network)(model, network.moments, memory, network.fresh, 0), {}, 0)
    assert len(memory) == 2
    assert same(photograph(model, optimizer), before)


def test_edits_that_overlap_are_taken_back() -> None:
    x = torch.arange(6.0).reshape(2, 3)
    edits = [zeroed(x, 0, torch.tensor([0])), zeroed(x, 1, torch.tensor([0])), Whole(x, torch.ones(3, 3))]
    with pytest.raises(RuntimeError, match="size"):
        commit(edits)
    assert torch.equal(x, torch.arange(6.0).reshape(2, 3))
    commit(edits[:2])
    assert x.tolist() == [[0, 0, 0], [0, 4, 5]]


@pytest.mark.parametrize("name", ["Adam", "Adamax", "RMSprop", "Adagrad"])
def test_second_moments_become_the_mean_of_their_tensor_on_request(name: str) -> None:
    squares = {"Adam": ("exp_avg_sq", "max_exp_avg_sq"), "Adamax": ("exp_inf",)}.get(name, ("square_avg", "sum"))
    model, optimizer = trained(name)
    weight = model[0].weight
    before = copy.deepcopy(optimizer.state[weight])
    remedies.replace(remedies.ReDo().on(model, optimizer).network, {"0": torch.tensor([2])}, 0, second="mean")
    for key, value in optimizer.state[weight].items():
        if isinstance(value, Tensor) and value.shape == weight.shape:
            expected = float(before[key].sum()) / 12 if key in squares else 0.0
            assert value[2].tolist() == pytest.approx([expected] * 3, rel=1e-14), key


def first_steps(second: str) -> Tensor:
    """Return the sizes of 20 steps of a replaced unit under a constant gradient, in units of the learning rate."""
    weight = nn.Parameter(torch.zeros(2, 1, dtype=torch.float64))
    optimizer = torch.optim.Adam([weight], lr=1.0)
    places = []
    for step in range(10_020):
        if step == 10_000:
            for key, moment in Moments(optimizer)(weight).items():
                commit([forgotten(key, moment, 0, torch.tensor([1]), second)])
        places.append(weight.detach()[1, 0].item())
        weight.grad = torch.ones_like(weight)
        optimizer.step()
    return torch.tensor(places)[-20:].diff().abs()


def test_a_replaced_unit_starts_too_fast_unless_its_second_moments_are_typical() -> None:
    t = torch.arange(1, 20, dtype=torch.float64)
    expected = (1 - 0.9**t) / (1 - 0.999**t).sqrt()
    torch.testing.assert_close(first_steps("zero").double(), expected, rtol=1e-3, atol=0)
    assert (int(expected.argmax()) + 1, round(float(expected.max()), 1)) == (12, 6.6)
    assert first_steps("mean").max() < 1.05
