"""The ledger of claims: read in dependency order, and the verdict that the evidence earns for each claim."""

import heapq
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import MISSING, dataclass, fields
from difflib import get_close_matches
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from claims.evidence import (
    CHECKED,
    CONTROL,
    DECISIVE,
    EVIDENCE,
    EXACT,
    FORMAL,
    KINDS,
    MEASURED,
    ClaimsError,
    Row,
    read,
)
from claims.formal import up_to_date
from claims.references import read as bibliography

LEDGER = Path(__file__).with_name("ledger.toml")

CLAIM_KINDS = ("definition", "theorem", "lemma", "extension", "empirical", "cited")
FEWEST_RUNS = 3  # seeds, or runs, on which an empirical claim is verified
FIRMNESS = ("open", "verified", "proved", "machine-proved")  # from least to most firm
VERSIONS = {  # of the paper, by the wording that a claim is about
    "draft": "draft of mid 2025",
    "submission": "as submitted to ICLR 2026",
    "third": "third version on arXiv, May 2026",
    "elsewhere": "another paper",
    "ours": "ours",
}
VERDICTS = ("definition", "cited", "machine-proved", "proved", "verified", "repaired", "refuted", "open", "failing")


class LedgerError(ClaimsError):
    """An entry of the ledger that breaks its rules."""


@dataclass(frozen=True)
class Step:
    """One step of a proof: the name that tests mark evidence with, and what it says.

    >>> Step("all-dags", "On every graph with five units.").step
    'all-dags'
    """

    step: str
    says: str


@dataclass(frozen=True)
class Prior:
    """Earlier or parallel work on a claim: its key in `references.bib`, what is theirs, and what is left.

    >>> load()["C6"].prior, load()["K1"].prior[0].key
    ((), 'Daniely2016')
    """

    key: str
    theirs: str
    left: str


@dataclass(frozen=True)
class Claim:
    """One entry of the ledger. Texts are Markdown with LaTeX between dollar signs; titles are plain words.

    Attributes:
        id, title: By which it is called, and what it says in a line.
        statement, source: In full, and where it is from.
        kind: One of `CLAIM_KINDS`.
        version: Whose wording it is about, one of `VERSIONS`.
        limits: What its check does not show.
        prior: Who was first, or close; empty where a search found none.
        wordings: Ids of the claims on other wordings of the same statement.
        hypotheses, uses: What it supposes, and the ids of the claims that it rests on.
        proof: Its steps, if one is written out.
        repair: The corrected statement of one that is false.
        breaks: The smallest input known on which it is false.

    >>> load()["F1"].kind, load()["F1"].steps
    ('lemma', ('all-dags', 'general'))
    """

    id: str
    title: str
    statement: str
    source: str
    version: str
    kind: str
    limits: str
    prior: tuple[Prior, ...]
    wordings: tuple[str, ...] = ()
    hypotheses: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    proof: tuple[Step, ...] = ()
    repair: str = ""
    breaks: str = ""

    @property
    def steps(self) -> tuple[str, ...]:
        """Names of the proof's steps."""
        return tuple(step.step for step in self.proof)


Ledger = dict[str, Claim]


def load(path: Path | str | None = None) -> Ledger:
    """Read the ledger, claims by id, each after those that it uses.

    Args:
        path: A file of TOML; by default the project's own.

    Raises:
        LedgerError: An entry lacks a field or has an unknown one, is of unknown kind, repeats an id or the name
            of a proof step, names a work that the bibliography lacks, or uses an unknown claim or, in the end,
            itself.

    >>> ledger = load()
    >>> list(ledger).index("C1") < list(ledger).index("C3")
    True
    """
    path = Path(path or LEDGER)
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get("claim", [])
    claims = [_claim(entry) for entry in entries]
    _distinct("id", [claim.id for claim in claims], str(path))
    _in_bibliography(claims)
    return _in_dependency_order({claim.id: claim for claim in claims})


def chosen(ledger: Ledger, ids: Sequence[str]) -> Ledger:
    """Return the claims with these ids, in any case of letters; all if none is given.

    Raises:
        LedgerError: There is no such claim.

    >>> list(chosen(load(), ["c1", "F2"]))
    ['C1', 'F2']
    """
    known = {name.upper(): name for name in ledger}
    if lost := [name for name in ids if name.upper() not in known]:
        raise LedgerError(f"ids: there is no claim {', '.join(lost)}; there are {', '.join(ledger)}")
    return {known[name.upper()]: ledger[known[name.upper()]] for name in ids or ledger}


def _claim(entry: dict[str, Any]) -> Claim:
    name = f"claim {entry.get('id', '(without id)')}"
    _check_fields(Claim, entry, name)
    if entry["kind"] not in CLAIM_KINDS:
        raise LedgerError(f"{name}: kind {entry['kind']!r} is unknown; allowed are {', '.join(CLAIM_KINDS)}")
    if entry["version"] not in VERSIONS:
        raise LedgerError(f"{name}: version {entry['version']!r} is unknown; allowed are {', '.join(VERSIONS)}")
    lists = {key: tuple(entry.get(key, ())) for key in ("hypotheses", "uses", "wordings")}
    prior = tuple(_prior(work, name) for work in entry["prior"])
    steps = tuple(_step(step, name) for step in entry.get("proof", ()))
    _distinct("proof step", [step.step for step in steps], name)
    return Claim(**{**_stripped(entry), **lists, "proof": steps, "prior": prior})


def _prior(entry: dict[str, Any], name: str) -> Prior:
    _check_fields(Prior, entry, f"{name}, prior work {entry.get('key', '(without key)')}")
    return Prior(**_stripped(entry))


def _in_bibliography(claims: Iterable[Claim]) -> None:
    works = bibliography()
    for claim in claims:
        for work in claim.prior:
            if work.key not in works:
                near = get_close_matches(work.key, works, cutoff=0.5)
                found = f"; near are {', '.join(near)}" if near else ""
                raise LedgerError(f"claim {claim.id}: prior {work.key!r} is not in references.bib{found}")


def _step(entry: dict[str, Any], name: str) -> Step:
    _check_fields(Step, entry, f"{name}, proof step {entry.get('step', '(without name)')}")
    return Step(**_stripped(entry))


def _stripped(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value.strip() if isinstance(value, str) else value for key, value in entry.items()}


def _check_fields(kind: type[Claim] | type[Step] | type[Prior], entry: dict[str, Any], name: str) -> None:
    defaults = {field.name: field.default for field in fields(kind)}
    for key in sorted(entry.keys() - defaults.keys()):
        fix = "remove it: verdicts are derived, never typed" if key == "verdict" else "rename or remove it"
        raise LedgerError(f"{name}: field {key!r} is unknown; allowed are {', '.join(defaults)}; {fix}")
    for key, default in defaults.items():
        wanted = list if default == () or key == "prior" else str
        value = entry.get(key, wanted())
        if not isinstance(value, wanted):
            raise LedgerError(f"{name}: {key} is {value!r}; allowed is a {wanted.__name__}")
        if (default is MISSING and not str(value).strip()) or (key == "prior" and key not in entry):
            raise LedgerError(f"{name}: {key} is missing or empty; every entry has to say it")


def _distinct(what: str, names: list[str], where: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise LedgerError(f"{where}: {what} {name!r} occurs {names.count(name)} times; rename or merge")


def _in_dependency_order(claims: Ledger) -> Ledger:
    for claim in claims.values():
        for field, names in (("uses", claim.uses), ("wordings", claim.wordings)):
            for name in names:
                if name not in claims:
                    raise LedgerError(f"claim {claim.id}: {field} {name!r}, {unknown_id(name, claims)}")
        for other in claim.wordings:
            if claim.id not in claims[other].wordings:
                raise LedgerError(f"claim {other}: wordings lacks {claim.id!r}, which names it; link both ways")
    try:
        return {name: claims[name] for name in _sorted({claim.id: claim.uses for claim in claims.values()})}
    except CycleError as error:
        raise LedgerError(f"claims rest on each other in a circle: {' -> '.join(error.args[1])}") from None


def _sorted(graph: dict[str, tuple[str, ...]]) -> Iterator[str]:
    """Yield each node after its predecessors, otherwise in the order of `graph`."""
    rank = {name: position for position, name in enumerate(graph)}
    sorter = TopologicalSorter(graph)
    sorter.prepare()
    ready: list[tuple[int, str]] = []
    while sorter.is_active():
        for name in sorter.get_ready():
            heapq.heappush(ready, (rank[name], name))
        name = heapq.heappop(ready)[1]
        sorter.done(name)
        yield name


def unknown_id(given: str, known: Iterable[str]) -> str:
    """Say that `given` is no claim's id, with the ids that are near, or all of them.

    >>> unknown_id("C33", ["C3", "F1"])
    'which the ledger does not have; near are C3'
    """
    near = get_close_matches(given, known, cutoff=0.5)
    return f"which the ledger does not have; {'near are' if near else 'it has'} {', '.join(near or known)}"


@dataclass(frozen=True)
class Verdict:
    """Where a claim stands.

    `verdict` is one of `VERDICTS`. `strength`, one of `FIRMNESS`, is what the evidence earns apart from
    counterexamples: for a repaired claim, how firm the repair is. `reasons` say why the claim stands no firmer.
    Of an `empirical` claim, runs count as much as any other evidence.
    """

    id: str
    verdict: str
    strength: str
    rows: tuple[Row, ...] = ()
    reasons: tuple[str, ...] = ()
    empirical: bool = False

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of evidence that passed, without controls."""
        passed = {row.kind for row in self.rows if row.passed}
        return tuple(kind for kind in KINDS if kind in passed)

    @property
    def instances(self) -> int:
        """Number of instances checked by the evidence that counts most; a theorem of Coq is about all at once."""
        return sum({row.test: row.instances for row in self._supporting}.values())

    @property
    def residual(self) -> float:
        """Largest residual in the evidence that counts most."""
        return max((row.residual for row in self._supporting), default=0.0)

    @property
    def failing(self) -> tuple[str, ...]:
        """Tests that speak against the claim."""
        return tuple(sorted({row.test for row in self.rows if row.fault}))

    @property
    def firmness(self) -> str:
        """How firm a claim that uses this one can be at most."""
        if self.verdict == "definition":
            return FIRMNESS[-1]
        if self.verdict == "cited":
            return "proved"
        return self.strength if self.verdict in (*FIRMNESS, "repaired") else "open"

    @property
    def _supporting(self) -> list[Row]:
        passed = [row for row in self.rows if row.passed and row.kind != FORMAL]
        decisive = [row for row in passed if row.kind in DECISIVE]
        measured = [row for row in passed if row.kind in MEASURED]
        return decisive + measured if self.empirical else decisive or measured


Evidence = Path | str | Iterable[Row] | None


def verdicts(ledger: Ledger | None = None, evidence: Evidence = None) -> dict[str, Verdict]:
    """Derive the verdict of every claim, by id, in the ledger's order.

    Args:
        ledger: Claims by id, each after those that it uses; default: the project's own.
        evidence: The rows, or a file of them; default: the committed `claims/evidence.json`.

    Raises:
        LedgerError: A row names a claim that the ledger does not have.
        EvidenceError: The evidence file cannot be read.

    >>> proof = (Step("all", "it is so"),)
    >>> claim = Claim("A", "a title", "a statement", "here", "ours", "theorem", "its limits", (), proof=proof)
    >>> rows = [Row("test", "A", "exact", "all", instances=7), Row("control", "A", CONTROL)]
    >>> verdicts({"A": claim}, rows)["A"].verdict, verdicts({"A": claim}, rows[:1])["A"].reasons
    ('proved', ('no negative control passed',))
    """
    ledger = load() if ledger is None else ledger
    rows = _by_claim(_rows(evidence), ledger)
    found: dict[str, Verdict] = {}
    for claim in ledger.values():
        found[claim.id] = judge(claim, rows[claim.id], [found[used] for used in claim.uses])
    return found


def _rows(evidence: Evidence) -> Iterable[Row]:
    return up_to_date(read(evidence or EVIDENCE)) if isinstance(evidence, str | Path | None) else evidence


def _by_claim(rows: Iterable[Row], ledger: Ledger) -> dict[str, tuple[Row, ...]]:
    gathered: dict[str, tuple[Row, ...]] = dict.fromkeys(ledger, ())
    for row in rows:
        if row.claim not in ledger:
            raise LedgerError(f"{row.test} is about {row.claim!r}, {unknown_id(row.claim, ledger)}")
        gathered[row.claim] += (row,)
    return gathered


def judge(claim: Claim, rows: tuple[Row, ...], used: list[Verdict]) -> Verdict:
    """Derive one claim's verdict from its own evidence and the verdicts of the claims that it uses.

    Args:
        claim: The claim.
        rows: All rows on it.
        used: The verdicts of `claim.uses`.

    >>> claim = Claim("A", "a title", "a statement", "here", "ours", "theorem", "its limits", ())
    >>> judge(claim, (Row("test", "A", "exact", outcome="failed"),), []).verdict
    'failing'
    """
    against = _against(rows, used)
    if against:
        return Verdict(claim.id, "failing", "open", rows, against)
    if claim.kind == "definition":
        return Verdict(claim.id, "definition", "proved", rows)
    if claim.kind == "cited":
        return _cited(claim, rows)
    strength, reasons = _strength(claim, rows, used)
    verdict, more = _with_counterexamples(claim, rows, strength)
    return Verdict(claim.id, verdict, strength, rows, more + reasons, claim.kind == "empirical")


def _against(rows: tuple[Row, ...], used: list[Verdict]) -> tuple[str, ...]:
    own = dict.fromkeys(f"{row.test} {row.fault}" for row in rows if row.fault)
    return (*own, *(f"uses {one.id}, which is failing" for one in used if one.verdict == "failing"))


def _cited(claim: Claim, rows: tuple[Row, ...]) -> Verdict:
    if any(row.passed and row.kind in (*DECISIVE, "simulation") for row in rows):
        return Verdict(claim.id, "cited", "proved", rows)
    return Verdict(claim.id, "open", "open", rows, ("no numerical spot check passed",))


def _strength(claim: Claim, rows: tuple[Row, ...], used: list[Verdict]) -> tuple[str, tuple[str, ...]]:
    """Return the lesser of what the own evidence earns and what the used claims allow, and why it is no more."""
    own, reasons = _own_strength(claim, rows)
    wanted = max(own, "proved", key=FIRMNESS.index)
    weaker = [one for one in used if FIRMNESS.index(one.firmness) < FIRMNESS.index(wanted)]
    strength = min((own, *(one.firmness for one in weaker)), key=FIRMNESS.index)
    return strength, reasons + tuple(f"uses {one.id}, which is {one.verdict}" for one in weaker)


def _own_strength(claim: Claim, rows: tuple[Row, ...]) -> tuple[str, tuple[str, ...]]:
    skipped = tuple(dict.fromkeys(_skipped(row) for row in rows if row.outcome == "skipped"))
    decisive = (*DECISIVE, *MEASURED) if claim.kind == "empirical" else DECISIVE
    if not any(row.passed and row.kind in decisive for row in rows):
        wanted = "measured" if claim.kind == "empirical" else "formal, symbolic, exact, enclosure or property"
        return "open", (f"no {wanted} evidence passed", *skipped)
    if not any(row.passed and row.kind == CONTROL for row in rows):
        return "open", ("no negative control passed", *skipped)
    runs = sum({row.test: row.instances for row in rows if row.passed and row.kind in decisive}.values())
    if claim.kind == "empirical" and runs < FEWEST_RUNS:
        return "open", (f"{runs} of the {FEWEST_RUNS} runs that claim {claim.id} needs", *skipped)
    if not claim.proof:
        return "verified", ("no proof is written out", *skipped)
    unsettled = [step for step in claim.steps if not settling(step, rows)]
    if unsettled:
        return "verified", (*(_lacking(step, rows) for step in unsettled), *skipped)
    informal = [step for step in claim.steps if not any(row.kind == FORMAL for row in settling(step, rows))]
    if informal and any(row.passed and row.kind == FORMAL for row in rows):
        skipped = (*(f"proof step {step} is not machine-checked" for step in informal), *skipped)
    return ("proved" if informal else "machine-proved"), skipped


def _lacking(step: str, rows: tuple[Row, ...]) -> str:
    family = any(row.passed and row.step == step and row.kind == CHECKED for row in rows)
    return f"proof step {step} is {'checked on a finite family, and ' if family else ''}not settled"


def _skipped(row: Row) -> str:
    test = f"{row.test}, theorem {row.theorem}," if row.theorem else row.test
    return f"{test} was skipped" + (f": {row.why}" if row.why else "")


def settling(step: str, rows: Iterable[Row]) -> list[Row]:
    """Return the passing rows that settle a proof's step exactly; theorems of Coq do so together, or not at all.

    >>> settling("all", [Row("test", "A", "property", "all", instances=9)])  # not exact
    []
    """
    exact = [row for row in rows if row.step == step and row.kind in EXACT]
    whole = all(row.passed for row in exact if row.kind == FORMAL)
    return [row for row in exact if row.passed and (whole or row.kind != FORMAL)]


def _with_counterexamples(claim: Claim, rows: tuple[Row, ...], strength: str) -> tuple[str, tuple[str, ...]]:
    if any(row.passed and row.kind == "counterexample" for row in rows):
        return ("repaired" if claim.repair and strength != "open" else "refuted"), ()
    if claim.repair:
        return "open", ("a repair is written out, but no counterexample to the statement passed",)
    return strength, ()
