"""Remedies change what is trained and nothing else, and say what they leave."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from torch_experiments import remedies
from torch_experiments.cloning.exact import clone
from torch_experiments.remedies import Remedy

X = torch.randn(32, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
KINDS: dict[str, Callable[[], Remedy]] = {
    "l2": lambda: remedies.L2(0.5),
    "l2-init": lambda: remedies.L2Init(0.5),
    "syre": lambda: remedies.Syre(0.5),
    "spectral": lambda: remedies.Spectral(0.5),
    "parseval": lambda: remedies.Parseval(0.5),
    "noise": lambda: remedies.Noise(0.5),
    "rank": lambda: remedies.RankBonus(0.5),
    "weight-clipping": lambda: remedies.WeightClipping(0.01),
    "redo": lambda: remedies.ReDo(every=1, threshold=0.9),
    "cbp": lambda: remedies.ContinualBackprop(rate=0.5, maturity=0),
    "snr": lambda: remedies.SelfNormalizedReset(0.5, least=0, most=1),
    "shrink-perturb": remedies.ShrinkPerturb,
    "fresh": remedies.Fresh,
    "escape": remedies.Escape,
    "recovery": lambda: remedies.Controlled(every=1, dead=0.01),
}
EDITING = ("l2", "l2-init", "syre", "spectral", "parseval", "noise", "rank")
WAYS = ("requires no gradient", "in no optimizer", "requires none, in the optimizer")


def network() -> nn.Sequential:
    torch.manual_seed(0)
    body = [nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU()]
    model = nn.Sequential(*body, nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)).double()
    with torch.no_grad():
        model[0].bias[2] = model[3].bias[2] = model[5].bias[2] = -100
    return model


def pretrained(way: str) -> tuple[nn.Sequential, torch.optim.Optimizer]:
    """Return a network of which the first layers, up to the batch norm, are not trained."""
    model = network()
    model[:4](X)  # statistics that a fresh network does not have
    frozen = model[:4].eval()
    if way != "in no optimizer":
        frozen.requires_grad_(False)
    parameters = model.parameters() if "in the optimizer" in way else model[5:].parameters()
    return model, torch.optim.SGD(parameters, lr=0.01)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 3) -> None:
    for _ in range(steps):
        model.zero_grad()
        model(X).square().mean().backward()
        optimizer.step()


def state(model: nn.Module) -> list[Tensor]:
    return [value.clone() for value in model.state_dict().values()]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:remedy. .* leaves the units")
def test_what_is_not_trained_stays_and_the_rest_is_changed(kind: str, way: str) -> None:
    found = []
    for remedy in (KINDS[kind](), None):
        model, optimizer = pretrained(way)
        frozen, before = model[:4], state(model[:4])
        bound = None if remedy is None else remedy.on(model, optimizer, example_inputs=X).attach()
        train(model, optimizer)
        if bound is not None:
            bound.task()
        assert all(torch.equal(a, b) for a, b in zip(before, state(frozen), strict=True))
        found.append(torch.cat([p.detach().flatten() for p in model[5:].parameters()]))
    if kind != "recovery":  # which has seen no alarm
        assert not torch.equal(*found)


@pytest.mark.parametrize("kind", ["redo", "cbp", "snr", "escape"])
def test_layers_with_a_part_that_is_not_trained_are_named_once(kind: str) -> None:
    model, optimizer = pretrained("requires no gradient")
    bound = KINDS[kind]().on(model, optimizer, example_inputs=X)

    def act() -> None:
        train(model, optimizer)
        bound.step()
        bound.task()

    with pytest.warns(
        UserWarning, match=r"leaves the units of layers '0', as '0\.weight' does not require gradients"
    ):
        act()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        act()


def test_a_frozen_bias_holds_its_layer() -> None:
    model = network()
    model[0].bias.requires_grad_(False)
    bound = remedies.ReDo(threshold=0.9).on(model, torch.optim.SGD(model.parameters(), lr=0.1), example_inputs=X)
    model(X)
    with pytest.warns(UserWarning, match=r"'0', as '0\.bias' does not require gradients"):
        touched = bound.apply()
    assert set(touched) == {"2", "5"}


def test_layers_that_are_thawed_join() -> None:
    """Gradual unfreezing: parameters come to the optimizer later, and ages count from there."""
    model, optimizer = pretrained("in no optimizer")
    bound = remedies.ContinualBackprop(rate=0.0).on(model, optimizer, example_inputs=X)
    train(model, optimizer, 1)
    with pytest.warns(UserWarning, match=r"'0', as '0\.weight' is in no optimizer that the remedy knows"):
        bound.step()
    train(model, optimizer, 1)
    bound.step()
    optimizer.add_param_group({"params": list(model[:4].parameters())})
    train(model.train(), optimizer, 1)
    bound.step()
    assert [bound.state[f"{name}.age"][0].item() for name in ("0", "2", "5")] == [1, 1, 3]


def test_clones_are_split_where_their_readers_are_trained() -> None:
    base = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    wide = clone(base, example_inputs=X)
    wide[2].requires_grad_(False)
    bound = remedies.Escape(dead=False).on(wide, torch.optim.SGD(wide.parameters(), lr=0.1), example_inputs=X)
    kept, before = wide[2].weight.clone(), wide(X)
    with pytest.warns(UserWarning, match=r"leaves the clones that '2\.weight' reads, as it is not trained"):
        assert set(bound.apply()) == {"4.weight"}
    assert torch.equal(wide[2].weight, kept)
    torch.testing.assert_close(wide(X), before, rtol=1e-12, atol=1e-12)


def test_a_norm_without_parameters_starts_again_with_the_modules_around_it() -> None:
    def make() -> nn.Sequential:
        block = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, affine=False), nn.ReLU())
        other = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, affine=False), nn.ReLU())
        return nn.Sequential(block, other, nn.Linear(4, 1)).double()

    model = make()
    model(X)
    model[0].requires_grad_(False)
    kept = model[0][1].running_mean.clone()
    remedies.Fresh().on(model, torch.optim.SGD(model[1:].parameters(), lr=0.1), fresh=lambda seed: make()).apply()
    assert torch.equal(model[0][1].running_mean, kept)
    assert not model[1][1].running_mean.any()
