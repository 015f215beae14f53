"""Scikit-learn's digits as floats."""

from __future__ import annotations

import torch

from torch_experiments.lab.images.pixels import Floats, load


def digits(*, dtype: torch.dtype = torch.float32) -> Floats:
    """Return `Pixels.floats` of the digits."""
    return load("digits").floats(dtype)
