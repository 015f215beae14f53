"""Splits along lowest eigenvectors: normal, downhill at once, and better than random ones of their size (E10)."""

import copy
import dataclasses
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from claims.evidence import witness
from torch_experiments import clone, coarsest_blocks
from torch_experiments.certificates.stability import normal_places
from torch_experiments.lab.experiments import e01_cloning
from torch_experiments.lab.models import cnn, mlp
from torch_experiments.remedies import Escape

STEEPEST = Escape(direction="steepest", dead=False)
SHAPES = {
    "mlp": (lambda: mlp(6, 3, width=4, depth=2, activation="tanh", dtype=torch.float64), (8, 6)),
    "cnn": (lambda: cnn(8, 3, width=3, depth=2, hidden=4, norm="batch", dtype=torch.float64), (8, 3, 8, 8)),
}


def cloned(arch):
    make, shape = SHAPES[arch]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    y = torch.randint(3, (len(x),), generator=generator)
    model = clone(make().eval(), example_inputs=x)
    return model, x, lambda of: cross_entropy(of(x), y)


def moved(model, x, loss, remedy, seed=0):
    """Return the model after a split, and what was touched."""
    twin = copy.deepcopy(model)
    bound = remedy.on(
        twin, torch.optim.SGD(twin.parameters(), 0.1), example_inputs=x, loss=lambda: loss(twin), seed=seed
    )
    return twin, bound.apply()


def length(one, other):
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return math.sqrt(sum(float((a - b).square().sum().detach()) for a, b in pairs))


@pytest.mark.parametrize("arch", SHAPES)
def test_the_move_is_as_long_as_a_random_one_normal_and_downhill_to_second_order(arch):
    model, x, loss = cloned(arch)
    start, falls = float(loss(model).detach()), []
    for size in (2e-3, 1e-3):
        random, _ = moved(model, x, loss, Escape(size=size, dead=False))
        twin, touched = moved(model, x, loss, dataclasses.replace(STEEPEST, size=size))
        assert length(twin, model) == pytest.approx(length(random, model), rel=1e-9)
        assert touched == {name: [] for name in touched} != {}
        falls.append(start - float(loss(twin).detach()))
        for name, place in normal_places(twin, coarsest_blocks(model, x).layout(), None).items():
            move = (place.parameter - model.get_parameter(name)).detach()
            torch.testing.assert_close(place.normal(move), move, rtol=0, atol=1e-14)
    assert falls[1] > 0
    assert falls[0] / falls[1] == pytest.approx(4, rel=0.1)


def test_the_clones_of_one_relu_move_along_the_gradient_of_the_unit():
    """The lowest eigenvector is `(b/‖b‖, −1)/√2` for a clone and its negative for the other, with value `−‖b‖`."""
    w, x = torch.tensor([1.0, 2.0, 1.0]).double(), torch.tensor([[1.0, 0.5, 2.0], [0.2, 1.0, 1.0]]).double()
    model = nn.Sequential(nn.Linear(3, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False)).double()
    with torch.no_grad():
        model[0].weight.copy_(w.expand(2, 3))
        model[2].weight.fill_(0.25)
    twin, _ = moved(model, x, lambda of: of(x).square().mean() / 2, dataclasses.replace(STEEPEST, size=1e-3))
    b = (model(x).detach() * x).mean(dim=0)  # E ℓ' x, as the unit is active on both samples
    for k in range(2):
        into = (twin[0].weight - model[0].weight)[k].detach()
        out = float((twin[2].weight - model[2].weight)[0, k].detach())
        torch.testing.assert_close(into / out, -b / b.norm(), rtol=1e-6, atol=1e-9)


def test_without_a_loss_it_says_what_it_needs():
    model, x, _ = cloned("mlp")
    bound = STEEPEST.on(model, torch.optim.SGD(model.parameters(), 0.1), example_inputs=x)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="direction: 'steepest' needs the loss"):
        bound.apply()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_network_without_clones_is_left_alone():
    make, shape = SHAPES["mlp"]
    x = torch.randn(shape, dtype=torch.float64)
    model = make()
    assert moved(model, x, lambda of: of(x).square().mean(), STEEPEST)[1] == {}
    assert coarsest_blocks(model, x).copied() == {}


DIGITS = e01_cloning.Config(
    arch_settings=(("width", 6), ("depth", 1)), base_epochs=2, lr=0.05, probe=200, dtype="float64"
)
EPOCHS, SEEDS = 9, range(20)  # 108 steps


@pytest.fixture(scope="module")
def losses():
    """Return the training loss 108 steps after a split, by kind of split, one a seed; two draws of random ones."""
    task, found = e01_cloning.load_task(DIGITS), {"steepest": [], "random": [], "other": []}
    for seed in SEEDS:
        pair = e01_cloning.cloned(DIGITS, e01_cloning.train_base(DIGITS, seed, task), task)
        for kind, ends in found.items():
            direction = "steepest" if kind == "steepest" else "random"
            remedy = Escape(size=0.1, dead=False, direction=direction)
            draw = seed + 1000 * (kind == "other")
            twin, _ = moved(
                pair.twin, task.probe.x, lambda of: cross_entropy(of(task.probe.x), task.probe.y), remedy, draw
            )
            optimizer = torch.optim.SGD(twin.parameters(), DIGITS.lr, DIGITS.momentum)
            order = torch.Generator().manual_seed(seed)
            for _ in range(EPOCHS):
                e01_cloning.train_epoch(twin, optimizer, task.train, DIGITS.batch, order)
            with torch.no_grad():
                ends.append(float(cross_entropy(twin(task.train.x), task.train.y)))
    return {kind: torch.tensor(ends).log() for kind, ends in found.items()}


def standing(differences):
    """Return the mean difference over its standard error."""
    return float(differences.mean() / (differences.std() / math.sqrt(len(differences))))


@pytest.mark.claim("E10", "training")
def test_steepest_splits_end_below_random_ones_of_the_same_size(losses):
    assert standing(losses["random"] - losses["steepest"]) > 3
    witness(instances=len(SEEDS))


@pytest.mark.control("E10")
def test_another_random_split_is_no_better(losses):
    assert abs(standing(losses["random"] - losses["other"])) < 3
