"""What a test run saw: instances and residuals counted inside tests, and the file that keeps them.

A test marked `claim(id, kind, step=None)` calls `witness` once for every instance that it checked; a test
marked `control(id)` shows that a mutated formula or a dropped hypothesis fails. `claims.pytest_plugin` gathers
both.
"""

import json
import math
import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, fields, replace
from importlib import metadata
from pathlib import Path
from typing import Any, SupportsFloat

EVIDENCE = Path(__file__).with_name("evidence.json")

FORMAL = "formal"  # a theorem that a proof assistant has checked
ALGEBRA = ("symbolic", "exact", FORMAL)  # these have no residual at all
EXACT = (*ALGEBRA, "enclosure")
CHECKED = "checked"  # exact, over a finite family, where a step of a proof speaks of all: it settles none
DECISIVE = (*EXACT, CHECKED, "property")
MEASURED = ("simulation", "training")  # these settle empirical claims alone
KINDS = (*DECISIVE, *MEASURED, "counterexample")
CONTROL = "control"
OUTCOMES = ("passed", "skipped", "empty", "failed")  # from best to worst: the worst of a test's cases stands

OPTIONAL = ("why", "theorem", "digest", "coq")  # fields of a row that are left out where they are empty
PACKAGES = ("numpy", "scipy", "sympy", "python-flint", "networkx", "numba", "torch", "hypothesis", "pytest")


class ClaimsError(ValueError):
    """Something wrong with the ledger, the evidence or the pages made from them; the message says what to do."""


class EvidenceError(ClaimsError):
    """An evidence file that cannot be read, or that says something unknown."""


@dataclass
class Tally:
    """Instances checked so far, and the largest residual among them.

    >>> tally = Tally()
    >>> tally.add(0.5, 3)
    >>> tally.add(0.25, 1)
    >>> tally
    Tally(instances=4, residual=0.5)
    """

    instances: int = 0
    residual: float = 0.0

    def add(self, residual: float, instances: int) -> None:
        """Count `instances` more, with `residual` the largest among them."""
        self.instances += instances
        self.residual = max(self.residual, residual)


@dataclass(frozen=True)
class Row:
    """One test's word on one claim.

    `kind` is one of `KINDS`, or `CONTROL`; `outcome` is one of `OUTCOMES`, where `empty` says that the test
    passed without a single instance. `why` is what a skipped test gave as its reason. A row of kind `formal` names
    its `theorem`, a hash of the Coq files that this rests on (`digest`), and the version of Coq that checked them.

    >>> Row("test", "A", "exact").fault, Row("test", "A", "exact", instances=1).passed
    ('checked no instance', True)
    """

    test: str
    claim: str
    kind: str
    step: str | None = None
    outcome: str = "passed"
    instances: int = 0
    residual: float = 0.0
    why: str = ""
    theorem: str = ""
    digest: str = ""
    coq: str = ""

    @property
    def fault(self) -> str:
        """What speaks against the claim: a failure, a pass that looked at nothing, an exact check that is not."""
        if self.outcome == "failed":
            return "failed"
        if self.outcome == "empty" or (self.outcome == "passed" and not self.instances and self.kind != CONTROL):
            return "checked no instance"
        if self.residual and self.kind in (*ALGEBRA, CHECKED):
            return f"is marked {self.kind}, but was off by {self.residual:.1e}"
        return ""

    @property
    def passed(self) -> bool:
        """Whether the row speaks for its claim (or for its claim's control)."""
        return self.outcome == "passed" and not self.fault


_current: ContextVar[Tally | None] = ContextVar("tally of the running test", default=None)


@contextmanager
def recording() -> Iterator[Tally]:
    """Yield a fresh tally that every `witness` within the block adds to.

    >>> with recording() as tally:
    ...     witness(residual=1e-3, instances=2)
    >>> tally.instances, tally.residual
    (2, 0.001)
    """
    tally = Tally()
    token = _current.set(tally)
    try:
        yield tally
    finally:
        _current.reset(token)


def witness(residual: SupportsFloat = 0.0, instances: int = 1) -> None:
    """Say that `instances` instances were checked, none of them off by more than `residual`.

    A symbolic or exact check leaves `residual` at 0. Outside a marked test nothing is recorded. Works in the
    body of a hypothesis test, where a draw that `assume` rejects before the call is no instance.

    Raises:
        ValueError: `residual` is negative, infinite or not a number, or `instances` is negative.

    >>> with recording() as tally:
    ...     for k in range(3):
    ...         witness(abs(k * 0.5 - k / 2))
    >>> tally.instances, tally.residual
    (3, 0.0)
    """
    size = float(residual)
    if not 0 <= size < math.inf:
        raise ValueError(f"residual={size!r}: allowed are finite numbers >= 0; pass abs(...) of a difference")
    if instances < 0:
        raise ValueError(f"instances={instances!r}: allowed are integers >= 0")
    tally = _current.get()
    if tally is not None:
        tally.add(size, int(instances))


def merge(rows: Iterable[Row]) -> list[Row]:
    """Merge the cases of a parametrised test: instances add up, the worst outcome and residual stand.

    >>> [row] = merge([Row("test", "A", "exact", instances=2), Row("test", "A", "exact", outcome="failed")])
    >>> row.instances, row.outcome
    (2, 'failed')
    """
    merged: dict[tuple[str, ...], Row] = {}
    for row in rows:
        key = key_of(row)
        merged[key] = _worse(merged[key], row) if key in merged else row
    return [merged[key] for key in sorted(merged)]


def key_of(row: Row) -> tuple[str, ...]:
    """Return what tells rows apart that are not cases of one test.

    >>> key_of(Row("test", "C3", "formal", theorem="C3_train"))
    ('C3', 'formal', '', 'test', 'C3_train')
    """
    return (row.claim, row.kind, row.step or "", row.test, row.theorem)


def _worse(one: Row, other: Row) -> Row:
    return replace(
        one,
        outcome=max(one.outcome, other.outcome, key=OUTCOMES.index),
        instances=one.instances + other.instances,
        residual=max(one.residual, other.residual),
        why="; ".join(dict.fromkeys(row.why for row in (one, other) if row.why)),
    )


def versions() -> dict[str, str]:
    """Return the versions of Python and of the installed libraries that evidence rests on; nothing is imported.

    >>> "numpy" in versions()
    True
    """
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write `rows`, merged and sorted, and the versions; a reader sees the old file or the new, never half.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write(Path(folder, "evidence.json"), [Row("test", "A", "exact", instances=2)])
    ...     read(Path(folder, "evidence.json"))[0].instances
    2
    """
    lines = ",\n".join(json.dumps(_rounded(row)) for row in merge(rows))
    tests = f"[\n{lines}\n]" if lines else "[]"
    write_text(Path(path), f'{{\n"versions": {json.dumps(versions(), indent=1)},\n"tests": {tests}\n}}\n')


def _rounded(row: Row) -> dict[str, Any]:
    entry = asdict(row) | {"residual": float(f"{row.residual:.2e}")}
    return {name: value for name, value in entry.items() if value or name not in OPTIONAL}


def write_text(path: Path, text: str) -> None:
    """Replace `path` by a file holding `text`, in one step; missing folders are made.

    On a full disk or after an interruption the old file is as it was, and no other is left.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_text(Path(folder, "new", "page.md"), "# Title")
    ...     Path(folder, "new", "page.md").read_text()
    '# Title'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def read(path: Path | str = EVIDENCE) -> list[Row]:
    """Read the rows of an evidence file.

    Raises:
        EvidenceError: The file is missing or no JSON, or a row has an unknown field, kind or outcome, or a number
            that is no count or size.

    >>> read("missing.json")
    Traceback (most recent call last):
    claims.evidence.EvidenceError: no evidence at missing.json: run `make verify`, or name a file that exists
    """
    try:
        tests = json.loads(Path(path).read_text(encoding="utf-8"))["tests"]
    except FileNotFoundError:
        raise EvidenceError(f"no evidence at {path}: run `make verify`, or name a file that exists") from None
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise EvidenceError(f"{path} is no evidence file ({error!r}): run `make verify` to renew it") from error
    return [_row(entry, path) for entry in tests]


def _row(entry: dict[str, Any], path: Path | str) -> Row:
    names = {field.name for field in fields(Row)}
    if set(entry) | set(OPTIONAL) != names:
        raise EvidenceError(f"{path}: row {entry} has other fields than {', '.join(sorted(names))}")
    row = Row(**entry)
    _known("kind", row.kind, (*KINDS, CONTROL), path)
    _known("outcome", row.outcome, OUTCOMES, path)
    if type(row.instances) is not int or row.instances < 0:
        raise EvidenceError(f"{path}: instances={row.instances!r} of {row.claim}: allowed are integers >= 0")
    if not isinstance(row.residual, int | float) or not 0 <= row.residual < math.inf:
        raise EvidenceError(f"{path}: residual={row.residual!r} of {row.claim}: allowed are finite numbers >= 0")
    return row


def _known(name: str, given: str, allowed: tuple[str, ...], path: Path | str) -> None:
    if given not in allowed:
        raise EvidenceError(f"{path}: {name} {given!r} is unknown; allowed are {', '.join(allowed)}")
