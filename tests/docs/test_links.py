"""Links lead somewhere, no page is lost, and the README stays short."""

import re
import tomllib

import pytest

from tests.docs.pages import DOCS, PACKAGES, PAGES, ROOT, prose, read

LINKED = [*PAGES, "CHANGELOG.md", "RESULTS.md", "claims/CLAIMS.md"]


def links(text):
    """Return the targets of links and images that lead to something of ours."""
    found = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", prose(text)))
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def anchors(text):
    """Return what a link can point to within a page: its headings, as GitHub names them, and its own marks."""
    headings = re.findall(r"^#+ (.*)", prose(text), flags=re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return slugs | set(re.findall(r'<a id="([^"]+)"', text))


def broken(page, text):
    """Return the links of a page that lead nowhere."""
    found = []
    for target in links(text):
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        if not path.exists() or (anchor and anchor not in anchors(path.read_text(encoding="utf-8"))):
            found.append(target)
    return found


@pytest.mark.parametrize("page", LINKED)
def test_every_link_and_image_leads_somewhere(page):
    assert broken(page, read(page)) == []


def test_a_link_that_leads_nowhere_is_found():
    text = "[a](none.md) [b](README.md#none) ![c](docs/none.png) [d](README.md#citing) [e](https://none.none)"
    assert broken("README.md", text) == ["none.md", "README.md#none", "docs/none.png"]


def test_the_readme_is_short():
    assert len(read("README.md").splitlines()) <= 150
    pictures = [target for target in links(read("README.md")) if target.endswith(".png")]
    assert len(pictures) <= 2


def test_the_index_has_every_page_once():
    listed = [f"docs/{target}" for target in links(read("docs/index.md")) if not target.startswith("..")]
    assert sorted(listed) == [page for page in DOCS if page != "docs/index.md"]
    assert "docs/index.md" in links(read("README.md"))


def test_the_map_of_the_readme_has_what_is_there():
    rows = re.findall(r"^\| `([^`]+)`", read("README.md"), flags=re.MULTILINE)
    assert [name for name in rows if not (ROOT / name).exists()] == []
    for name in (*PACKAGES, "docs", "results"):
        assert {f"{name}/", f"{name}.py"} & set(rows), f"the map does not show {name}"


def test_the_readme_cites_the_version_that_it_comes_with():
    version = tomllib.loads(read("pyproject.toml"))["project"]["version"]
    assert f"version = {{{version}}}" in read("README.md")
