"""From the front page to the input that breaks a theorem it is three clicks at most."""

from claims.ledger import load, verdicts
from lop.site import claim_pages, front_pages

LEDGER = load()
FOUND = verdicts(LEDGER)


def test_theorem_2_1_is_three_clicks_away_with_why_and_what_breaks_it():
    assert 'href="paper.html#theorem-2-1"' in front_pages.front(FOUND)
    paper = front_pages.paper(LEDGER, FOUND)
    theorem = paper.partition("## Theorem 2.1")[2].partition("\n## ")[0]
    for name in ("F2", "C6", "C12"):
        assert f"(claims/{name}.md)" in theorem
        assert "repaired" in theorem
        page = claim_pages.page(LEDGER[name], LEDGER, FOUND)
        assert "## The input that breaks it" in page
        assert "## How the verdict follows" in page


def test_every_statement_of_the_paper_has_its_place():
    paper = front_pages.paper(LEDGER, FOUND)
    assert all(f"(claims/{c.id}.md)" in paper for c in LEDGER.values() if c.source.startswith("JL25"))
    titles = [line for line in paper.splitlines() if line.startswith("## ")]
    assert titles[:3] == ["## Theorem 2.1", "## Theorem 2.2", "## Theorem 3.1"]
    assert len(titles) == len(set(titles))


def test_the_lists_have_everything():
    assert all(f"({name}.md)" in front_pages.every(LEDGER, FOUND) for name in LEDGER)
    assert all(f"({name}.md)" in front_pages.explorers() for name in front_pages.EXPLORERS)
    assert all(f"docs/{guide}" in front_pages.front(FOUND) for guide in front_pages.GUIDES)
