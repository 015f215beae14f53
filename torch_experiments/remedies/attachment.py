"""Optimizers that nobody named are noticed: one hook on the steps of all, for every remedy that is attached."""

from __future__ import annotations

from typing import Any, Protocol
from weakref import WeakSet

from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle


class Watcher(Protocol):
    """Whoever wants to know that an optimizer took a step."""

    def notice(self, optimizer: Optimizer) -> None:
        """Look at an optimizer that took a step."""


class Lookout:
    """One hook on the steps of all optimizers, for as many watchers as there are; they are held weakly."""

    only_looks = True  # so that certificates know that it changes nothing

    def __init__(self) -> None:
        self.watchers: WeakSet[Watcher] = WeakSet()
        self._handle: RemovableHandle | None = None

    def __call__(self, optimizer: Optimizer, *_: Any) -> None:
        """Tell the watchers; the signature is that of a step hook."""
        for watcher in list(self.watchers):
            watcher.notice(optimizer)

    def add(self, watcher: Watcher) -> None:
        """Tell one more."""
        self.watchers.add(watcher)
        if self._handle is None:
            self._handle = register_optimizer_step_post_hook(self)

    def discard(self, watcher: Watcher) -> None:
        """Tell one less."""
        self.watchers.discard(watcher)
        if not self.watchers and self._handle is not None:
            self._handle.remove()
            self._handle = None


LOOKOUT = Lookout()
