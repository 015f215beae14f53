"""A stream of batches is one batch."""

import pytest
import torch

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
