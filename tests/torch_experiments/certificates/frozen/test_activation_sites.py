"""Which activations have units, and which entries are theirs."""

from __future__ import annotations

import torch
from torch import nn

from tests.torch_experiments.certificates.frozen.planted import inputs, reasons
from torch_experiments.certificates.frozen.analysis import frozen_units


class Weighed(nn.Module):
    """No function of one tensor, entry by entry."""

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return h.relu() * h.mean(-1, keepdim=True)


def test_activations_that_are_no_functions_of_one_tensor_are_named() -> None:
    model = nn.Sequential(nn.Linear(3, 3), Weighed(), nn.Linear(3, 2)).double()
    found = frozen_units(model, inputs(4, 3))
    assert [m.layer for m in found.missing] == ["1"]
    assert not found.sizes


def test_single_units_form_layers_and_whole_layers_are_named() -> None:
    """The chain of F2: input → unit → ReLU unit → output."""
    chain = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1)).double()
    with torch.no_grad():
        chain[1].bias.fill_(-50)
    found = frozen_units(chain, inputs(3, 1), box=(-1, 1))
    assert reasons(found) == {("2", 0): "interval"}
    assert found.whole() == ("2",)
    assert {n for n, m in found.entries.items() if m.all()} == {
        "0.weight",
        "0.bias",
        "1.weight",
        "1.bias",
        "3.weight",
    }


def test_a_recurrent_network_has_units_at_every_step_and_shared_weights_are_held_only_if_all_are_frozen() -> None:
    torch.manual_seed(0)
    model = nn.RNN(3, 4, nonlinearity="relu", batch_first=True).double()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p[1] = -50.0 if "bias" in name else 0.0
    x = inputs(2, 3, 3)
    found = frozen_units(model, x, box=(-1, 1))
    assert set(found.sizes) == {"relu", "relu#2", "relu#3"}
    assert {(layer, 1) for layer in found.sizes} <= set(reasons(found))
    assert found.entries["weight_ih_l0"][1].all()
    model.zero_grad()
    model(x)[0].sum().backward()
    for name, p in model.named_parameters():
        assert (p.grad[found.entries[name]] == 0).all()
