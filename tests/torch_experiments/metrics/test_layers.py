"""Which layers of a network are measured, and the scores of clones."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from tests.torch_experiments.strategies import UNCOUPLED, batch, networks
from torch_experiments.cloning.chains import profiles
from torch_experiments.cloning.exact import clone
from torch_experiments.cloning.layouts import profile
from torch_experiments.lab.models import cnn, mlp, resnet18, vit
from torch_experiments.metrics import layers

N = 20_000


def draws(units, seed=0, samples=N):
    return torch.randn(samples, units, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(networks(norms=UNCOUPLED), st.integers(2, 4))
def test_a_clone_scores_one_forward_and_backward(base, factor):
    (x, y), hidden = batch(base), profiles(base, factor)[1:-1]
    twin = clone(base, factor)
    found = layers.forward_scores(twin, x, hidden) + layers.backward_scores(twin, x, y, hidden)
    assert all(s.value == pytest.approx(1, abs=1e-9) for s in found if s.blocks)


def test_a_fresh_wide_network_scores_zero_forward():
    """Gaussian biases aside, its units are independent given the input."""
    model = mlp(50, 10, width=2000, depth=1, activation="tanh", dtype=torch.float64)
    found = layers.forward_scores(model, draws(50, samples=500), [profile(1000, 2)])
    assert abs(found[0].value) < 0.05


def test_scores_are_taken_in_eval_mode_and_leave_modes_and_gradients_alone():
    base = mlp(5, 3, width=4, depth=2, norm="batch", dropout=0.5, dtype=torch.float64).train()
    base.drop1.eval()
    twin, (x, y), hidden = clone(base), batch(base), profiles(base)[1:-1]
    twin.drop1.eval()
    mean = twin.norm1.running_mean.clone()
    assert layers.forward_scores(twin, x, hidden) == layers.forward_scores(twin, x, hidden)
    layers.backward_scores(twin, x, y, hidden)
    assert [m.training for m in twin if isinstance(m, nn.Dropout)] == [False, True]
    assert torch.equal(mean, twin.norm1.running_mean)
    assert all(p.grad is None for p in twin.parameters())


def test_the_captured_gradients_are_those_of_the_units():
    """Compare one unit's ``∂L/∂h`` with a difference quotient through its outgoing weights' input."""
    model = mlp(4, 3, width=5, depth=1, activation="tanh", dtype=torch.float64)
    x, y = batch(model)
    with layers.captured(model) as values:
        loss = cross_entropy(model(x), y, reduction="sum")
    (delta,) = torch.autograd.grad(loss, values)
    h, eps = values[0].detach().clone(), 1e-6
    plus, minus = (h.index_add(1, torch.tensor([2]), torch.full((12, 1), e).double()) for e in (eps, -eps))
    difference = [cross_entropy(model.head(a), y, reduction="none") for a in (plus, minus)]
    assert torch.allclose(delta[:, 2], (difference[0] - difference[1]) / (2 * eps), atol=1e-8)


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
