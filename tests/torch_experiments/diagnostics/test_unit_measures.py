"""Metrics of units against naive loops, closed forms and planted units."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.torch_experiments.diagnostics.samples import measured, normal
from theory import rank as exact
from torch_experiments import clone, diagnose
from torch_experiments.cloning.layouts import profile
from torch_experiments.lab.models import mlp
from torch_experiments.metrics import spectra


def naive(z, h, slope, steepest):
    """Return the unit metrics by loops over the columns of values and units."""
    n, C = h.shape
    size = [sum(abs(h[i, u]) for i in range(n)) / n for u in range(C)]
    flat = [[abs(slope(z[i, u])) <= 0.01 * steepest for i in range(n)] for u in range(C)]
    entropy = 0.0
    shift = []
    linear = twins = later = 0
    for u in range(C):
        p = sum(z[i, u] > 0 for i in range(n)) / n
        entropy -= sum(q * math.log2(q) for q in (p, 1 - p) if q > 0) / C
        shift.append(abs(np.mean(z[:, u])) / np.std(z[:, u]))
        if np.std(h[:, u]) > 0:
            linear += np.corrcoef(z[:, u], h[:, u])[0, 1] ** 2 >= 0.999
        others = [v for v in range(C) if v != u and np.std(h[:, v]) > 0 and np.std(h[:, u]) > 0]
        twins += any(abs(np.corrcoef(h[:, u], h[:, v])[0, 1]) >= 0.95 for v in others)
        norms = [np.linalg.norm(h[:, v]) for v in range(C)]
        later += any(norms[u] * norms[v] > 0 and h[:, u] @ h[:, v] >= 0.95 * norms[u] * norms[v] for v in range(u))
    return {
        "dead_fraction": sum(s == 0 for s in size) / C,
        "nearly_silent_fraction": sum((h[:, u] != 0).sum() <= 0.05 * n for u in range(C)) / C,
        "dormant_fraction": sum(s <= 0.025 * sum(size) / C for s in size) / C,
        "dormant_fraction_0.1": sum(s <= 0.1 * sum(size) / C for s in size) / C,
        "frozen_fraction": sum(map(sum, flat)) / (n * C),
        "saturated_fraction": sum(map(all, flat)) / C,
        "linearised_fraction": linear / C,
        "sign_entropy": entropy,
        "preactivation_shift": np.mean(shift),
        "duplicate_fraction": twins / C,
        "later_duplicate_fraction": later / C,
    }


def planted(seed=0):
    """Return pre-activations of 60 samples with dead, silent, dormant, linear, and duplicate units."""
    z = normal(60, 12, seed=seed)
    z[:, 0] = -z[:, 0].abs() - 0.1  # dead
    z[:, 1] = torch.where(torch.arange(60) < 2, 1.0, -1.0) + 0.1 * z[:, 1]  # nearly silent
    z[:, 2] *= 0.01  # dormant
    z[:, 3] = z[:, 3].abs() + 0.1  # always active
    z[:, 5] = 2 * z[:, 4]  # a copy for ReLU
    return z


ACTIVATIONS = {
    "relu": (nn.ReLU(), lambda z: float(z > 0), 1.0),
    "tanh": (nn.Tanh(), lambda z: 1 - np.tanh(z) ** 2, 1.0),
    "leaky": (nn.LeakyReLU(0.001), lambda z: 1.0 if z > 0 else 0.001, 1.0),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_unit_metrics_are_those_of_naive_loops(name):
    activation, slope, steepest = ACTIVATIONS[name]
    z = planted() * (3 if name == "tanh" else 1)
    found = measured(z, activation)
    for metric, value in naive(z.numpy(), activation(z).numpy(), slope, steepest).items():
        assert found[metric] == pytest.approx(value, rel=1e-9), metric


def test_planted_units_are_counted_and_no_others():
    found = measured(planted())
    assert found["dead_fraction"] == pytest.approx(1 / 12)
    assert found["nearly_silent_fraction"] == pytest.approx(2 / 12)
    assert found["dormant_fraction"] == pytest.approx(2 / 12)
    assert found["linearised_fraction"] == pytest.approx(1 / 12)
    assert found["duplicate_fraction"] == pytest.approx(2 / 12)
    healthy = measured(normal(300, 12))
    assert [healthy[m] for m in ("dead_fraction", "dormant_fraction", "duplicate_fraction")] == [0, 0, 0]


@pytest.mark.parametrize("mean", [0.0, 3.0])
def test_ranks_are_those_of_the_values(mean):
    h = normal(80, 7) * torch.linspace(1, 0.1, 7, dtype=torch.float64) + mean
    h = torch.cat([h, h[:, :2]], dim=1)
    found = measured(h, nn.Hardtanh(-50, 50))
    for kind, a in (("raw", h.numpy()), ("centred", (h - h.mean(dim=0)).numpy())):
        C = a.T @ a
        assert found[f"shannon_rank_{kind}"] == pytest.approx(exact.shannon_rank(C), rel=1e-6)
        assert found[f"renyi2_rank_{kind}"] == pytest.approx(exact.renyi2_rank(C), rel=1e-6)
        assert found[f"stable_rank_{kind}"] == pytest.approx(exact.stable_rank(C), rel=1e-6)
        assert found[f"roy_vetterli_rank_{kind}"] == pytest.approx(exact.roy_vetterli_rank(a), rel=1e-6)
        assert found[f"srank_{kind}"] == exact.srank(a)
        assert found[f"hard_rank_{kind}"] == 7


def test_ranks_of_fewer_values_than_units_are_those_of_the_products_of_values():
    z = normal(20, 50)
    found = measured(z)
    sigma = spectra.spectrum(z.relu())
    assert found["shannon_rank_centred"] == pytest.approx(spectra.shannon_rank(sigma), rel=1e-9)
    assert found["hard_rank_centred"] == 19


def test_linearity_of_gaussian_inputs_is_that_of_the_hermite_expansion():
    z = normal(200_000, 1)
    h = z.relu()
    r2 = np.corrcoef(z[:, 0], h[:, 0])[0, 1] ** 2
    assert r2 == pytest.approx(exact.linear_share("relu"), abs=5e-3)
    assert measured(z)["linearised_fraction"] == 0
    assert measured(0.02 * z, nn.Tanh())["linearised_fraction"] == 1
    assert measured(z, nn.Tanh())["linearised_fraction"] == 0


def test_published_saturation_depends_on_the_scale_of_the_loss_and_ours_does_not():
    model = mlp(6, 3, width=16, depth=1, dtype=torch.float64)
    x, y = normal(40, 6), torch.arange(40) % 3
    h = model.act1(model.linear1(x)).detach().requires_grad_()
    F.cross_entropy(model.head(h), y).backward()
    still = [
        np.mean([abs(h.grad[i, u]) < 1e-4 * max(h[:, u].abs().mean().item(), 1e-12) for i in range(40)]) > 0.99
        for u in range(16)
    ]
    found = diagnose(model, x, y)["act1"]
    assert found["jl25_saturated_fraction"] == pytest.approx(np.mean(still))
    scaled = diagnose(model, x, y, loss=lambda out, y: 1e-9 * F.cross_entropy(out, y))["act1"]
    assert scaled["jl25_saturated_fraction"] > found["jl25_saturated_fraction"]
    assert scaled["saturated_fraction"] == found["saturated_fraction"]


def test_scores_of_cloning_are_one_for_copies_and_the_published_one_a_fifth_for_independent_pairs():
    a = normal(500, 200)
    pairs = profile(200, 2)
    copies = measured(a.repeat_interleave(2, dim=1), nn.Hardtanh(-9, 9), profiles={"activation": pairs})
    assert copies["forward_cloning_score"] == pytest.approx(1)
    assert copies["jl25_cloning_r2"] == pytest.approx(1)
    apart = measured(normal(500, 400), nn.Hardtanh(-9, 9), profiles={"activation": pairs})
    assert apart["forward_cloning_score"] == pytest.approx(0, abs=0.01)
    assert apart["jl25_cloning_r2"] == pytest.approx(1 - 2 / math.sqrt(2 * math.pi), abs=0.01)
    with pytest.raises(ValueError, match=r"profiles.*400 units.*200"):
        measured(a, profiles={"activation": pairs})


def test_clones_of_a_network_score_one_forward_and_backward_until_they_are_parted():
    wide = clone(mlp(6, 3, width=8, depth=2, dtype=torch.float64), 2)
    x, y = normal(60, 6), torch.arange(60) % 3
    pairs = {name: profile(8, 2) for name in ("act1", "act2")}
    names = ("forward_cloning_score", "backward_cloning_score", "jl25_cloning_r2")
    found = diagnose(wide, x, y, metrics=names, profiles=pairs)
    assert [found[layer][name] for layer in pairs for name in names] == pytest.approx([1] * 6)
    with torch.no_grad():
        wide.linear1.weight += 0.3 * normal(*wide.linear1.weight.shape, seed=3)
    parted = diagnose(wide, x, y, metrics=names, profiles=pairs)
    assert parted["act1"]["backward_cloning_score"] == pytest.approx(1)
    assert max(parted["act1"]["forward_cloning_score"], parted["act1"]["jl25_cloning_r2"]) < 0.9
