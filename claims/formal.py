"""Machine-checked proofs: Coq files compiled, and what each of their theorems says and rests on.

`python -m claims.formal` (`make prove`) compiles every file below `theory/formal` within a time limit, asks Coq for
the statement and the assumptions of each theorem, compares the statements with the pinned ones and runs `coqchk`.
"""

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

from claims.evidence import FORMAL, ClaimsError, Row, key_of, write_text

FOLDER = Path(__file__).parent.parent / "theory" / "formal"
COQ = "8.16"
LIBRARY = "Lop"
SECONDS = 120  # a file: a rewrite that loops would go on for ever
CHECKER_SECONDS = 600
STALE = "the Coq files of {} changed since it was checked: run `make verify` with Coq"
CLOSED = "Closed under the global context"
INSTALL = "apt-get install coq libcoq-mathcomp-ssreflect libcoq-mathcomp-algebra"
PREAMBLE = """Set Printing Width 116.
Unset Printing Implicit Defensive.
Set Warnings "-notation-overridden,-ambiguous-paths".
From Coq Require Import ZArith QArith Qcanon.
From mathcomp Require Import all_ssreflect all_algebra.
Open Scope ring_scope."""

_DEFINING = "Definition|Fixpoint|CoFixpoint|Record|Structure|Class|Inductive|CoInductive|Variant|Canonical|Instance"
_BEFORE = r"^[ \t]*(?:#\[[^\]]*\]\s*)?(?:(?:Local|Global|Program|Polymorphic)\s+)*"
_THEOREM = re.compile(rf"{_BEFORE}(?:Theorem|Corollary)\s+(\w+)", re.MULTILINE)
_DEFINITION = re.compile(rf"{_BEFORE}(?:{_DEFINING})\s+(\w+)", re.MULTILINE)
_NEEDS = re.compile(r"\bRequire\s+(?:(?:Import|Export)\s+)?(.+?)\.(?=\s|$)", re.DOTALL)


class ProofError(ClaimsError):
    """A file that does not compile, a theorem that rests on an axiom, or a statement that is not the pinned one."""


@dataclass(frozen=True)
class Formal:
    """The Coq files of a folder, in the order of its `_CoqProject`, and the statements pinned beside them.

    >>> proofs = Formal()
    >>> list(proofs.sources)[0], proofs.theorems["C3_train"]
    ('network.v', 'equitable.v')
    """

    folder: Path = FOLDER

    @cached_property
    def sources(self) -> dict[str, str]:
        """The text of every file by its name, each after those that it needs.

        Raises:
            ProofError: A file is missing, or is there and not listed, and so would not be checked.
        """
        lines = (self.folder / "_CoqProject").read_text(encoding="utf-8").split()
        listed = [name for name in lines if name.endswith(".v")]
        there = {path.name for path in self.folder.glob("*.v")}
        if unlisted := sorted(there - set(listed)):
            raise ProofError(
                f"{', '.join(unlisted)} not listed in _CoqProject, so nothing in it is checked; add it"
            )
        if lost := [name for name in listed if name not in there]:
            raise ProofError(f"{', '.join(lost)} listed in _CoqProject, but not there")
        return {name: (self.folder / name).read_text(encoding="utf-8") for name in listed}

    @cached_property
    def theorems(self) -> dict[str, str]:
        """The file of every theorem by the theorem's name."""
        return self._names(_THEOREM)

    @cached_property
    def definitions(self) -> dict[str, str]:
        """The file of every definition by the definition's name."""
        return self._names(_DEFINITION)

    def _names(self, kind: re.Pattern[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for file, text in self.sources.items():
            for name in kind.findall(text):
                if name in found:
                    raise ProofError(f"{name} stands in {found[name]} and in {file}; give one another name")
                found[name] = file
        return found

    def needed(self, theorem: str) -> list[str]:
        """Return the files that a theorem rests on, its own last.

        Raises:
            ProofError: There is no such theorem.

        >>> Formal().needed("C7_forward")
        ['network.v', 'equitable.v', 'quotient.v']
        """
        if theorem not in self.theorems:
            raise ProofError(f"theorem {theorem!r} is unknown; there are {', '.join(self.theorems)}")
        sources = self.sources
        wanted = [self.theorems[theorem]]
        for file in wanted:
            names = (f"{name.split('.')[-1]}.v" for said in _NEEDS.findall(sources[file]) for name in said.split())
            wanted += [name for name in names if name in sources and name not in wanted]
        return [file for file in sources if file in wanted]

    def digest(self, theorem: str) -> str:
        """Return a hash of the files that a theorem rests on: evidence with another one is stale.

        >>> len(Formal().digest("C3_train"))
        16
        """
        sources = self.sources
        text = "\0".join(f"{file}\0{sources[file]}" for file in self.needed(theorem))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def pins(self) -> Path:
        """The file of pinned statements."""
        return self.folder / "statements.txt"

    @cached_property
    def pinned(self) -> dict[str, str]:
        """What Coq is to print for each definition and theorem, by name; empty where nothing is pinned."""
        text = self.pins.read_text(encoding="utf-8") if self.pins.exists() else ""
        blocks = (block.partition("\n") for block in text.split("\n(* ")[1:])
        return {head.split(" ")[0]: said.strip() for head, _, said in blocks}


@dataclass(frozen=True)
class Audit:
    """What Coq printed: for each definition and theorem how it reads, and for each theorem what it rests on."""

    proofs: Formal
    reads: dict[str, str]
    rests_on: dict[str, str]

    def faults(self, theorem: str) -> list[str]:
        """Return what speaks against a theorem: axioms, and readings that are not the pinned ones."""
        files = self.proofs.needed(theorem)
        pinned = self.proofs.pinned
        names = [name for name, file in self.proofs.definitions.items() if file in files]
        faults = [
            f"{name} reads other than pinned in {self.proofs.pins.name}; if that is meant, run "
            f"`python -m claims.formal --write`. Now:\n{self.reads[name]}"
            for name in (*names, theorem)
            if self.reads[name] != pinned.get(name)
        ]
        if self.rests_on[theorem] != CLOSED:
            faults.append(f"{theorem} rests on what is not proved:\n{self.rests_on[theorem]}")
        return faults

    @property
    def text(self) -> str:
        """The text of the file of pinned statements."""
        parts = ["What Coq prints for each definition and theorem. Made by `python -m claims.formal --write`.\n"]
        for name, file in (self.proofs.definitions | self.proofs.theorems).items():
            parts.append(f"\n(* {name} in {file} *)\n{self.reads[name]}\n")
        return "".join(parts)


def is_stale(row: Row, proofs: Formal | None = None) -> bool:
    """Whether a row of kind `formal` is about files that are others by now.

    >>> is_stale(Row("test", "C3", "formal", theorem="C3_train", digest="of yesterday"))
    True
    """
    proofs = proofs or Formal()
    if row.kind != FORMAL or row.outcome != "passed":
        return False
    return row.theorem not in proofs.theorems or proofs.digest(row.theorem) != row.digest


def stale(rows: Iterable[Row]) -> list[str]:
    """Return a line for each claim with stale proofs.

    >>> stale([Row("test", "C3", "formal", theorem="C3_train", digest="of yesterday")])
    ['C3: the Coq files of C3_train changed since it was checked: run `make verify` with Coq']
    """
    proofs = Formal()
    found = {row.claim: row.theorem for row in rows if is_stale(row, proofs)}
    return [f"{claim}: {STALE.format(theorem)}" for claim, theorem in found.items()]


def up_to_date(rows: Iterable[Row]) -> list[Row]:
    """Return the rows, stale ones as skipped, with the reason.

    >>> [row] = up_to_date([Row("test", "C3", "formal", theorem="C3_train", digest="of yesterday")])
    >>> row.outcome, row.why
    ('skipped', 'the Coq files of C3_train changed since it was checked: run `make verify` with Coq')
    """
    proofs = Formal()
    return [
        replace(row, outcome="skipped", why=STALE.format(row.theorem)) if is_stale(row, proofs) else row
        for row in rows
    ]


def carried(rows: Sequence[Row], committed: Iterable[Row]) -> list[Row]:
    """Return `rows`, with those of skipped proofs replaced by committed ones on the same files.

    A run without Coq so neither drops a committed proof nor makes one up: where a file has changed, the proof stays
    skipped.

    >>> proved = Row("test", "C3", "formal", instances=1, theorem="C3_train", digest=Formal().digest("C3_train"))
    >>> carried([replace(proved, outcome="skipped", instances=0)], [proved]) == [proved]
    True
    """
    proofs = Formal()
    known = {
        key_of(row): row for row in committed if row.kind == FORMAL and row.passed and not is_stale(row, proofs)
    }
    return [known.get(key_of(row), row) if row.outcome == "skipped" else row for row in rows]


@cache
def missing() -> str:
    """Return why nothing can be proved here: no Coq, another one, no MathComp; empty if all is there."""
    if shutil.which("coqc") is None:
        return f"Coq is not installed ({INSTALL})"
    if not version().startswith(COQ):
        return f"Coq is {version()}, the proofs are for {COQ} with MathComp 1.15"
    where = subprocess.run(["coqc", "-where"], capture_output=True, text=True, check=True).stdout.strip()
    if not Path(where, "user-contrib", "mathcomp", "algebra").is_dir():
        return f"MathComp is not installed ({INSTALL})"
    return ""


@cache
def version() -> str:
    """Return the version of Coq, empty where there is none."""
    if shutil.which("coqc") is None:
        return ""
    return subprocess.run(["coqc", "--print-version"], capture_output=True, text=True, check=True).stdout.split()[0]


def compile_all(proofs: Formal, build: Path, seconds: float = SECONDS) -> None:
    """Compile all files, in order, in the folder `build`.

    Raises:
        ProofError: A file does not compile, or takes longer than `seconds`.
    """
    for name, text in proofs.sources.items():
        write_text(build / name, text)
        compile_file(build / name, seconds)


def compile_file(path: Path, seconds: float = SECONDS) -> str:
    """Compile one file beside its libraries, and return what Coq prints.

    Raises:
        ProofError: It does not compile, or takes longer than `seconds`.
    """
    command = ["coqc", "-q", "-Q", ".", LIBRARY, path.name]
    try:
        ended = subprocess.run(command, cwd=path.parent, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise ProofError(f"{path.name} takes longer than {seconds:g} seconds") from None
    if ended.returncode:
        raise ProofError(f"{path.name} does not compile:\n{(ended.stderr or ended.stdout).strip()[-3000:]}")
    return ended.stdout


def audit(proofs: Formal, build: Path) -> Audit:
    """Ask Coq, where `compile_all` has run in `build`, for every definition, statement and set of assumptions.

    Raises:
        ProofError: A name is not what it seems: it cannot be printed.
    """
    libraries = " ".join(Path(name).stem for name in proofs.sources)
    lines = [PREAMBLE, f"From {LIBRARY} Require Import {libraries}."]
    asked: list[tuple[str, str]] = []
    for name, file in proofs.definitions.items():
        asked.append((name, f"Print {Path(file).stem}.{name}"))
    for name, file in proofs.theorems.items():
        full = f"{Path(file).stem}.{name}"
        asked += [(name, f"Check {full}"), (name, f"Print Assumptions {full}")]
    lines += [f'Redirect "{k}" {question}.' for k, (_, question) in enumerate(asked)]
    write_text(build / "audit.v", "\n".join([*lines, ""]))
    compile_file(build / "audit.v")
    answers = [_said((build / f"{k}.out").read_text(encoding="utf-8")) for k in range(len(asked))]
    reads = {name: said for (name, ask), said in zip(asked, answers, strict=True) if "Assumptions" not in ask}
    rests = {name: said for (name, ask), said in zip(asked, answers, strict=True) if "Assumptions" in ask}
    return Audit(proofs, reads, rests)


def _said(answer: str) -> str:
    """Return an answer of Coq without what it says of implicit arguments."""
    return re.sub(r"\s*\n\nArguments .*", "", answer, flags=re.DOTALL).strip()


def recheck(proofs: Formal, build: Path) -> str:
    """Check the compiled files again by `coqchk`, a program of its own, and return its summary.

    Raises:
        ProofError: It finds an axiom, or something that Coq was told not to check, or takes too long.
    """
    names = [f"{LIBRARY}.{Path(name).stem}" for name in proofs.sources]
    command = ["coqchk", "-silent", "-o", "-Q", ".", LIBRARY, *names]
    try:
        ended = subprocess.run(command, cwd=build, capture_output=True, text=True, timeout=CHECKER_SECONDS)
    except subprocess.TimeoutExpired:
        raise ProofError(f"coqchk takes longer than {CHECKER_SECONDS} seconds") from None
    _, _, summary = (ended.stdout + ended.stderr).partition("CONTEXT SUMMARY")
    found = re.findall(r"^\* (.+?):(.*)", summary, re.MULTILINE)
    unsafe = [name for name, said in found if name != "Theory" and said.strip() != "<none>"]
    if ended.returncode or not found or unsafe:
        raise ProofError(f"coqchk is not content: {', '.join(unsafe)}\n{(summary or ended.stderr)[-3000:]}")
    return "\n".join(f"coqchk: {name}: {said.strip()}" for name, said in found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile, audit and check all; 0 if nothing speaks against any theorem."""
    parser = argparse.ArgumentParser(prog="python -m claims.formal", description=__doc__)
    parser.add_argument("--write", action="store_true", help="pin the statements as they read now")
    parser.add_argument(
        "--no-coqchk", action="store_true", help="leave the second check out (it takes two minutes)"
    )
    parser.add_argument("--build", type=Path, help="compile in this folder and leave it, for tests that follow")
    chosen = parser.parse_args(arguments)
    if reason := missing():
        print(f"nothing is proved: {reason}", file=sys.stderr)
        return 1
    try:
        with tempfile.TemporaryDirectory() as temporary:
            build = chosen.build or Path(temporary)
            build.mkdir(parents=True, exist_ok=True)
            return _prove(Formal(), build, chosen.write, not chosen.no_coqchk)
    except ProofError as error:
        print(error, file=sys.stderr)
        return 1


def _prove(proofs: Formal, build: Path, write: bool, again: bool) -> int:
    compile_all(proofs, build)
    print(f"{len(proofs.sources)} files compiled by Coq {version()}", flush=True)
    found = audit(proofs, build)
    if write:
        write_text(proofs.pins, found.text)
        found = replace(found, proofs=Formal(proofs.folder))
    faults = dict.fromkeys(fault for theorem in proofs.theorems for fault in found.faults(theorem))
    print(
        f"{len(proofs.theorems)} theorems, {len(proofs.definitions)} definitions: {len(faults)} faults", flush=True
    )
    for fault in faults:
        print(fault, file=sys.stderr)
    if again and not faults:
        print(recheck(proofs, build))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
