import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.mathtext import MathTextParser

from claims import ledger
from claims.ledger import LedgerError

ENTRY = {
    "id": "A1",
    "title": "a title",
    "statement": "a statement",
    "source": "extension",
    "version": "ours",
    "prior": [],
    "kind": "theorem",
    "limits": "its limits",
}
FORMULA = re.compile(r"\$([^$]+)\$")


def text_of(*entries):
    return "\n".join("[[claim]]\n" + "\n".join(f"{key} = {toml(entry[key])}" for key in entry) for entry in entries)


def toml(value):
    if isinstance(value, str):
        return f"'{value}'"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + " }"
    return "[" + ", ".join(map(toml, value)) + "]" if isinstance(value, list) else str(value)


@pytest.fixture
def load(tmp_path):
    def load(*entries):
        path = tmp_path / "ledger.toml"
        path.write_text(text_of(*entries), encoding="utf-8")
        return ledger.load(path)

    return load


def test_an_entry_is_read_whole(load):
    steps = [{"step": "base", "says": "it begins"}, {"step": "next", "says": "it goes on"}]
    claim = load(ENTRY | {"proof": steps, "hypotheses": ["one"], "repair": " mended "})["A1"]
    assert claim.steps == ("base", "next")
    assert claim.hypotheses == ("one",)
    assert claim.repair == "mended"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"limits": ""}, "claim A1: limits is missing or empty"),
        ({"statement": "  "}, "claim A1: statement is missing or empty"),
        ({"kind": "conjecture"}, "claim A1: kind 'conjecture' is unknown; allowed are definition"),
        ({"version": "second"}, "claim A1: version 'second' is unknown; allowed are draft, submission"),
        ({"prior": [{"key": "X2000", "theirs": "all"}]}, "claim A1, prior work X2000: left is missing or empty"),
        (
            {"prior": [{"key": "Daniely2061", "theirs": "all", "left": "none"}]},
            "claim A1: prior 'Daniely2061' is not in references.bib; near are Daniely2016",
        ),
        ({"prior": "X2000"}, "claim A1: prior is 'X2000'; allowed is a list"),
        ({"wordings": ["A2"]}, "claim A1: wordings 'A2', which the ledger does not have"),
        ({"uses": ["A2"]}, "claim A1: uses 'A2', which the ledger does not have; near are A1"),
        ({"uses": ["A1"]}, "in a circle: A1 -> A1"),
        ({"verdict": "proved"}, "field 'verdict' is unknown.*verdicts are derived, never typed"),
        ({"status": "done"}, "field 'status' is unknown; allowed are id, title"),
        ({"title": 3}, "claim A1: title is 3; allowed is a str"),
        ({"uses": "A1"}, "claim A1: uses is 'A1'; allowed is a list"),
        ({"proof": [{"step": "base", "says": "x"}] * 2}, "claim A1: proof step 'base' occurs 2 times"),
        ({"proof": [{"step": "base"}]}, "claim A1, proof step base: says is missing or empty"),
        ({"proof": [{"step": "base", "says": "x", "done": "yes"}]}, "proof step base: field 'done' is unknown"),
    ],
)
def test_a_bad_entry_is_refused_by_name(load, change, complaint):
    with pytest.raises(LedgerError, match=complaint):
        load(ENTRY | change)


@pytest.mark.parametrize("name", ENTRY)
def test_no_required_field_may_be_left_out(load, name):
    with pytest.raises(LedgerError, match=f"{name} is missing|(kind|version) '' is unknown"):
        load({key: value for key, value in ENTRY.items() if key != name})


def test_an_id_is_used_once(load):
    with pytest.raises(LedgerError, match="id 'A1' occurs 2 times"):
        load(ENTRY, ENTRY)


def test_a_circle_is_shown(load):
    with pytest.raises(LedgerError, match=r"A1 -> A2 -> A1|A2 -> A1 -> A2"):
        load(ENTRY | {"uses": ["A2"]}, ENTRY | {"id": "A2", "uses": ["A1"]})


@st.composite
def graphs(draw):
    """Ids with what they use: acyclic by construction (each uses some that come before it), then shuffled."""
    size = draw(st.integers(1, 8))
    uses = {f"A{k}": draw(st.lists(st.sampled_from(range(k)), unique=True)) if k else [] for k in range(size)}
    return [(name, [f"A{k}" for k in uses[name]]) for name in draw(st.permutations(list(uses)))]


@given(graphs())
def test_each_claim_comes_after_those_that_it_uses(tmp_path_factory, graph):
    path = tmp_path_factory.mktemp("graph") / "ledger.toml"
    path.write_text(text_of(*(ENTRY | {"id": name, "uses": uses} for name, uses in graph)))
    order = list(ledger.load(path))
    assert sorted(order) == sorted(name for name, _ in graph)
    assert all(order.index(used) < order.index(name) for name, uses in graph for used in uses)


def test_claims_that_use_nothing_keep_the_order_of_the_file(load):
    names = ["B", "A", "C"]
    assert list(load(*(ENTRY | {"id": name} for name in names))) == names


PROJECT = ledger.load()


def formulas(text):
    assert text.count("$") % 2 == 0, text
    return FORMULA.findall(text)


@pytest.mark.parametrize("claim", PROJECT.values(), ids=list(PROJECT))
def test_every_formula_typesets_and_survives_markdown(claim):
    parser = MathTextParser("path")
    texts = [claim.statement, claim.repair, *claim.hypotheses, *(step.says for step in claim.proof)]
    for formula in (found for text in texts for found in formulas(text)):
        parser.parse(f"${formula}$".replace("\n", " "))
        assert not re.search(r"\\[^A-Za-z]|[)\]}]_|\*|<(?! )", formula), formula


def test_titles_and_limits_are_plain_words():
    for claim in PROJECT.values():
        assert not re.search(r"[$|\\]", claim.title + claim.limits), claim.id
        assert len(claim.title) < 65, claim.id
