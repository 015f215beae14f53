"""What activations do on given samples."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.torch_experiments.certificates.frozen.planted import Source, certified, inputs, reasons
from torch_experiments.certificates.frozen.analysis import frozen_units


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet"])
def test_no_unit_is_missed_that_is_silent_on_the_batch(name: str) -> None:
    model, x, found = certified(name)
    silent = 0
    handles = []

    def count(_module: nn.Module, _args: tuple, h: Tensor) -> None:
        nonlocal silent
        silent += int((h.movedim(1, 0).flatten(1) == 0).all(dim=1).sum())

    for module in model.modules():
        if isinstance(module, nn.ReLU):
            handles.append(module.register_forward_hook(count))
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    assert silent == len(found.units) > 0


def test_a_gradient_at_zero_is_no_frozen_unit() -> None:
    """``clamp(min=0)`` passes gradients at zero, where ReLU does not."""
    for f, reason in ((torch.relu, "sign"), (lambda z: z.clamp(min=0), None)):
        model = Source(torch.relu).double()
        model.forward = lambda x, m=model, g=f: m.head(g(m.second(m.first(x).relu())))  # type: ignore[method-assign]
        with torch.no_grad():
            model.second.weight[1], model.second.bias[1] = 0, 0
        found = reasons(frozen_units(model, inputs(4, 3)))
        assert {found.get((layer, 1)) for layer in ("relu#2", "clamp")} - {None} == {reason} - {None}


def test_a_sample_without_batch_axis_is_observed() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).double()
    model[0].bias.data[0] = -50
    assert ("1", 0) in reasons(frozen_units(model, inputs(1, 4)[0]))
