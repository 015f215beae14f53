"""Norms and loss against autograd."""

import pytest
import torch
from torch.nn import functional as F

from tests.torch_experiments.diagnostics.samples import normal
from torch_experiments import diagnose
from torch_experiments.lab.models import mlp


def test_norms_and_loss_are_those_of_autograd():
    model = mlp(6, 3, width=5, depth=2, dtype=torch.float64)
    x, y = normal(40, 6), torch.arange(40) % 3
    found = diagnose(model, x, y)
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    assert found[""]["loss"] == pytest.approx(float(loss.detach()))
    for name, layer in (("linear1", model.linear1), ("head", model.head), ("", model)):
        slopes = torch.cat([p.grad.flatten() for p in layer.parameters()])
        weights = torch.cat([p.detach().flatten() for p in layer.parameters()])
        assert found[name]["gradient_norm"] == pytest.approx(float(slopes.norm()), rel=1e-12)
        assert found[name]["weight_norm"] == pytest.approx(float(weights.norm()), rel=1e-12)
    assert "gradient_norm" not in diagnose(model, x)[""]
