"""Facts about every optimizer of torch, and how far its state carries a weight without gradient."""

import pytest
import torch

from claims.evidence import witness
from tests.torch_experiments.certificates.optimizer.training import alive_first, optim, start
from torch_experiments.certificates.optimizer.update_rules import FACTS
from torch_experiments.certificates.optimizer.verdicts import optimizer_verdict
from torch_experiments.support.loading import shipped


class Renamed(optim.SGD):
    """A subclass that changes nothing."""


class Changed(optim.SGD):
    """A subclass with a step of its own."""

    def step(self, closure=None):
        """Halve the rate of odd units."""
        return super().step(closure)


class Own(optim.Optimizer):
    """No optimizer of torch."""

    def __init__(self, parameters):
        super().__init__(parameters, {"lr": 0.1})

    def step(self, closure=None):
        """Do nothing."""


def test_subclasses_are_known_as_far_as_they_step_like_their_base():
    model, place = start()
    masks = {"linear1.bias": torch.ones(12, dtype=torch.bool)}
    for optimizer, expected in (
        (Renamed(model.parameters(), lr=0.1), "kept"),
        (Changed(model.parameters(), lr=0.1), "unknown"),
        (Own(model.parameters()), "unknown"),
    ):
        found = optimizer_verdict(model, optimizer, place, masks)
        assert (found.clones, found.frozen) == (expected, expected)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    optim.lr_scheduler.StepLR(optimizer, 1)
    assert optimizer_verdict(model, optimizer, place).clones == "kept"
    optimizer.step = lambda closure=None: None
    assert optimizer_verdict(model, optimizer, place).clones == "unknown"


BOUNDED = [
    ("SGD", {"lr": 0.1, "momentum": 0.9}, True),
    ("SGD", {"lr": 0.1, "momentum": 0.7, "nesterov": True}, True),
    ("RMSprop", {"lr": 0.01, "momentum": 0.8}, True),
    ("Adam", {"lr": 0.01}, False),
    ("Adam", {"lr": 0.01, "betas": (0.5, 0.5)}, False),
    ("Adam", {"lr": 0.01, "amsgrad": True}, False),
    ("AdamW", {"lr": 0.01, "weight_decay": 0.0, "eps": 1e-3}, False),
    ("Adamax", {"lr": 0.01}, False),
    ("NAdam", {"lr": 0.01}, False),
]


@pytest.mark.claim("F2d", "property")
@pytest.mark.parametrize(("name", "settings", "exact"), BOUNDED)
def test_buffers_carry_frozen_weights_as_far_as_the_bound_says(name, settings, exact):
    case, optimizer = alive_first(name, settings)
    found = optimizer_verdict(case.model, optimizer, None, case.masks())
    assert found.frozen == "left"
    said = float(found.reasons[0].sentence.rpartition("at most ")[2])
    path = case.train(optimizer, 400)
    far = float((path[-1] - path[0]).abs().max())
    assert 0 < far <= said * 1.05
    assert not exact or far == pytest.approx(said, rel=0.05)
    assert exact or said < 4 * far, "the bound is of use"
    witness(residual=max(0.0, far / said - 1))


def test_where_the_second_moment_fades_faster_the_bound_is_that_of_epsilon():
    case, optimizer = alive_first("Adam", {"lr": 0.01, "betas": (0.9, 0.5)})
    found = optimizer_verdict(case.model, optimizer, None, case.masks())
    said = float(found.reasons[0].sentence.rpartition("at most ")[2])
    path = case.train(optimizer, 400)
    assert 1e3 < float((path[-1] - path[0]).abs().max()) < said < 1e8


def test_every_optimizer_of_torch_has_facts():
    assert set(FACTS) == set(shipped())
