"""Gradients that remedies add, by hand and against autograd through their penalties."""

import pytest
import torch

from tests.torch_experiments.remedies.by_hand import ARCHS, gradients, network, three_units
from torch_experiments import remedies
from torch_experiments.lab.models import mlp
from torch_experiments.remedies import NOISE
from torch_experiments.support.generators import generator
from torch_experiments.support.noise import GradientNoise


def test_l2_adds_the_weights():
    net = network(three_units())
    found = gradients(remedies.L2(0.1), net)
    assert all(torch.equal(g, 1 + 0.1 * p) for g, p in zip(found, net.model.parameters(), strict=True))


def test_l2_init_adds_the_way_from_the_start():
    net, remedy = network(three_units()), remedies.L2Init(0.1)
    state = remedy.begin(net)
    assert all(torch.equal(g, torch.ones_like(g)) for g in gradients(remedy, net, state=state))
    with torch.no_grad():
        net.model.linear1.weight += 2
    found = gradients(remedy, net, state=state)
    assert found[0].flatten().tolist() == pytest.approx([1.2] * 3)
    assert found[1].tolist() == [1, 1, 1]


def test_noise_is_gradient_noise_and_depends_on_the_step():
    net, remedy = network(three_units()), remedies.Noise(0.5, 0.9, "elementwise")
    noise = GradientNoise(0.5, 0.9, "elementwise", generator(0, NOISE, 7))
    noise.steps = 7
    expected = [torch.nn.Parameter(p.detach().clone()) for p in net.model.parameters()]
    for p in expected:
        p.grad = torch.ones_like(p)
    noise.perturb(expected)
    found = gradients(remedy, net, step=7)
    assert all(torch.equal(g, p.grad) for g, p in zip(found, expected, strict=True))
    assert not torch.equal(gradients(remedy, net, step=8)[0], expected[0].grad)


def test_spectral_regularisation_follows_the_trace_computed_by_hand():
    """σ² of (1, 2, 3) is 14 and of (3, 1, 1/2) 10.25, so the gradients are 4 λ 13 W and 4 λ 9.25 W; b = (1, 0, 0)
    gets 4 λ b.
    """
    model = three_units()
    model.linear1.bias.data.copy_(torch.tensor([1.0, 0.0, 0.0]))
    model.head.bias.data.zero_()
    found = gradients(remedies.Spectral(0.01), network(model))
    assert found[0].flatten().tolist() == pytest.approx([1 + 0.04 * 13 * w for w in (1, 2, 3)])
    assert found[1].tolist() == pytest.approx([1.04, 1, 1])
    assert found[2].flatten().tolist() == pytest.approx([1 + 0.04 * 9.25 * w for w in (3, 1, 0.5)])
    assert found[3].tolist() == [1]


@pytest.mark.parametrize("power", [2, 3])
def test_the_power_method_follows_the_spectral_penalty(power):
    """The oracle is autograd through all singular values of a kernel, after the weights moved by 1 %."""
    model = ARCHS["cnn"]("none", 0)
    net = network(model, example=torch.zeros(2, 3, 8, 8).double())
    remedy = remedies.Spectral(0.3, power, iterations=3000)
    state = remedy.begin(net)
    with torch.no_grad():
        for k, w in enumerate(model.parameters()):
            w += 0.01 * torch.randn(w.shape, generator=generator(k), dtype=torch.float64)
    found = gradients(remedy, net, state=state)
    for name, g in zip(dict(model.named_parameters()), found, strict=True):
        w = model.get_parameter(name).detach().requires_grad_()
        size = torch.linalg.svdvals(w.flatten(1))[0] ** power - 1 if w.ndim > 1 else w.square().sum() ** (power / 2)
        (expected,) = torch.autograd.grad(0.3 * size**2, w)
        torch.testing.assert_close(g - 1, expected, rtol=1e-8, atol=1e-10)


def test_parseval_regularisation_is_the_gradient_of_its_penalty():
    """By hand for the tall (1, 2, 3): 4 λ (14 − 2) W; by autograd for wide matrices; never for the head."""
    found = gradients(remedies.Parseval(0.01, 2.0), network(three_units()))
    assert found[0].flatten().tolist() == pytest.approx([1 + 0.04 * 12 * w for w in (1, 2, 3)])
    assert all(torch.equal(g, torch.ones_like(g)) for g in found[1:])
    model = mlp(5, 2, width=3, depth=2, dtype=torch.float64)
    found = gradients(remedies.Parseval(0.3, 2.0), network(model))
    W = model.linear1.weight.detach().requires_grad_()
    (expected,) = torch.autograd.grad(0.3 * (W @ W.T - 2 * torch.eye(3).double()).square().sum(), W)
    torch.testing.assert_close(found[0] - 1, expected, rtol=1e-12, atol=0)


def test_syre_decays_towards_its_random_point_and_parts_clones():
    model = three_units()
    with torch.no_grad():
        model.linear1.weight.fill_(2.0)
    net, remedy = network(model), remedies.Syre(0.1, sigma=0.5, spread=0.01)
    state = remedy.begin(net)
    offset, rate = state["linear1.weight.offset"], state["linear1.weight.rate"]
    found = gradients(remedy, net, state=state)[0]
    torch.testing.assert_close(found, 1 + 0.1 * rate * (2 - offset), rtol=1e-14, atol=0)
    assert len(set(found.flatten().tolist())) == 3
    assert len(set(gradients(remedies.L2(0.1), net)[0].flatten().tolist())) == 1
    assert (rate - 1).abs().max() <= 0.01
    assert all(torch.equal(value, remedy.begin(net)[name]) for name, value in state.items())
