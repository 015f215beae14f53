import json

import pytest

from claims import ledger, render
from claims.evidence import CONTROL, ClaimsError, Row, write
from claims.ledger import verdicts

LEDGER = ledger.load()
ROWS = [
    Row("tests/test_a.py::test_all", "F1", "exact", "all-dags", "passed", 1200),
    Row("tests/test_a.py::test_general", "F1", "symbolic", "general", "passed", 1),
    Row("tests/test_a.py::test_control", "F1", CONTROL),
    Row("tests/test_a.py::test_half", "C1", "property", None, "passed", 30, 2e-16),
]
FOUND = verdicts(LEDGER, ROWS)


def test_generated_pages_are_current():
    for path, text in render.pages().items():
        assert path.read_text(encoding="utf-8") == text, f"{path} is stale: run `lop claims --write`"


def test_json_has_one_object_a_claim():
    entries = json.loads(render.to_json(LEDGER, FOUND))
    assert [entry["id"] for entry in entries] == list(LEDGER)
    fields = {"title", "statement", "source", "verdict", "evidence", "instances", "residual", "limits", "uses"}
    assert all(fields <= entry.keys() for entry in entries)
    first = next(entry for entry in entries if entry["id"] == "F1")
    assert (first["verdict"], first["evidence"], first["instances"]) == ("proved", ["symbolic", "exact"], 1201)


def test_the_page_shows_which_tests_settle_which_step():
    page = render.page(LEDGER, FOUND)
    assert "✓ *all-dags*" in page
    assert "Settled by `tests/test_a.py::test_all`." in page
    assert "· *induction*" in page
    assert (
        "| [F1](#f1) | A saturated unit learns nothing | draft |  | **proved** | symbolic, exact | 1,201 | 0 |"
        in page
    )
    assert "`tests/test_a.py::test_half`: passed (property, 30 instances, residual 2e-16)" in page
    assert "- no negative control passed" in page


@pytest.mark.parametrize("claim", LEDGER.values(), ids=list(LEDGER))
def test_every_claim_has_a_section_and_is_linked_to(claim):
    page, table = render.page(LEDGER, FOUND), render.summary(LEDGER, FOUND)
    assert f'<a id="{claim.id.lower()}"></a>\n\n## {claim.id}. {claim.title}\n' in page
    assert f"](../claims/CLAIMS.md#{claim.id.lower()})" in table
    assert claim.statement in page
    assert claim.limits in page


def test_what_is_made_goes_between_the_markers():
    text = f"before\n{render.BEGIN}\nold\n{render.END}\nafter\n"
    once = render.between("a page", text, "new")
    assert once == f"before\n{render.BEGIN}\nnew\n{render.END}\nafter\n"
    assert render.between("a page", once, "new") == once


@pytest.mark.parametrize(
    "text",
    ["", render.BEGIN, render.END, render.END + render.BEGIN, 2 * (render.BEGIN + render.END)],
)
def test_a_page_without_the_markers_is_refused(text):
    with pytest.raises(ClaimsError, match=r"README\.md needs the lines <!-- claims:begin -->"):
        render.between("README.md", text, "new")


def test_the_readme_has_the_tally_and_its_page_the_legend_before_the_table(tmp_path, monkeypatch):
    for name in ("README", "TABLE"):
        path = tmp_path / f"{name}.md"
        path.write_text(f"# Title\n\n{render.BEGIN}\n{render.END}\n")
        monkeypatch.setattr(render, name, path)
    made = render.pages()
    found = verdicts(LEDGER)
    assert made[render.README] == f"# Title\n\n{render.BEGIN}\n{render.tally(found)}.\n{render.END}\n"
    table = made[render.TABLE]
    assert table.index("- **refuted**: ") < table.index("| [C7](../claims/CLAIMS.md#c7) |")


def test_pages_that_are_not_installed_are_left_out(tmp_path, monkeypatch):
    for name in ("README", "TABLE"):
        monkeypatch.setattr(render, name, tmp_path / "none.md")
    assert set(render.pages()) == {render.PAGE}


def test_differences_name_claim_and_reason():
    assert render.differences(FOUND, FOUND) == []
    worse = verdicts(LEDGER, [*ROWS, Row("t", "F1", "training", None, "failed")])
    lines = render.differences(FOUND, worse)
    assert lines[0] == "F1: committed proved, now failing\n    t failed"
    assert {line.partition(":")[0] for line in lines} == {"F1", "F2a", "F2", "F2b", "F2c", "F2d", "F3"}


def test_verdicts_come_from_a_file_too(tmp_path):
    write(tmp_path / "evidence.json", ROWS)
    found = verdicts(evidence=tmp_path / "evidence.json")
    assert {name: one.verdict for name, one in found.items()} == {name: one.verdict for name, one in FOUND.items()}
