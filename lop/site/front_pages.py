"""The pages that lead to others: the front, the paper statement by statement, all claims, the map of the code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from claims.ledger import VERDICTS, VERSIONS, Claim, Ledger, Verdict
from claims.render import MEANING, tally
from lop.site import graph, places, sources
from lop.site.claim_pages import badge

PAPER = "JL25"
PLACE = re.compile(r"(?:Theorem|Lemma|[Ff]igure|section|appendix|definition)\s[^,;()]*")
EXPLORERS = {
    "kernel": "what an activation, its gain and its shift do to a correlation, to the rank, and to slopes",
    "network": "clones and frozen units in training, under a rule that you choose, beside their quotient",
    "optimizers": "which rule keeps which clones, and what was measured in each cell",
    "runs": "any diagnostic of any run, with its seeds and the fresh network",
    "certificate": "read what `lop certify --json` has written; nothing leaves your browser",
}
GUIDES = ("is-my-network-losing-plasticity", "add-a-module-rule", "reproduce-a-figure", "read-a-proof")


def write(source: Path, ledger: Ledger, found: Mapping[str, Verdict], modules: Sequence[str]) -> None:
    """Write the front page, the statements of the paper, and the pages that list claims, explorers and modules."""
    pages = {
        "index.md": front(found),
        "paper.md": paper(ledger, found),
        "claims/index.md": every(ledger, found),
        "claims/graph.md": dependencies(ledger, found),
        "explore/index.md": explorers(),
        "api/index.md": code(modules),
    }
    for name, text in pages.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _toctree(entries: Iterable[str], caption: str = "", depth: int = 1) -> str:
    named = [f":caption: {caption}"] if caption else []
    return "\n".join(["```{toctree}", ":hidden:", f":maxdepth: {depth}", *named, "", *entries, "```"])


def front(found: Mapping[str, Verdict]) -> str:
    """Return the front page.

    >>> front({}).splitlines()[0]
    '# Does the theory of loss of plasticity hold?'
    """
    readme = (places.ROOT / "README.md").read_text(encoding="utf-8")
    about = readme.partition("\n\n")[2].partition("\n## ")[0].strip()
    listed = sources.groups((places.ROOT / "docs" / "index.md").read_text(encoding="utf-8"))
    template = (places.HERE / "pages" / "index.md").read_text(encoding="utf-8")
    notebooks = [f"notebooks/{path.stem}" for path in sorted((places.ROOT / "notebooks").glob("[0-9]*.py"))]
    trees = [
        _toctree(["paper", "claims/index", "claims/graph"], "The claims"),
        _toctree(["explore/index"], "Explore", 2),
        *(
            _toctree([f"docs/{page.removesuffix('.md')}" for page in pages if not page.startswith("..")], title)
            for title, pages in listed.items()
        ),
        _toctree(notebooks, "Notebooks"),
        _toctree(["RESULTS", "NOTATION", "CONTRIBUTING", "CHANGELOG", "docs/index", "api/index"], "Reference"),
    ]
    return template.format(about=about, tally=tally(dict(found)), trees="\n\n".join(trees))


def paper(ledger: Ledger, found: Mapping[str, Verdict]) -> str:
    """Return the page of the paper's statements, in its order, each with the verdicts of all its wordings.

    >>> from claims.ledger import load, verdicts
    >>> "Theorem 2.1" in paper(load(), verdicts())
    True
    """
    of_paper = [claim for claim in ledger.values() if claim.source.startswith(PAPER)]
    lines = [(places.HERE / "pages" / "paper.md").read_text(encoding="utf-8")]
    for title, claims in _by_place(of_paper).items():
        lines += [f"## {title}", "", "| what it says | verdict |", "|---|---|"]
        lines += [_wording(claim, found[claim.id]) for claim in claims]
        lines.append("")
    return "\n".join(lines)


def _by_place(claims: Iterable[Claim]) -> dict[str, list[Claim]]:
    """Return claims by what of the paper they are about, theorems first, then lemmas and the rest."""
    found: dict[str, list[Claim]] = {}
    for claim in claims:
        place = PLACE.search(claim.source)
        title = place[0].split(" of the")[0].strip() if place else "Remarks"
        found.setdefault(title[0].upper() + title[1:], []).append(claim)
    return dict(sorted(found.items(), key=lambda item: _rank(item[0])))


def _rank(title: str) -> tuple[int, str]:
    kinds = ("Theorem", "Lemma", "Definition", "Section", "Figure", "Appendix", "Remarks")
    return next((k for k, kind in enumerate(kinds) if title.startswith(kind)), len(kinds)), title


def _wording(claim: Claim, verdict: Verdict) -> str:
    more = "why, and what breaks it" if any(row.kind == "counterexample" for row in verdict.rows) else "why"
    where = claim.source.removeprefix(f"{PAPER}, ").removeprefix(f"{PAPER} ")
    said = f"[{claim.id}. {claim.title}](claims/{claim.id}.md)<br><small>{where}; {VERSIONS[claim.version]}</small>"
    return f"| {said} | {badge(verdict)}<br>[{more}](claims/{claim.id}.md) |"


def every(ledger: Ledger, found: Mapping[str, Verdict]) -> str:
    """Return the list of all claims with their verdicts.

    >>> from claims.ledger import load, verdicts
    >>> "(C9.md)" in every(load(), verdicts())
    True
    """
    titles = {one.id: f"[{one.id}. {one.title}]({one.id}.md)" for one in ledger.values()}
    whose = {one.id: f"<small>{VERSIONS[one.version]}</small>" for one in ledger.values()}
    rows = [f"| {titles[name]}<br>{whose[name]} | {badge(found[name])} |" for name in ledger]
    legend = [f"- {badge(Verdict('', name, 'proved'))}: {MEANING[name]}" for name in VERDICTS]
    return "\n".join(
        [
            "# All claims",
            "",
            f"{tally(dict(found))}. [How to read this](../docs/claims.md), and [who rests on whom](graph.md).",
            "",
            *legend,
            "",
            "| claim, and whose wording it is about | verdict |",
            "|---|---|",
            *rows,
            "",
            _toctree([*ledger, "references"]),
            "",
        ]
    )


def dependencies(ledger: Ledger, found: Mapping[str, Verdict]) -> str:
    """Return the page with the picture of who rests on whom.

    >>> from claims.ledger import load, verdicts
    >>> "<svg" in dependencies(load(), verdicts())
    True
    """
    colours = " ".join(badge(Verdict("", name, "proved")) for name in VERDICTS)
    return "\n".join(
        [
            "---\nhide-toc: true\n---\n",
            "# Which claim rests on which",
            "",
            "A line leads from a claim up to one that it rests on, and a claim stands no firmer than those. Claims "
            "in the rows below rest on no other and bear none. Each box is a link. The line around a box tells its "
            "verdict, as below; where the window is narrower than the picture, it scrolls sideways.",
            "",
            "<style>@media (min-width: 82em) { .content { width: 62em; } }</style>",
            "",
            f'<p class="legend">{colours}</p>',
            "",
            '<div class="wide" role="region" aria-label="Graph of claims" tabindex="0">',
            graph.svg(ledger, found),
            "</div>",
            "",
        ]
    )


def explorers() -> str:
    """Return the page that lists the explorers.

    >>> "(kernel.md)" in explorers()
    True
    """
    titles = {name: _title(places.HERE / "pages" / f"{name}.md") for name in EXPLORERS}
    lines = [f"- [{titles[name]}]({name}.md): {what}." for name, what in EXPLORERS.items()]
    about = "Each computes in your browser, on numbers that our Python wrote; tests hold it against Python to 1e-6."
    return "\n".join(["# Explore", "", about, "", *lines, "", _toctree(EXPLORERS), ""])


def _title(path: Path) -> str:
    return path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def code(modules: Sequence[str]) -> str:
    """Return the page that lists the modules of the library.

    >>> "(theory.rank.rst)" in code(["theory.rank"])
    True
    """
    about = (
        "What the modules of the library say of themselves: of theory, simulation, claims, the checks of networks, "
        "and the command line. Those of the laboratory, `torch_experiments.lab`, are left out."
    )
    lines = [f"- [{name}]({name}.rst)" for name in modules]
    return "\n".join(["# The code, module by module", "", about, "", *lines, ""])
