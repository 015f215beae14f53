"""Where the site is read from, and where it goes."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
WORK = ROOT / ".build" / "site"
SOURCE = WORK / "source"  # what Sphinx reads: a copy of the pages, with links that lead to pages
EXTRA = WORK / "extra"  # files that go into the site as they are: data of the explorers
SITE = ROOT / "site"
FIGURES = (ROOT / "paper_figures" / "out", ROOT / "docs")  # the first that has a picture


def picture(name: str) -> Path | None:
    """Return the PNG of a figure: the one drawn last, else the one that the documentation shows.

    >>> picture("no such figure") is None
    True
    """
    return next((path for folder in FIGURES if (path := folder / f"{name}.png").is_file()), None)
