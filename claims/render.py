"""The ledger with its verdicts: as a table for the terminal, as JSON, and as the pages generated from it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from claims.evidence import CONTROL, FORMAL, ClaimsError, Row
from claims.formal import Formal
from claims.ledger import VERDICTS, VERSIONS, Claim, Ledger, Verdict, load, settling, verdicts
from claims.references import read

PAGE = Path(__file__).with_name("CLAIMS.md")
README = Path(__file__).parent.parent / "README.md"
TABLE = README.parent / "docs" / "claims.md"
BEGIN, END = "<!-- claims:begin -->", "<!-- claims:end -->"

MEANING = {
    "definition": "nothing to verify",
    "cited": "a result of others, with a numerical spot check that passed",
    "machine-proved": "every step of the written proof is settled by a theorem that Coq's kernel has checked, and "
    "every claim that it rests on is machine-proved or a definition",
    "proved": "every step of the written proof is settled by a symbolic, exact or enclosing computation",
    "verified": "checks of many instances, or three runs or more of an experiment, and no failure",
    "repaired": "false as stated, with a counterexample; the corrected statement is proved or verified",
    "refuted": "false as stated, with a counterexample, and no repair that stands",
    "open": "evidence may be reported, no verdict is claimed",
    "failing": "some evidence, or a claim that it rests on, fails",
}
STYLES = {
    "machine-proved": "bold green",
    "proved": "bold green",
    "verified": "green",
    "repaired": "yellow",
    "refuted": "magenta",
    "failing": "bold red",
}
Verdicts = dict[str, Verdict]


def table(ledger: Ledger, found: Verdicts) -> Table:
    """Return the claims as a table that fits 100 columns.

    >>> ledger = load()
    >>> table(ledger, verdicts(ledger)).row_count == len(ledger)
    True
    """
    grid = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True, header_style="bold")
    grid.caption, grid.caption_justify = tally(found), "left"
    grid.add_column("claim", no_wrap=True)
    grid.add_column("what it says", min_width=40)
    grid.add_column("verdict", max_width=10)
    grid.add_column("evidence", max_width=15)
    grid.add_column("instances", justify="right", no_wrap=True)
    grid.add_column("residual", justify="right", no_wrap=True)
    for claim in ledger.values():
        verdict = found[claim.id]
        grid.add_row(claim.id, claim.title, _label(verdict), *_numbers(verdict), style=STYLES.get(verdict.verdict))
    return grid


def tally(found: Verdicts) -> str:
    """Return how many claims stand where, in one line.

    >>> tally({"A": Verdict("A", "proved", "proved"), "B": Verdict("B", "open", "open")})
    '2 claims: 1 proved, 1 open'
    """
    counts = Counter(verdict.verdict for verdict in found.values())
    return f"{len(found)} claims: " + ", ".join(f"{counts[name]} {name}" for name in VERDICTS if counts[name])


def _label(verdict: Verdict) -> str:
    return f"repaired, {verdict.strength}" if verdict.verdict == "repaired" else verdict.verdict


def _numbers(verdict: Verdict) -> tuple[str, str, str]:
    if not verdict.instances:
        return ", ".join(verdict.kinds), "", ""
    return ", ".join(verdict.kinds), f"{verdict.instances:,}", _size(verdict.residual)


def _size(residual: float) -> str:
    return f"{residual:.0e}" if residual else "0"


def to_json(ledger: Ledger, found: Verdicts) -> str:
    """Return a JSON list with one object a claim.

    >>> json.loads(to_json({"C1": load()["C1"]}, {"C1": Verdict("C1", "open", "open")}))[0]["verdict"]
    'open'
    """
    entries = [_entry(claim, found[claim.id]) for claim in ledger.values()]
    return json.dumps(entries, indent=1, ensure_ascii=False)


def _entry(claim: Claim, verdict: Verdict) -> dict[str, Any]:
    return {
        "id": claim.id,
        "title": claim.title,
        "statement": claim.statement,
        "repair": claim.repair or None,
        "breaks": claim.breaks or None,
        "source": claim.source,
        "version": claim.version,
        "wordings": claim.wordings,
        "prior": [asdict(work) for work in claim.prior],
        "kind": claim.kind,
        "hypotheses": claim.hypotheses,
        "verdict": verdict.verdict,
        "strength": verdict.strength,
        "evidence": verdict.kinds,
        "theorems": theorems(verdict),
        "instances": verdict.instances,
        "residual": verdict.residual,
        "failing": verdict.failing,
        "reasons": verdict.reasons,
        "limits": claim.limits,
        "uses": claim.uses,
    }


def page(ledger: Ledger, found: Verdicts) -> str:
    """Return the text of `CLAIMS.md`: the table, and a section for each claim.

    >>> ledger = load()
    >>> sum(line.startswith("## ") for line in page(ledger, verdicts(ledger)).splitlines()) == len(ledger)
    True
    """
    sections = "\n".join(section(claim, found[claim.id]) for claim in ledger.values())
    works = "\n".join(f'- <a id="{key.lower()}"></a>{work}' for key, work in read().items())
    return (
        "# Claims\n\nMade by `lop claims --write` from `ledger.toml`, `references.bib` and `evidence.json`; edits "
        f"here are lost.\n\n{_overview(ledger, found, '')}\n\n{sections}\n# References\n\n{works}\n"
    )


def summary(ledger: Ledger, found: Verdicts) -> str:
    """Return tally, legend and table of `docs/claims.md`; the ids lead to the sections of `claims/CLAIMS.md`.

    >>> ledger = load()
    >>> sum(line.startswith("| [") for line in summary(ledger, verdicts(ledger)).splitlines()) == len(ledger)
    True
    """
    return _overview(ledger, found, "../claims/CLAIMS.md")


def _overview(ledger: Ledger, found: Verdicts, target: str) -> str:
    legend = "\n".join(f"- **{name}**: {MEANING[name]}" for name in VERDICTS)
    return f"{tally(found)}.\n\n{legend}\n\n{_markdown_table(ledger, found, target)}"


def _markdown_table(ledger: Ledger, found: Verdicts, target: str) -> str:
    heads = ("claim", "what it says", "wording", "prior work", "verdict", "evidence", "instances", "residual")
    rows: list[tuple[str, ...]] = [heads]
    rows.append(("---", "---", "---", "---", "---", "---", "---:", "---:"))
    for claim in ledger.values():
        link = f"[{claim.id}]({target}#{claim.id.lower()})"
        prior = ", ".join(f"[{work.key}]({target}#{work.key.lower()})" for work in claim.prior)
        about = (link, claim.title, claim.version, prior)
        rows.append((*about, f"**{_label(found[claim.id])}**", *_numbers(found[claim.id])))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def section(claim: Claim, verdict: Verdict) -> str:
    """Return all that is known of a claim.

    >>> claim = Claim("A", "a title", "a statement", "here", "ours", "theorem", "its limits", ())
    >>> print(section(claim, Verdict("A", "open", "open")))
    <a id="a"></a>
    <BLANKLINE>
    ## A. a title
    <BLANKLINE>
    **open** · theorem · here · ours
    <BLANKLINE>
    a statement
    <BLANKLINE>
    **Prior work.** A search found none.
    <BLANKLINE>
    **Limits.** its limits
    <BLANKLINE>
    """
    parts = [
        f'<a id="{claim.id.lower()}"></a>\n\n## {claim.id}. {claim.title}',
        _headline(claim, verdict),
        claim.statement,
        f"**Repaired statement.** {claim.repair}" if claim.repair else "",
        f"**What breaks it.** {claim.breaks}" if claim.breaks else "",
        _bullets("Hypotheses", list(claim.hypotheses)),
        _bullets("Proof", [_step(step.step, step.says, verdict.rows) for step in claim.proof]),
        _statements(verdict),
        _bullets(
            "Evidence", [_evidence(row) for row in verdict.rows if row.kind != CONTROL and not _is_theorem(row)]
        ),
        _bullets("Negative controls", [_evidence(row) for row in verdict.rows if row.kind == CONTROL]),
        _bullets("Why it stands no firmer", [] if verdict.verdict == "refuted" else list(verdict.reasons)),
        _prior(claim),
        f"**Limits.** {claim.limits}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _headline(claim: Claim, verdict: Verdict) -> str:
    uses = ", ".join(f"[{used}](#{used.lower()})" for used in claim.uses)
    others = ", ".join(f"[{name}](#{name.lower()})" for name in claim.wordings)
    parts = [f"**{_label(verdict)}**", claim.kind, claim.source, VERSIONS[claim.version]]
    parts += [f"rests on {uses}" if uses else "", f"other wordings: {others}" if others else ""]
    return " · ".join(part for part in dict.fromkeys(parts) if part)


def _prior(claim: Claim) -> str:
    if claim.kind == "definition":
        return ""
    works = [f"[{work.key}](#{work.key.lower()}): {work.theirs}; left: {work.left}." for work in claim.prior]
    return _bullets("Prior work", works) or "**Prior work.** A search found none."


def _bullets(title: str, lines: list[str]) -> str:
    return f"**{title}**\n\n" + "\n".join(f"- {line}" for line in lines) if lines else ""


def _step(name: str, says: str, rows: tuple[Row, ...]) -> str:
    settled_by = ", ".join(dict.fromkeys(f"`{row.theorem or row.test}`" for row in settling(name, rows)))
    return f"✓ *{name}*: {says} Settled by {settled_by}." if settled_by else f"· *{name}*: {says} Not settled."


def theorems(verdict: Verdict) -> tuple[str, ...]:
    """Return the theorems of Coq that speak for a claim, each once.

    >>> theorems(Verdict("A", "open", "open", (Row("t", "A", "formal", instances=1, theorem="A_all"),)))
    ('A_all',)
    """
    return tuple(dict.fromkeys(row.theorem for row in verdict.rows if _is_theorem(row)))


def _is_theorem(row: Row) -> bool:
    return row.kind == FORMAL and row.passed


def _statements(verdict: Verdict) -> str:
    """Return the statements that Coq has checked, folded away."""
    proofs = Formal()
    said = [
        f"<details><summary><code>{name}</code> in <code>{proofs.theorems[name]}</code></summary>\n\n"
        f"```coq\n{proofs.pinned.get(name, '')}\n```\n\n</details>"
        for name in theorems(verdict)
        if name in proofs.theorems
    ]
    return "\n\n".join(["**Machine-checked statements**", *said]) if said else ""


def _evidence(row: Row) -> str:
    kind = row.kind if row.step is None else f"{row.kind}, step {row.step}"
    if row.theorem:
        kind += f", theorem {row.theorem}"
    many = "instance" if row.instances == 1 else "instances"
    seen = f", {row.instances:,} {many}, residual {_size(row.residual)}" if row.instances else ""
    return f"`{row.test}`: {row.outcome} ({kind}{seen})"


def between(name: str, text: str, made: str) -> str:
    """Return ``text``, the page ``name``, with ``made`` between the markers of what is generated.

    Raises:
        ClaimsError: The page does not have each marker once, the first before the second.

    >>> between("a page", f"a {BEGIN} old {END} b", "new").replace(BEGIN, "(").replace(END, ")").split()
    ['a', '(', 'new', ')', 'b']
    """
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not end or text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ClaimsError(f"{name} needs the lines {BEGIN} and {END} once each, in this order")
    return f"{head}{begin}\n{made}\n{end}{tail}"


def pages() -> dict[Path, str]:
    """Return what each generated page should say now, by path.

    These are `CLAIMS.md`, and, where they are (an installed package has them not), the table of `docs/claims.md`
    and the tally of the README.

    >>> PAGE in pages()
    True
    """
    ledger = load()
    found = verdicts(ledger)
    made = {PAGE: page(ledger, found)}
    for path, text in {README: f"{tally(found)}.", TABLE: summary(ledger, found)}.items():
        if path.exists():
            made[path] = between(path.name, path.read_text(encoding="utf-8"), text)
    return made


def differences(committed: Verdicts, derived: Verdicts) -> list[str]:
    """Return one line for each claim on which two sets of verdicts differ.

    >>> differences({"A": Verdict("A", "proved", "proved")}, {"A": Verdict("A", "open", "open")})
    ['A: committed proved, now open']
    """
    return [
        f"{name}: committed {_label(committed[name])}, now {_label(derived[name])}"
        + "".join(f"\n    {reason}" for reason in derived[name].reasons)
        for name in committed
        if _label(committed[name]) != _label(derived[name])
    ]
