"""Modules that a command needs and another one does not: imported when a name of theirs is first used."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class Deferred:
    """Stands for a module; type checkers see the import beside it.

    >>> Deferred("math").sqrt(4)
    2.0
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self._name), name)
