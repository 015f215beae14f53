"""Formulas as MathML, which browsers set without a script and screen readers read."""

from __future__ import annotations

import re
from functools import cache
from html import escape
from typing import Any

from docutils import nodes
from latex2mathml import converter

PRIMED = re.compile(r"('+)\^(\w|\{[^{}]*\})")  # f''^2: two superscripts, which become one
UNKNOWN = re.compile(r">\\[A-Za-z]+<")  # a command that the converter passed on as it was
RENAMED = {r"\Vert": r"\|", r"\lVert": r"\|", r"\rVert": r"\|", r"\coloneqq": ":="}


class FormulaError(ValueError):
    """A formula that cannot be set."""


@cache
def mathml(formula: str, display: bool = False) -> str:
    """Return a formula of LaTeX as MathML, with its source as the text for who cannot see it.

    Raises:
        FormulaError: It holds a command that the converter does not know.

    >>> mathml("K(1)").startswith("<math") and "alttext" in mathml("K(1)")
    True
    """
    text = formula
    for old, new in RENAMED.items():
        text = re.sub(re.escape(old) + r"(?![A-Za-z])", new.replace("\\", r"\\"), text)
    text = PRIMED.sub(lambda found: "^{" + r"\prime" * len(found[1]) + " " + found[2] + "}", text)
    try:
        made = converter.convert(text, display="block" if display else "inline")
    except Exception as error:
        raise FormulaError(f"the formula {formula!r} cannot be set: {error!r}") from error
    if found := UNKNOWN.search(made):
        raise FormulaError(f"the formula {formula!r} holds {found[0][1:-1]}, which is not known")
    return made.replace("<math ", f'<math alttext="{escape(formula)}" ', 1)


def _inline(self: Any, node: nodes.Element) -> None:
    self.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def _display(self: Any, node: nodes.Element) -> None:
    self.body.append(f'<div class="formula">{mathml(node.astext(), display=True)}</div>')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    """Make this the way in which Sphinx sets formulas."""
    app.add_html_math_renderer("mathml", (_inline, None), (_display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
