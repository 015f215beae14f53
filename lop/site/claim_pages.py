"""A page a claim: what it says, how its verdict follows, what breaks it, and what rests on it, in MyST Markdown."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from claims import references
from claims.evidence import CONTROL, EXACT, FORMAL, Row
from claims.formal import Formal
from claims.ledger import VERSIONS, Claim, Ledger, Verdict, settling
from claims.render import MEANING, theorems
from lop.site import graph, places

PYTEST = ".venv/bin/pytest"
IDS = re.compile(r"\b[A-Z]\d+[a-z]?\b")
RANGE = re.compile(r"\b([A-Z])(\d+) to \1(\d+)\b")


def badge(verdict: Verdict) -> str:
    """Return a verdict as a coloured word.

    >>> badge(Verdict("A", "open", "open"))
    '<span class="verdict v-open">open</span>'
    """
    said = f"repaired, {verdict.strength}" if verdict.verdict == "repaired" else verdict.verdict
    return f'<span class="verdict v-{verdict.verdict}">{said}</span>'


def page(claim: Claim, ledger: Ledger, found: Mapping[str, Verdict]) -> str:
    """Return the page of a claim.

    >>> from claims.ledger import load, verdicts
    >>> page(load()["F2"], load(), verdicts()).splitlines()[0]
    '# F2. Fixing the weights into saturated units gives an LoP manifold'
    """
    verdict = found[claim.id]
    parts = [
        f"# {claim.id}. {claim.title}",
        f'<p class="standing">{badge(verdict)} {MEANING[verdict.verdict]}.</p>',
        _about(claim),
        f"## Statement\n\n{claim.statement}",
        _listed("Hypotheses", claim.hypotheses),
        f"## Repaired statement\n\n{claim.repair}" if claim.repair else "",
        _breaks(claim, verdict),
        _listed("How the verdict follows", sentences(claim, verdict, found)),
        _listed("Proof", [_step(step.step, step.says, verdict.rows) for step in claim.proof]),
        _coq(verdict),
        _evidence("Evidence", [row for row in verdict.rows if row.kind not in (CONTROL, FORMAL)]),
        _evidence("What has to fail, and does", [row for row in verdict.rows if row.kind == CONTROL]),
        _figures(claim.id),
        _versions(claim, ledger, found),
        _prior(claim),
        _rests(claim, ledger, found),
        f"## Limits\n\n{claim.limits}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _about(claim: Claim) -> str:
    parts = dict.fromkeys((claim.kind, claim.source, VERSIONS[claim.version]))
    return " · ".join(parts)


def _listed(title: str, lines: Iterable[str]) -> str:
    lines = list(lines)
    return f"## {title}\n\n" + "\n".join(f"- {line}" for line in lines) if lines else ""


# ------------------------------------------------------------------------------------ the verdict


def sentences(claim: Claim, verdict: Verdict, found: Mapping[str, Verdict]) -> list[str]:
    """Return, in words, how the verdict of a claim follows from its rows and from the claims that it uses.

    >>> from claims.ledger import load, verdicts
    >>> sentences(load()["D1"], verdicts()["D1"], verdicts())
    ['It is a definition: there is nothing to verify.']
    """
    if verdict.verdict == "definition":
        return ["It is a definition: there is nothing to verify."]
    said = [_against(verdict), _counterexamples(verdict), _steps(claim, verdict), *_counts(claim, verdict)]
    said += [_used(claim, found), _ends(verdict)]
    return [sentence for sentence in said if sentence]


def _against(verdict: Verdict) -> str:
    return "Against it speak " + ", ".join(f"`{name}`" for name in verdict.failing) + "." if verdict.failing else ""


def _counterexamples(verdict: Verdict) -> str:
    count = len({row.test for row in verdict.rows if row.kind == "counterexample" and row.passed})
    if not count:
        return ""
    what = "A counterexample shows" if count == 1 else f"{count} counterexamples show"
    return f"{what} that it is false as stated. What follows is about the {_statement(verdict)}."


def _statement(verdict: Verdict) -> str:
    return "repaired statement" if verdict.verdict == "repaired" else "statement"


def _steps(claim: Claim, verdict: Verdict) -> str:
    if not claim.proof:
        return "No proof is written out, so it can be verified and not proved." if verdict.rows else ""
    settled = [step for step in claim.steps if settling(step, verdict.rows)]
    formal = [step for step in settled if any(row.kind == FORMAL for row in settling(step, verdict.rows))]
    said = f"Its proof has {_count(len(claim.proof), 'step')}, of which {len(settled)} settled exactly"
    return f"{said}, {len(formal)} of them by theorems that Coq has checked."


def _counts(claim: Claim, verdict: Verdict) -> list[str]:
    passed = [row for row in verdict.rows if row.passed]
    tests = {row.test for row in passed if row.kind not in (CONTROL, "counterexample", FORMAL)}
    controls = {row.test for row in passed if row.kind == CONTROL}
    what = "runs or checks" if claim.kind == "empirical" else "instances"
    return [
        f"{_count(len(tests), 'test')} passed, on {verdict.instances:,} {what}." if tests else "No test passed.",
        f"{_count(len(controls), 'negative control')} failed, as it has to."
        if len(controls) == 1
        else f"{_count(len(controls), 'negative control')} failed, as they have to.",
    ]


def _used(claim: Claim, found: Mapping[str, Verdict]) -> str:
    used = ", ".join(f"[{name}]({name}.md) ({found[name].verdict})" for name in claim.uses)
    return f"It stands no firmer than what it rests on: {used}." if used else ""


def _ends(verdict: Verdict) -> str:
    if verdict.verdict == "refuted" or not verdict.reasons:
        return ""
    return "It stands no firmer because " + "; because ".join(verdict.reasons) + "."


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


# ------------------------------------------------------------------------------------ what breaks it


def _breaks(claim: Claim, verdict: Verdict) -> str:
    tests = dict.fromkeys(row.test for row in verdict.rows if row.kind == "counterexample" and row.passed)
    if not tests:
        return ""
    parts = ["## The input that breaks it", claim.breaks]
    for test in tests:
        parts.append(f"As a test, `{test}`:")
        parts.append(f"```python\n{body(test)}\n```" if body(test) else "")
        parts.append(f"```sh\n{PYTEST} {test}\n```")
    return "\n\n".join(part for part in parts if part)


@cache
def body(test: str) -> str:
    """Return the text of a test, with the capitals that it reads and its file defines; empty where it is not found.

    >>> body("tests/theory/test_frozen.py::test_no_such_test")
    ''
    """
    file, _, name = test.partition("::")
    path = places.ROOT / file
    if not path.is_file():
        return ""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    if (wanted := functions.get(name.partition("[")[0])) is None:
        return ""
    read = _names(wanted)
    helpers = [functions[other] for other in functions if other in read and functions[other] is not wanted]
    read |= {name for helper in helpers for name in _names(helper)}
    constants = [node for node in tree.body if isinstance(node, ast.Assign) and _names(node.targets[0]) & read]
    nodes = sorted([*constants, *helpers, wanted], key=lambda node: node.lineno)
    return "\n\n".join(ast.get_source_segment(text, node) or "" for node in nodes)


def _names(node: ast.AST) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}


# ------------------------------------------------------------------------------------ proof and evidence


def _step(name: str, says: str, rows: tuple[Row, ...]) -> str:
    settled = ", ".join(dict.fromkeys(f"`{row.theorem or row.test}`" for row in settling(name, rows)))
    return f"✓ *{name}*: {says} Settled by {settled}." if settled else f"· *{name}*: {says} Not settled."


def _coq(verdict: Verdict) -> str:
    proofs = Formal()
    said = [
        f"`{name}`, in `theory/formal/{proofs.theorems[name]}`:\n\n```coq\n{proofs.pinned.get(name, '')}\n```"
        for name in theorems(verdict)
        if name in proofs.theorems
    ]
    if not said:
        return ""
    how = (
        "`make prove` compiles them and asks what each rests on; [Read a proof](../docs/read-a-proof.md) says how."
    )
    return "\n\n".join(["## What Coq has checked", how, *said])


def _evidence(title: str, rows: list[Row]) -> str:
    if not rows:
        return ""
    lines = [f"## {title}", ""]
    for row in rows:
        kind = row.kind if row.step is None else f"{row.kind}, step *{row.step}*"
        seen = f", {row.instances:,} instances" if row.instances else ""
        off = f", residual {row.residual:.0e}" if row.residual else ", exact" if row.kind in EXACT else ""
        why = f" ({row.why})" if row.why else ""
        lines += [f"- {row.outcome}{why}: {kind}{seen}{off}", f"  ```sh\n  {PYTEST} {row.test}\n  ```"]
    return "\n".join(lines)


# ------------------------------------------------------------------------------------ figures


@cache
def figures() -> dict[str, list[str]]:
    """Return the figures that speak of each claim, by what their modules say in the first line.

    >>> figures()["K1"]
    ['kernels']
    """
    found: dict[str, list[str]] = {}
    for path in sorted((places.ROOT / "paper_figures").glob("*.py")):
        doc = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n\n")[0]
        for name in sorted(_named(doc)):
            found.setdefault(name, []).append(path.stem)
    return found


def _named(text: str) -> set[str]:
    spans = (f"{s[1]}{k}" for s in RANGE.finditer(text) for k in range(int(s[2]), int(s[3]) + 1))
    return {*IDS.findall(text), *spans}


def _figures(name: str) -> str:
    shown = [_figure(figure) for figure in figures().get(name, ())]
    return "\n\n".join(["## Figures", *shown]) if shown else ""


def _figure(figure: str) -> str:
    path = places.picture(figure)
    if path is None:
        return f"`lop figures {figure}` draws one; it was not drawn when this site was built."
    text = path.with_suffix(".txt")
    caption = _caption(text.read_text(encoding="utf-8")) if text.is_file() else ""
    here = os.path.relpath(places.SOURCE / "figures" / path.name, places.SOURCE / "claims")
    return f"![The figure {figure}]({here})\n\n{caption}\n\n```sh\n.venv/bin/lop figures {figure}\n```"


def _caption(text: str) -> str:
    return "\n".join(re.sub(r"([*_<`|])", r"\\\1", line) for line in text.strip().splitlines())


# ------------------------------------------------------------------------------------ neighbours


def _versions(claim: Claim, ledger: Ledger, found: Mapping[str, Verdict]) -> str:
    if not claim.wordings:
        return ""
    rows = [
        f"| [{one.id}]({one.id}.md) | {VERSIONS[one.version]} | {one.title} | {badge(found[one.id])} |"
        for one in (claim, *(ledger[name] for name in claim.wordings))
    ]
    head = ["## Wordings of the same statement", "", "| claim | whose wording | what it says | verdict |"]
    return "\n".join([*head, "|---|---|---|---|", *rows])


def _prior(claim: Claim) -> str:
    if claim.kind == "definition":
        return ""
    works = references.read()
    lines = [f"{works[work.key]}. Theirs: {work.theirs}. Left: {work.left}." for work in claim.prior]
    return _listed("Prior work", lines) or "## Prior work\n\nA search found none."


def _rests(claim: Claim, ledger: Ledger, found: Mapping[str, Verdict]) -> str:
    below = [_line(ledger[name], found) for name in claim.uses]
    above = [_line(ledger[name], found) for name in graph.bearing(ledger, claim.id)]
    parts = [_listed("What it rests on", below), _listed("What rests on it", above)]
    return "\n\n".join(part for part in parts if part)


def _line(claim: Claim, found: Mapping[str, Verdict]) -> str:
    return f"[{claim.id}]({claim.id}.md) {claim.title} {badge(found[claim.id])}"


def bibliography() -> str:
    """Return the page of all works that claims name."""
    entries = [f"({key.lower()})=\n\n{work}" for key, work in references.read().items()]
    return "# References\n\n" + "\n\n".join(entries) + "\n"


def write(folder: Path, ledger: Ledger, found: Mapping[str, Verdict]) -> None:
    """Write the pages of all claims, and of the works that they name, into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for claim in ledger.values():
        (folder / f"{claim.id}.md").write_text(page(claim, ledger, found), encoding="utf-8")
    (folder / "references.md").write_text(bibliography(), encoding="utf-8")
