"""Formulas of the ledger and of the pages become MathML, all of them."""

import re

import pytest

from claims.ledger import load
from lop.site.mathematics import FormulaError, mathml
from tests.docs.pages import PAGES, prose, read

FORMULA = re.compile(r"(?<![\\$])\$(?!\$)([^$]+)\$")
LEDGER = load()


def formulas(text):
    return FORMULA.findall(re.sub(r"`[^`]*`", "", text))


def of_claim(claim):
    texts = [claim.statement, claim.repair, claim.breaks, claim.limits, *claim.hypotheses]
    return formulas("\n\n".join([*texts, *(step.says for step in claim.proof)]))


@pytest.mark.parametrize("name", LEDGER)
def test_every_formula_of_a_claim_is_set(name):
    for formula in of_claim(LEDGER[name]):
        assert mathml(formula).startswith("<math")


@pytest.mark.parametrize("page", PAGES)
def test_every_formula_of_a_page_is_set(page):
    for formula in formulas(prose(read(page))):
        assert "alttext" in mathml(formula)


@pytest.mark.parametrize("page", [*PAGES, "claims/CLAIMS.md"])
def test_no_formula_of_a_table_is_cut_by_a_bar(page):
    rows = [line for line in prose(read(page)).splitlines() if line.startswith("|")]
    cells = [cell for row in rows for cell in re.split(r"(?<!\\)\|", re.sub(r"`[^`]*`|\\\$", "", row))]
    assert [cell for cell in cells if cell.count("$") % 2] == []


def test_a_command_that_is_not_known_is_refused():
    with pytest.raises(FormulaError, match=r"\\nosuchcommand"):
        mathml(r"a + \nosuchcommand b")


def test_the_source_is_the_text_for_who_cannot_see_it():
    assert 'alttext="a &lt; &quot;b&quot;"' in mathml('a < "b"')
