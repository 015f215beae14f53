"""Python's collector of cycles, paused while many objects are made that stay."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Collect no cycles in a block that makes many small objects that stay, such as a trace.

    Each collection visits all objects of the process: with a library such as transformers in memory millions, and
    nothing is freed. Memory without cycles is freed as ever.

    >>> with uncollected():
    ...     gc.isenabled()
    False
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
