"""Remedies at work on somebody's model and optimizer: loops, hooks, checkpoints, compilation, processes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from torch_experiments import remedies
from torch_experiments.remedies import Bound, Remedy, redrawn
from torch_experiments.remedies.surgery import Attribute, Entries, Slice, Whole

X = torch.randn(40, 8, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
KINDS: dict[str, Callable[[], Remedy]] = {
    "cbp": lambda: remedies.ContinualBackprop(rate=0.05, maturity=3, decay=0.5),
    "redo": lambda: remedies.ReDo(every=4, threshold=0.5),
    "snr": lambda: remedies.SelfNormalizedReset(0.5, least=2, most=5),
    "l2-init": lambda: remedies.L2Init(0.1),
    "noise": lambda: remedies.Noise(0.5),
    "spectral": lambda: remedies.Spectral(0.1),
    "weight-clipping": lambda: remedies.WeightClipping(0.5),
    "syre": lambda: remedies.Syre(0.1),
}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2)).double()


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=0.01)


def descend(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range, bound: Bound | None = None) -> None:
    for step in steps:
        optimizer.zero_grad()
        model(X[step]).square().sum().backward()
        if bound is not None:
            bound.before_step()
        optimizer.step()
        if bound is not None:
            bound.step()


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("kind", KINDS)
def test_hooks_do_what_calls_by_hand_do_and_more_than_nothing(kind: str) -> None:
    found = []
    for how in ("hand", "hooks", "nothing"):
        model = network()
        optimizer = adam(model)
        bound = None if how == "nothing" else KINDS[kind]().on(model, optimizer)
        if bound is not None and how == "hooks":
            bound.attach()
        descend(model, optimizer, range(12), bound if how == "hand" else None)
        found.append(weights(model))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(kind: str) -> None:
    model = network()
    optimizer = adam(model)
    bound = KINDS[kind]().on(model, optimizer)
    descend(model, optimizer, range(7), bound)
    saved = copy.deepcopy([model.state_dict(), optimizer.state_dict(), bound.state_dict()])
    descend(model, optimizer, range(7, 14), bound)
    other = network()
    other_optimizer = adam(other)
    resumed = KINDS[kind]().on(other, other_optimizer)
    for thing, state in zip((other, other_optimizer, resumed), saved, strict=True):
        thing.load_state_dict(state)
    descend(other, other_optimizer, range(7, 14), resumed)
    assert torch.equal(weights(other), weights(model))
    assert resumed.steps == 14


@pytest.mark.parametrize("kind", [remedies.OptimizerReset, remedies.Fresh])
def test_an_optimizer_that_was_loaded_is_forgotten_too(kind: Callable[[], Remedy]) -> None:
    model = network()
    optimizer = adam(model)
    bound = kind().on(model, optimizer)
    descend(model, optimizer, range(3), bound)
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert len(optimizer.state) == 6
    bound.task()
    assert len(optimizer.state) == 0


ACTING: dict[str, Callable[[], Remedy]] = {
    "cbp": lambda: remedies.ContinualBackprop(rate=0.3, maturity=1, decay=0.5),
    "snr": lambda: remedies.SelfNormalizedReset(0.5, least=1, most=2),
    "redo": lambda: remedies.ReDo(every=1, threshold=0.8),
    "recovery": lambda: remedies.Controlled(every=1, dead=0.01, rank=0.01),
}


def everything(model: nn.Module, optimizer: torch.optim.Optimizer, bound: Bound) -> dict[str, Tensor]:
    """Return copies of all that a step may write."""
    moments = {
        f"{k} {name}": value
        for k, state in enumerate(optimizer.state.values())
        for name, value in state.items()
        if isinstance(value, Tensor)
    }
    counts = {name: torch.tensor(getattr(bound, name)) for name in ("steps", "tasks", "applied")}
    found = dict(model.state_dict()) | moments | counts | bound.state
    return {name: value.detach().clone() for name, value in found.items()}


def alike(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return list(one) == list(other) and all(
        torch.equal(a, b) for a, b in zip(one.values(), other.values(), strict=True)
    )


class Interruption:
    """Interrupts one of the next writes, the one after ``left`` others."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = -1
        for kind in (Slice, Whole, Entries, Attribute):
            monkeypatch.setattr(kind, "write", self.interrupted(kind.write))

    def interrupted(self, write: Callable[[Any], None]) -> Callable[[Any], None]:
        def interrupted(edit: Any) -> None:
            write(edit)
            self.left -= 1
            if self.left == -1:
                raise KeyboardInterrupt

        return interrupted


@pytest.mark.parametrize("kind", ACTING)
def test_an_interrupted_step_is_none_and_a_retry_counts_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step is interrupted after each write in turn; repeated, it is the one that it would have been."""
    model, plain = network(), network()
    optimizer, plain_optimizer = adam(model), adam(plain)
    bound = ACTING[kind]().on(model, optimizer, example_inputs=X[0])
    expected = ACTING[kind]().on(plain, plain_optimizer, example_inputs=X[0])
    interruption, interruptions = Interruption(monkeypatch), 0
    for step in range(5):
        if step == 3:
            with torch.no_grad():
                for one in (model, plain):
                    one[0].bias[:3] = one[2].bias[:2] = -50
        for one, own in ((model, optimizer), (plain, plain_optimizer)):
            own.zero_grad()
            one(X[step]).square().sum().backward()
            own.step()
        before = everything(model, optimizer, bound)
        for writes in range(200):
            interruption.left = writes
            try:
                bound.step()
                break
            except KeyboardInterrupt:
                interruptions += 1
                assert alike(everything(model, optimizer, bound), before)
        interruption.left = -1
        expected.step()
        assert alike(everything(model, optimizer, bound), everything(plain, plain_optimizer, expected))
    assert interruptions > 20


@pytest.mark.parametrize("call", ["task", "apply"])
def test_an_interrupted_task_is_not_counted(call: str) -> None:
    model = network()

    def fresh(seed: int) -> nn.Module:
        if fails.pop():
            return redrawn(model, seed)
        raise KeyboardInterrupt

    fails = [True, False]
    bound = remedies.ShrinkPerturb().on(model, adam(model), fresh=fresh)
    before = weights(model)
    with pytest.raises(KeyboardInterrupt):
        getattr(bound, call)()
    assert (bound.tasks, bound.applied) == (0, 0)
    assert torch.equal(weights(model), before)
    getattr(bound, call)()
    other = network()
    expected = remedies.ShrinkPerturb().on(other, adam(other))
    getattr(expected, call)()
    assert (bound.tasks, bound.applied) == (expected.tasks, expected.applied)
    assert torch.equal(weights(model), weights(other))


def test_singular_vectors_are_remembered_once_the_gradients_are_edited(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    bound = remedies.Spectral(0.1).on(model, adam(model))
    model(X[0]).square().sum().backward()
    before = {name: v.clone() for name, v in bound.state.items()}
    Interruption(monkeypatch).left = 0
    with pytest.raises(KeyboardInterrupt):
        bound.before_step()
    assert all(torch.equal(bound.state[name], v) for name, v in before.items())
    bound.before_step()
    assert not any(torch.equal(bound.state[name], v) for name, v in before.items())


def test_a_removed_remedy_does_nothing() -> None:
    plain, model = network(), network()
    optimizer = adam(model)
    bound = remedies.L2(0.1).on(model, optimizer).attach()
    bound.remove()
    descend(model, optimizer, range(5))
    descend(plain, adam(plain), range(5))
    assert torch.equal(weights(model), weights(plain))


def test_tasks_are_counted_and_differ() -> None:
    model = network()
    bound = remedies.ShrinkPerturb(0.0, 1.0).on(model, adam(model))
    bound.task()
    first = weights(model)
    bound.task()
    assert bound.tasks == 2
    assert not torch.equal(first, weights(model))
    bound.apply()
    again = weights(model)
    bound.apply()
    assert not torch.equal(again, weights(model))


def test_a_compiled_model_is_observed() -> None:
    model = network()
    optimizer = adam(model)
    bound = remedies.ReDo(every=1, threshold=0.5).on(torch.compile(model, backend="eager"), optimizer)
    compiled = torch.compile(model, backend="eager")
    descend(compiled, optimizer, range(3), bound)
    plain = network()
    plain_optimizer = adam(plain)
    descend(plain, plain_optimizer, range(3), remedies.ReDo(every=1, threshold=0.5).on(plain, plain_optimizer))
    torch.testing.assert_close(weights(model), weights(plain), rtol=1e-12, atol=1e-12)


def test_a_remedy_that_has_seen_nothing_says_so() -> None:
    model = network()
    bound = remedies.ReDo(every=1).on(model, adam(model))
    with pytest.raises(RuntimeError, match="no training pass of layer '0'"):
        bound.step()


def test_an_optimizer_of_another_model_is_refused() -> None:
    with pytest.raises(ValueError, match="none of the parameters of model"):
        remedies.L2().on(network(), adam(network()))


class Bare(nn.Module):
    """A module with a parameter and no way to draw it again."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.scale = nn.Linear(3, 3), nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        """Return scaled outputs."""
        return self.inner(x) * self.scale


def test_a_redrawn_network_depends_on_its_seed_alone() -> None:
    model, state = network(), torch.get_rng_state()
    one, other, third = redrawn(model, 1), redrawn(model, 1), redrawn(model, 2)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(weights(one), weights(other))
    assert not torch.equal(weights(one), weights(third))
    with pytest.raises(TypeError, match=r"1 \(Bare\) has parameters and no reset_parameters"):
        redrawn(nn.Sequential(nn.Linear(3, 3), Bare()), 0)


@pytest.mark.parametrize(
    "name", ["redo", "cbp", "snr", "shrink-perturb", "fresh", "l2", "escape", "weight-clipping"]
)
def test_a_remedy_that_draws_weights_says_at_once_that_it_cannot(name: str) -> None:
    x = torch.randn(8, 3)
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), Bare())
    remedy, optimizer = remedies.make(name), adam(model)
    if remedy.draws:
        with pytest.raises(TypeError, match=r"2 \(Bare\) has parameters and no reset_parameters"):
            remedy.on(model, optimizer, example_inputs=x)
    assert remedy.draws == (name not in ("l2", "escape", "weight-clipping"))
    fresh = None if not remedy.draws else lambda seed: nn.Sequential(nn.Linear(3, 3), nn.ReLU(), Bare())
    assert remedy.on(model, optimizer, example_inputs=x, fresh=fresh).steps == 0


def train_in_process(first: int) -> dict[str, Tensor]:
    """Train on own data, once bound to the parallel model and once, as a control, to the module inside."""
    found: dict[str, Tensor] = {}
    for name in ("parallel", "inside"):
        model = network()
        parallel = DistributedDataParallel(model)
        optimizer = adam(model)
        given = parallel if name == "parallel" else model
        bound = remedies.ReDo(every=2, threshold=0.6).on(given, optimizer)
        descend(parallel, optimizer, range(first, first + 6), bound)
        found[name] = weights(model)
    return found


def test_all_processes_replace_the_same_units(in_two_processes: Callable[..., list[dict[str, Tensor]]]) -> None:
    one, other = in_two_processes(train_in_process, (0,), (20,))
    assert torch.equal(one["parallel"], other["parallel"])
    assert not torch.equal(one["inside"], other["inside"])


@pytest.mark.gpu
@pytest.mark.parametrize("kind", [*KINDS, "escape"])
def test_a_remedy_on_a_gpu_does_what_it_does_on_the_cpu(kind: str) -> None:
    found = []
    for device in ("cpu", "cuda"):
        model = network().to(device)
        optimizer = adam(model)
        remedy = remedies.Escape() if kind == "escape" else KINDS[kind]()
        bound = remedy.on(model, optimizer, example_inputs=X[0].to(device))
        with torch.no_grad():
            model[0].bias[1] = -50
        for step in range(6):
            optimizer.zero_grad()
            model(X[step].to(device)).square().sum().backward()
            bound.before_step()
            optimizer.step()
            bound.step()
        bound.task()
        found.append(weights(model).cpu())
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.parametrize(
    "wrap",
    [
        nn.utils.weight_norm,
        nn.utils.spectral_norm,
        nn.utils.parametrizations.weight_norm,
        nn.utils.parametrizations.spectral_norm,
    ],
)
def test_weights_that_are_computed_are_drawn_anew(wrap):
    """``reset_parameters`` draws into the computed weight, which the next pass makes from the old parameters."""
    torch.manual_seed(0)
    model = wrap(nn.Linear(4, 6))
    fresh, again = redrawn(model, 3), redrawn(model, 3)
    before, after = dict(model.named_parameters()), dict(fresh.named_parameters())
    assert all(not torch.equal(p, after[name]) for name, p in before.items() if p.ndim > 1 and p.shape[1] > 1)
    assert all(torch.equal(p, after[name]) for name, p in again.named_parameters())
    plain = redrawn(nn.Linear(4, 6), 3)
    computed = next(p for name, p in after.items() if p.shape == (6, 4))
    assert torch.allclose(computed / computed.norm(), plain.weight / plain.weight.norm())
