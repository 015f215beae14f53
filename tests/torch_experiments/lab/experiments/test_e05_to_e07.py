"""Experiments 5 to 7: the bonus on the rank, label noise, networks that start as clones, and the arms."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from torch_experiments import remedies
from torch_experiments.cloning.exact import layout, residuals
from torch_experiments.lab import experiments, streams, training
from torch_experiments.lab.experiments import e05_generalisation, e06_escape, e07_streams
from torch_experiments.lab.images.pixels import load
from torch_experiments.lab.training import Config, Run
from torch_experiments.metrics.layers import activations

DATA = load("digits")
TINY = Config(arch_settings=(("width", 6), ("depth", 2)), steps=4, tasks=1, probe_train=20, probe_test=20)


def log_rank(model, x):
    """Return Σ_l ln er₂ from the singular values of every layer."""
    spectra = [np.linalg.svd(h.detach().numpy(), compute_uv=False) for h in activations(model, x)]
    return sum(np.log((s**2).sum() ** 2 / (s**4).sum()) for s in spectra)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def bonus_gradients(strength, x):
    """Return the network and what `RankBonus` adds to zero gradients."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    bound = remedies.RankBonus(strength=strength, images=20).on(model, optimizer, example_inputs=x)
    bound.before_step()
    return model, [p.grad for p in model.parameters()]


def test_the_bonus_is_the_gradient_of_the_log_rank():
    x = torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    model, gradients = bonus_gradients(0.7, x)
    directions = [torch.randn_like(p) for p in model.parameters()]
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
    values = []
    for t in (1e-5, -1e-5):
        moved = network()
        with torch.no_grad():
            for p, d in zip(moved.parameters(), directions, strict=True):
                p.add_(d, alpha=t)
        values.append(log_rank(moved, x))
    difference = -0.7 * (values[0] - values[1]) / 2e-5
    assert slope == pytest.approx(difference, rel=1e-6)
    assert abs(slope) > 1e-3
    assert slope != pytest.approx(-difference, rel=1e-2)


def test_the_bonus_leaves_the_head_alone_and_descends_to_a_higher_rank():
    x = torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    model, gradients = bonus_gradients(1.0, x)
    assert not gradients[-1].any()
    assert not gradients[-2].any()
    before = log_rank(model, x)
    with torch.no_grad():
        for p, g in zip(model.parameters(), gradients, strict=True):
            p.sub_(g, alpha=0.01)
    assert log_rank(model, x) > before


def test_the_bonus_needs_one_tensor():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    bound = remedies.RankBonus().on(model, optimizer, example_inputs=[torch.ones(2, 3, dtype=torch.float64)])
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    with pytest.raises(TypeError, match="RankBonus needs one tensor, got list"):
        bound.before_step()


@pytest.mark.parametrize(("name", "given"), [("permuted", {}), ("class_split", {"size": 5, "disjoint": False})])
def test_a_share_of_the_labels_is_uniform_and_test_labels_are_clean(name, given):
    clean, noisy = (streams.make(name, DATA, 2, seed=3, noise=n, **given).task(1) for n in (0.0, 0.4))
    assert torch.equal(clean.train, noisy.train)
    assert torch.equal(clean.test_y, noisy.test_y)
    n = len(clean.active)
    wrong = float((clean.train_y != noisy.train_y).double().mean())
    expected = 0.4 * (1 - 1 / n)
    assert abs(wrong - expected) < 5 * (expected * (1 - expected) / len(clean.train)) ** 0.5
    assert set(noisy.train_y.tolist()) <= set(clean.active.tolist())
    other = streams.make(name, DATA, 2, seed=3, noise=0.4, **given).task(0)
    assert len(other.train) != len(noisy.train) or not torch.equal(other.train_y, noisy.train_y)
    with pytest.raises(ValueError, match=r"noise: got 2; it has to be in \[0, 1\]"):
        streams.make(name, DATA, 2, seed=3, noise=2, **given)


def cloned(**changes):
    settings = (*TINY.arch_settings, ("clones", 2))
    return dataclasses.replace(TINY, arch_settings=settings, precision="float64", tasks=2, **changes)


def violation(config):
    """Return the largest distance of the trained network from its cloned manifold."""
    run = Run(config, [0], DATA)
    training.finish(run)
    base = training.build(dataclasses.replace(config, arch_settings=TINY.arch_settings), DATA.shape, 10, 0)
    axes = layout(base, 2, example_inputs=torch.zeros(2, *DATA.shape, dtype=torch.float64))
    return max(max(found.rows, found.columns) for found in residuals(run.networks.ensemble.models[0], axes))


def test_a_network_that_starts_as_a_clone_computes_the_narrow_one():
    narrow, wide = (
        training.build(config, DATA.shape, 10, 4)
        for config in (dataclasses.replace(TINY, precision="float64"), cloned())
    )
    x = torch.randn(5, *DATA.shape, dtype=torch.float64)
    assert torch.allclose(narrow(x), wide(x), rtol=1e-12)
    assert [m.out_features for m in wide if isinstance(m, nn.Linear)] == [12, 12, 10]


def test_the_trapped_clone_stays_and_the_others_leave():
    assert violation(cloned(head="keep")) < 1e-12
    assert violation(cloned(head="keep", remedy="escape")) > 1e-3
    assert violation(cloned(head="keep", remedy="noise", remedy_settings=(("sigma", 0.1),))) > 1e-3


@pytest.mark.parametrize("arch", ["mlp", "cnn", "vit"])
def test_scratch_has_the_width_of_the_clone(arch):
    cells = e06_escape.configs("quick", arch)
    shapes = {}
    for name in ("trapped", "scratch", "narrow"):
        model = training.build(cells[name], DATA.shape, 10, 0)
        shapes[name] = [tuple(p.shape) for p in model.parameters()]
    assert shapes["trapped"] == shapes["scratch"]
    assert shapes["narrow"] != shapes["scratch"]


def test_cells_differ_in_what_their_labels_say():
    grid = e05_generalisation.configs("quick")
    assert len(grid) == 16
    assert dict(grid["width 96, decay 0, noise 0.5"].stream_settings) == {"noise": 0.5}
    assert grid["width 32, decay 0.001, noise 0.0"].remedy == "l2"
    arms = e07_streams.configs("quick")
    assert len(arms) == 20
    assert {c.norm for label, c in arms.items() if "layer norm" in label} == {"layer"}
    assert {c.remedy for label, c in arms.items() if "fresh" in label} == {"fresh"}
    long = e07_streams.configs("text", "mlp", "folder")
    assert long["warm start: plain"].tasks == 2
    assert long["permuted: plain"].tasks == 40


def test_tasks_of_different_lengths_are_read_by_cell(tmp_path):
    short = {"a": dataclasses.replace(TINY, stream="permuted"), "b": dataclasses.replace(TINY, stream="permuted")}
    short["b"] = dataclasses.replace(short["b"], steps=6)
    table = experiments.computed(short, (0, 1), tmp_path, stack=True)
    assert experiments.over_tasks(table, "a", "online_accuracy").shape == (2, 1)
    assert experiments.over_tasks(table, "b", "online_accuracy").shape == (2, 1)
