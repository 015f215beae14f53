"""Which dimensions are units and which are positions."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.torch_experiments.diagnostics.samples import normal, rendered
from torch_experiments import diagnose
from torch_experiments.lab.models import cnn, mlp, resnet18, vit


@pytest.mark.parametrize(
    ("model", "layers", "units", "values"),
    [
        (mlp(192, 5, width=7, depth=2), ["act1", "act2"], 7, [6, 6]),
        (cnn(8, 5, width=4, depth=2, hidden=6), ["act1", "act2", "act"], None, [384, 96, 6]),
        (resnet18(5, width=4, stages=(1, 1)), 5, None, None),
        (vit(8, 5, patch=4, width=8, depth=2, heads=2), ["block1.act", "block2.act"], 32, [30, 30]),
    ],
)
def test_units_are_channels_and_features_and_positions_are_values(model, layers, units, values):
    found = diagnose(model, normal(6, 3, 8, 8, dtype=torch.float32))
    assert not found.about.notes
    assert len(found.about.kept) == (layers if isinstance(layers, int) else len(layers))
    if values:
        assert list(found.about.kept) == layers
        assert list(found.about.values.values()) == values
    assert units is None or found[layers[0]]["hard_rank_raw"] <= units


class Flattened(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4 * 36, 2)

    def forward(self, x):
        return self.head(F.relu(self.conv(x).flatten(1)))


def test_pixels_of_flattened_channels_are_positions():
    found = diagnose(Flattened(), normal(5, 3, 8, 8, dtype=torch.float32))
    assert found.about.values == {"relu": 5 * 36}
    assert found["relu"]["hard_rank_raw"] <= 4


def test_a_channel_that_speaks_on_one_pixel_is_not_dead():
    model = nn.Sequential(nn.Conv2d(1, 3, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 10_000, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, -1.0, 1.0]).reshape(3, 1, 1, 1))
    x = torch.zeros(4, 1, 100, 100)
    x[2, 0, 57, 31] = 1
    found = diagnose(model, x, positions=20)
    assert found["1"]["dead_fraction"] == pytest.approx(1 / 3)
    assert found["1"]["nearly_silent_fraction"] == 1
    assert found.about.kept == {"1": 80}
    assert found.about.values == {"1": 40_000}


def test_outputs_are_units_and_tokens_of_the_input_positions():
    model = nn.Sequential(nn.Linear(6, 9), nn.Sigmoid())
    found = diagnose(model, normal(5, 7, 6, dtype=torch.float32))
    assert not found.about.notes
    assert found.about.values == {"1": 35}


class Untraceable(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Linear(6, 5)

    def forward(self, x):
        h = self.one(x)
        return F.relu(h) if h.sum() > -1e9 else h


def test_a_rule_of_thumb_is_named_and_never_silent():
    found = diagnose(Untraceable(), normal(9, 6, dtype=torch.float32))
    assert len(found.about.notes) == 1
    assert "'relu'" in found.about.notes[0]
    assert "TraceError" in found.about.notes[0]
    assert "rule of thumb" in rendered(found)
