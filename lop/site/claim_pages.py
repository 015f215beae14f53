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
    if verdict.verdict == "refuted":
        return [_counterexamples(verdict), *filter(None, [_controls(verdict)])]
    said = [_against(verdict), _counterexamples(verdict), _steps(claim, verdict), _tests(claim, verdict)]
    said += [_controls(verdict), _used(claim, found), _ends(verdict)]
    return [sentence for sentence in said if sentence]


def _against(verdict: Verdict) -> str:
    return "Against it speak " + ", ".join(f"`{name}`" for name in verdict.failing) + "." if verdict.failing else ""


def _counterexamples(verdict: Verdict) -> str:
    count = len({row.test for row in verdict.rows if row.kind == "counterexample" and row.passed})
    if not count:
        return ""
    what = "A counterexample shows" if count == 1 else f"{count} counterexamples show"
    about = {"refuted": "", "repaired": " What follows is about the repaired statement."}
    return f"{what} that it is false as stated." + about.get(
        verdict.verdict, " What follows is about the statement."
    )


def _steps(claim: Claim, verdict: Verdict) -> str:
    if not claim.proof:
        return "No proof is written out, so it can be verified and not proved." if verdict.rows else ""
    settled = [step for step in claim.steps if settling(step, verdict.rows)]
    formal = [step for step in settled if any(row.kind == FORMAL for row in settling(step, verdict.rows))]
    said = f"Its proof has {_count(len(claim.proof), 'step')}, of which {len(settled)} settled exactly"
    return f"{said}, {len(formal)} of them by theorems that Coq has checked."


def _tests(claim: Claim, verdict: Verdict) -> str:
    kinds = (CONTROL, "counterexample", FORMAL)
    tests = {row.test for row in verdict.rows if row.passed and row.kind not in kinds}
    one, many = ("run or check", "runs or checks") if claim.kind == "empirical" else ("instance", "instances")
    seen = f"{verdict.instances:,} {one if verdict.instances == 1 else many}"
    return f"{_count(len(tests), 'test')} passed, on {seen}." if tests else "No test passed."


def _controls(verdict: Verdict) -> str:
    controls = {row.test for row in verdict.rows if row.passed and row.kind == CONTROL}
    has = "it has" if len(controls) == 1 else "they have"
    return f"{_count(len(controls), 'negative control')} failed, as {has} to." if controls else ""


def _used(claim: Claim, found: Mapping[str, Verdict]) -> str:
    used = ", ".join(f"[{name}]({name}.md) ({found[name].verdict})" for name in claim.uses)
    return f"It stands no firmer than what it rests on: {used}." if used else ""


def _ends(verdict: Verdict) -> str:
    if verdict.verdict == "refuted" or not verdict.reasons:
        return ""
    return "It stands no firmer because " + "; because ".join(verdict.reasons) + "."


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


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
    """Return the text of a test, with what it reads of its file: imports, constants, helpers and fixtures.

    It is empty where the test is not found.

    >>> body("tests/theory/test_frozen.py::test_no_such_test")
    ''
    """
    file, _, name = test.partition("::")
    path = places.ROOT / file
    if not path.is_file():
        return ""
    text = path.read_text(encoding="utf-8")
    known = {name: node for node in ast.parse(text).body for name in _defined(node)}
    if not isinstance(known.get(name.partition("[")[0]), ast.FunctionDef):
        return ""
    read, left = set(), {name.partition("[")[0]}
    while left:
        read |= left
        left = {inner for one in left for inner in _names(known[one]) if inner in known} - read
    nodes = sorted({known[one] for one in read}, key=lambda node: node.lineno)
    imports = [_only(node, read) for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    others = [_text(text, node) for node in nodes if not isinstance(node, ast.Import | ast.ImportFrom)]
    return "\n\n".join(["\n".join(imports), *others]).strip()


def _defined(node: ast.stmt) -> set[str]:
    """Return the names that a statement of a module gives something to."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).partition(".")[0] for alias in node.names} - {"annotations"}
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    return {name for target in node.targets for name in _names(target)} if isinstance(node, ast.Assign) else set()


def _only(node: ast.Import | ast.ImportFrom, read: set[str]) -> str:
    """Return an import with no names but those that are read."""
    names = [alias for alias in node.names if (alias.asname or alias.name).partition(".")[0] in read]
    if isinstance(node, ast.Import):
        return ast.unparse(ast.Import(names))
    return ast.unparse(ast.ImportFrom(node.module, names, node.level))


def _text(text: str, node: ast.stmt) -> str:
    """Return the text of a statement with its decorators, which `ast.get_source_segment` leaves out."""
    first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", ()))])
    return "\n".join(text.splitlines()[first - 1 : node.end_lineno])


def _names(node: ast.AST) -> set[str]:
    """Return the names that are read, and those of arguments, which may be fixtures."""
    inner = list(ast.walk(node))
    return {n.id for n in inner if isinstance(n, ast.Name)} | {n.arg for n in inner if isinstance(n, ast.arg)}


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
        seen = f", {_count(row.instances, 'instance')}" if row.instances else ""
        off = f", residual {row.residual:.0e}" if row.residual else ", exact" if row.kind in EXACT else ""
        why = f" ({row.why})" if row.why else ""
        outcome = "failed, as it has to" if row.kind == CONTROL and row.passed else row.outcome
        lines += [f"- {outcome}{why}: {kind}{seen}{off}", f"  ```sh\n  {PYTEST} {row.test}\n  ```"]
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
