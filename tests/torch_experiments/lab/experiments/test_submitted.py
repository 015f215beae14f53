"""What JL25 says of clones as submitted: normalisation keeps them, one noisy step parts them (claims E8, E9)."""

import dataclasses
from typing import NamedTuple

import pytest
import torch
from torch import nn

from claims.evidence import witness
from torch_experiments.cloning.exact import clone, layout, residuals
from torch_experiments.lab.experiments import e01_cloning
from torch_experiments.lab.experiments.e01_cloning import Batch, Config
from torch_experiments.metrics import layers

NORMS = {
    "batch": nn.BatchNorm1d,
    "layer": nn.LayerNorm,
    "group": lambda width: nn.GroupNorm(2, width),
    "RMS": nn.RMSNorm,
}


def normalised(norm, seed, width=8):
    """Return two hidden layers with a norm before each activation, in float64."""
    torch.manual_seed(seed)
    blocks = [(nn.Linear(n, width), NORMS[norm](width), nn.ReLU()) for n in (6, width)]
    return nn.Sequential(*blocks[0], *blocks[1], nn.Linear(width, 3)).double()


def distance(model, axes, start):
    """Return the largest distance of a layer's weights from the coset of `start`, relative to their size."""
    return max(residual.coset for residual in residuals(model, axes, start))


def trained(norm, seed, rule, spoil=0.0, steps=20):
    """Return how far an exact clone gets from its coset, after `spoil` on one entry of its first norm."""
    base, generator = normalised(norm, seed), torch.Generator().manual_seed(seed)
    x = torch.randn(64, 6, generator=generator, dtype=torch.float64)
    y = torch.randint(3, (64,), generator=generator)
    model, axes = clone(base, example_inputs=x), layout(base, example_inputs=x)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        model[1].weight[0] += spoil
    optimizer = {
        "momentum": lambda: torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9),
        "adam": lambda: torch.optim.Adam(model.parameters(), lr=1e-2),
    }[rule]()
    for step in range(steps):
        part = slice(16 * (step % 4), 16 * (step % 4) + 16)
        e01_cloning.train_epoch(model, optimizer, Batch(x[part], y[part]), 16, generator)
    return distance(model, axes, start)


@pytest.mark.claim("E8", "training")
@pytest.mark.parametrize("norm", NORMS)
def test_clones_behind_a_norm_stay_clones_in_training(norm):
    for seed in range(10):
        far = trained(norm, seed, "momentum" if seed % 2 else "adam")
        assert far <= 1e-10
        witness(residual=far)


@pytest.mark.control("E8")
@pytest.mark.parametrize("norm", NORMS)
def test_copies_with_unequal_weights_of_the_norm_part(norm):
    assert trained(norm, 0, "momentum", spoil=1e-3) > 1e-4


MLP = Config(
    arch_settings=(("width", 16), ("depth", 4)),
    base_epochs=3,
    epochs=12,
    lr=0.05,
    decay=0.0,  # noise in the first step only
    probe=200,
    dtype="float64",
)
VIT = dataclasses.replace(
    MLP,
    arch="vit",
    norm="layer",
    arch_settings=(("patch", 4), ("width", 16), ("depth", 1), ("heads", 2)),
    lr=0.1,
    epochs=15,
)


class Parting(NamedTuple):
    """Distance from the coset after the first step and at the end, and the score of cloning at the end."""

    first: float
    last: float
    score: float


@pytest.fixture(scope="module")
def digits():
    return e01_cloning.load_task(MLP)


def one_noisy_step(config, seed, task):
    """Return how clones part that see noise of relative size `σ` in the first step after cloning, and no more."""
    pair = e01_cloning.cloned(config, e01_cloning.train_base(config, seed, task), task)
    start = {name: value.clone() for name, value in pair.twin.state_dict().items()}
    optimizer = e01_cloning.make_optimizer(config, "noisy-normwise", pair.twin, torch.Generator().manual_seed(seed))
    order = torch.Generator().manual_seed(seed + 1)
    first = Batch(task.train.x[: config.batch], task.train.y[: config.batch])
    e01_cloning.train_epoch(pair.twin, optimizer, first, config.batch, order)
    begun = distance(pair.twin, pair.axes, start)
    for _ in range(config.epochs):
        e01_cloning.train_epoch(pair.twin, optimizer, task.train, config.batch, order)
    scores = layers.forward_scores(pair.twin, task.probe.x, e01_cloning.hidden_profiles(pair.twin, pair.axes))
    return Parting(begun, distance(pair.twin, pair.axes, start), min(score.value for score in scores))


@pytest.fixture(scope="module")
def of_mlps(digits):
    return [one_noisy_step(MLP, seed, digits) for seed in range(6)]


@pytest.fixture(scope="module")
def of_vits(digits):
    return [one_noisy_step(VIT, seed, digits) for seed in range(3)]


@pytest.mark.claim("E9", "training")
def test_one_noisy_step_starts_the_escape_of_an_mlp(of_mlps):
    for run in of_mlps:
        assert 0 < run.first < 1e-3
        assert run.last > 50 * run.first
        witness()


@pytest.mark.claim("E9", "counterexample")
def test_most_vits_go_farther_in_weights_than_every_mlp(of_mlps, of_vits):
    far = [run for run in of_vits if run.last > max(mlp.last for mlp in of_mlps)]
    assert 2 * len(far) > len(of_vits)
    witness(instances=len(far))


@pytest.mark.claim("E9", "training")
def test_the_activations_of_a_vit_stay_copies_all_the_same(of_vits):
    for run in of_vits:
        assert run.last > 10 * run.first
        assert run.score > 0.999
        witness(residual=1 - run.score)


@pytest.mark.control("E9")
def test_without_the_noisy_step_clones_stay(digits):
    run = one_noisy_step(dataclasses.replace(MLP, sigma=0.0), 0, digits)
    assert run.last <= 1e-10
    assert run.score > 1 - 1e-12
