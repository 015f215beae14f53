"""What is changed in place is known again only where nothing else shows it."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.torch_experiments.certificates.frozen.enclosed import bounds_of
from tests.torch_experiments.units.test_activations import Function


def test_a_view_of_what_is_changed_in_place_has_no_bounds() -> None:
    def forward(x: Tensor) -> Tensor:
        y = x * 2
        part = y.view(-1)
        part.add_(100)
        return y * 1

    limit = bounds_of(Function(forward), torch.zeros(2, 3), (-1, 1))
    assert (limit.hi == torch.inf).all()
