"""Negative controls of the whole chain: a formula broken on purpose turns the claims that rest on it to failing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from claims import ledger

ROOT = Path(__file__).parents[1]
COPIED = ("claims", "theory", "simulate", "tests", "pyproject.toml")

# (file, formula, mutation, tests that see it, claims that fail, claims that stand)
MUTATIONS = {
    "the forward sum drops the weights": (
        "theory/network.py",
        "z[units] = np.add.reduceat(w[edges, None] * h[",
        "z[units] = np.add.reduceat(h[",
        "tests/theory/test_cloned.py",
        {"C1", "C2", "C3", "C5", "C7", "C9"},
        {"C4"},
    ),
    "the backward sum takes the edge's number for the slope": (
        "theory/network.py",
        "w[edges, None] * (slopes[target] * delta[target])",
        "w[edges, None] * (edges[:, None] * delta[target])",
        "tests/theory/test_cloned.py",
        {"C2", "C3", "C5", "C7"},
        {"C1", "C4"},
    ),
    "ReLU gets a slope below zero": (
        "theory/catalogue.py",
        "return type(z)(z > 0)",
        "return type(z)(1)",
        "tests/theory/test_frozen.py",
        {"F1", "F2", "F2a", "F2b", "F2c"},
        {"C1"},
    ),
    "the quotient forgets the block sizes": (
        "simulate/quotient.py",
        "Fraction(int(d), int(n))",
        "Fraction(int(d), 1)",
        "tests/theory/test_cloned.py",
        {"C7"},
        {"C1", "C2", "C3"},
    ),
}


def run_mutated(folder: Path, file: str, formula: str, mutation: str, tests: str) -> dict[str, ledger.Verdict]:
    """Copy the project, break one formula, run its tests there, and derive the verdicts."""
    for name in COPIED:
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / name)
    text = (folder / file).read_text()
    assert text.count(formula) == 1, f"{file} does not hold {formula!r} once; update MUTATIONS"
    (folder / file).write_text(text.replace(formula, mutation))
    command = [sys.executable, "-m", "pytest", tests, "-q", "-m", "claim or control", "--evidence", "seen.json"]
    environment = {**os.environ, "PYTHONPATH": str(folder), "HYPOTHESIS_PROFILE": "mutated"}
    environment = {k: v for k, v in environment.items() if not k.startswith("PYTEST_")}
    subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=120, check=False)
    return ledger.verdicts(evidence=folder / "seen.json")


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_formula_turns_the_claims_that_rest_on_it_to_failing(name, tmp_path):
    file, formula, mutation, tests, failing, standing = MUTATIONS[name]
    verdicts = run_mutated(tmp_path, file, formula, mutation, tests)
    assert {id_ for id_ in failing if verdicts[id_].verdict != "failing"} == set()
    assert {id_ for id_ in standing if verdicts[id_].verdict == "failing"} == set()
