"""Hooks see what modules return, in order, and are taken off whatever happens."""

import pytest
import torch
from torch import nn

from torch_experiments.units.hooks import hooked, outputs_of


def test_outputs_are_seen_in_the_order_in_which_modules_return():
    model, seen = nn.Sequential(nn.Linear(2, 3), nn.ReLU()), []
    with hooked(outputs_of(dict(model.named_modules()), lambda name, h: seen.append((name, h.shape[1])))):
        model(torch.ones(1, 2))
    assert seen == [("0", 3), ("1", 3), ("", 3)]
    model(torch.ones(1, 2))
    assert len(seen) == 3


def test_hooks_are_taken_off_after_an_error():
    model = nn.Linear(2, 3)
    with pytest.raises(RuntimeError), hooked(outputs_of({"": model}, lambda *_: None)):
        model(torch.ones(1, 5))
    assert not model._forward_hooks
