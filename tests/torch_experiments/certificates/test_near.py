"""Near-clones: found by what units say and how they are weighed; independent units are never near."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.torch_experiments.cloning.test_modulewise import network, randn, rng
from torch_experiments import clone
from torch_experiments.certificates.near import distances, led_by, near_clones
from torch_experiments.lab.models import cnn, mlp
from torch_experiments.units.symmetry import Scales


def planted(activation: nn.Module, noise: float, scale: float = 1.0) -> nn.Module:
    """Return a network in which units 3 and 7 are unit 1, times ``scale``, with noise on their weights."""
    model = network(nn.Linear(8, 20), activation, nn.Linear(20, 5))
    first, second = (m for m in model if isinstance(m, nn.Linear))
    for k in (3, 7):
        for target, source in (
            (first.weight.data[k], first.weight.data[1]),
            (first.bias.data[k], first.bias.data[1]),
        ):
            target.copy_(
                scale * source * (1 + noise * torch.randn(source.shape, generator=rng(), dtype=source.dtype))
            )
        column = second.weight.data[:, 1]
        second.weight.data[:, k] = (
            scale * column * (1 + noise * torch.randn(5, generator=rng(), dtype=column.dtype))
        )
    return model


@pytest.mark.parametrize("noise", [0.0, 1e-6, 1e-3, 1e-2])
@pytest.mark.parametrize(
    ("activation", "scale"), [(nn.Tanh(), 1.0), (nn.GELU(), 1.0), (nn.Tanh(), -1.0), (nn.ReLU(), 2.5)]
)
def test_planted_near_clones_are_found_and_nothing_else(activation: nn.Module, scale: float, noise: float) -> None:
    (found,) = near_clones(planted(activation, noise, scale), randn(500, 8))
    assert (found.layer, found.units) == ("0", (1, 3, 7))
    assert found.scales == pytest.approx((1.0, scale, scale), rel=10 * noise + 1e-12)
    assert found.activations <= 5 * noise + 1e-6
    assert noise / 10 <= found.weights <= 2 * noise + 1e-12


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_near_clones_are_found_where_the_squares_of_their_values_are_no_numbers(size: float) -> None:
    model = planted(nn.ReLU(), 1e-3, 2.5)
    expected = near_clones(model, randn(500, 8))
    with torch.no_grad():
        model[0].weight.mul_(size)
        model[0].bias.mul_(size)
    found = near_clones(model, randn(500, 8))
    assert [cluster.units for cluster in found] == [(1, 3, 7)]
    assert found[0].activations == pytest.approx(expected[0].activations)


@pytest.mark.parametrize(("activation", "scale"), [(nn.Tanh(), 2.0), (nn.GELU(), 2.0), (nn.ReLU(), -1.0)])
def test_scales_that_the_activation_does_not_carry_are_not_near(activation: nn.Module, scale: float) -> None:
    found = near_clones(planted(activation, 0.0, scale), randn(500, 8))
    assert all(1 not in cluster.units for cluster in found)
    assert [cluster.units for cluster in found] == [(3, 7)]


def compared(a: torch.Tensor, carried: Scales) -> tuple[torch.Tensor, torch.Tensor]:
    square, variance = a.square().sum(dim=0), (a - a.mean(dim=0)).square().sum(dim=0)
    return distances(a.T @ a, square, square, variance, carried)


@pytest.mark.parametrize("mean", [0.0, 5.0])
@pytest.mark.parametrize("carried", Scales)
def test_independent_units_of_any_mean_are_not_near(mean: float, carried: Scales) -> None:
    _, d = compared(mean + randn(4000, 30), carried)
    d.fill_diagonal_(2)
    assert float(d.min()) > 0.9


def test_the_distance_is_that_of_a_naive_loop() -> None:
    a = randn(50, 6) + randn(6)
    centred = a - a.mean(dim=0)
    scale, d = compared(a, Scales.POSITIVE)
    for u in range(6):
        for v in range(6):
            best = float(a[:, u] @ a[:, v] / (a[:, u] @ a[:, u]))
            s = best if best > 0 else 1.0
            assert float(scale[u, v]) == pytest.approx(s)
            expected = float((a[:, v] - s * a[:, u]).norm() / centred[:, v].norm())
            assert float(d[u, v]) == pytest.approx(expected, abs=1e-6)


def test_random_networks_have_no_near_clones() -> None:
    assert near_clones(mlp(64, 10, width=64, depth=3, seed=2), torch.randn(500, 64, generator=rng())) == ()


def test_noisy_channels_of_a_convolution_are_near() -> None:
    x = randn(20, 3, 8, 8)
    wide = clone(cnn(8, 4, width=4, hidden=8, dtype=torch.float64), 2, example_inputs=x)
    for p in wide.parameters():
        p.data += 1e-4 * torch.randn(p.shape, generator=rng(), dtype=p.dtype)
    found = near_clones(wide, x)
    assert {(c.layer, c.units) for c in found} >= {("conv1", (2 * k, 2 * k + 1)) for k in range(4)}
    assert all(0 < c.weights < 1e-2 for c in found)


def test_constant_units_are_in_no_cluster() -> None:
    model = network(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    model[0].weight.data[:3], model[0].bias.data[:3] = 0, -1
    assert all(min(c.units) > 2 for c in near_clones(model, randn(50, 4)))


def test_a_wrong_threshold_is_named() -> None:
    with pytest.raises(ValueError, match=r"threshold: got 1.5; it has to be in \[0, 1\)"):
        near_clones(network(nn.Linear(4, 5)), randn(5, 4), threshold=1.5)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("noise", [1e-6, 1e-4, 1e-2])
@pytest.mark.parametrize(
    ("activation", "scale"),
    [(nn.GELU(), 1.0), (nn.ReLU(), 3.0), (nn.Tanh(), -1.0)],
    ids=["exact", "scaled", "signed"],
)
def test_any_share_of_noisy_copies_is_found_and_nothing_else(
    share: float, noise: float, activation: nn.Module, scale: float
) -> None:
    """The first units of a wide layer are copied onto the last ones, with noise on all their weights."""
    model, count = network(nn.Linear(16, 200), activation, nn.Linear(200, 5)), int(200 * share)
    for weight, dim in ((model[0].weight, 0), (model[0].bias, 0), (model[2].weight, 1)):
        rows = weight.data.movedim(dim, 0)
        copies = scale * rows[:count]
        rows[-count:] = copies * (1 + noise * torch.randn(copies.shape, generator=rng(), dtype=torch.float64))
    found = near_clones(model, randn(500, 16))
    assert {cluster.units for cluster in found} == {(k, 200 - count + k) for k in range(count)}
    assert all(cluster.scales[1] == pytest.approx(scale, rel=10 * noise) for cluster in found)
    assert all(noise / 30 < cluster.weights < 2 * noise for cluster in found)


@pytest.mark.parametrize("mean", [0.0, 1.0, 1e3])
@pytest.mark.parametrize("threshold", [0.0, 1e-4, 0.1, 0.9])
@pytest.mark.parametrize("carried", Scales)
def test_leaders_are_those_of_a_plain_search_over_all_pairs(mean: float, threshold: float, carried: Scales) -> None:
    """With more units than are compared at a time, copies of all distances, constant units, and large means."""
    a = mean + randn(40, 300)
    for k in range(120):  # copies of the first units, ever farther from them
        sign = -1.0 if k % 3 == 1 else 1.0
        a[:, 299 - k] = sign * (1.5 if k % 3 == 2 else 1.0) * a[:, k % 60] + 10.0 ** (k / 20 - 6) * randn(40)
    a[:, 100:104] = mean
    square, spread = a.square().sum(dim=0), (a - a.mean(dim=0)).square().sum(dim=0)
    s, d = compared(a, carried)
    varies, distance = (spread > 1e-9 * square).tolist(), d.tolist()
    leader = list(range(300))
    for u in range(300):
        for v in range(u + 1, 300):
            free = leader[u] == u and leader[v] == v and varies[u] and varies[v]
            if free and distance[u][v] <= threshold:
                leader[v] = u
    found = led_by(a, carried, threshold)
    assert found.leader.tolist() == leader
    expected = torch.where(found.leader == torch.arange(300), 1.0, s[found.leader, range(300)])
    assert torch.allclose(found.scale, expected)
