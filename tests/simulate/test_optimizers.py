"""The update rules are those of torch: 100 steps in float64 agree to 1e-12, and a changed formula is seen."""

import numpy as np
import pytest
import torch
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from simulate import optimizers

STEPS, SIZE, TOLERANCE = 100, 12, 1e-12


def untouched(parameters):
    return None


RULES = {
    "SGD": (optimizers.sgd(0.05), torch.optim.SGD, {"lr": 0.05}),
    "momentum": (optimizers.sgd(0.05, momentum=0.9), torch.optim.SGD, {"lr": 0.05, "momentum": 0.9}),
    "Nesterov": (
        optimizers.sgd(0.05, momentum=0.9, nesterov=True),
        torch.optim.SGD,
        {"lr": 0.05, "momentum": 0.9, "nesterov": True},
    ),
    "momentum with L2": (
        optimizers.sgd(0.05, momentum=0.9, decay=0.1),
        torch.optim.SGD,
        {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1},
    ),
    "Adam": (optimizers.adam(0.05), torch.optim.Adam, {"lr": 0.05}),
    "Adam, other betas": (
        optimizers.adam(0.05, betas=(0.8, 0.9), eps=1e-3),
        torch.optim.Adam,
        {"lr": 0.05, "betas": (0.8, 0.9), "eps": 1e-3},
    ),
    "Adam with L2": (optimizers.adam(0.05, decay=0.1), torch.optim.Adam, {"lr": 0.05, "weight_decay": 0.1}),
    "AdamW": (
        optimizers.adam(0.05, decay=0.1, decoupled=True),
        torch.optim.AdamW,
        {"lr": 0.05, "weight_decay": 0.1},
    ),
    "RMSprop": (optimizers.rmsprop(0.01), torch.optim.RMSprop, {"lr": 0.01}),
    "Rprop": (optimizers.rprop(0.01), torch.optim.Rprop, {"lr": 0.01}),
    "Adagrad": (optimizers.adagrad(0.1), torch.optim.Adagrad, {"lr": 0.1}),
}
CLIPS = {
    "norm": (optimizers.clipped_by_norm, clip_grad_norm_),
    "value": (optimizers.clipped_by_value, clip_grad_value_),
}


def gradients(seed=0):
    """Return where to start and the gradient `H w + noise` at a step, so that errors would feed back."""
    draws = np.random.default_rng(seed)
    factor = draws.standard_normal((SIZE, SIZE)) / np.sqrt(SIZE)
    noise = draws.standard_normal((STEPS, SIZE))
    return draws.standard_normal(SIZE), lambda w, t: factor @ (factor.T @ w) + noise[t]


def ours(rule):
    w, slope = gradients()
    state, path = None, []
    for t in range(STEPS):
        state, w = rule(state, w, slope(w, t))
        path.append(w)
    return np.array(path)


def torchs(optimizer, settings, edit=untouched):
    start, slope = gradients()
    w, path = torch.nn.Parameter(torch.tensor(start)), []
    steps = optimizer([w], **settings)
    for t in range(STEPS):
        w.grad = torch.tensor(slope(w.detach().numpy(), t))
        edit([w])
        steps.step()
        path.append(w.detach().numpy().copy())
    return np.array(path)


def difference(a, b):
    return np.max(np.abs(a - b) / (1 + np.abs(b)))


@pytest.mark.parametrize("name", RULES)
def test_a_rule_is_that_of_torch(name):
    rule, optimizer, settings = RULES[name]
    assert difference(ours(rule), torchs(optimizer, settings)) <= TOLERANCE


@pytest.mark.parametrize("kind", CLIPS)
@pytest.mark.parametrize("bound", [0.5, 1e9])
def test_clipping_is_that_of_torch(kind, bound):
    ours_, theirs = CLIPS[kind]
    rule = ours_(optimizers.sgd(0.05, momentum=0.9), bound)
    path = torchs(torch.optim.SGD, {"lr": 0.05, "momentum": 0.9}, lambda w: theirs(w, bound))
    assert difference(ours(rule), path) <= TOLERANCE
    assert (difference(ours(optimizers.sgd(0.05, momentum=0.9)), path) > 1e-3) == (bound == 0.5)


def test_sign_sgd_moves_every_weight_by_the_rate():
    path = ours(optimizers.sign_sgd(0.125))
    np.testing.assert_allclose(np.abs(np.diff(path, axis=0)), 0.125, atol=1e-12)


def eps_inside_the_root(state, w, g):
    step, m, v = state or (0, 0 * w, 0 * w)
    step, m, v = step + 1, 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g * g
    return (step, m, v), w - 0.05 * m / (1 - 0.8**step) / np.sqrt(v / (1 - 0.9**step) + 1e-3)


def dampened(state, w, g):
    buffer = (1 - 0.9) * g if state is None else 0.9 * state + (1 - 0.9) * g
    return buffer, w - 0.05 * buffer


MUTATIONS = {
    "SGD": optimizers.sgd(0.05 * (1 + 1e-7)),
    "momentum": dampened,
    "Nesterov": optimizers.sgd(0.05, momentum=0.9),
    "momentum with L2": optimizers.sgd(0.05, momentum=0.9, decay=0.2),
    "Adam": lambda state, w, g: optimizers.adam(0.05)(None, w, g),  # forgets its state
    "Adam, other betas": eps_inside_the_root,
    "Adam with L2": optimizers.adam(0.05, decay=0.1, decoupled=True),
    "AdamW": optimizers.adam(0.05, decay=0.1),
    "RMSprop": optimizers.rmsprop(0.01, eps=1e-6),
    "Rprop": optimizers.rprop(0.01, etas=(0.5, 1.1)),
    "Adagrad": optimizers.rmsprop(0.1),
}


@pytest.mark.parametrize("name", RULES)
def test_a_changed_rule_is_seen(name):
    _, optimizer, settings = RULES[name]
    assert difference(ours(MUTATIONS[name]), torchs(optimizer, settings)) > 1e3 * TOLERANCE
