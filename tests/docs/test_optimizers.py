"""The tables of optimizers have every rule, the verdicts of theory, and an arrow wherever rounding grew."""

import re

import pytest

from tests.docs.pages import read
from theory.tolerances import GROWN
from torch_experiments.lab.rounding_table import DTYPES, EVERY_WIDTH, ORDERS, WIDTHS, chosen_rules
from torch_experiments.lab.rules import rules

CELL = re.compile(r"(\d)/3 from (\d+): (\S+) → (\S+?)( ↑)?")


def part(name):
    """Return the text between two marks of the page."""
    return read("docs/optimizers.md").split(f"<!-- {name}:begin -->")[1].split(f"<!-- {name}:end -->")[0].strip()


def grid(text):
    """Return the cells of a table in Markdown, head first."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.strip().splitlines()]
    return [lines[0], *lines[2:]]


def test_the_optimizer_table_has_every_rule_and_the_verdicts_of_theory():
    _, *rows = grid(part("optimizers"))
    assert [row[0] for row in rows] == [rule.name for rule in rules()]
    signs = {row[0]: [cell[0] for cell in row[1:]] for row in rows}
    assert signs["SGD"] == ["✓"] * 4
    assert signs["Adam"] == ["✓", "✓", "✗", "✓"]
    assert signs["Adam, coupled L2"] == ["✓", "✗", "✗", "✓"]
    assert signs["SGD, gradient noise"] == ["✗"] * 4


def told(cell):
    """Return whether a cell says that copies parted, after a look at what it says."""
    if cell == "=":
        return False
    count, step, first, last, arrow = CELL.fullmatch(cell).groups()
    assert 1 <= int(count) <= 3
    assert int(step) >= 1
    assert arrow or float(last) < 1.2 * GROWN * float(first), "a cell that grows says so (numbers have one digit)"
    return True


@pytest.mark.parametrize("dtype", DTYPES)
def test_rounding_has_a_row_for_every_rule_in_every_dtype(dtype):
    pages = part("rounding").split("\n\n")
    (table,) = (pages[k + 1] for k, page in enumerate(pages) if page == f"**{dtype}**")
    head, *rows = grid(table)
    assert head == ["rule", *(f"{copies} copies, {order}" for copies in WIDTHS for order in ORDERS)]
    assert [row[0] for row in rows] == [rule.name for rule in chosen_rules()]
    assert any(told(cell) for row in rows for cell in row[1:])


def test_adam_has_a_row_for_every_width():
    head, *rows = grid(part("widths"))
    assert head == ["units", *(f"{dtype}, {order}" for dtype in DTYPES for order in ORDERS)]
    assert {row[0] for row in rows} == {f"{w} × {copies}" for copies, sizes in EVERY_WIDTH.items() for w in sizes}
    assert any(told(cell) for row in rows for cell in row[1:])
