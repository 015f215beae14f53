"""Planted copies are all found and nothing else, on every architecture; a random network has none."""

import pytest
import torch
from torch import nn

from tests.torch_experiments.test_clone import ARCHITECTURES, IMAGES, base_of
from tests.torch_experiments.test_modules import ATTENTION, TOKENS, network, randn, rng
from torch_experiments import clone, layout
from torch_experiments.units.partition import coarsest_blocks


def same_partition(one, other):
    """Return whether two labellings group the same indices."""
    pairs = torch.unique(torch.stack([one, other]), dim=1).shape[1]
    return pairs == len(one.unique()) == len(other.unique())


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_planted_copies_are_found_and_nothing_else(arch, norm):
    model, x = base_of(arch, norm), randn(*IMAGES)
    assert coarsest_blocks(model, x).copied() == {}
    assert coarsest_blocks(model, x).free_fraction == 1
    for factor, mode in ((2, "equal"), (3, "equitable")):
        twin, place = clone(model, factor, mode, rng(), example_inputs=x), layout(model, factor, example_inputs=x)
        found = coarsest_blocks(twin, x)
        for name, labels in found.labels.items():
            for label, profile in zip(labels, place.placements[name].profiles, strict=True):
                assert same_partition(label, profile.block), name
        assert found.dimension == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("kind", ATTENTION)
def test_copied_heads_are_found(kind):
    model, x = network(nn.Linear(4, 6), ATTENTION[kind](), nn.Linear(6, 3)), randn(*TOKENS)
    found = coarsest_blocks(clone(model, 2, "equitable", rng(), example_inputs=x), x)
    assert found.dimension == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("mode", ["rows", "columns", "broken"])
def test_broken_clones_are_no_clones(mode):
    """Rows or columns alone are not enough: between two hidden layers no copy survives."""
    model, x = network(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)), randn(6, 4)
    assert coarsest_blocks(clone(model, 2, mode, rng(), example_inputs=x), x).free_fraction == 1


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("noise", [0.0, 1e-6, 1e-4])
def test_a_few_copies_are_found_up_to_the_tolerance(share, noise):
    """The first units of a wide layer are copied onto the last ones, with noise on the incoming weights."""
    model, x = network(nn.Linear(8, 200), nn.Tanh(), nn.Linear(200, 5)), randn(6, 8)
    count = int(200 * share)
    for parameter in (model[0].weight, model[0].bias):
        copies = parameter.data[:count]
        parameter.data[-count:] = copies + noise * torch.randn(copies.shape, generator=rng(), dtype=torch.float64)
    model[2].weight.data[:, -count:] = model[2].weight.data[:, :count]
    loose = coarsest_blocks(model, x, tolerance=1e-12 + 50 * noise)
    strict = coarsest_blocks(model, x, tolerance=1e-12 + noise / 1e3)
    if noise <= 1e-6:
        assert len(loose.labels["0.weight"][0].unique()) == 200 - count
    assert len(strict.labels["0.weight"][0].unique()) == (200 if noise else 200 - count)


def test_a_wrong_tolerance_is_named():
    with pytest.raises(ValueError, match=r"tolerance: got -1; it has to be 0 or more"):
        coarsest_blocks(network(nn.Linear(4, 5)), randn(2, 4), tolerance=-1)
