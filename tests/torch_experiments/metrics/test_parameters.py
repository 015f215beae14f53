"""Norms of parameters."""

import math

import pytest
import torch
from torch import nn

from theory.tolerances import float64_identity
from torch_experiments.metrics import parameters


def test_the_weight_norm_is_that_of_all_parameters():
    model = nn.Linear(2, 2)
    nn.init.constant_(model.weight, 3)
    nn.init.constant_(model.bias, 4)
    assert parameters.norm(model.parameters()) == pytest.approx((4 * 9 + 2 * 16) ** 0.5)


def test_the_norm_is_summed_in_float64_and_reads_sparse_gradients_too():
    x = torch.randn(3, parameters.PART + 1, generator=torch.Generator().manual_seed(0))
    exact = math.sqrt(math.fsum(float(value) ** 2 for value in x.reshape(-1)))
    assert parameters.norm([x]) == pytest.approx(exact, rel=float64_identity())
    sparse = torch.sparse_coo_tensor(
        torch.tensor([[1, 1, 2]]), torch.tensor([2.0, 1.0, 4.0]), (5,), check_invariants=True
    )
    assert parameters.norm([sparse]) == pytest.approx(5)
