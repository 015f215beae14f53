"""Unit metrics on layers whose values are known, and the published definitions where they mislead."""

import numpy as np
import pytest
import torch
from torch import nn

from torch_experiments.lab.models import cnn, mlp, resnet18, vit
from torch_experiments.metrics import layers, scores
from torch_experiments.metrics import moments as unit_metrics
from torch_experiments.support.generators import generator


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def test_moments_of_parts_add_up_to_those_of_the_whole():
    h = normal(50, 6)
    whole, parts = unit_metrics.moments(h), unit_metrics.moments(h[:20]) + unit_metrics.moments(h[20:])
    assert whole.n == parts.n == 50
    for name in ("total", "gram", "active"):
        assert torch.allclose(getattr(whole, name), getattr(parts, name))
    assert torch.allclose(whole.covariance() / 50, torch.cov(h.T, correction=0))


@pytest.mark.parametrize(("shape", "axis"), [((5, 4, 3, 3), 1), ((5, 9, 4), 2)])
def test_channels_and_token_features_are_the_units(shape, axis):
    h = normal(*shape)
    flat = h.movedim(axis, -1).reshape(-1, 4)
    assert torch.allclose(unit_metrics.moments(h).gram, flat.T @ flat)
    assert unit_metrics.moments(h).n == 45


def test_spectra_are_those_of_the_values():
    h = normal(40, 5) + 3
    for centred in (True, False):
        expected = scores.spectrum(h, centred=centred)
        assert torch.allclose(unit_metrics.spectrum(unit_metrics.moments(h), centred=centred), expected)


def test_a_channel_that_speaks_on_one_pixel_is_not_dead():
    h = torch.zeros(10, 3, 8, 8)
    h[:, 0, 2, 2] = 1
    h[4, 1] = 1
    m = unit_metrics.moments(h)
    assert unit_metrics.dead_fraction(m) == pytest.approx(1 / 3)
    assert unit_metrics.nearly_silent_fraction(m) == pytest.approx(2 / 3)


def test_duplicates_count_every_member_and_flipped_copies():
    a = normal(200, 3)
    copies = torch.cat([a, a], dim=1)
    assert unit_metrics.duplicate_fraction(unit_metrics.moments(copies)) == 1
    assert unit_metrics.later_duplicate_fraction(unit_metrics.moments(copies)) == 0.5
    flipped = unit_metrics.moments(torch.cat([a, 1 - 2 * a], dim=1))
    assert unit_metrics.duplicate_fraction(flipped) == 1
    assert unit_metrics.later_duplicate_fraction(flipped) == 0


def test_independent_units_with_a_mean_are_no_duplicates():
    m = unit_metrics.moments(normal(2000, 50) + 5)
    assert unit_metrics.duplicate_fraction(m) == 0
    assert unit_metrics.later_duplicate_fraction(m) == pytest.approx(0.98)


def test_dead_and_constant_units_are_in_no_cluster():
    h = torch.cat([torch.zeros(50, 2), torch.full((50, 2), 0.1), normal(50, 1)], dim=1)
    assert unit_metrics.duplicate_fraction(unit_metrics.moments(h)) == 0


def test_a_correlation_below_the_tolerance_is_no_copy():
    a, b = normal(2, 20_000)
    for noise, found in ((0.2, 1.0), (0.4, 0.0)):
        h = torch.stack([a, a + noise * b], dim=1)
        assert unit_metrics.duplicate_fraction(unit_metrics.moments(h)) == found


@pytest.mark.parametrize(
    ("model", "names", "features"),
    [
        (mlp(192, 5, width=7, depth=2), ["act1", "act2"], 7),
        (cnn(8, 5, width=4, depth=2, hidden=6), ["act1", "act2", "act"], None),
        (resnet18(5, width=4, stages=(1, 1)), ["stage1.0", "stage2.0"], None),
        (vit(8, 5, patch=4, width=8, depth=2, heads=2), ["block1", "block2"], 8),
    ],
)
def test_the_layers_of_the_paper_are_observed(model, names, features):
    assert list(layers.observed(model)) == names
    found, outputs = layers.gather(model.train(), [torch.randn(4, 3, 8, 8), torch.randn(2, 3, 8, 8)])
    assert list(found) == names
    assert torch.cat(outputs).shape == (6, 5)
    assert model.training
    assert features is None or all(len(m.total) == features for m in found.values())


def test_a_layer_is_measured_by_every_name():
    found = unit_metrics.measure(unit_metrics.moments(normal(100, 4)))
    ranks = {f"{rank}_{kind}" for rank in scores.RANKS for kind in ("raw", "centred")}
    assert set(found) == ranks | set(unit_metrics.UNIT_METRICS)
    assert all(np.isfinite(value) for value in found.values())
    assert found["stable_rank_raw"] <= found["shannon_rank_raw"] <= found["roy_vetterli_rank_raw"] <= 4 + 1e-9


def test_the_weight_norm_is_that_of_all_parameters():
    model = nn.Linear(2, 2)
    nn.init.constant_(model.weight, 3)
    nn.init.constant_(model.bias, 4)
    assert unit_metrics.weight_norm(model) == pytest.approx((4 * 9 + 2 * 16) ** 0.5)


def test_values_that_overflow_have_no_rank_and_raise_nothing():
    h = normal(50, 6)
    h[3, 2] = torch.inf
    found = unit_metrics.measure(unit_metrics.moments(h))
    assert np.isnan(found["roy_vetterli_rank_raw"])
