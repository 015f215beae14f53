"""Records: written whole or not at all, found again by content, never overwritten by another config."""

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.flips import refused
from torch_experiments.lab import records
from torch_experiments.lab.records import Record

CONFIG = {"experiment": "e99", "lr": 0.1, "seed": 3, "nested": {"a": [1, 2]}}
TABLE = pa.table({"metric": ["loss", "rank"], "value": [0.5, float("nan")]})


def record(config=CONFIG, table=TABLE):
    return Record(config, table, records.environment())


def test_a_record_comes_back_as_it_was(tmp_path):
    path = records.save(tmp_path / "deep" / "folder", record())
    found = records.load(path)
    assert found.config == CONFIG
    assert found.table.schema == TABLE.schema
    assert found.table["value"][0].as_py() == 0.5
    assert found.environment["device"] == "cpu"
    assert set(records.PACKAGES) <= set(found.environment)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@given(st.permutations(list(CONFIG)))
def test_the_key_ignores_the_order(order):
    assert records.key({name: CONFIG[name] for name in order}) == records.key(CONFIG)


@pytest.mark.parametrize("change", [{"lr": 0.2}, {"seed": 4}, {"nested": {"a": [2, 1]}}, {"new": None}])
def test_another_config_goes_to_another_file(tmp_path, change):
    one, other = records.save(tmp_path, record()), records.save(tmp_path, record(CONFIG | change))
    assert one != other
    assert records.load(one).config == CONFIG


def test_a_finished_run_is_found_and_an_unfinished_one_is_not(tmp_path):
    assert records.find(tmp_path, CONFIG) is None
    records.save(tmp_path, record())
    assert records.find(tmp_path, CONFIG).config == CONFIG
    assert records.find(tmp_path, CONFIG | {"seed": 4}) is None


@pytest.mark.parametrize("failing", ["pyarrow.parquet.write_table", "os.replace"])
def test_an_interrupted_write_leaves_nothing_and_keeps_the_old_record(tmp_path, monkeypatch, failing):
    path = records.save(tmp_path, record())
    before = path.read_bytes()

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(failing, interrupted)
    with pytest.raises(KeyboardInterrupt):
        records.save(tmp_path, record(table=TABLE.slice(0, 1)))
    assert os.listdir(tmp_path) == [path.name]
    assert path.read_bytes() == before


def test_a_foreign_record_in_the_place_is_refused(tmp_path):
    path = records.save(tmp_path, record(CONFIG | {"seed": 4}))
    path.rename(records.path(tmp_path, CONFIG))
    with pytest.raises(ValueError, match=r"holds another config; move it away"):
        records.find(tmp_path, CONFIG)


def test_what_is_no_record_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"file: no record at"):
        records.load(tmp_path / "none.parquet")
    pq.write_table(TABLE, tmp_path / "plain.parquet")
    (tmp_path / "text.parquet").write_text("no parquet")
    for name in ("plain", "text"):
        with pytest.raises(ValueError, match=r"is no record of this project"):
            records.load(tmp_path / f"{name}.parquet")


@pytest.mark.parametrize(("value", "error"), [(float("nan"), ValueError), ({1, 2}, TypeError)])
def test_a_config_that_json_has_not_is_refused(value, error):
    with pytest.raises(error):
        records.key({"lr": value})


MANY = pa.table(
    {
        "metric": ["loss", "rank"] * 100,
        "value": [1 / (k + 1) for k in range(200)],
        "step": range(200),
        "maybe": [None if k % 3 else float(k) for k in range(200)],
    }
)


def test_no_flipped_bit_changes_a_record(tmp_path):
    whole = record(table=MANY)
    path = records.save(tmp_path, whole)

    def same(read):
        return read.table.equals(MANY) and (read.config, read.environment) == (whole.config, whole.environment)

    assert refused(path, lambda: records.find(tmp_path, CONFIG), same) > 200
    assert same(records.load(path))


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, 2], pa.timestamp("s")),
        pa.array(["a", "b"]).dictionary_encode(),
        pa.array([1, None], pa.uint32()),
        pa.array([0.5, -0.0], pa.float32()),
        pa.array([b"a", b"b"]),
        pa.array([[1], [2, 3]]),
    ],
)
def test_what_parquet_keeps_otherwise_is_no_damage(tmp_path, column):
    path = records.save(tmp_path, record(table=pa.table({"x": column})))
    assert records.load(path).table["x"].to_pylist() == column.to_pylist()


def test_a_record_of_before_has_no_checksum_and_is_read(tmp_path):
    about = json.dumps({"config": CONFIG, "environment": {}})
    pq.write_table(MANY.replace_schema_metadata({records.METADATA: about.encode()}), tmp_path / "old.parquet")
    assert records.load(tmp_path / "old.parquet").table.equals(MANY)
    (committed, *_) = sorted((Path(__file__).parents[3] / "results").glob("*/*.parquet"))
    assert records.load(committed).table.num_rows > 0


@pytest.mark.parametrize("about", [b"\xff", b"[]", b"{", b'{"config": {}}', b'{"sha256": 1}'])
def test_what_is_said_about_a_record_may_be_damaged(tmp_path, about):
    pq.write_table(MANY.replace_schema_metadata({records.METADATA: about}), tmp_path / "x.parquet")
    with pytest.raises(ValueError, match=r"x\.parquet is no record of this project, or damaged"):
        records.load(tmp_path / "x.parquet")
