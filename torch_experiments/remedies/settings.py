"""Settings of remedies: declared with what is allowed, and checked in one place, when a remedy is made."""

from __future__ import annotations

import math
from collections.abc import Container
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from typing import Any

ALLOWED = "allowed"


@dataclass(frozen=True)
class Range(Container[Any]):
    """Numbers between two ends, which count if the bracket is square; whole ones, or None too, if said.

    >>> 0 in Range(0), 1 in Range(0, 1), float("nan") in Range(0)
    (True, False, False)
    """

    low: float = -math.inf
    high: float = math.inf
    ends: str = "[)"
    whole: bool = False
    optional: bool = False

    def __contains__(self, value: Any) -> bool:
        """Return whether ``value`` is allowed; truth values are no numbers."""
        if value is None:
            return self.optional
        if isinstance(value, bool) or not isinstance(value, Integral if self.whole else Real):
            return False
        number = float(value)
        above = self.low <= number if self.ends[0] == "[" else self.low < number
        return above and (number <= self.high if self.ends[1] == "]" else number < self.high)

    def __str__(self) -> str:
        """Return the words for an error."""
        low, high = (f"{end:g}".replace("inf", "∞") for end in (self.low, self.high))
        kind = "a whole number" if self.whole else "a number"
        return f"{kind} in {self.ends[0]}{low}, {high}{self.ends[1]}{', or None' * self.optional}"


@dataclass(frozen=True)
class OneOf(Container[Any]):
    """Some names or values."""

    values: tuple[Any, ...]

    def __contains__(self, value: Any) -> bool:
        """Return whether ``value`` is one of them."""
        return value in self.values

    def __str__(self) -> str:
        """Return the words for an error."""
        return f"one of {', '.join(map(repr, self.values))}"


ANY, POSITIVE, NONNEGATIVE = Range(ends="()"), Range(0, ends="()"), Range(0)
COUNT, SHARE, FLAG = Range(1, whole=True), Range(0, 1, "[]"), OneOf((True, False))


def setting(default: Any, allowed: Container[Any], **options: Any) -> Any:
    """Return the field of a dataclass that has this default, and whose values have to be in ``allowed``."""
    return field(default=default, metadata={ALLOWED: allowed}, **options)


def check(settings: Any) -> None:
    """Check the settings of a dataclass against what they were declared with.

    Raises:
        ValueError: for a value that is not allowed; it names the setting, and says what is.
    """
    for declared in fields(settings):
        allowed, value = declared.metadata.get(ALLOWED), getattr(settings, declared.name)
        if allowed is not None and value not in allowed:
            raise ValueError(f"{declared.name}: got {value!r}; it has to be {allowed}")
