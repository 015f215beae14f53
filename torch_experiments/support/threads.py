"""How torch uses the processor: one thread at the size of the quick profiles, and no denormal numbers in training.

Two threads are slower at that size, on a busy machine six times. The first moments of Adam of a unit that has died
shrink to the smallest denormal number, where rounding holds them for good, and each step pays for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread; its number is restored at the end.

    >>> with one_thread():
    ...     torch.get_num_threads()
    1
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def flushed() -> Iterator[None]:
    """Let the processor take numbers below the smallest normal one for zero; the default is restored at the end.

    Processors that cannot do so go on as they are.

    >>> with flushed():
    ...     _ = torch.tensor(1e-40) * 1
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
