"""A stream of batches is one batch."""

import pytest
import torch
from torch import nn

from tests.torch_experiments.diagnostics.samples import normal
from torch_experiments import diagnose
from torch_experiments.lab.models import cnn, mlp


def test_a_stream_is_one_batch():
    model = cnn(8, 5, width=4, depth=1, hidden=6, dtype=torch.float64)
    x, y = normal(50, 3, 8, 8), torch.arange(50) % 5
    whole = diagnose(model, x, y, gradient_samples=20)
    pairs = diagnose(model, [(x[:20], y[:20]), (x[20:27], y[20:27]), (x[27:], y[27:])], gradient_samples=20)
    parallel = diagnose(model, iter([x[:30], x[30:]]), iter([y[:30], y[30:]]), gradient_samples=20)
    for found in (pairs, parallel, diagnose(model, (x, y), gradient_samples=20)):
        assert found.about.samples == 50
        for layer, metrics in whole.items():
            assert found[layer] == pytest.approx(metrics, rel=1e-7), layer


def test_fewer_samples_are_spread_over_the_batch():
    x = normal(1000, 6, dtype=torch.float32)
    model = mlp(6, 3, width=5, depth=1)
    assert diagnose(model, x).about.samples == 512
    assert diagnose(model, x, samples=100).about.samples == 100
    assert diagnose(model, [x, x]).about.samples == 2000
    assert diagnose(model, [x, x], samples=1100).about.samples == 1100


class Headed(nn.Module):
    """Two heads, one of which is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 6), nn.ReLU())
        self.heads = nn.ModuleList([nn.Linear(6, 2), nn.Linear(6, 3)])

    def forward(self, x, head):
        """Return what one head says."""
        return self.heads[head](self.body(x))


def test_a_network_of_two_arguments_takes_a_mapping_or_a_tuple():
    x = normal(20, 4, dtype=torch.float32)
    with pytest.raises(TypeError, match=r"Headed does not take it .*'head'.*mapping by name, {\"x\": …, "):
        diagnose(Headed(), x)
    assert diagnose(Headed(), (x, 1)).about.samples == 20
    assert diagnose(Headed(), [(x, 0), (x, 1)]).about.samples == 40
    found = diagnose(Headed(), (x, 1), torch.zeros(20, 3))
    assert found.about.gradient_samples == 20
    with pytest.raises(TypeError, match="'mask'"):
        diagnose(Headed(), {"x": x, "head": 0, "mask": x})
    assert diagnose(Headed(), {"x": x, "head": 1}).about.samples == 20
