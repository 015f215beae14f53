"""The page of a claim has all that is known of it, and what breaks a statement does what the ledger says."""

import re
from fractions import Fraction

import numpy as np
import pytest

from claims.ledger import load, verdicts
from lop.site import claim_pages
from simulate.descent import descend
from simulate.optimizers import sgd
from theory.network import Network, SquaredError, forward, gradient

LEDGER = load()
FOUND = verdicts(LEDGER)


def broken():
    return [name for name in LEDGER if any(row.kind == "counterexample" and row.passed for row in FOUND[name].rows)]


@pytest.mark.parametrize("name", LEDGER)
def test_a_page_says_all_of_the_claim(name):
    claim, verdict = LEDGER[name], FOUND[name]
    page = claim_pages.page(claim, LEDGER, FOUND)
    for text in (claim.title, claim.statement, claim.repair, claim.breaks, claim.limits, *claim.hypotheses):
        assert text in page
    for row in verdict.rows:
        assert row.test in page or row.theorem in page
    for other in (*claim.uses, *claim.wordings):
        assert f"({other}.md)" in page
    assert "## How the verdict follows" in page


@pytest.mark.parametrize("name", broken())
def test_what_breaks_a_statement_is_shown_as_words_and_as_a_test(name):
    page = claim_pages.page(LEDGER[name], LEDGER, FOUND)
    assert LEDGER[name].breaks
    assert page.index("## The input that breaks it") < page.index("## How the verdict follows")
    for row in FOUND[name].rows:
        if row.kind == "counterexample":
            assert f"def {row.test.partition('::')[2]}" in page


def test_a_claim_without_counterexample_has_nothing_that_breaks_it():
    assert not LEDGER["F1"].breaks
    assert "## The input that breaks it" not in claim_pages.page(LEDGER["F1"], LEDGER, FOUND)
    assert {claim.id for claim in LEDGER.values() if claim.breaks} <= set(broken())


def test_the_text_of_a_test_comes_with_what_it_reads():
    name = "tests/theory/test_frozen.py::test_a_skip_connection_revives_a_dead_unit_and_the_trajectory_leaves"
    text = claim_pages.body(name)
    assert text.index("CHAIN = ") < text.index("def leaves(") < text.index("def test_a_skip_connection")
    assert claim_pages.body("tests/theory/test_frozen.py::test_none") == claim_pages.body("nowhere.py::test") == ""


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("D1", "It is a definition"),
        ("F1", "2 settled exactly, 2 of them by theorems"),
        ("F2", "2 counterexamples show that it is false as stated"),
        ("F2", "[F2a](F2a.md) (proved)"),
        ("P5", "No test passed."),
    ],
)
def test_the_sentences_of_a_verdict(name, sentence):
    assert any(sentence in said for said in claim_pages.sentences(LEDGER[name], FOUND[name], FOUND))


@pytest.mark.parametrize("name", [name for name in LEDGER if FOUND[name].verdict == "refuted"])
def test_the_page_of_a_refuted_claim_does_not_contradict_itself(name):
    first, *rest = claim_pages.sentences(LEDGER[name], FOUND[name], FOUND)
    assert first.endswith("false as stated.")
    assert all("negative control" in said for said in rest)


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("E6", ("import math", "@pytest.fixture", "def advantages(")),
        ("S4", ("@pytest.mark.parametrize(", "def relu(", "from claims.evidence import witness")),
        ("C12", ("from tests.theory.test_cloned import LABELS, PATTERN, goal, three_by_three", "def equitable(")),
    ],
)
def test_what_breaks_a_statement_is_shown_with_all_that_it_reads(name, texts):
    page = claim_pages.page(LEDGER[name], LEDGER, FOUND)
    for text in texts:
        assert text in page


def test_one_instance_is_not_many():
    pages = "".join(claim_pages.page(claim, LEDGER, FOUND) for claim in LEDGER.values())
    assert not re.search(r"(?<![,.\d])1 (instances|tests|runs)\b", pages)


# ------------------------------------------------------------------------------------ the numbers in `breaks`


def exact(*values):
    return np.array([[Fraction(value)] for value in values], dtype=object)


def test_f2_breaks_as_its_words_say():
    edges = {("x", "a"): -1, ("a", "v"): 1, ("v", "y"): 1, ("a", "y"): 1}
    network = Network.from_edges(
        {edge: Fraction(w) for edge, w in edges.items()}, {"a": "linear", "v": "relu", "y": "linear"}, ["x"], ["y"]
    )
    before, first, second = descend(network, [(exact(1), SquaredError(exact(3)))] * 2, sgd(Fraction(1, 2)))
    weight = {edge: k for k, edge in enumerate(edges)}
    assert forward(before, exact(1)).z[network.index["v"], 0] == -1
    assert (first.weights[weight["x", "a"]], first.weights[weight["a", "v"]]) == (1, 1)
    assert second.weights[weight["a", "v"]] == Fraction(5, 2)
    for said in ("from $-1$ to $1$", "from $1$ to $5/2$"):
        assert said in " ".join(LEDGER["F2"].breaks.split())


def test_c6_and_c12_break_as_their_words_say():
    rows = [[1, 1, None], [1, -1, 2], [None, 2, 0]]
    edges = {("x", f"a{k}"): 1 for k in range(3)} | {(f"b{k}", "y"): 1 for k in range(3)}
    edges |= {(f"a{j}", f"b{i}"): w for i, row in enumerate(rows) for j, w in enumerate(row) if w is not None}
    kinds = dict.fromkeys([f"{layer}{k}" for layer in "ab" for k in range(3)], "relu") | {"y": "linear"}
    network = Network.from_edges({e: Fraction(w) for e, w in edges.items()}, kinds, ["x"], ["y"])
    x, goal = exact(1), SquaredError(exact(0))
    assert forward(network, x).h[network.index["y"], 0] == 6
    _, after = descend(network, [(x, goal)], sgd(Fraction(1, 1000)))
    middle = [k for k, (u, v) in enumerate(edges) if u[0] == "a" and v[0] == "b"]
    names = list(edges)
    sums = [sum(after.weights[k] for k in middle if names[k][1] == f"b{i}") for i in range(3)]
    slopes = [
        sum(gradient(network, x, goal.gradient)[k] for k in middle if names[k][1] == f"b{i}") for i in range(3)
    ]
    assert [float(s) for s in sums] == [1.988, 1.982, 1.988]
    assert slopes == [12, 18, 12]
    assert "$1.988$, $1.982$ and $1.988$" in " ".join(LEDGER["C6"].breaks.split())
    assert "$12$, $18$ and $12$" in " ".join(LEDGER["C12"].breaks.split())
