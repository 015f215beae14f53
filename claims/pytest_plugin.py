"""The pytest plugin that turns marked tests into evidence.

    @pytest.mark.claim("C1", "exact", step="all-dags")
    @pytest.mark.claim("C3", "formal", theorem="C3_train")
    @pytest.mark.control("C1")

`--evidence PATH` writes what the marked tests saw. It also works under pytest-xdist: a worker attaches each test's
tally to its report, and only the controlling process writes.
"""

from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from claims.evidence import (
    CHECKED,
    CONTROL,
    EVIDENCE,
    EXACT,
    FORMAL,
    KINDS,
    Row,
    Tally,
    merge,
    read,
    recording,
    write,
)
from claims.formal import Formal, ProofError, carried, version
from claims.ledger import Ledger, load, unknown_id

Report = Generator[None, pytest.TestReport, pytest.TestReport]

PROPERTY = "claims-evidence"
MISTAKE = "claims-mistake"
CRASHED = "???"  # the phase that pytest-xdist gives to the report on a worker that died
marks_of = pytest.StashKey[list[Row]]()
tally_of = pytest.StashKey[Tally]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--evidence PATH`."""
    group = parser.getgroup("claims")
    group.addoption("--evidence", type=Path, metavar="PATH", help="write what tests marked claim or control saw")


def pytest_configure(config: pytest.Config) -> None:
    """Start gathering evidence, in the controlling process only."""
    path = config.getoption("evidence")
    if path is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Gatherer(path), "claims-gatherer")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Check the marks of every collected test, also of those that are deselected later.

    Raises:
        pytest.UsageError: A mark names an unknown claim, kind or step.
    """
    ledger = load()
    try:
        for item in items:
            item.stash[marks_of] = list(marked(item, ledger))
    except pytest.UsageError as error:
        getattr(config, "workeroutput", {})[MISTAKE] = str(error)
        raise


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Pass a worker's complaint about a mark on: pytest-xdist would say no more than that no tests ran.

    Raises:
        pytest.UsageError: The worker found a mark that names an unknown claim, kind or step.
    """
    mistake = getattr(node, "workeroutput", {}).get(MISTAKE)
    if mistake:
        raise pytest.UsageError(mistake)


def marked(item: pytest.Item, ledger: Ledger) -> Iterator[Row]:
    """Yield one blank row for each `claim` and `control` mark of a test; parametrised cases share a name.

    Raises:
        pytest.UsageError: A mark names an unknown claim, kind, step or theorem, or lets random draws settle a step.
    """
    test = item.nodeid.partition("[")[0]
    for mark in item.iter_markers("claim"):
        row = _row(test, ledger, *_bound(test, mark, ("id", "kind", "step", "theorem"), 2))
        if row.step and row.kind in EXACT and getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            raise pytest.UsageError(
                f"{test}: random draws settle no proof step, so {row.step!r} of claim {row.claim} is not "
                f"{row.kind}; mark it {CHECKED!r}"
            )
        yield row
    for mark in item.iter_markers("control"):
        yield _row(test, ledger, _bound(test, mark, ("id",), 1)[0], CONTROL)


def _bound(test: str, mark: pytest.Mark, names: tuple[str, ...], required: int) -> list[Any]:
    """Return the mark's arguments in the order of `names`, those left out at the end as None."""
    given = dict(zip(names, mark.args, strict=False)) | dict(mark.kwargs)
    if len(mark.args) > len(names) or not set(names[:required]) <= given.keys() <= set(names):
        raise pytest.UsageError(
            f"{test}: {mark.name}{mark.args} {mark.kwargs or ''}; allowed are {', '.join(names)}"
        )
    return [given.get(name) for name in names]


def _row(
    test: str, ledger: Ledger, claim: str, kind: str, step: str | None = None, theorem: str | None = None
) -> Row:
    if claim not in ledger:
        raise pytest.UsageError(f"{test} is marked with {claim!r}, {unknown_id(str(claim), ledger)}")
    if kind not in (*KINDS, CONTROL):
        raise pytest.UsageError(f"{test}: kind {kind!r} is unknown; allowed are {', '.join(KINDS)}")
    steps = ledger[claim].steps
    if step is not None and step not in steps:
        allowed = f"allowed are {', '.join(steps)}" if steps else "it has no proof written out"
        raise pytest.UsageError(f"{test}: claim {claim} has no proof step {step!r}; {allowed}")
    if (kind == FORMAL) != (theorem is not None):
        raise pytest.UsageError(f"{test}: evidence of kind {FORMAL}, and no other, names its theorem")
    return (
        Row(test, claim, kind, step) if theorem is None else _formal(Row(test, claim, kind, step, theorem=theorem))
    )


def _formal(row: Row) -> Row:
    try:
        return replace(row, digest=Formal().digest(row.theorem), coq=version())
    except ProofError as error:
        raise pytest.UsageError(f"{row.test}: {error}") from None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Record what a marked test witnesses."""
    with recording() as item.stash[tally_of]:
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Report:
    """Attach a marked test's evidence to the report on its call, and on any other phase that did not pass."""
    report = yield
    if item.stash.get(marks_of, []) and (report.when == "call" or not report.passed):
        rows = [asdict(row) for row in _seen(item, report)]
        report.user_properties.append((PROPERTY, rows))
    return report


def _seen(item: pytest.Item, report: pytest.TestReport) -> list[Row]:
    """Return the rows of one report; a test that is skipped for want of a GPU says nothing at all."""
    if report.skipped and item.get_closest_marker("gpu"):
        return []
    tally = item.stash.get(tally_of, Tally()) if report.when == "call" else Tally()
    seen: dict[str, Any] = {"instances": tally.instances, "residual": tally.residual, "why": _why(report)}
    return [replace(row, outcome=_outcome(row, report, tally), **seen) for row in item.stash[marks_of]]


def _why(report: pytest.TestReport) -> str:
    """Return the reason of a skip or of an expected failure."""
    if hasattr(report, "wasxfail"):
        return str(report.wasxfail).removeprefix("reason: ")
    if report.skipped and isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    return ""


def _outcome(row: Row, report: pytest.TestReport, tally: Tally) -> str:
    if report.failed:
        return "failed"
    if report.skipped or hasattr(report, "wasxfail"):
        return "skipped"
    return "empty" if row.kind != CONTROL and not tally.instances else "passed"


@dataclass(eq=False)  # pytest puts plugins into sets
class Gatherer:
    """Gathers the rows of all reports, and writes them unless the run was cut short."""

    path: Path
    rows: list[Row] = field(default_factory=list)
    complete: bool = True
    taken_over: int = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in the rows of one report."""
        self.complete &= report.when != CRASHED
        for name, value in report.user_properties:
            if name == PROPERTY and isinstance(value, list):
                self.rows += [Row(**entry) for entry in value]

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write the evidence, unless there is none or the run was cut short."""
        finished = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        self.complete &= finished and not session.shouldfail and not session.shouldstop
        if self.rows and self.complete:
            rows = carried(self.rows, read(EVIDENCE) if EVIDENCE.exists() else [])
            self.taken_over = sum(new is not old for new, old in zip(rows, self.rows, strict=True))
            write(self.path, rows)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say whether the evidence was written."""
        if not self.complete:
            terminalreporter.write_line(f"evidence: {self.path} not written, the run was cut short", yellow=True)
        elif self.rows:
            terminalreporter.write_line(f"evidence: {len(merge(self.rows))} rows written to {self.path}")
            if self.taken_over:
                terminalreporter.write_line(
                    f"evidence: {self.taken_over} formal rows are the committed ones, as Coq did not run here",
                    yellow=True,
                )
        else:
            terminalreporter.write_line(f"evidence: {self.path} not written, no marked test ran")
