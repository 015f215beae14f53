"""TF32 on a CPU: products of float32 from factors rounded to 10 bits of mantissa, where torch's switches allow it.

A GPU since Ampere rounds the factors to the nearest, ties away from zero (``cvt.rna.tf32``), and sums in float32.
"""

from typing import Any

import torch
from torch import Tensor

from torch_experiments.support.torch_private import TorchDispatchMode

aten = torch.ops.aten
PRODUCTS = (aten.mm, aten.addmm, aten.bmm, aten.baddbmm, aten.mv, aten.addmv, aten.dot)
CONVOLUTIONS = (aten.convolution, aten.convolution_backward)
HALF, KEPT = 1 << 12, ~((1 << 13) - 1)  # of the 13 bits that go


def rounded(x: Any) -> Any:
    """Return a float32 tensor with 10 bits of mantissa, anything else as it is."""
    if not isinstance(x, Tensor) or x.dtype != torch.float32:
        return x
    return ((x.contiguous().view(torch.int32) + HALF) & KEPT).view(torch.float32)


class TF32(TorchDispatchMode):
    """Round the factors of every product and convolution that may be rounded; ``count`` says how many were."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        place = _place(func.overloadpacket)
        if place is None or place.fp32_precision != "tf32":
            return func(*args, **(kwargs or {}))
        self.count += 1
        summand = func.overloadpacket in (aten.addmm, aten.baddbmm, aten.addmv)  # the first argument is no factor
        factors = [x if summand and k == 0 else rounded(x) for k, x in enumerate(args)]
        return func(*factors, **(kwargs or {}))


def _place(operation: Any) -> Any:
    if operation in PRODUCTS:
        return torch.backends.cuda.matmul
    return torch.backends.cudnn.conv if operation in CONVOLUTIONS else None
