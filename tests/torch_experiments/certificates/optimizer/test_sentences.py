"""Reasons are plain and ordered, and rest on claims of the ledger."""

import dataclasses

import torch

from claims.ledger import load
from tests.torch_experiments.certificates.optimizer.training import optim, start, train
from torch_experiments.certificates.optimizer.verdicts import optimizer_verdict
from torch_experiments.support.noise import GradientNoise


def test_reasons_are_plain_ordered_and_rest_on_claims_of_the_ledger():
    ledger = load()
    model, place = start("RE ∩ CE, not constant", dropout=0.1)
    optimizer = optim.Adam(model.parameters(), weight_decay=0.1)
    optimizer.register_step_pre_hook(GradientNoise(0.1))
    train(model.eval(), optim.SGD(model.parameters(), lr=0.01), 2)
    found = optimizer_verdict(model.train(), optimizer, place, {"linear1.bias": torch.ones(12, dtype=torch.bool)})
    assert {claim for reason in found.reasons for claim in reason.rests_on} <= set(ledger)
    order = [("left", "unknown", "kept").index(reason.verdict) for reason in found.reasons]
    assert order == sorted(order)
    plain = dataclasses.asdict(found)
    assert plain["optimizer"] == "Adam: lr 0.001, betas (0.9, 0.999), weight_decay 0.1"
    assert all(isinstance(v, str | tuple) for reason in plain["reasons"] for v in reason.values())
    assert len(found.reasons) < 20, "equal reasons are one"
