"""Arguments in words: one of a few names, or a JSON object; or an error that says what is allowed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from numbers import Real
from typing import Any

EXAMPLE = """'{"width": 64}'"""


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


def at_least_one(**numbers: int) -> None:
    """Raise a ValueError that names the first argument that is no number, or below one.

    >>> at_least_one(batch=8, tasks=0)
    Traceback (most recent call last):
    ValueError: tasks: got 0; it has to be at least 1
    """
    for argument, number in numbers.items():
        if not isinstance(number, Real) or number < 1:
            raise ValueError(f"{argument}: got {number!r}; it has to be at least 1")


def json_object(argument: str, text: str) -> dict[str, Any]:
    """Return what a JSON object says.

    Raises:
        ValueError: if it is none; the message names the argument.

    >>> json_object("settings", '{"width": 64}')
    {'width': 64}
    """
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{argument}: {text!r} is no JSON ({error}); write for instance {EXAMPLE}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{argument}: got {text!r}; it has to be a JSON object, such as {EXAMPLE}")
    return found
