"""Unit metrics on layers whose values are known, and the published definitions where they mislead."""

import numpy as np
import pytest
import torch

from torch_experiments.metrics import moments, spectra
from torch_experiments.support.generators import generator


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def test_moments_of_parts_add_up_to_those_of_the_whole():
    h = normal(50, 6)
    whole, parts = moments.moments(h), moments.moments(h[:20]) + moments.moments(h[20:])
    assert whole.n == parts.n == 50
    for name in ("total", "gram", "active"):
        assert torch.allclose(getattr(whole, name), getattr(parts, name))
    assert torch.allclose(whole.covariance() / 50, torch.cov(h.T, correction=0))


@pytest.mark.parametrize(("shape", "axis"), [((5, 4, 3, 3), 1), ((5, 9, 4), 2)])
def test_channels_and_token_features_are_the_units(shape, axis):
    h = normal(*shape)
    flat = h.movedim(axis, -1).reshape(-1, 4)
    assert torch.allclose(moments.moments(h).gram, flat.T @ flat)
    assert moments.moments(h).n == 45


def test_spectra_are_those_of_the_values():
    h = normal(40, 5) + 3
    for centred in (True, False):
        expected = spectra.spectrum(h, centred=centred)
        assert torch.allclose(moments.moments(h).spectrum(centred=centred), expected)


def test_a_channel_that_speaks_on_one_pixel_is_not_dead():
    h = torch.zeros(10, 3, 8, 8)
    h[:, 0, 2, 2] = 1
    h[4, 1] = 1
    m = moments.moments(h)
    assert moments.dead_fraction(m) == pytest.approx(1 / 3)
    assert moments.nearly_silent_fraction(m) == pytest.approx(2 / 3)


def test_duplicates_count_every_member_and_flipped_copies():
    a = normal(200, 3)
    copies = torch.cat([a, a], dim=1)
    assert moments.duplicate_fraction(moments.moments(copies)) == 1
    assert moments.later_duplicate_fraction(moments.moments(copies)) == 0.5
    flipped = moments.moments(torch.cat([a, 1 - 2 * a], dim=1))
    assert moments.duplicate_fraction(flipped) == 1
    assert moments.later_duplicate_fraction(flipped) == 0


def test_independent_units_with_a_mean_are_no_duplicates():
    m = moments.moments(normal(2000, 50) + 5)
    assert moments.duplicate_fraction(m) == 0
    assert moments.later_duplicate_fraction(m) == pytest.approx(0.98)


def test_dead_and_constant_units_are_in_no_cluster():
    h = torch.cat([torch.zeros(50, 2), torch.full((50, 2), 0.1), normal(50, 1)], dim=1)
    assert moments.duplicate_fraction(moments.moments(h)) == 0


def test_a_correlation_below_the_tolerance_is_no_copy():
    a, b = normal(2, 20_000)
    for noise, found in ((0.2, 1.0), (0.4, 0.0)):
        h = torch.stack([a, a + noise * b], dim=1)
        assert moments.duplicate_fraction(moments.moments(h)) == found


def test_a_layer_is_measured_by_every_name():
    found = moments.measure(moments.moments(normal(100, 4)))
    ranks = {f"{rank}_{kind}" for rank in spectra.RANKS for kind in ("raw", "centred")}
    assert set(found) == ranks | set(moments.UNIT_METRICS)
    assert all(np.isfinite(value) for value in found.values())
    assert found["stable_rank_raw"] <= found["shannon_rank_raw"] <= found["roy_vetterli_rank_raw"] <= 4 + 1e-9


def test_values_that_overflow_have_no_rank_and_raise_nothing():
    h = normal(50, 6)
    h[3, 2] = torch.inf
    found = moments.measure(moments.moments(h))
    assert np.isnan(found["roy_vetterli_rank_raw"])


def test_the_units_of_an_image_are_channels_and_those_of_tokens_features():
    image, tokens = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5), torch.arange(2 * 3 * 4).reshape(2, 3, 4)
    by_hand = [[image[n, c, i, j].item() for c in range(3)] for n in range(2) for i in range(4) for j in range(5)]
    assert moments.rows(image).tolist() == by_hand
    assert moments.rows(tokens).tolist() == [tokens[n, t].tolist() for n in range(2) for t in range(3)]
    assert moments.rows(tokens[:, 0]).tolist() == tokens[:, 0].tolist()
