"""From trapped to free without a loss bump: the controller acts when asked, reports, and resumes."""

from __future__ import annotations

import copy
import functools
import io
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from torch_experiments import PlasticityMonitor, Recovery, certify, clone, coarsest_blocks, remedies
from torch_experiments.lab.models import mlp
from torch_experiments.remedies.base import Remedy
from torch_experiments.remedies.bound import Bound
from torch_experiments.remedies.control import Controlled
from torch_experiments.remedies.escape import Escape


@dataclass(frozen=True)
class Alarm:
    """One entry of a fake monitor."""

    kind: str
    message: str = "too many copies"


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
    monitor.alarms += [Alarm("dead", "one"), Alarm("dead", "two"), Alarm("unknown")]
    (first,) = recovery.step()
    assert (first.remedy, first.step, first.reason) == ("Escape", 0, "one; two")
    assert recovery.step() == []
    monitor.alarms += [Alarm("dead"), Alarm("rank")]
    assert [action.remedy for action in recovery.step()] == ["ShrinkPerturb", "Escape"]
    monitor.alarms += [Alarm("dead")]
    assert [action.remedy for action in recovery.step()] == ["Escape"]
    assert [action.step for action in recovery.actions] == [0, 2, 2, 3]


@pytest.mark.parametrize("judge", [coarsest_blocks, certify])
def test_a_certificate_of_a_trapped_network_asks_and_that_of_a_free_one_does_not(judge: Callable[..., Any]) -> None:
    """Of the 49 weights and biases of the clone 13 are free, those of its base."""
    model = trapped()
    recovery = Recovery(None, escape(model))
    (action,) = recovery.consult(judge(model, X))
    assert action.reason == f"certificate: {13 / 49:.3g} of the parameters are free"
    assert recovery.consult(judge(model, X)) == []
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


def killed(model: nn.Module) -> None:
    with torch.no_grad():
        model.linear1.bias[:6] = -50


def test_recovery_answers_the_alarms_of_the_plasticity_monitor() -> None:
    """Half of the units die during training; the monitor sees it, and the loss stays as they are drawn again."""
    model = mlp(2, 1, width=12, depth=1, dtype=torch.float64)
    optimizer = sgd(model)
    with PlasticityMonitor(model, X, Y, on_alarm=lambda alarm: None) as monitor:
        recovery = Recovery(monitor, {"dead": escape(model, optimizer)})
        for step in range(6):
            descend(model, optimizer, 1)
            if step == 2:
                killed(model)
            monitor.measure()
            recovery.step()
    (action,) = recovery.actions
    assert (action.step, action.units, action.function_change) == (2, 6, 0)
    assert action.loss_after == action.loss_before
    assert action.reason.startswith("step 0: mean of the layers: dead_fraction rises to 0.5")


@pytest.mark.parametrize(("dead", "acts"), [(0.4, True), (0.6, False)])
def test_the_controller_of_a_run_acts_where_it_looks(dead: float, acts: bool) -> None:
    model = mlp(2, 1, width=12, depth=1, dtype=torch.float64)
    network, state = escape(model).network, {}
    remedy = Controlled(every=2, dead=dead, rank=0.99)
    remedy.after_step(network, state, 1)
    killed(model)
    kept, before = model.linear1.weight.detach().clone(), model(X)
    remedy.after_step(network, state, 2)
    assert torch.equal(model.linear1.weight, kept)
    again = dict(state)
    remedy.after_step(network, state, 3)
    assert torch.equal(model.linear1.weight[:6], kept[:6]) != acts
    assert torch.equal(model(X), before)
    if acts:
        remedy.after_step(network, again, 3)
        assert {k: float(v) for k, v in again.items()}["best 0:mean of the layers"] == 0


def test_a_fallen_rank_is_answered_by_shrinking() -> None:
    model = mlp(2, 1, width=12, depth=1, dtype=torch.float64)
    network, state = escape(model).network, {}
    remedy = Controlled(every=1, rank=0.5)
    remedy.after_step(network, state, 0)
    with torch.no_grad():
        for p in (model.linear1.weight, model.linear1.bias):
            p[:] = p[:1].clone()
    before = model.linear1.bias.detach().clone()
    remedy.after_step(network, state, 1)
    assert not torch.equal(model.linear1.bias, before)
    assert len(set(model.linear1.bias.tolist())) == 12


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


def test_when_one_of_two_remedies_fails_the_other_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise KeyboardInterrupt

    model, monitor = trapped(), Fake([Alarm("dead"), Alarm("rank")])
    split, shrink = escape(model), escape(model, remedy=remedies.ShrinkPerturb())
    recovery = Recovery(monitor, {"dead": split, "rank": shrink})
    before = [p.detach().clone() for p in model.parameters()]
    with monkeypatch.context() as patched:
        patched.setattr(remedies.ShrinkPerturb, "apply", fails)
        with pytest.raises(KeyboardInterrupt):
            recovery.step()
        with pytest.raises(KeyboardInterrupt):
            recovery.apply()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))
    assert (split.applied, recovery.steps, recovery.seen, recovery.actions) == (0, 0, 0, [])
    assert [action.remedy for action in recovery.step()] == ["Escape", "ShrinkPerturb"]
    assert (split.applied, shrink.applied, recovery.steps) == (1, 1, 1)


def test_the_controller_of_a_run_forgets_no_alarm_that_was_not_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise KeyboardInterrupt

    model = mlp(2, 1, width=12, depth=1, dtype=torch.float64)
    bound = escape(model, remedy=Controlled(every=1, dead=0.4, rank=0.99))
    bound.step()
    killed(model)
    with monkeypatch.context() as patched:
        patched.setattr(Escape, "apply", fails)
        with pytest.raises(KeyboardInterrupt):
            bound.step()
    assert (bound.steps, [key for key in bound.state if key.startswith("on ")]) == (1, [])
    bound.step()
    assert bool((model.linear1.bias[:6] > -50).all())
