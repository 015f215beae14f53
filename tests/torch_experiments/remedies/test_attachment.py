"""Gradients are edited inside of every kind of step, and optimizers that nobody named are noticed."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tests.torch_experiments.support.test_steps import Wrapper
from torch_experiments import remedies
from torch_experiments.remedies import Bound, Remedy
from torch_experiments.remedies.attachment import LOOKOUT
from torch_experiments.support.torch_private import step_hooks

X = torch.randn(12, 8, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
EDITING: dict[str, Callable[[], Remedy]] = {
    "l2": lambda: remedies.L2(0.1),
    "l2-init": lambda: remedies.L2Init(0.1),
    "syre": lambda: remedies.Syre(0.1),
    "spectral": lambda: remedies.Spectral(0.1),
    "parseval": lambda: remedies.Parseval(0.1),
    "noise": lambda: remedies.Noise(0.5),
    "rank": lambda: remedies.RankBonus(0.5),
}
OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.01, momentum=0.9),
    "Adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01),
    "LBFGS": lambda parameters: torch.optim.LBFGS(parameters, lr=0.1, max_iter=3),
}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def closure_of(
    model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, edit: Any = None
) -> Callable[[], Any]:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        if edit is not None:
            edit()
        return loss

    return closure


def trained(kind: str, name: str, how: str) -> tuple[Tensor, int]:
    """Return the weights after 5 steps, and the steps that the remedy counted."""
    model = network()
    optimizer = OPTIMIZERS[name](model.parameters())
    bound = EDITING[kind]().on(model, optimizer, example_inputs=X[0])
    if "attached" in how:
        bound.attach()
    for x in X[:5]:
        closure = closure_of(model, optimizer, x, bound.before_step if how == "by hand" else None)
        if "closure" in how or name == "LBFGS":
            optimizer.step(closure=closure) if "named" in how else optimizer.step(closure)
        else:
            closure()
            optimizer.step()
        if how == "by hand":
            bound.step()
    return weights(model), bound.steps


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("kind", EDITING)
def test_a_step_with_a_closure_is_a_step_of_the_plain_loop(kind: str, name: str) -> None:
    expected, _ = trained(kind, name, "by hand")
    for how in ("attached", "attached, closure", "attached, named closure"):
        found, steps = trained(kind, name, how)
        assert torch.equal(found, expected), how
        assert steps == 5
    assert not torch.equal(trained(kind, name, "nothing")[0], expected)


def test_only_real_steps_count_when_gradients_are_accumulated() -> None:
    model = network()
    optimizer = OPTIMIZERS["SGD"](model.parameters())
    bound = remedies.Noise(0.5).on(model, optimizer).attach()
    for k, x in enumerate(X[:6]):
        (model(x).square().mean() / 3).backward()
        if k % 3 == 2:
            optimizer.step()
            optimizer.zero_grad()
    assert bound.steps == 2


def scaled(remedy: Remedy | None, scale: float | None, *, overflow: bool = False) -> tuple[Tensor, int]:
    model = network().float()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)
    bound = None if remedy is None else remedy.on(model, optimizer).attach()
    for k, x in enumerate(X[:4].float()):
        optimizer.zero_grad()
        scaler.scale(model(x).square().mean()).backward()
        if overflow and k == 1:
            model[0].weight.grad[0, 0] = torch.inf
        scaler.step(optimizer)
        scaler.update(scale)
    return weights(model), 0 if bound is None else bound.steps


def test_a_fused_optimizer_under_a_scaler_gets_the_remedy_unscaled() -> None:
    expected, steps = scaled(remedies.L2(0.5), None)
    found, scaled_steps = scaled(remedies.L2(0.5), 2.0**16)
    assert torch.equal(found, expected)
    assert (steps, scaled_steps) == (4, 4)
    assert not torch.equal(found, scaled(None, 2.0**16)[0])


def test_a_step_that_the_scaler_skips_is_none() -> None:
    assert scaled(remedies.L2(0.5), 2.0**16, overflow=True)[1] == 3


class Clipped(torch.optim.SGD):
    """An optimizer that steps by its base, whose step torch wraps too once a plain SGD was made."""

    def step(self, closure: Any = None) -> Any:
        """Clip, and step."""
        return super().step(closure)


@pytest.mark.parametrize("with_closure", [False, True])
def test_a_step_by_the_base_class_is_one_step(with_closure: bool) -> None:
    found = []
    for kind in (torch.optim.SGD, Clipped):
        model = network()
        optimizer = kind(model.parameters(), lr=0.01)
        bound = remedies.L2(0.5).on(model, optimizer).attach()
        for x in X[:3]:
            closure = closure_of(model, optimizer, x)
            if with_closure:
                optimizer.step(closure)
            else:
                closure()
                optimizer.step()
        found.append(weights(model))
        assert bound.steps == 3
    assert torch.equal(*found)


def test_a_step_that_fails_does_not_stop_the_remedy() -> None:
    model = network()
    optimizer = OPTIMIZERS["SGD"](model.parameters())
    bound = remedies.L2(0.5).on(model, optimizer).attach()

    def failing() -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        optimizer.step(failing)
    assert bound.steps == 0
    optimizer.step(closure_of(model, optimizer, X[0]))
    assert bound.steps == 1
    plain = network()
    OPTIMIZERS["SGD"](plain.parameters()).step(closure_of(plain, optimizer, X[0]))
    assert not torch.equal(weights(model), weights(plain))


def test_a_step_without_gradients_is_said_once() -> None:
    model = network()
    optimizer = OPTIMIZERS["SGD"](model.parameters())
    remedies.L2(0.5).on(model, optimizer).attach()
    with pytest.warns(
        UserWarning, match="L2 did nothing in step 0, as no parameter that the optimizer trains has a"
    ):
        optimizer.step()
    optimizer.step()


def test_attaching_twice_is_attaching_once() -> None:
    model = network()
    optimizer = OPTIMIZERS["SGD"](model.parameters())
    bound = remedies.L2(0.5).on(model, optimizer).attach().attach()
    optimizer.step(closure_of(model, optimizer, X[0]))
    assert bound.steps == 1


# ------------------------------------------------------------------------------ several optimizers


def halves(model: nn.Sequential) -> list[torch.optim.Optimizer]:
    return [OPTIMIZERS["Adam"](part.parameters()) for part in (model[:2], model[2:])]


@pytest.mark.parametrize("kind", [name for name in EDITING if name != "noise"])
@pytest.mark.parametrize("first", [0, 1])
def test_each_of_several_optimizers_has_its_own_gradients_edited(kind: str, first: int) -> None:
    found = []
    for how in ("joint", "parts"):
        model = network()
        optimizers = [OPTIMIZERS["Adam"](model.parameters())] if how == "joint" else halves(model)
        if first:
            optimizers.reverse()
        bound = EDITING[kind]().on(model, optimizers, example_inputs=X[0]).attach()
        for x in X[:5]:
            model.zero_grad()
            model(x).square().mean().backward()
            for optimizer in optimizers:
                optimizer.step()
        found.append(weights(model))
        assert bound.steps == 5
    if kind == "rank":  # its bonus is that of the weights of the moment, which the first optimizer has moved
        assert not torch.equal(*found)
    else:
        assert torch.equal(*found)


def test_the_noise_of_several_optimizers_differs() -> None:
    one, other = (nn.Parameter(torch.zeros(50, dtype=torch.float64)) for _ in range(2))
    model = nn.ParameterList([one, other])
    optimizers = [torch.optim.SGD([p], lr=1.0) for p in (one, other)]
    remedies.Noise(1.0).on(model, optimizers).attach()
    for optimizer, p in zip(optimizers[::-1], (other, one), strict=True):  # both within the first's step 0
        p.grad = torch.full_like(p, 1e-3)
        optimizer.step()
    noise = torch.stack([one.detach(), other.detach()])
    assert torch.corrcoef(noise)[0, 1].abs() < 0.7


def test_moments_of_all_optimizers_are_forgotten() -> None:
    model = network()
    body, head = halves(model)
    bound = remedies.ReDo(threshold=0.9).on(model, [body, head])
    for x in X[:3]:
        model.zero_grad()
        model(x).square().mean().backward()
        body.step()
        head.step()
    touched = bound.apply()
    assert set(touched) == {"0", "2"}
    assert not head.state[model[2].weight]["exp_avg"][:, touched["0"]].any()
    assert not head.state[model[2].weight]["exp_avg"][touched["2"]].any()
    assert not body.state[model[0].weight]["exp_avg"][touched["0"]].any()
    remedies.OptimizerReset().on(model, [body, head]).task()
    assert (len(body.state), len(head.state)) == (0, 0)


# ------------------------------------------------------------------------------ optimizers that nobody named


def descend(model: nn.Module, *optimizers: torch.optim.Optimizer) -> None:
    model.zero_grad()
    model(X[0]).square().mean().backward()
    for optimizer in optimizers:
        optimizer.step()


def test_a_second_optimizer_is_named_once_and_its_moments_are_treated() -> None:
    model = network()
    body, head = halves(model)
    bound = remedies.ReDo(threshold=0.9).on(model, body)
    with pytest.warns(
        UserWarning, match=r"ReDo was not bound to a Adam that trains '2\.weight', '2\.bias', '4\.wei"
    ):
        descend(model, body, head)
    descend(model, body, head)
    units = bound.apply()["2"]
    assert not head.state[model[2].weight]["exp_avg"][units].any()


def test_units_whose_readers_nobody_trains_are_left_and_named() -> None:
    model = network()
    body, _ = halves(model)
    bound = remedies.ReDo(threshold=0.9).on(model, body)
    before = weights(model)
    model(X[0])
    with pytest.warns(
        UserWarning, match=r"'0', as '2\.weight' is in no optimizer that the remedy knows; .*'2', as"
    ):
        assert bound.apply() == {}
    assert torch.equal(weights(model), before)


@pytest.mark.parametrize("kind", ["redo", "l2"])
def test_a_new_optimizer_is_named_and_rebinding_goes_on(kind: str) -> None:
    model = network()
    bound = remedies.make(kind).on(model, OPTIMIZERS["Adam"](model.parameters())).attach()
    descend(model, *bound.optimizers)
    new = OPTIMIZERS["SGD"](model.parameters())
    with pytest.warns(UserWarning, match=r"was not bound to a SGD that trains '0\.weight'.*bound\.rebind"):
        descend(model, new)
    assert bound.steps == 1
    assert bound.rebind(new) is bound
    old_hooks = LOOKOUT.watchers
    assert bound in old_hooks
    descend(model, new)
    assert bound.steps == 2
    with pytest.raises(ValueError, match="none of the parameters of model"):
        bound.rebind(OPTIMIZERS["SGD"](network().parameters()))


def test_a_remedy_that_was_not_attached_stays_so() -> None:
    model = network()
    bound = remedies.L2().on(model, OPTIMIZERS["Adam"](model.parameters()))
    new = OPTIMIZERS["SGD"](model.parameters())
    bound.rebind(new)
    descend(model, new)
    assert bound.steps == 0


def test_whoever_binds_again_for_every_task_hears_nothing() -> None:
    model = network()
    bounds: list[Bound] = []
    for _ in range(3):
        optimizer = OPTIMIZERS["Adam"](model.parameters())
        bounds.append(remedies.L2().on(model, optimizer).attach())
        descend(model, optimizer)
    assert [bound.steps for bound in bounds] == [1, 1, 1]


def test_optimizers_of_other_models_are_no_strangers() -> None:
    model, other = network(), network()
    bound = remedies.L2().on(model, OPTIMIZERS["Adam"](model.parameters()))
    descend(other, OPTIMIZERS["Adam"](other.parameters()))
    bound.remove()
    descend(model, OPTIMIZERS["Adam"](model.parameters()))


def test_parameters_added_later_make_a_stranger() -> None:
    model, other = network(), network()
    bound = remedies.L2().on(model, OPTIMIZERS["Adam"](model.parameters()))
    late = OPTIMIZERS["SGD"](other.parameters())
    descend(other, late)
    late.add_param_group({"params": [model[0].weight]})
    with pytest.warns(UserWarning, match=r"trains '0\.weight' of its model"):
        descend(other, late)
    assert bound.steps == 0


def test_the_lookout_is_no_hook_that_changes_anything_and_keeps_nobody() -> None:
    model = network()
    bound = remedies.L2().on(model, OPTIMIZERS["Adam"](model.parameters()))
    assert bound in LOOKOUT.watchers
    assert list(step_hooks(torch.optim.SGD(model.parameters()))) == []
    del bound
    gc.collect()
    assert all(watcher.network.model is not model for watcher in LOOKOUT.watchers)


def test_a_wrapped_optimizer_is_the_one_inside() -> None:
    model = network()
    adam = OPTIMIZERS["Adam"](model.parameters())
    bound = remedies.L2().on(model, Wrapper(adam)).attach()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Wrapper(adam).step(closure_of(model, adam, X[0]))
    assert bound.steps == 1


@pytest.mark.filterwarnings("ignore")  # of the compiler, about its own profiling
def test_a_compiled_step_is_a_step() -> None:
    found = []
    for compiled in (False, True):
        model = network()
        optimizer = OPTIMIZERS["SGD"](model.parameters())
        bound = remedies.L2(0.5).on(model, optimizer).attach()
        step = torch.compile(optimizer.step, backend="eager") if compiled else optimizer.step
        for x in X[:3]:
            closure_of(model, optimizer, x)()
            step()
        assert bound.steps == 3
        found.append(weights(model))
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-14)


def lightning_like(model: nn.Module, optimizer: torch.optim.Optimizer, window: int, bound: Bound | None) -> None:
    """Run the closures of Lightning's automatic optimization: a batch only accumulates until the window is full."""
    for k, x in enumerate(X[:6]):

        def closure(k: int = k, x: Tensor = x) -> Tensor:
            if k % window == 0:
                optimizer.zero_grad()
            loss = model(x).square().mean() / window
            loss.backward()
            return loss.detach()

        if k % window == window - 1:
            optimizer.step(closure=closure)
        else:
            closure()


def test_a_loop_like_lightnings_trains_like_the_plain_one() -> None:
    found = []
    for how in ("plain", "lightning"):
        model = network()
        optimizer = OPTIMIZERS["Adam"](model.parameters())
        bound = remedies.Spectral(0.2).on(model, optimizer)
        if how == "lightning":
            lightning_like(model, optimizer, 2, bound.attach())
        for x in X[:6].split(2) if how == "plain" else ():
            optimizer.zero_grad()
            for part in x:
                (model(part).square().mean() / 2).backward()
            bound.before_step()
            optimizer.step()
            bound.step()
        assert bound.steps == 3
        found.append(weights(model))
    assert torch.equal(*found)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("window", [1, 3])
def test_lightning_itself_trains_like_the_plain_loop(window: int) -> None:
    lightning = pytest.importorskip("lightning.pytorch")

    class Module(lightning.LightningModule):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def training_step(self, batch: Tensor, _: int) -> Tensor:
            return self.inner(batch).square().mean()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            optimizer = OPTIMIZERS["Adam"](self.inner.parameters())
            bounds.append(remedies.L2(0.5).on(self.inner, optimizer).attach())
            return optimizer

    bounds: list[Bound] = []
    module = Module()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", accumulate_grad_batches=window, **quiet)
    trainer.fit(module, DataLoader(X, batch_size=None))
    assert bounds[0].steps == len(X) / window
    assert torch.equal(weights(module.inner), accumulated(window))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("window", [1, 3])
def test_accelerate_itself_trains_like_the_plain_loop(window: int) -> None:
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=window)
    model = network()
    prepared, optimizer = accelerator.prepare(model, OPTIMIZERS["Adam"](model.parameters()))
    bound = remedies.L2(0.5).on(prepared, optimizer).attach()
    for x in X:
        with accelerator.accumulate(prepared):
            accelerator.backward(prepared(x).square().mean())
            optimizer.step()
            optimizer.zero_grad()
    assert bound.steps == len(X) / window
    assert torch.equal(weights(model), accumulated(window))


def accumulated(window: int) -> Tensor:
    """Return the weights after a plain loop over all batches that accumulates gradients."""
    model = network()
    optimizer = OPTIMIZERS["Adam"](model.parameters())
    bound = remedies.L2(0.5).on(model, optimizer)
    for batch in X.split(window):
        optimizer.zero_grad()
        for x in batch:
            (model(x).square().mean() / window).backward()
        bound.before_step()
        optimizer.step()
        bound.step()
    return weights(model)
