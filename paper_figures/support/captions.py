"""Captions made of statements that are asserted before the picture is drawn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class CaptionError(ValueError):
    """A statement of a caption is not true of the data."""


@dataclass(frozen=True)
class Statement:
    """A sentence of a caption, with its measured numbers, and whether the data bear it out."""

    text: str
    holds: bool


def verify(name: str, statements: Iterable[Statement]) -> None:
    """Check every statement of the figure `name`.

    Raises:
        CaptionError: Some do not hold; the message quotes each with the numbers that were measured.
    """
    untrue = [statement.text for statement in statements if not statement.holds]
    if untrue:
        raise CaptionError(
            f"figure {name!r}: the caption is not true of the data: {' '.join(untrue)} "
            "Either the data are wrong or the caption has to change; nothing was drawn"
        )


def join(introduction: str, statements: Iterable[Statement]) -> str:
    """Return the caption: what is shown, then the statements."""
    return " ".join([introduction, *(statement.text for statement in statements)])
