import pyarrow as pa
import pytest

from paper_figures.support import captions, results, style


def test_a_result_is_computed_once(tmp_path):
    table = pa.table({"a": [1.0]})
    config = {"experiment": "x", "seed": 0}
    assert results.remembered(tmp_path, config, lambda: table) == table
    assert results.remembered(tmp_path, config, lambda: pytest.fail("again")) == table
    other = pa.table({"a": [2.0]})
    assert results.remembered(tmp_path, {**config, "seed": 1}, lambda: other) == other


def test_the_hash_of_code_depends_on_the_modules():
    assert results.code_of(captions, style) != results.code_of(captions)
    assert results.code_of(captions) == results.code_of(captions)
