"""Planted copies are all found and nothing else, on every architecture; a random network has none."""

import pytest
import torch
from torch import nn

from tests.torch_experiments.test_clone import ARCHITECTURES, IMAGES, base_of
from tests.torch_experiments.test_modules import ATTENTION, TOKENS, network, randn, rng
from torch_experiments import clone, layout, residuals
from torch_experiments.cloning import expand, profiles
from torch_experiments.models import mlp
from torch_experiments.units.partition import coarsest_blocks, relative


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


SCALED = {"positive": "relu", "sign": "tanh"}


def scaled_clone(scales, activation, spread=1.0):
    """Return a three-layer clone whose copies carry scales, and its profiles."""
    base = mlp(5, 3, width=6, depth=3, activation=activation, seed=1, dtype=torch.float64)
    for bias in (p for p in base.parameters() if p.ndim == 1):
        bias.data.normal_(generator=rng())
    axes = profiles(base, 3, scales=scales, generator=rng())
    return base, expand(base, axes, spread=spread, generator=rng()), axes


@pytest.mark.parametrize("spread", [0.0, 1.0])
@pytest.mark.parametrize("scales", SCALED)
def test_scaled_and_signed_copies_are_found_with_their_scales(scales, spread):
    base, twin, axes = scaled_clone(scales, SCALED[scales], spread)
    found = coarsest_blocks(twin, randn(4, 5), scaled=True)
    assert found.dimension == sum(p.numel() for p in base.parameters())
    for label, scale, profile in zip(
        *(x["linear2.weight"] for x in (found.labels, found.scales)), axes[2:0:-1], strict=True
    ):
        assert same_partition(label, profile.block)
        torch.testing.assert_close(scale, relative(profile.scale, profile.block), rtol=1e-9, atol=0)
    assert max(max(r.rows, r.columns) for r in residuals(twin, found.layout())) < 1e-9
    assert coarsest_blocks(twin, randn(4, 5)).dimension > found.dimension


@pytest.mark.parametrize(("scales", "activation"), [("positive", "tanh"), ("positive", "gelu"), ("sign", "relu")])
def test_scales_that_the_activation_does_not_carry_are_no_clones(scales, activation):
    base, twin, _ = scaled_clone(scales, activation)
    found, plain = (coarsest_blocks(twin, randn(4, 5), scaled=s).dimension for s in (True, False))
    assert found == plain > sum(p.numel() for p in base.parameters())


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_looking_for_scales_finds_plain_copies_and_no_others(arch):
    model, x = base_of(arch, "none"), randn(*IMAGES)
    assert coarsest_blocks(model, x, scaled=True).free_fraction == 1
    twin = clone(model, 2, "equitable", rng(), example_inputs=x)
    assert coarsest_blocks(twin, x, scaled=True).dimension == sum(p.numel() for p in model.parameters())


def test_channels_of_a_convolution_may_carry_scales():
    """Channel 1 is 3 times channel 0, into and out of it; its flattened pixels are read by a Linear layer."""
    model = network(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3))
    model[0].weight.data[1], model[0].bias.data[1] = 3 * model[0].weight.data[0], 3 * model[0].bias.data[0]
    out = model[4].weight.data.view(3, 4, 4)
    out[:, 1] = 3 * out[:, 0]
    found = coarsest_blocks(model, randn(2, 2, 6, 6), scaled=True)
    assert found.copied() == {"0.weight": 3, "0.bias": 3}
    torch.testing.assert_close(found.scales["0.weight"][0], torch.tensor([1, 3, 1, 1]).double())
    out[:, 1] *= -1
    assert coarsest_blocks(model, randn(2, 2, 6, 6), scaled=True).copied() == {}


def test_two_activations_multiplied_carry_no_scale():
    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 4).double(), nn.Linear(4, 2).double()

        def forward(self, x):
            h = self.a(x)
            return self.b(h * h)

    model = Gate()
    model.a.weight.data[1], model.a.bias.data[1] = 2 * model.a.weight.data[0], 2 * model.a.bias.data[0]
    model.b.weight.data[:, 1] = 2 * model.b.weight.data[:, 0]
    assert coarsest_blocks(model, randn(4, 3), scaled=True).free_fraction == 1
