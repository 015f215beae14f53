"""Captions: what is shown, checks that are asserted before the picture is drawn, and notes that assert nothing."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WIDTH = 100  # characters of a line in the file of a caption
CHECKED, NOTED = "Checked: ", "Noted, not checked: "


class CaptionError(ValueError):
    """A check of a caption fails on the data."""


@dataclass(frozen=True)
class Check:
    """A sentence of a caption, with its measured numbers, and whether the data bear it out."""

    text: str
    holds: bool


@dataclass(frozen=True)
class Caption:
    """What a figure shows, the checks that its data pass, and notes: numbers that no data could make untrue.

    Attributes:
        introduction: what is shown, and how it was computed or measured.
        checks: sentences that some data would refute.
        notes: sentences that say what was measured and assert nothing.
    """

    introduction: str
    checks: Sequence[Check]
    notes: Sequence[str] = ()

    def __str__(self) -> str:
        """Return a paragraph each for introduction, checks and notes, in lines of `WIDTH` characters."""
        checked, noted = CHECKED + " ".join(check.text for check in self.checks), NOTED + " ".join(self.notes)
        paragraphs = [self.introduction, *[checked] * bool(self.checks), *[noted] * bool(self.notes)]
        return "\n\n".join(map(_filled, paragraphs)) + "\n"


def _filled(paragraph: str) -> str:
    """Return a paragraph in lines; names such as ``redo-mean`` stay whole."""
    return textwrap.fill(paragraph, WIDTH, break_on_hyphens=False)


def verify(name: str, checks: Iterable[Check]) -> None:
    """Pass if every check of the figure `name` holds.

    Raises:
        CaptionError: Some do not hold; the message quotes each with the numbers that were measured.
    """
    untrue = [check.text for check in checks if not check.holds]
    if untrue:
        raise CaptionError(
            f"figure {name!r}: the caption is not true of the data: {' '.join(untrue)} "
            "Either the data are wrong or the caption has to change; nothing was drawn"
        )
