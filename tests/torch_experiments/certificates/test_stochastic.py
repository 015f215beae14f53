"""Near-copies of real networks under small batches: what one state tells, and what following training tells."""

import math
from functools import cache
from itertools import repeat

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from claims.evidence import witness
from tests.torch_experiments.certificates.clones import cloned, network, randn, rng
from tests.torch_experiments.certificates.test_stability import RULES, closed_form_ends, critical
from torch_experiments import clone, layout
from torch_experiments.certificates import certify
from torch_experiments.certificates.manifold import places
from torch_experiments.certificates.stability import NormalHessian, stability
from torch_experiments.certificates.stochastic import Minibatches, long_run
from torch_experiments.cloning.partition import coarsest_blocks
from torch_experiments.lab.images import pixels


def squared(model, batch):
    return mse_loss(model(batch[0]), batch[1])


def samples_one_by_one(x, y, count, seed=0):
    """Yield random samples, one at a time."""
    for k in torch.randint(len(x), (count,), generator=rng(seed)).tolist():
        yield x[k : k + 1], y[k : k + 1]


@pytest.mark.parametrize("rule", ["plain", "decay, momentum"])
def test_with_all_samples_at_a_critical_point_it_is_the_hessians_growth(rule):
    base, x, y = critical(RULES[rule].get("weight_decay", 0.0))
    model, place = clone(base, 2), layout(base, 2)
    optimizer = torch.optim.SGD(model.parameters(), **RULES[rule])
    expected = math.log(stability(model, place, lambda: squared(model, (x, y)), optimizer=optimizer).growth)
    steps = 10 * round(0.8 / expected)
    before = [p.detach().clone() for p in model.parameters()]
    found = long_run(model, place, optimizer, mse_loss, repeat((x, y)), steps=steps, generator=rng())
    assert found.exponent == pytest.approx(expected, rel=0.15)
    assert found.says == "part"
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


def push(model, place, batch, size):
    """Move a network along the vector with which `long_run` starts."""
    H = NormalHessian(places(model, place), lambda: squared(model, batch))
    with torch.no_grad():
        for p, part in zip(H.whole.parameters, H.whole.split(H.random(rng(3))), strict=True):
            p.add_(size * part)


def measured_rate(model, place, optimizer, batches):
    """Train a pushed network for real, and return the growth a step of its distance over the last 300 steps."""
    found, distances = places(model, place), []
    for batch in batches:
        normal = [p.normal(p.parameter.detach()) for p in found.values()]
        distances.append(math.sqrt(sum(float(part.square().sum()) for part in normal)))
        optimizer.zero_grad()
        squared(model, batch).backward()
        optimizer.step()
    return math.log(distances[-1] / distances[-301]) / 300


@pytest.mark.claim("C14", "training")
@pytest.mark.parametrize(("activation", "momentum"), [("relu", 0.0), ("tanh", 0.0), ("tanh", 0.5)])
def test_clones_of_a_real_network_part_at_that_rate(activation, momentum):
    """One sample a step: what a pushed network does in float64, against the linearised steps of the clone."""
    base = network(activation, depth=1, outputs=1, width=2)
    x, y = randn(20, 3), randn(20, 1, seed=1)
    batches = list(samples_one_by_one(x, y, 331))
    model, place = clone(base, 2), layout(base, 2)
    rule = torch.optim.SGD(model.parameters(), lr=0.05, momentum=momentum)
    found = long_run(model, place, rule, mse_loss, batches, steps=300, warmup=30, generator=rng(3))
    push(model, place, batches[0], 1e-9)
    measured = measured_rate(model, place, rule, batches)
    assert found.exponent == pytest.approx(measured, rel=1e-3, abs=1e-7)
    witness(abs(found.exponent - measured))


@pytest.mark.parametrize(("activation", "outputs"), [("relu", 1), ("tanh", 1), ("relu", 10)])
@pytest.mark.parametrize("batch", [1, 32])
def test_clones_of_a_network_that_learns_digits_part_at_that_rate(activation, outputs, batch):
    """Every hidden unit is cloned; with one output the network tells odd digits from even ones."""
    images = pixels.load("digits").floats()
    x, labels = images.train_x.double().flatten(1)[:, ::4], images.train_y
    y = nn.functional.one_hot(labels, 10) if outputs == 10 else labels[:, None] % 2
    act = {"relu": nn.ReLU, "tanh": nn.Tanh}[activation]
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(x.shape[1], 6), act(), nn.Linear(6, outputs)).double()
    drawn = torch.randint(len(x), (331, batch), generator=rng())
    batches = [(x[rows], y[rows].double()) for rows in drawn]
    model, place = clone(base, 2), layout(base, 2)
    rule = torch.optim.SGD(model.parameters(), lr=0.02)
    found = long_run(model, place, rule, mse_loss, batches, steps=300, warmup=30, generator=rng(3))
    push(model, place, batches[0], 1e-9)
    assert found.exponent == pytest.approx(measured_rate(model, place, rule, batches), rel=1e-3, abs=1e-7)


@pytest.mark.control("C14")
def test_one_state_does_not_tell_that_rate():
    """The Hessian at the start promises many times what one sample a step does in the long run."""
    base = network("relu", depth=1, outputs=1, width=2)
    x, y = randn(20, 3), randn(20, 1, seed=1)
    model, place = clone(base, 2), layout(base, 2)
    rule = torch.optim.SGD(model.parameters(), lr=0.05)
    now = math.log(stability(model, place, lambda: squared(model, (x, y)), optimizer=rule).growth)
    batches = samples_one_by_one(x, y, 880)
    later = long_run(model, place, rule, mse_loss, batches, steps=330, warmup=550, generator=rng(3))
    assert now > 5 * abs(later.exponent)


# ---------------------------------------------------------------------------------------------------- one state


def forecasts(model, x, y, rate=0.01, batch=8):
    found = certify(
        model, x, torch.optim.SGD(model.parameters(), lr=rate), loss=lambda f: mse_loss(f, y), batch=batch
    )
    assert found.minibatches is not None
    return found.minibatches


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("copies", [2, 3])
def test_the_rate_now_is_that_of_the_lowest_eigenvalue(activation, copies):
    """Over the units: the closed form of C10 and C15, which the normal Hessian of the whole layer has too."""
    base = network(activation, depth=1)
    model, x, y = clone(base, copies), randn(12, 3), randn(12, 2, seed=1)
    lowest, _ = closed_form_ends(base, copies, x, y)
    units = forecasts(model, x, y).units
    assert {unit.layer for unit in units} == {"linear1"}
    assert [len(unit.units) for unit in units] == [copies] * 3
    assert max(unit.forecast.now for unit in units) == pytest.approx(math.log1p(-0.01 * lowest), rel=1e-9)


def test_layers_deep_in_a_network_are_looked_at():
    model, _ = cloned(depth=3)
    units = forecasts(model, randn(12, 3), randn(12, 2, seed=1)).units
    assert {unit.layer for unit in units} == {"linear1", "linear2", "linear3"}


def pair(w, c):
    """Return two clones of a ReLU unit without bias."""
    model = nn.Sequential(nn.Linear(len(w), 2, bias=False), nn.ReLU(), nn.Linear(2, len(c), bias=False)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([w, w]))
        model[2].weight.copy_(torch.tensor([[x / 2, x / 2] for x in c]))
    return model


@pytest.mark.claim("C15", "property")
def test_with_two_outputs_the_saddle_stays_when_the_base_rests():
    """`σ_max(m) = 1` of the loss `½ |f − y|²`, which is the mean over two outputs here."""
    x, y = torch.tensor([[1.0, 1.0], [1.0, -1.0]]).double(), torch.tensor([[1.0, -1.0], [1.0, 1.0]]).double()
    [unit] = forecasts(pair([1.0, 0.0], [1.0, 0.0]), x, y).units
    assert unit.forecast.rest == pytest.approx(math.log1p(0.01), rel=1e-12)
    assert unit.forecast.parts
    witness(abs(unit.forecast.rest - math.log1p(0.01)))


@pytest.mark.control("C15")
def test_with_one_output_nothing_stays():
    base = network("relu", depth=1, outputs=1)
    found = forecasts(clone(base, 2), randn(12, 3), randn(12, 1, seed=1))
    assert all(unit.forecast.rest < 1e-12 < unit.forecast.now for unit in found.units)
    assert {unit.forecast.decides for unit in found.units} == {"trajectory"}
    assert "follow training with long_run" in str(found)


def test_a_relu_unit_at_rest_has_nothing_but_noise():
    """Least squares of noisy targets on one open gate: the base is critical, single samples are not."""
    x = randn(200, 3).abs()
    target = x @ torch.ones(3, 1).double() + randn(200, 1, seed=1)
    w = torch.linalg.lstsq(x, target).solution
    assert bool((x @ w > 0).all())
    found = forecasts(pair(w.flatten().tolist(), [1.0]), x, target, batch=1)
    assert [unit.forecast.decides for unit in found.units] == ["noise"]
    assert "makes them proportional" in str(found)


def test_a_smooth_unit_that_cannot_fit_is_decided_by_the_hessian():
    base, x, y = critical()
    few = forecasts(clone(base, 2), x, y, rate=1e-4, batch=40)
    assert all(unit.forecast.decides == "hessian" for unit in few.units)
    assert any(unit.forecast.parts for unit in few.units)
    assert "by the Hessian" in str(few)
    assert {u.forecast.decides for u in forecasts(clone(base, 2), x, y, rate=10.0, batch=1).units} == {"trajectory"}


def test_momentum_counts_in_the_rate_and_adam_has_none():
    model, _ = cloned(depth=1)
    x, y = randn(12, 3), torch.zeros(12, dtype=torch.long)
    rule = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    found = certify(model, x, rule, loss=lambda f: cross_entropy(f, y))
    assert (found.minibatches.rate, found.minibatches.batch) == (0.2, 12)
    assert "small batches: at rate 0.2 and batches of 12" in " ".join(str(found).split())
    assert found.to_dict()["minibatches"]["batch"] == 12
    assert certify(model, x, torch.optim.Adam(model.parameters()), targets=y).minibatches is None
    assert certify(model, x, targets=y).minibatches is None


def test_layers_that_do_not_act_unit_by_unit_are_left_out():
    class Mixing(nn.Module):
        def forward(self, x):
            return x * x.sum(dim=-1, keepdim=True)

    base = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2), nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1)).double()
    units = forecasts(clone(base, 2), randn(12, 3), randn(12, 1, seed=1)).units
    assert {unit.layer for unit in units} == {"2"}
    assert "does not tell" in str(Minibatches(0.1, 4, ()))
    one = nn.Sequential(nn.Linear(2, 2), Mixing(), nn.Linear(2, 1)).double()
    with torch.no_grad():
        one[0].weight.fill_(1.0), one[0].bias.fill_(0.0), one[2].weight.fill_(1.0)
    assert forecasts(one, randn(12, 2), randn(12, 1, seed=1)).units == ()


# --------------------------------------------------------------------------- what it says, and what training does


@cache
def trained(activation, outputs, seed):
    """Return forecasts and the long run, both over the rate, of clones that were trained on the manifold."""
    x = randn(64, 4, seed=seed)
    y = torch.tanh(x @ randn(4, 6, seed=10 + seed)) @ randn(6, outputs, seed=20 + seed)
    y = y + 0.3 * randn(64, outputs, seed=30 + seed)
    torch.manual_seed(seed)
    base = nn.Sequential(nn.Linear(4, 2), activation(), nn.Linear(2, outputs)).double()
    model = clone(base, 2)
    rule = torch.optim.SGD(model.parameters(), lr=0.02)
    batches = [(x[k], y[k]) for k in torch.randint(64, (3000, 8), generator=rng(seed))]
    for inputs, targets in batches[900:]:
        rule.zero_grad()
        half_square(model(inputs), targets).backward()
        rule.step()
    now = certify(model, x, rule, loss=lambda f: half_square(f, y), batch=8, parts=("stability",)).minibatches
    run = long_run(model, layout(base, 2), rule, half_square, batches, steps=600, warmup=300)
    return [unit.forecast for unit in now.units], run.exponent / 0.02, run.error / 0.02


def half_square(output, targets):
    return (output - targets).square().sum(dim=1).mean() / 2


@pytest.mark.claim("C15", "training")
@pytest.mark.parametrize("seed", [0, 2])
def test_with_several_outputs_clones_part_at_the_singular_value_that_stays(seed):
    found, exponent, error = trained(nn.ReLU, 3, seed)
    assert all(f.decides == "hessian" and f.rest > 0.9 * f.now for f in found)  # the base rests
    expected = max(f.rest for f in found) / 0.02
    assert exponent == pytest.approx(expected, rel=0.2, abs=3 * error)
    witness(abs(exponent / expected - 1))


@pytest.mark.control("C15")
def test_with_one_output_the_hessian_promises_what_does_not_come():
    found, exponent, error = trained(nn.ReLU, 1, 0)
    assert not any(f.parts for f in found)
    assert exponent < 0.2 * max(f.now for f in found) / 0.02
    assert exponent < 3 * error


# -------------------------------------------------------------------------------------------------------- errors


def test_what_cannot_be_followed_is_named():
    model, place = cloned(depth=1)
    x, y = randn(12, 3), randn(12, 2, seed=1)
    rule = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="steps: got 5"):
        long_run(model, place, rule, mse_loss, repeat((x, y)), steps=5)
    with pytest.raises(ValueError, match="batches: they ended after 3 of 27"):
        long_run(model, place, rule, mse_loss, [(x, y)] * 3, steps=22)
    with pytest.raises(ValueError, match="Adam rescales gradients"):
        long_run(model, place, torch.optim.Adam(model.parameters()), mse_loss, repeat((x, y)), steps=22)
    up, fast = (torch.optim.SGD(model.parameters(), lr=r, maximize=r < 1) for r in (0.1, 1e6))
    with pytest.raises(ValueError, match="dampening and ascent"):
        long_run(model, place, up, mse_loss, repeat((x, y)), steps=22)
    with pytest.raises(ArithmeticError, match="lower the rate"):
        long_run(model, place, fast, mse_loss, repeat((x, y)), steps=220)
    other = network(depth=1, width=6)
    slow = torch.optim.SGD(other.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="copies of each other"):
        long_run(other, place, slow, mse_loss, repeat((x, y)), steps=22)


def test_the_callers_random_numbers_stay():
    base = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Dropout(0.5), nn.Linear(2, 1)).double()
    model, x, y = clone(base, 2), randn(12, 3), randn(12, 1, seed=1)
    place = coarsest_blocks(model, x).layout()
    before = torch.get_rng_state()
    rule = torch.optim.SGD(model.parameters(), lr=0.1)
    long_run(model, place, rule, mse_loss, repeat((x, y)), steps=22)
    assert torch.equal(before, torch.get_rng_state())


class Stopped(nn.Module):
    """Two linear maps, of which the second reads what the first wrote without its graph."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(2, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)).detach()) + self.first(x).sum(1, keepdim=True)


def frozen_first():
    model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 3))
    model[0].requires_grad_(False)
    return model


def frozen_reader():
    model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3))
    model[2].requires_grad_(False)
    return model


@pytest.mark.parametrize("make", [frozen_first, frozen_reader, Stopped])
def test_copies_of_which_a_part_does_not_train_are_certified_without_a_forecast(make):
    torch.manual_seed(0)
    model, x, y = make(), torch.randn(9, 2), torch.randn(9, 3)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.Linear):
                layer.weight.copy_(layer.weight[:1].mean().expand_as(layer.weight))
                layer.bias.zero_()
    found = certify(model, x, torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1), targets=y)
    assert found.trapped
    assert found.stability is not None
    assert not found.minibatches.units
