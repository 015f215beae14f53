"""Run tests against formulas that are broken on purpose, in memory: the files stay as they are.

`python -m tests.mutants` reads jobs from its standard input, one a line as JSON: formulas to break, and arguments
of pytest. For each it forks, so that the heavy packages are loaded once and no job sees what another broke, and
answers with a line: exit code of pytest, and the names of the tests that passed and failed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_loader
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

ROOT = Path(__file__).parents[1]
HEAVY = ("hypothesis", "networkx", "numba", "pyarrow.parquet", "rich.table", "scipy.stats", "sympy", "torch")
LIMIT = 120  # seconds a job


class Broken(NamedTuple):
    """A formula that a module's text holds once, and what stands there instead."""

    file: str
    formula: str
    mutation: str

    @property
    def module(self) -> str:
        """Its name."""
        return ".".join(Path(self.file).with_suffix("").parts)

    def apply(self, text: str) -> str:
        """Return the text of the module, broken.

        Raises:
            ValueError: The formula is not there once, or numba would run the compiled code that it keeps.
        """
        if text.count(self.formula) != 1:
            raise ValueError(f"{self.file} holds {self.formula!r} {text.count(self.formula)} times, not once")
        if "numba" in text:
            raise ValueError(f"{self.file} is compiled by numba, whose cache does not see changes in memory")
        return text.replace(self.formula, self.mutation)


def broken_texts(broken: Iterable[Broken]) -> dict[str, tuple[str, str]]:
    """Return file and text of every broken module, by its name."""
    texts: dict[str, tuple[str, str]] = {}
    for b in broken:
        text = texts[b.module][1] if b.module in texts else (ROOT / b.file).read_text(encoding="utf-8")
        texts[b.module] = (b.file, b.apply(text))
    return texts


class Result(NamedTuple):
    """What pytest said: its exit code, and names of tests without their file."""

    code: int
    passed: set[str]
    failed: set[str]


@dataclass(frozen=True)
class Finder:
    """Finds the broken modules before the files are found."""

    texts: dict[str, tuple[str, str]]

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return the specification of a broken module."""
        return spec_from_loader(name, Loader(name, *self.texts[name])) if name in self.texts else None


class Loader(SourceFileLoader):
    """Loads a module from a text in place of its file."""

    def __init__(self, name: str, path: str, text: str) -> None:
        super().__init__(name, path)
        self.text = text

    def get_code(self, fullname: str) -> Any:
        """Return the compiled text, never the bytecode of the file."""
        return self.source_to_code(self.text.encode(), self.path)


@dataclass(eq=False)  # pytest puts plugins into sets
class Outcomes:
    """A plugin of pytest that keeps the names of tests; a test of which one case fails has failed."""

    passed: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in one report."""
        name = report.nodeid.rpartition("::")[2].partition("[")[0]
        if report.failed:
            self.failed.add(name)
        elif report.when == "call" and report.passed:
            self.passed.add(name)


class Mutants:
    """The process that runs jobs; close it at the end."""

    def __enter__(self) -> Mutants:
        command = [sys.executable, "-m", "tests.mutants"]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
        environment |= {"PYTHONPATH": str(ROOT), "HYPOTHESIS_PROFILE": "mutated"}
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(LIMIT)
        self.process.stdout.close()

    def run(self, broken: Iterable[Broken], arguments: Sequence[str]) -> Result:
        """Run pytest with all of ``broken`` in place."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps([broken_texts(broken), arguments]), file=self.process.stdin, flush=True)
        code, passed, failed = json.loads(self.process.stdout.readline())
        return Result(code, set(passed), set(failed))


def _job(texts: dict[str, tuple[str, str]], arguments: Sequence[str], out: Path) -> None:
    """Run pytest in a forked process and write what it said to a file."""
    sys.meta_path.insert(0, Finder(texts))  # type: ignore[arg-type]
    outcomes = Outcomes()
    options = ["-q", "--assert=plain", "-p", "no:cacheprovider", f"--timeout={LIMIT}"]
    code = pytest.main([*options, *arguments], plugins=[outcomes])
    Path(out).write_text(
        json.dumps([int(code), sorted(outcomes.passed - outcomes.failed), sorted(outcomes.failed)])
    )


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what jobs print goes to standard error
    for name in HEAVY:
        import_module(name)
    torch.optim.SGD([torch.zeros(1)])  # the first optimizer of a process makes torch import its compiler
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "answer.json"
        for line in sys.stdin:
            out.write_text(json.dumps([-1, [], []]))
            if not (child := os.fork()):
                try:
                    _job(*json.loads(line), out)
                finally:
                    os._exit(0)
            os.waitpid(child, 0)
            print(out.read_text(), file=answers, flush=True)


if __name__ == "__main__":
    _serve()
