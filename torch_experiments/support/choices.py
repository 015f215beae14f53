"""Arguments that are one of a few names: what is asked for, or an error that lists what is allowed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def choose(argument: str, name: str, table: Mapping[str, Any]) -> Any:
    """Return ``table[name]``.

    Raises:
        ValueError: if it has no such name; the message names the argument and lists what is allowed.

    >>> choose("mode", "slow", {"fast": 1})
    Traceback (most recent call last):
    ValueError: mode: got 'slow'; allowed are 'fast'
    """
    if name not in table:
        raise ValueError(f"{argument}: got {name!r}; allowed are {', '.join(map(repr, table))}")
    return table[name]
