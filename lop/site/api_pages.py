"""A page a module, made from its docstrings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from lop.site import places

WHOLE = ("claims", "theory", "simulate")  # every file of these is for use
LISTED = ("lop", "torch_experiments")  # of these, what the packages list in `__all__`
LEFT_OUT = ("lop.site", "torch_experiments.lab", "torch_experiments.support", "torch_experiments.units.rules")
_INNER = ("torch_experiments.certificates.frozen", "torch_experiments.certificates.optimizer")
AGAIN = ("lop", "torch_experiments", *_INNER)  # pages of names that have their places in other rooms
ELSEWHERE = {"torch_experiments.diagnostics": "Statistics"}  # a name alone that has
CODE = re.compile(r"(`[^`]*`)")
SPECIAL = re.compile(r"([*|_])")


def modules(root: Path = places.ROOT) -> list[str]:
    """Return the names of the modules that have a page.

    >>> "theory.rank" in modules() and "torch_experiments.units.rules.linear" not in modules()
    True
    """
    files = {name: sorted((root / name).rglob("*.py")) for name in LISTED + WHOLE}
    chosen = [path for name, paths in files.items() for path in paths if name in WHOLE or path.stem == "__init__"]
    names = [".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__") for path in chosen]
    return [name for name in names if not name.startswith(LEFT_OUT)]


def write(folder: Path) -> list[str]:
    """Write the page of every module into a folder, and return their names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = modules()
    for name in names:
        title = f":orphan:\n\n{name}\n{'=' * len(name)}"
        index = "   :no-index:\n" if name in AGAIN else ""
        left = f"   :exclude-members: {ELSEWHERE[name]}\n" if name in ELSEWHERE else ""
        text = f"{title}\n\n.. automodule:: {name}\n   :members:\n   :member-order: bysource\n{index}{left}"
        (folder / f"{name}.rst").write_text(text, encoding="utf-8")
    return names


def as_restructured(text: str) -> str:
    """Return a line of a docstring, written in Markdown, with what reStructuredText takes for its marks escaped.

    >>> as_restructured("`K(1)` is |x| for *all* x_")
    '``K(1)`` is \\\\|x\\\\| for \\\\*all\\\\* x\\\\_'
    """
    parts = CODE.split(text.replace("``", "`"))
    return "".join(f"`{part}`" if part.startswith("`") else SPECIAL.sub(r"\\\1", part) for part in parts)


def docstring(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Rewrite the lines of a docstring in place; examples and code stay as they are. Sphinx calls this."""
    made: list[str] = []
    kept = list(_as_they_are(lines))
    for stays, part in groupby(range(len(lines)), key=kept.__getitem__):
        found = [f"{lines[k]}:" if _opens(lines, k) else lines[k] for k in part]
        made += found if stays else as_restructured("\n".join(found)).split("\n")
    lines[:] = made


def _as_they_are(lines: list[str]) -> Iterator[bool]:
    """Yield of each line whether it belongs to an example, or to code that is set off by four spaces."""
    example = code = False
    for k, line in enumerate(lines):
        example = line.lstrip().startswith(">>> ") or (example and bool(line.strip()))
        code = _opens(lines, k - 1) or (code and (not line.strip() or line.startswith("    ")))
        yield example or code


def _opens(lines: list[str], k: int) -> bool:
    """Whether code follows on a line: it ends in a colon, and after an empty line the next is set off."""
    after = "".join(lines[k + 1 : k + 3]) if k >= 0 and lines[k].endswith(":") else ""
    return after.startswith("    ") and not lines[k + 1]
