"""Random numbers that a network draws in a forward pass, made the same or others for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def seeded(model: nn.Module, seed: int) -> Iterator[None]:
    """Let passes of ``model`` draw from ``seed``, on the CPU and on its own GPUs; then all is as before.

    >>> dropout = nn.Dropout()
    >>> with seeded(dropout, 1):
    ...     first = dropout(torch.ones(9))
    >>> with seeded(dropout, 1):
    ...     print(torch.equal(first, dropout(torch.ones(9))))
    True
    """
    places = {t.device for t in model.parameters() if t.is_cuda}
    with torch.random.fork_rng(devices=sorted(place.index or 0 for place in places)):
        torch.default_generator.manual_seed(seed)
        for place in places:
            with torch.cuda.device(place):
                torch.cuda.manual_seed(seed)
        yield
