from dataclasses import replace

import pytest

from claims import pytest_plugin
from claims.evidence import Row, read, write
from claims.formal import Formal, version

HEAD = """
import pytest
from claims.evidence import witness

claim, control = pytest.mark.claim, pytest.mark.control
"""
INI = """
[pytest]
markers =
    claim(id, kind, step=None): evidence
    control(id): negative control
    gpu: needs a GPU
"""


@pytest.fixture
def run(pytester, monkeypatch):
    """Run a test file, in a fresh process where it ends one; return the result and the rows written, or None."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.makeini(INI)
    path = pytester.path / "out" / "evidence.json"

    def run(body, *options):
        pytester.makepyfile(test_it=HEAD + body)
        ends = "-n" in options or "Interrupt" in body
        start = pytester.runpytest_subprocess if ends else pytester.runpytest_inprocess
        result = start("-p", "claims.pytest_plugin", "-p", "no:cacheprovider", "--evidence", str(path), *options)
        return result, read(path) if path.exists() else None

    return run


MIXED = """
from hypothesis import assume, given, settings, strategies as st

@claim("F1", "exact", step="all-dags")
@claim("C1", "property")
@pytest.mark.parametrize("k", [1, 2, 3])
def test_cases(k):
    witness(instances=k)

@claim("F1", "property")
@settings(max_examples=20, database=None, derandomize=True)
@given(st.integers())
def test_drawn(k):
    assume(k % 2 == 0)
    witness(residual=1e-16)

@control("F1")
def test_control():
    with pytest.raises(AssertionError):
        assert 1 == 2

def test_other():
    witness()
"""


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_marked_tests_become_rows(run, workers):
    result, rows = run(MIXED, *workers)
    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(["evidence: 4 rows written to *evidence.json"])
    assert rows == [
        Row("test_it.py::test_cases", "C1", "property", None, "passed", 6),
        Row("test_it.py::test_control", "F1", "control", None, "passed", 0),
        Row("test_it.py::test_cases", "F1", "exact", "all-dags", "passed", 6),
        Row("test_it.py::test_drawn", "F1", "property", None, "passed", 20, 1e-16),
    ]


OUTCOMES = """
@claim("F1", "property")
def test_empty(): pass

@claim("F1", "property")
def test_failed():
    witness()
    assert False

@claim("F1", "property")
def test_skipped(): pytest.skip("why")

@claim("F1", "property")
@pytest.mark.skip(reason="why")
def test_never(): witness()

@claim("F1", "property")
@pytest.mark.xfail
def test_xfailed():
    witness()
    assert False

@claim("F1", "property")
@pytest.mark.xfail(strict=False)
def test_xpassed(): witness()

@pytest.fixture
def broken(): raise OSError

@claim("F1", "property")
def test_setup(broken): witness()

@pytest.fixture
def leaky():
    yield
    raise OSError

@claim("F1", "property")
def test_teardown(leaky): witness()

@control("F1")
def test_control(): assert False

@claim("F1", "property")
@pytest.mark.gpu
@pytest.mark.skip(reason="no GPU")
def test_gpu(): witness()
"""


def test_only_a_pass_with_instances_is_a_pass(run):
    _, rows = run(OUTCOMES)
    assert {row.test.partition("_it.py::test_")[2]: row.outcome for row in rows} == {
        "empty": "empty",
        "failed": "failed",
        "skipped": "skipped",
        "never": "skipped",
        "xfailed": "skipped",
        "xpassed": "skipped",
        "setup": "failed",
        "teardown": "failed",
        "control": "failed",
    }
    assert next(row.instances for row in rows if row.test.endswith("teardown")) == 1


@pytest.mark.parametrize(
    ("mark", "complaint"),
    [
        ('claim("F11", "exact")', "*test_it.py::test_x is marked with 'F11'*near are F1*"),
        ('claim("zzz", "exact")', "*'zzz', which the ledger does not have; it has D1, D2*"),
        ('claim("F1", "guess")', "*test_it.py::test_x: kind 'guess' is unknown; allowed are symbolic*"),
        (
            'claim("F1", "exact", step="al-dags")',
            "*claim F1 has no proof step 'al-dags'; allowed are all-dags, general",
        ),
        ('claim("D1", "exact", step="a")', "*claim D1 has no proof step 'a'; it has no proof written out"),
        ('claim("F1")', "*test_it.py::test_x: claim*allowed are id, kind, step, theorem"),
        ('claim("F1", "exact", steps="general")', "*allowed are id, kind, step, theorem"),
        ('claim("F1", "formal")', "*test_it.py::test_x: evidence of kind formal, and no other, names its theorem"),
        ('claim("F1", "exact", theorem="F1")', "*evidence of kind formal, and no other, names its theorem"),
        ('claim("F1", "formal", theorem="F0")', "*test_it.py::test_x: theorem 'F0' is unknown; there are *F1*"),
        ('control("F1", "exact")', "*test_it.py::test_x: control*allowed are id"),
        ('control("F0")', "*marked with 'F0'*"),
    ],
)
def test_a_wrong_mark_stops_the_run(run, mark, complaint):
    result, rows = run(f"@{mark}\ndef test_x(): witness()")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {complaint}"])
    assert rows is None


DRAWN = """
from hypothesis import given, strategies as st

@claim("F1", "{}", step="general")
@given(st.integers())
def test_drawn(k): witness()
"""


@pytest.mark.parametrize("kind", ["exact", "symbolic", "enclosure"])
def test_random_draws_settle_no_step(run, kind):
    result, rows = run(DRAWN.format(kind))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: *test_drawn: random draws settle no proof step, so 'general' of claim F1*"]
    )
    assert rows is None


def test_random_draws_may_check_a_step(run):
    _, rows = run(DRAWN.format("checked"))
    assert [(row.kind, row.step, row.outcome) for row in rows] == [("checked", "general", "passed")]


def test_a_wrong_mark_stops_a_parallel_run_too(run):
    result, rows = run('@claim("F11", "exact")\ndef test_x(): witness()', "-n", "2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *'F11'*near are F1*"])
    assert rows is None


def test_a_wrong_mark_on_a_deselected_test_stops_the_run(run):
    result, _ = run('@claim("F11", "exact")\ndef test_x(): witness()\ndef test_y(): pass', "-k", "test_y")
    assert result.ret == pytest.ExitCode.USAGE_ERROR


FORMAL = """
@claim("F1", "formal", step="general", theorem="F1")
def test_proof(): {}
"""
PROVED = Row(
    "test_it.py::test_proof", "F1", "formal", "general", instances=1, theorem="F1", digest=Formal().digest("F1")
)


def test_a_proof_names_its_theorem_the_files_and_coq(run):
    _, rows = run(FORMAL.format("witness()"))
    assert rows == [replace(PROVED, coq=version())]


def test_without_coq_the_committed_proof_stands(run, tmp_path, monkeypatch):
    monkeypatch.setattr(pytest_plugin, "EVIDENCE", tmp_path / "evidence.json")
    write(tmp_path / "evidence.json", [replace(PROVED, coq="8.16.1")])
    result, rows = run(FORMAL.format("pytest.skip('no Coq')"))
    assert rows == [replace(PROVED, coq="8.16.1")]
    result.stdout.fnmatch_lines(["evidence: 1 formal rows are the committed ones, as Coq did not run here"])


@pytest.mark.parametrize(
    "committed",
    [
        [],
        [replace(PROVED, digest="of other files")],
        [replace(PROVED, outcome="failed")],
        [replace(PROVED, step=None)],
        [replace(PROVED, kind="exact", theorem="")],
    ],
)
def test_without_coq_no_proof_is_made_up(run, tmp_path, monkeypatch, committed):
    monkeypatch.setattr(pytest_plugin, "EVIDENCE", tmp_path / "evidence.json")
    write(tmp_path / "evidence.json", committed)
    result, rows = run(FORMAL.format("pytest.skip('no Coq')"))
    assert [(row.outcome, row.why) for row in rows] == [("skipped", "no Coq")]
    result.stdout.no_fnmatch_line("*committed*")


def test_a_proof_that_fails_is_no_committed_one(run, tmp_path, monkeypatch):
    monkeypatch.setattr(pytest_plugin, "EVIDENCE", tmp_path / "evidence.json")
    write(tmp_path / "evidence.json", [PROVED])
    _, rows = run(FORMAL.format("assert False"))
    assert [row.outcome for row in rows] == ["failed"]


FIRST = '@claim("F1", "exact")\ndef test_a(): witness()\n'


@pytest.mark.parametrize(
    ("body", "options"),
    [
        (FIRST + "def test_b(): raise KeyboardInterrupt", ()),
        (FIRST + "def test_b(): assert False\ndef test_c(): pass", ("-x",)),
        (FIRST + "def test_b(): pytest.exit('enough')", ()),
        (FIRST + "import os\ndef test_b(): os._exit(1)", ("-n", "1", "--max-worker-restart=1")),
        (FIRST, ("--collect-only",)),
        ("def test_unmarked(): witness()", ()),
        ("import nothing_of_that_name", ()),
    ],
    ids=["interrupt", "fail-fast", "exit", "crash", "collect-only", "unmarked", "import-error"],
)
def test_a_run_that_was_cut_short_or_saw_nothing_writes_nothing(run, body, options):
    result, rows = run(body, *options)
    assert rows is None
    assert "written to" not in result.stdout.str()


def test_files_below_two_folders_with_plugins_of_their_own_are_gathered(run, pytester):
    """Pytest then leaves out the plugins of the other folder, and looks gatherers up in a set."""
    for name in ("one", "two"):
        folder = pytester.mkpydir(name)
        (folder / "conftest.py").write_text("", encoding="utf-8")
        (folder / f"test_{name}.py").write_text(HEAD + FIRST, encoding="utf-8")
    result, rows = run("", "one/test_one.py", "two/test_two.py")
    result.assert_outcomes(passed=2)
    assert [row.test for row in rows] == ["one/test_one.py::test_a", "two/test_two.py::test_a"]


def test_without_the_option_nothing_is_written(pytester):
    pytester.makeini(INI)
    pytester.makepyfile(HEAD + FIRST)
    result = pytester.runpytest_inprocess("-p", "claims.pytest_plugin", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1)
    assert not list(pytester.path.rglob("*.json"))
