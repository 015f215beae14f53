"""What a process of `make zoo` does; it is imported by those that it starts."""

from __future__ import annotations

import time
import warnings

import torch

from tests.zoo.judged import Answer, judged
from tests.zoo.zoo import ZOO

Row = dict[str, Answer]


def quiet() -> None:
    """Let a process use one thread, and say nothing of what other packages deprecate."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)


def timed(k: int) -> tuple[Row, float]:
    """Return the answers to one architecture and the seconds that they took."""
    start = time.perf_counter()
    return judged(ZOO[k]), time.perf_counter() - start
