"""Activations are found as modules and as functions, before anything overwrites them."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.torch_experiments.diagnostics.samples import normal
from torch_experiments import diagnose
from torch_experiments.lab.models import vit


class Functional(nn.Module):
    def __init__(self, in_place=False):
        super().__init__()
        self.one, self.two = nn.Linear(6, 5), nn.Linear(5, 4)
        self.in_place = in_place

    def forward(self, x):
        x = F.relu(self.one(x), inplace=self.in_place)
        return torch.tanh(self.two(x)).relu()


def test_functions_are_activations_too_in_order_and_by_name():
    found = diagnose(Functional(), normal(9, 6, dtype=torch.float32), normal(9, 4, seed=1))
    assert [name for name in found if "dead_fraction" in found[name]] == ["relu", "tanh", "relu#2"]
    assert found["tanh"]["dead_fraction"] == 0
    assert "jl25_saturated_fraction" in found["relu"]


def test_operations_in_place_are_measured_before_they_overwrite():
    torch.manual_seed(0)
    plain, over = Functional(), Functional(in_place=True)
    over.load_state_dict(plain.state_dict())
    x = normal(30, 6, dtype=torch.float32)
    assert diagnose(plain, x, x[:, :4]) == diagnose(over, x, x[:, :4])
    shared = nn.Sequential(nn.Linear(6, 5), nn.ReLU(inplace=True))
    assert 0 < diagnose(shared, x)["1"]["sign_entropy"] <= 1


class Overwriting(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.one, self.act = nn.Linear(6, 50, dtype=torch.float64), act

    def forward(self, x):
        return self.act(self.one(x)).mul_(0)


def test_what_happens_to_an_output_later_does_not_matter():
    found = diagnose(Overwriting(nn.GELU()), normal(20, 6))
    assert found["act"]["hard_rank_raw"] == 20
    assert found["act"]["dead_fraction"] == 0
    model, x, y = Overwriting(nn.GELU()), normal(20, 6), normal(20, 50, seed=1)
    with torch.inference_mode():
        assert "gradient_norm" in diagnose(model, x, y)["one"]


def test_a_module_used_twice_is_two_layers():
    act = nn.ReLU()
    model = nn.Sequential(nn.Linear(6, 5), act, nn.Linear(5, 7), act)
    assert list(diagnose(model, normal(9, 6, dtype=torch.float32)).about.kept) == ["1", "1#2"]


def test_blocks_are_measured_on_demand():
    model = vit(8, 5, patch=4, width=8, depth=2, heads=2)
    x = normal(6, 3, 8, 8, dtype=torch.float32)
    found = diagnose(model, x, layers=["block1"])
    assert list(found.about.kept) == ["block1.act", "block1", "block2.act"]
    assert "sign_entropy" not in found["block1"]
    with pytest.raises(ValueError, match="layers: got 'block9'"):
        diagnose(model, x, layers=["block9"])
