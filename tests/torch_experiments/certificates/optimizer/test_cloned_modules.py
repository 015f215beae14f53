"""Norms, activations and dropout keep or part copies as training shows."""

import pytest
import torch
from torch import nn

from tests.torch_experiments.certificates.optimizer.training import LEFT, check, optim, rng, start
from torch_experiments import clone, layout
from torch_experiments.certificates.optimizer.verdicts import optimizer_verdict
from torch_experiments.cloning.chains import chain_layout, expand, profiles
from torch_experiments.cloning.partition import coarsest_blocks


@pytest.mark.parametrize(
    ("manifold", "norm", "expected"),
    [
        ("identical clones", "batch", ("kept", "kept")),
        ("signed (tanh)", "batch", ("kept", "kept")),
        ("scaled (ReLU)", "batch", ("left", "left")),
        ("identical clones", "layer", ("kept", "kept")),
        ("signed (tanh)", "layer", ("left", "left")),
        ("scaled (ReLU)", "layer", ("left", "left")),
    ],
)
def test_norms_keep_and_break_what_training_shows(manifold, norm, expected):
    model, place = start(manifold, norm=norm)
    optimizer = optim.SGD(model.train().parameters(), lr=0.05)
    left = 1e-7 if norm == "batch" else LEFT
    assert check(model, place, optimizer, left=left) == expected


def test_a_batch_norm_without_eps_keeps_scales():
    model, place = start("scaled (ReLU)", norm="batch")
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.eps = 1e-30
    assert check(model, place, optim.SGD(model.parameters(), lr=0.05)) == ("kept", "kept")


def test_group_norm_breaks_signs_and_rms_norm_is_unknown():
    for norm, expected in ((nn.GroupNorm(1, 4), "left"), (nn.RMSNorm(4), "unknown")):
        base = nn.Sequential(nn.Linear(5, 4), norm, nn.Tanh(), nn.Linear(4, 3)).double()
        axes = profiles(base, 3, scales="sign", generator=rng())
        model, place = expand(base, axes), chain_layout(base, axes)
        assert check(model, place, optim.SGD(model.parameters(), lr=0.05))[0] == expected


@pytest.mark.parametrize(
    ("manifold", "activation"), [("scaled (ReLU)", "tanh"), ("signed (tanh)", "relu"), ("signed (tanh)", "gelu")]
)
def test_activations_that_do_not_commute_with_scales_part_the_copies(manifold, activation):
    model, place = start(manifold, activation=activation)
    assert check(model, place, optim.SGD(model.parameters(), lr=0.05)) == ("left", "left")


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_homogeneous_activations_keep_scales(activation):
    model, place = start("scaled (ReLU)", activation=activation)
    assert check(model, place, optim.SGD(model.parameters(), lr=0.05)) == ("kept", "kept")


def test_dropout_parts_copies_while_it_is_on():
    model, place = start(dropout=0.1)
    optimizer = optim.SGD(model.parameters(), lr=0.05)
    assert check(model.eval(), place, optimizer) == ("kept", "kept")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        assert check(model.train(), place, optimizer) == ("left", "left")
    worst = optimizer_verdict(*start(dropout=0.1)[:1], None, place).reasons[0]
    assert worst.where == ("drop1", "drop2")
    assert worst.rests_on == ("M2", "C9")


def test_dropout_on_features_that_have_no_copies_is_harmless():
    base = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3), nn.Dropout(0.1)).double().train()
    model, place = clone(base, 3), layout(base, 3)
    optimizer = optim.SGD(model.parameters(), lr=0.05)
    with torch.random.fork_rng(devices=[]):
        assert check(model, place, optimizer) == ("kept", "kept")


def test_dropout_that_the_trace_did_not_see_is_unknown():
    model, place = start()
    model.spare = nn.Dropout(0.1)
    found = optimizer_verdict(model.train(), None, place)
    assert (found.clones, found.reasons[0].where) == ("unknown", ("spare",))


class FunctionalDropout(nn.Module):
    def __init__(self, body, p):
        super().__init__()
        self.body, self.p = body, p

    def forward(self, x):
        return nn.functional.dropout(self.body(x), self.p, self.training)


@pytest.mark.parametrize("certified", [False, True])
def test_functional_dropout_is_unknown_while_it_is_on(certified):
    x = torch.ones(2, 5).double()
    layer = FunctionalDropout(nn.Sequential(nn.Linear(5, 4), nn.ReLU()), 0.1)
    base = nn.Sequential(layer, nn.Linear(4, 3)).double()
    model, place = clone(base, 2, example_inputs=x), layout(base, 2, example_inputs=x)
    if certified:
        place = coarsest_blocks(model, x).layout()
    for training, expected in ((True, "unknown"), (False, "kept")):
        assert optimizer_verdict(model.train(training), None, place).clones == expected
