"""Norms of parameters."""

import pytest
from torch import nn

from torch_experiments.metrics import parameters


def test_the_weight_norm_is_that_of_all_parameters():
    model = nn.Linear(2, 2)
    nn.init.constant_(model.weight, 3)
    nn.init.constant_(model.bias, 4)
    assert parameters.norm(model.parameters()) == pytest.approx((4 * 9 + 2 * 16) ** 0.5)
