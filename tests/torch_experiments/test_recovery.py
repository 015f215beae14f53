"""From trapped to free without a loss bump: the controller acts when asked, reports, and resumes."""

from __future__ import annotations

import copy
import functools
import io
import math
from dataclasses import dataclass, field

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from torch_experiments import Recovery, clone, coarsest_blocks, remedies
from torch_experiments.models import mlp
from torch_experiments.remedies.base import Remedy
from torch_experiments.remedies.bound import Bound
from torch_experiments.remedies.control import Controlled, Symptoms
from torch_experiments.remedies.escape import Escape


@dataclass(frozen=True)
class Alarm:
    """One entry of a fake monitor."""

    kind: str
    step: int = 0
    layer: str = "linear1"
    metric: str = "duplicate_fraction"
    value: float = 0.5
    threshold: float = 0.1


@dataclass
class Fake:
    """A monitor that says what it is told."""

    alarms: list[Alarm] = field(default_factory=list)


X = torch.randn(64, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = (3 * X[:, :1]).sin() * X[:, 1:]


def loss_of(model: nn.Module) -> Tensor:
    return mse_loss(model(X), Y)


def descend(
    model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, recovery: Recovery | None = None
) -> float:
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()
        if recovery is not None:
            recovery.step()
    return float(loss_of(model).detach())


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


def escape(model: nn.Module, optimizer: torch.optim.Optimizer | None = None, remedy: Remedy | None = None) -> Bound:
    optimizer = optimizer or sgd(model)
    return (remedy or Escape()).on(model, optimizer, example_inputs=X, loss=lambda: loss_of(model))


@functools.cache
def learnt() -> nn.Module:
    """Return a tanh network of width 3 that has learnt what it can."""
    base = mlp(2, 1, width=3, depth=1, activation="tanh", dtype=torch.float64)
    descend(base, sgd(base), 1500)
    return base


def trapped() -> nn.Module:
    """Return a network of width 12 on the manifold of that one."""
    return clone(learnt(), 4, example_inputs=X)


def test_recovery_frees_a_network_of_clones_and_the_loss_falls_below_the_trapped_one() -> None:
    model = trapped()
    alone = copy.deepcopy(model)
    stuck = descend(alone, sgd(alone), 1500)
    assert coarsest_blocks(alone, X).free_fraction < 0.5
    monitor, optimizer = Fake(), sgd(model)
    recovery = Recovery(monitor, escape(model, optimizer))
    descend(model, optimizer, 5, recovery)
    assert recovery.actions == []
    monitor.alarms.append(Alarm("duplicate"))
    (action,) = recovery.step()
    assert abs(action.loss_after - action.loss_before) <= 1e-12
    assert action.function_change <= 1e-12
    assert action.layers == ("head.weight",)
    assert action.units == 12
    assert descend(model, optimizer, 1500, recovery) < 0.5 * stuck
    assert coarsest_blocks(model, X).free_fraction == 1


def test_recovery_wakes_dead_units_and_the_loss_falls_below_the_trapped_one() -> None:
    model = mlp(2, 1, width=12, depth=1, dtype=torch.float64)
    with torch.no_grad():
        model.linear1.bias[2:] = -20
    optimizer = sgd(model)
    descend(model, optimizer, 300)
    alone = copy.deepcopy(model)
    stuck = descend(alone, sgd(alone), 1500)
    assert torch.equal(alone.linear1.weight[2:], model.linear1.weight[2:])
    (action,) = Recovery(None, escape(model, optimizer)).apply("they are dead")
    assert action.loss_after == action.loss_before
    assert (action.units, action.reason, action.function_change) == (10, "they are dead", 0)
    assert action.norm_after != action.norm_before
    assert descend(model, optimizer, 1500) < 0.5 * stuck


def test_a_remedy_that_changes_the_function_is_reported_as_such() -> None:
    model = trapped()
    bound = escape(model, remedy=remedies.ShrinkPerturb(0.5, 0.1))
    (action,) = Recovery(None, bound).apply()
    assert action.function_change > 0.01
    assert action.loss_after == pytest.approx(float(loss_of(model).detach()))
    assert action.loss_before != action.loss_after
    assert action.layers == tuple(name for name, _ in model.named_parameters())
    silent = remedies.OptimizerReset().on(model, sgd(model), example_inputs=X)
    (action,) = Recovery(None, silent).apply()
    assert math.isnan(action.loss_before)
    assert (action.layers, action.function_change) == ((), 0)


def test_alarms_are_answered_once_by_kind_and_with_patience() -> None:
    model, monitor = trapped(), Fake()
    splitting, shrinking = escape(model), escape(model, remedy=remedies.ShrinkPerturb())
    recovery = Recovery(monitor, {"dead": splitting, "rank": [shrinking, splitting]}, patience=2)
    monitor.alarms += [Alarm("dead"), Alarm("dead", layer="other"), Alarm("unknown")]
    (first,) = recovery.step()
    assert (first.remedy, first.step) == ("Escape", 0)
    assert first.reason == (
        "dead: duplicate_fraction of linear1 0.5 against 0.1; dead: duplicate_fraction of other 0.5 against 0.1"
    )
    assert recovery.step() == []
    monitor.alarms += [Alarm("dead"), Alarm("rank")]
    assert [action.remedy for action in recovery.step()] == ["ShrinkPerturb", "Escape"]
    monitor.alarms += [Alarm("dead")]
    assert [action.remedy for action in recovery.step()] == ["Escape"]
    assert [action.step for action in recovery.actions] == [0, 2, 2, 3]


def test_a_certificate_of_a_trapped_network_asks_and_that_of_a_free_one_does_not() -> None:
    model = trapped()
    recovery = Recovery(None, escape(model))
    (action,) = recovery.consult(coarsest_blocks(model, X))
    assert action.reason == "certificate: 0.265 of the parameters are free"
    assert recovery.consult(coarsest_blocks(model, X)) == []
    assert len(recovery.actions) == 1


def test_a_controller_resumes_with_its_report() -> None:
    model, monitor = trapped(), Fake([Alarm("dead")])
    recovery = Recovery(monitor, escape(model), patience=3)
    recovery.step()
    other = Recovery(monitor, escape(model), patience=3)
    other.load_state_dict(recovery.state_dict())
    assert other.actions == recovery.actions
    assert other.step() == []
    assert (other.steps, other.seen) == (2, 1)
    console = Console(file=io.StringIO(), width=200)
    console.print(other)
    text = console.file.getvalue()
    assert "Escape" in text
    assert "12 in head.weight" in text


def test_remedies_of_every_step_and_negative_patience_are_refused() -> None:
    model = trapped()
    with pytest.raises(TypeError, match="L2 acts at every step"):
        Recovery(None, escape(model, remedy=remedies.L2()))
    with pytest.raises(ValueError, match="patience: got -1"):
        Recovery(None, escape(model), patience=-1)


def test_symptoms_are_dead_shares_and_fallen_ranks() -> None:
    model = mlp(2, 1, width=4, depth=1, dtype=torch.float64)
    network, state = escape(model).network, {}
    monitor = Symptoms(network, state, dead=0.3, rank=0.9)
    assert monitor.step(0) == []
    best = float(state["linear1.rank"])
    with torch.no_grad():
        model.linear1.bias[:2] = -50
        model.linear1.weight[3] = model.linear1.weight[2]
        model.linear1.bias[3] = model.linear1.bias[2]
    dead, rank = monitor.step(7)
    assert (dead.kind, dead.value, dead.layer, dead.step) == ("dead", 0.5, "linear1", 7)
    assert (rank.kind, rank.threshold) == ("rank", 0.9 * best)
    assert rank.value == pytest.approx(1)
    assert monitor.alarms == [dead, rank]


def test_the_controller_of_a_run_acts_where_it_looks() -> None:
    model = mlp(2, 1, width=4, depth=1, dtype=torch.float64)
    network, state = escape(model).network, {}
    with torch.no_grad():
        model.linear1.bias[:2] = -50
    kept, before = model.linear1.weight.detach().clone(), model(X)
    remedy = Controlled(every=2, rank=0.0)
    remedy.after_step(network, state, 0)
    assert torch.equal(model.linear1.weight, kept)
    remedy.after_step(network, state, 1)
    assert not torch.equal(model.linear1.weight[:2], kept[:2])
    assert torch.equal(model(X), before)


def test_alarms_stay_new_when_a_remedy_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise KeyboardInterrupt

    model, monitor = trapped(), Fake([Alarm("dead")])
    recovery = Recovery(monitor, escape(model), patience=5)
    with monkeypatch.context() as patched:
        patched.setattr(Escape, "apply", fails)
        with pytest.raises(KeyboardInterrupt):
            recovery.step()
    assert (recovery.seen, recovery.actions) == (0, [])
    assert len(recovery.step()) == 1
