"""Two processes with half of the samples each find what one process finds with all of them."""

import pytest
import torch
from torch import distributed

from torch_experiments import diagnose
from torch_experiments.cloning.layouts import profile
from torch_experiments.lab.models import cnn
from torch_experiments.support.generators import generator


def found(part):
    """Return the diagnosis of some of 24 fixed samples."""
    model = cnn(8, 5, width=4, depth=1, hidden=30, dtype=torch.float64)
    x = torch.randn(24, 3, 8, 8, generator=generator(0), dtype=torch.float64)
    y = torch.arange(24) % 5
    result = diagnose(model, x[part], y[part], profiles={"act": profile(15, 2)})
    return {"samples": result.about.samples, "gradients": result.about.gradient_samples, "found": dict(result)}


@pytest.mark.skipif(not distributed.is_gloo_available(), reason="torch was built without gloo")
def test_two_processes_agree_with_one(in_two_processes):
    results = in_two_processes(found, (slice(0, 14),), (slice(14, 24),))
    whole, half = found(slice(0, 24)), found(slice(0, 14))
    for result in results:
        assert result["samples"] == result["gradients"] == 24
        for layer, metrics in whole["found"].items():
            assert result["found"][layer] == pytest.approx(metrics, rel=1e-7), layer
    assert half["found"]["act"] != pytest.approx(whole["found"]["act"], rel=1e-3)
