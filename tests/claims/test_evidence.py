import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from claims import evidence
from claims.evidence import CONTROL, KINDS, OUTCOMES, EvidenceError, Row, merge, read, recording, witness, write

ROWS = st.lists(
    st.builds(
        Row,
        test=st.sampled_from(["t1", "t2"]),
        claim=st.sampled_from(["A", "B"]),
        kind=st.sampled_from([*KINDS, CONTROL]),
        step=st.sampled_from([None, "base"]),
        outcome=st.sampled_from(OUTCOMES),
        instances=st.integers(0, 10**6),
        residual=st.sampled_from([0.0, 1e-16, 2.5e-3]),
    )
)


def test_witnesses_add_up_and_the_largest_residual_stands():
    with recording() as tally:
        witness()
        witness(residual=2e-16, instances=5)
        witness(residual=1e-16)
    assert (tally.instances, tally.residual) == (7, 2e-16)


def test_a_witness_outside_a_marked_test_is_heard_by_nobody():
    witness()
    with recording() as tally:
        pass
    witness()
    assert tally.instances == 0


@pytest.mark.parametrize("residual", [np.float32(0.5), np.array(0.5), Fraction(1, 2)])
def test_any_real_number_is_a_residual(residual):
    with recording() as tally:
        witness(residual, instances=np.int64(2))
    assert (tally.instances, tally.residual) == (2, 0.5)
    assert [type(tally.instances), type(tally.residual)] == [int, float]


@pytest.mark.parametrize("residual", [-1e-9, float("nan"), float("inf")])
def test_a_residual_that_is_no_size_is_refused(residual):
    with pytest.raises(ValueError, match="allowed are finite numbers >= 0"):
        witness(residual)


def test_negative_instances_are_refused():
    with pytest.raises(ValueError, match="instances=-1"):
        witness(instances=-1)


@given(ROWS)
def test_what_is_written_is_read_back_merged(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("evidence") / "new" / "evidence.json"
    write(path, rows)
    assert read(path) == merge(rows)
    assert [entry.name for entry in path.parent.iterdir()] == ["evidence.json"]


@given(ROWS, st.randoms(use_true_random=False))
def test_merging_ignores_order_and_loses_no_instance(rows, random):
    merged = merge(rows)
    assert merged == merge(random.sample(rows, len(rows)))
    assert merged == merge(merged)
    assert sum(row.instances for row in merged) == sum(row.instances for row in rows)


def test_the_worst_case_of_a_parametrised_test_stands():
    rows = [Row("t", "A", "exact", None, outcome, 1) for outcome in ("passed", "failed", "skipped")]
    assert merge(rows) == [Row("t", "A", "exact", None, "failed", 3)]


def test_versions_are_named(tmp_path):
    write(tmp_path / "evidence.json", [])
    versions = json.loads((tmp_path / "evidence.json").read_text())["versions"]
    assert {"python", "numpy", "scipy", "sympy", "python-flint"} <= versions.keys()


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "evidence.json"
    write(path, [])
    old = path.read_text()
    monkeypatch.setattr(evidence.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("no space")))
    with pytest.raises(OSError, match="no space"):
        write(path, [Row("t", "A", "exact")])
    assert path.read_text() == old
    assert list(tmp_path.iterdir()) == [path]


GOOD = (
    '{"test": "t", "claim": "A", "kind": "exact", "step": null, "outcome": "passed", "instances": 1, "residual": 0}'
)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is no evidence file"),
        ("[]", "is no evidence file"),
        ("{}", "is no evidence file"),
        ('{"tests": [{"test": "t"}]}', "has other fields than claim, coq"),
        ('{"tests": [' + GOOD.replace("exact", "guess") + "]}", "kind 'guess' is unknown; allowed are symbolic"),
        ('{"tests": [' + GOOD.replace("passed", "fine") + "]}", "outcome 'fine' is unknown; allowed are passed"),
        ('{"tests": [' + GOOD.replace('instances": 1', 'instances": -1') + "]}", "instances=-1 of A: allowed are"),
        (
            '{"tests": [' + GOOD.replace('instances": 1', 'instances": "9"') + "]}",
            "instances='9' of A: allowed are",
        ),
        ('{"tests": [' + GOOD.replace('residual": 0', 'residual": NaN') + "]}", "residual=nan of A: allowed are"),
    ],
)
def test_a_bad_evidence_file_is_refused(tmp_path, text, complaint):
    path = tmp_path / "evidence.json"
    path.write_text(text)
    with pytest.raises(EvidenceError, match=complaint):
        read(path)


def test_missing_evidence_says_how_to_get_it(tmp_path):
    with pytest.raises(EvidenceError, match="run `make verify`"):
        read(tmp_path / "none.json")
