"""Arguments in words: one of a few names, or a JSON object; or an error that says what is allowed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
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


def up_to(most: float, **numbers: float) -> None:
    """Raise a ValueError that names the first argument which is infinite or outside of ``[0, most]``.

    >>> up_to(1, gamma=1.5)
    Traceback (most recent call last):
    ValueError: gamma: got 1.5; it has to be in [0, 1]
    """
    for argument, number in numbers.items():
        if not 0 <= number <= most or math.isinf(number):
            raise ValueError(f"{argument}: got {number}; it has to be in [0, {most}]")


def above_zero(**numbers: float) -> None:
    """Raise a ValueError that names the first argument that is not above zero.

    >>> above_zero(clip=0.2, max_norm=0.0)
    Traceback (most recent call last):
    ValueError: max_norm: got 0.0; it has to be above 0
    """
    for argument, number in numbers.items():
        if not number > 0:
            raise ValueError(f"{argument}: got {number}; it has to be above 0")


def two_betas(betas: Sequence[float]) -> None:
    """Raise a ValueError unless these are the two betas of Adam.

    >>> two_betas((0.9, 1.0))
    Traceback (most recent call last):
    ValueError: betas: got (0.9, 1.0); two numbers in [0, 1) are needed
    """
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"betas: got {betas}; two numbers in [0, 1) are needed")


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
