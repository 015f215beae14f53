"""`lop claims`: tables, JSON, checks and single claims; other output of `lop results` is in its own tests."""

import json
import subprocess
import sys

import pytest

from claims import evidence, ledger, render
from claims.evidence import CONTROL, Row, write


@pytest.fixture
def broken(tmp_path):
    """Evidence in which a control of F1 failed."""
    path = tmp_path / "broken.json"
    write(path, [Row("t", "F1", CONTROL, None, "failed")])
    return path


def test_the_table_fits_100_columns(command):
    code, out, _ = command("claims")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 100
    assert out.splitlines()[0].split()[-3:] == ["evidence", "instances", "residual"]
    for claim in ledger.load().values():
        assert any(line.split()[:1] == [claim.id] for line in out.splitlines()), claim.id


def test_json_is_json(command):
    assert [entry["id"] for entry in json.loads(command("claims", "--json")[1])] == list(ledger.load())


def test_other_evidence_gives_other_verdicts(command, broken):
    entries = json.loads(command("claims", "--json", "--evidence", broken)[1])
    assert {entry["verdict"] for entry in entries if entry["id"] in ("F1", "F2a")} == {"failing"}


def test_check_is_silent_on_the_committed_evidence(command):
    assert command("claims", "--check", evidence.EVIDENCE)[0] == 0


def test_check_exits_with_1_and_says_where(command, broken):
    code, out, _ = command("claims", "--check", broken)
    assert code == 1
    assert "F1: committed" in out
    assert "now failing" in out
    assert "t failed" in out


def test_write_writes_the_pages(command, tmp_path, monkeypatch):
    for name, file in {"PAGE": "CLAIMS.md", "README": "README.md", "TABLE": "claims.md"}.items():
        monkeypatch.setattr(render, name, tmp_path / file)
    for name in ("README.md", "claims.md"):
        (tmp_path / name).write_text(f"{render.BEGIN}\n{render.END}\n")
    assert command("claims", "--write")[0] == 0
    assert "## C7." in (tmp_path / "CLAIMS.md").read_text()
    assert "claims/CLAIMS.md#c7" in (tmp_path / "claims.md").read_text()
    assert " claims: " in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("arguments", [("--evidence", "none.json"), ("--check", "none.json")])
def test_an_error_is_one_line_and_exit_code_2(command, arguments):
    code, out, err = command("claims", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("lop: no evidence at none.json")
    assert err.count("\n") == 1


def test_write_and_evidence_exclude_each_other(command, broken):
    code, _, err = command("claims", "--write", "--evidence", broken)
    assert code == 2
    assert "leave --evidence out" in err


def test_starting_up_imports_no_numerics():
    heavy = "{'torch', 'numpy', 'sympy', 'scipy', 'matplotlib', 'flint', 'rich.table'} & set(sys.modules)"
    code = f"import sys, lop, claims.ledger; print(sorted({heavy}))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_a_reader_that_stops_early_sees_no_traceback():
    code = "import sys, lop; sys.argv = ['lop', 'claims', '--json']; lop.main()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""


def test_single_claims_are_printed_in_full(command):
    code, out, _ = command("claims", "c9", "F1")
    assert code == 0
    assert out.index("## C9. Which optimizers keep which clones") < out.index(
        "## F1. A saturated unit learns nothing"
    )
    assert out.count("**Limits.**") == 2
    assert [entry["id"] for entry in json.loads(command("claims", "C9", "--json")[1])] == ["C9"]


def test_an_unknown_claim_is_named(command):
    code, out, err = command("claims", "C99")
    assert code != 0
    assert not out
    assert "there is no claim C99; there are D1, " in err
