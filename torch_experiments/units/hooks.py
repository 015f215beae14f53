"""Hooks on modules that are taken off again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

See = Callable[[str, Any], object]


@contextmanager
def hooked(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Take the hooks of ``handles`` off on leaving, whatever happened."""
    held = list(handles)
    try:
        yield
    finally:
        for handle in held:
            handle.remove()


def outputs_of(modules: Mapping[str, nn.Module], see: See) -> Iterator[RemovableHandle]:
    """Register ``see(name, output)`` for every time one of ``modules`` returns; for use in `hooked`.

    >>> import torch
    >>> layer, seen = nn.Linear(2, 3), []
    >>> with hooked(outputs_of({"layer": layer}, lambda name, h: seen.append((name, tuple(h.shape))))):
    ...     _ = layer(torch.ones(1, 2))
    >>> seen
    [('layer', (1, 3))]
    """
    for name, module in modules.items():
        yield module.register_forward_hook(_hook(name, see))


def _hook(name: str, see: See) -> Callable[[nn.Module, Any, Any], None]:
    def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
        see(name, output)

    return hook
