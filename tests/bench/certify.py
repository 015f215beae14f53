"""Cost of a certificate against the number of parameters: weights only, and with all its parts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch

from torch_experiments import certify, clone
from torch_experiments.models import mlp, resnet18, vit

WIDTHS = (50, 180, 580, 1_800, 5_700)
INPUTS, CLASSES, DEPTH = 100, 10, 4


def main() -> None:
    """Print seconds and slope for multilayer perceptrons up to 10⁸ parameters, and whole certificates of clones."""
    print(f"{'parameters':>12}  {'seconds':>8}  weights only: copies, scaled and signed ones too (one run each)")
    rows = [_weights_only(width) for width in WIDTHS]
    for parameters, seconds in rows:
        print(f"{parameters:>12,}  {seconds:>8.3f}")
    (first, early), (last, late) = rows[-3], rows[-1]
    print(f"slope in log-log over the last two decades: {math.log(late / early) / math.log(last / first):.2f}")
    print(f"\n{'parameters':>12}  {'seconds':>8}  all parts, Adam, 10 iterations of Lanczos, 32 images of 3×32×32")
    x, y = torch.randn(32, 3, 32, 32), torch.arange(32) % CLASSES
    for name, base in {"resnet18": resnet18(CLASSES, width=16), "vit": vit(32, CLASSES, width=96, depth=4)}.items():
        wide = clone(base, 2, "equitable", example_inputs=x)
        optimizer = torch.optim.Adam(wide.parameters())
        found, seconds = _timed(lambda m=wide, o=optimizer: certify(m, x, o, targets=y, iterations=10))
        print(f"{found.parameters:>12,}  {seconds:>8.2f}  {name}, cloned: {found.free_fraction:.1%} free")


def _weights_only(width: int) -> tuple[int, float]:
    model = mlp(INPUTS, CLASSES, width=width, depth=DEPTH)
    found, seconds = _timed(lambda: certify(model, torch.randn(2, INPUTS), parts=()))
    if found.trapped:
        raise AssertionError(f"a random network of width {width} was called trapped")
    return found.parameters, seconds


def _timed(act: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    found = act()
    return found, time.perf_counter() - start
