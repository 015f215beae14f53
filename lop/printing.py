"""How tables reach the terminal."""

from __future__ import annotations

import sys

from rich.console import Console


def show(renderable: object) -> None:
    """Print a table as wide as the terminal, and as 100 columns into a file or a pipe."""
    Console(width=None if sys.stdout.isatty() else 100).print(renderable)
