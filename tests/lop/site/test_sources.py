"""Pages of the repository reach the site whole, with links that lead to pages or pictures that the site has."""

import re

import pytest

from claims.ledger import load
from lop.site import front_pages, places, sources
from tests.docs.pages import DOCS, ROOT, read

PAGES = (*sources.PAGES, *DOCS)
CLAIMS = {f"claims/{name}.md" for name in load()} | {"claims/index.md", "claims/graph.md", "claims/references.md"}
OTHERS = {"index.md", "paper.md", "explore/index.md", "api/index.md"}
KNOWN = {*PAGES, *CLAIMS, *OTHERS, *(f"explore/{name}.md" for name in front_pages.EXPLORERS)}


def targets(text, folder):
    for found in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)):
        if not re.match(r"[a-z]+:", found) and (path := found.partition("#")[0]):
            yield sources.normal(folder / path)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_what_the_site_has(page):
    text = sources.relinked(read(page), page)
    for target in targets(text, sources.PurePosixPath(page).parent):
        assert target in KNOWN or (ROOT / target).suffix == ".png"


@pytest.mark.parametrize(
    ("page", "text", "made"),
    [
        ("docs/a.md", "[F2a](../claims/CLAIMS.md#f2a)", "[F2a](../claims/F2a.md)"),
        ("RESULTS.md", "[P1](claims/CLAIMS.md#p1)", "[P1](claims/P1.md)"),
        ("docs/a.md", "[w](../claims/CLAIMS.md#chen2023)", "[w](../claims/references.md#chen2023)"),
        ("docs/a.md", "[all](../claims/CLAIMS.md)", "[all](../claims/index.md)"),
        ("docs/a.md", "[the README](../README.md#citing)", "[the README](../index.md)"),
        ("docs/a.md", "[x](rank.md#y) ![p](p.png)", "[x](rank.md#y) ![p](p.png)"),
        ("docs/a.md", "[formal](../theory/formal)", "formal (`theory/formal`)"),
        ("docs/a.md", "```\n[x](../claims/CLAIMS.md#f1)\n```", "```\n[x](../claims/CLAIMS.md#f1)\n```"),
        ("docs/a.md", "<!-- claims:begin -->\na", "a"),
    ],
)
def test_links_are_turned(page, text, made):
    assert sources.relinked(text, page) == made


def test_the_table_of_contents_has_every_page_of_the_documentation():
    listed = [page for pages in sources.groups(read("docs/index.md")).values() for page in pages]
    assert sorted(f"docs/{page}" for page in listed) == sorted(set(DOCS) - {"docs/index.md"})


def test_a_picture_is_the_one_drawn_last(tmp_path, monkeypatch):
    drawn, shown = tmp_path / "out", tmp_path / "docs"
    monkeypatch.setattr(places, "FIGURES", (drawn, shown))
    assert places.picture("cloning") is None
    for folder in (shown, drawn):
        folder.mkdir()
        (folder / "cloning.png").touch()
        assert places.picture("cloning") == folder / "cloning.png"
