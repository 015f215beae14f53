"""Remedies that act on all weights, by hand."""

import math

import pytest
import torch

from tests.torch_experiments.remedies.by_hand import network, three_units
from torch_experiments import remedies
from torch_experiments.lab.models import mlp


def test_shrink_and_perturb_mixes_with_a_fresh_network():
    model = three_units()
    old = [p.detach().clone() for p in model.parameters()]
    other = mlp(1, 1, width=3, depth=1, seed=9, dtype=torch.float64)
    net = network(model, fresh=lambda seed: other)
    remedies.ShrinkPerturb(0.4, 0.1).at_task(net, {}, 1)
    triples = zip(model.parameters(), old, other.parameters(), strict=True)
    assert all(torch.allclose(p, 0.4 * q + 0.1 * r) for p, q, r in triples)


def test_resets_forget_the_optimizer_and_fresh_the_weights_too():
    for name in ("optimizer-reset", "fresh"):
        model = three_units()
        other = mlp(1, 1, width=3, depth=1, seed=9, dtype=torch.float64)
        net = network(model, fresh=lambda seed, other=other: other)
        assert net.moments(model.linear1.weight)
        remedies.make(name).at_task(net, {}, 1)
        assert net.moments(model.linear1.weight) == {}
        assert torch.equal(model.linear1.weight, other.linear1.weight) == (name == "fresh")


def test_clipping_keeps_weights_within_kappa_times_their_first_bound():
    """Fan-ins are 1 and 3, so the bounds are 2 and 2/√3."""
    model = three_units()
    model.linear1.bias.data.copy_(torch.tensor([-3.0, 0.5, 2.0]))
    remedies.WeightClipping(2.0).after_step(network(model), {}, 0)
    assert model.linear1.weight.flatten().tolist() == [1, 2, 2]
    assert model.linear1.bias.tolist() == [-2, 0.5, 2]
    assert model.head.weight.flatten().tolist() == [pytest.approx(2 / math.sqrt(3)), 1, 0.5]
