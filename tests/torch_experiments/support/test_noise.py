"""Gradient noise: both conventions, their sizes, decay and reproducibility."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from theory.tolerances import monte_carlo
from torch_experiments.support.noise import GradientNoise


def tensor_with_gradient(shape, size=3.0):
    parameter = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    gradient = torch.ones(shape, dtype=torch.float64)
    parameter.grad = size * gradient / gradient.norm()
    return parameter


def trained_with_noise(optimizer, weight, noise, closed):
    """Return the weight after three steps along the gradient of its square, with a closure or without."""
    optimizer.register_step_pre_hook(noise)

    def closure():
        optimizer.zero_grad()
        weight.square().sum().backward()

    for _ in range(3):
        optimizer.step(closure if closed else closure())
    return weight.detach()


def test_noise_under_a_closure_is_that_of_the_plain_loop():
    found = []
    for closed in (False, True):
        weight = torch.nn.Parameter(torch.ones(4, dtype=torch.float64))
        noise = GradientNoise(0.5, 0.9, generator=torch.Generator().manual_seed(0))
        found.append(trained_with_noise(torch.optim.SGD([weight], lr=0.1), weight, noise, closed))
        assert noise.steps == 3
    assert torch.equal(*found)
    assert not torch.equal(found[0], torch.full((4,), 0.8**3, dtype=torch.float64))


def noise_vector(parameter, noise):
    before = parameter.grad.clone()
    noise.perturb([parameter])
    return parameter.grad - before


@pytest.mark.parametrize(("convention", "factor"), [("elementwise", math.sqrt(5000)), ("normwise", 1.0)])
def test_the_noise_vector_has_the_size_of_its_convention(convention, factor):
    generator = torch.Generator().manual_seed(0)
    found = noise_vector(tensor_with_gradient((50, 100)), GradientNoise(0.01, 1.0, convention, generator))
    expected = 0.01 * 3.0 * factor
    assert abs(found.norm() / expected - 1) <= monte_carlo(1 / math.sqrt(2 * 5000))


@given(st.floats(0, 1), st.integers(0, 5))
def test_the_noise_decays_with_the_steps(decay, steps):
    seed, noise = torch.Generator().manual_seed(0), GradientNoise(0.5, decay)
    noise.generator, noise.steps = seed, steps
    found = noise_vector(tensor_with_gradient((4,)), noise)
    again = noise_vector(tensor_with_gradient((4,)), GradientNoise(0.5, generator=seed.manual_seed(0)))
    assert torch.allclose(found, decay**steps * again, rtol=1e-12, atol=1e-15)
    assert noise.steps == steps + 1


def test_as_a_hook_it_runs_before_every_step():
    parameter = tensor_with_gradient((4,))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    noise = GradientNoise(0.1, generator=torch.Generator().manual_seed(0))
    optimizer.register_step_pre_hook(noise)
    clean = parameter.grad.clone()
    optimizer.step()
    assert noise.steps == 1
    assert torch.equal(parameter.detach(), -parameter.grad)
    assert not torch.equal(parameter.grad, clean)


def test_parameters_without_a_gradient_are_left_out():
    GradientNoise(0.1).perturb([torch.zeros(3, requires_grad=True)])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sigma": -1}, r"sigma: got -1; it has to be 0 or more"),
        ({"sigma": 1, "decay": 1.1}, r"decay: got 1.1; it has to be in \[0, 1\]"),
        ({"sigma": 1, "convention": "l2"}, r"convention: got 'l2'; allowed are 'elementwise', 'normwise'"),
    ],
)
def test_a_wrong_argument_is_named(given, message):
    with pytest.raises(ValueError, match=message):
        GradientNoise(**given)
