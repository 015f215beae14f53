"""Weights, the optimizer's state and what remedies remember change together or not at all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torch_experiments import remedies
from torch_experiments.remedies.surgery import Attribute, Entries, Slice, Whole, commit, transaction, zeroed

X = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4, bias=False), nn.Tanh(), nn.Linear(4, 2, bias=False)).double()


def trained() -> tuple[nn.Sequential, torch.optim.Optimizer]:
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, amsgrad=True)
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


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("failing", range(1, 9))
def test_an_interrupted_remedy_leaves_nothing_half_changed(
    error: type[BaseException], failing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, optimizer = trained()
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
    model, optimizer = trained()
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

    model, optimizer = trained()
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


def test_entries_that_are_taken_back_stand_in_their_old_order() -> None:
    memory = {"a": torch.zeros(1), "b": torch.ones(1)}
    with pytest.raises(RuntimeError, match="size"):
        commit([Entries(memory, {"b": torch.zeros(1), "a": torch.ones(1)}), Whole(torch.zeros(2), torch.ones(3))])
    assert list(memory.items()) == [("a", torch.zeros(1)), ("b", torch.ones(1))]


class Counter:
    """Something with an attribute."""

    steps = 0


def test_a_transaction_takes_back_all_that_was_committed_in_it() -> None:
    x, memory, counter = torch.zeros(2), {"a": torch.ones(1)}, Counter()
    before = dict(memory)

    @transaction()
    def act() -> None:
        commit([Whole(x, torch.ones(2)), Entries(memory, {"b": torch.zeros(1)})])
        with transaction():
            commit([Attribute(counter, "steps", 3), Whole(x, 2 * torch.ones(2))])
        assert (x.tolist(), list(memory), counter.steps) == ([2, 2], ["b"], 3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        act()
    assert (x.tolist(), memory, counter.steps) == ([0, 0], before, 0)


def test_what_stands_before_a_failing_commit_is_kept_unless_a_transaction_binds_it() -> None:
    x = torch.zeros(1)

    def act() -> None:
        commit([Whole(x, torch.ones(1))])
        commit([Whole(x, torch.ones(3))])

    for run, left in ((act, 1), (transaction()(act), 0)):
        x.zero_()
        with pytest.raises(RuntimeError, match="shape"):
            run()
        assert x.item() == left


def test_a_transaction_that_ends_well_keeps_nothing_back() -> None:
    x = torch.zeros(1)
    with transaction():
        commit([Whole(x, torch.ones(1))])
    with pytest.raises(KeyError), transaction():
        raise KeyError
    assert x.item() == 1
