import numpy as np
import pyarrow as pa
import pytest

from paper_figures.support.tables import curves, where

TABLE = pa.Table.from_pylist(
    [
        {"regime": regime, "seed": seed, "epoch": epoch, "value": 10 * seed + epoch, "loss": -epoch}
        for regime in ("sgd", "adam")
        for seed in (2, 1)
        for epoch in (5, 0)
    ]
)


def test_rows_have_all_the_values_that_are_told():
    assert where(TABLE, {"regime": "sgd", "seed": 1})["epoch"].to_pylist() == [5, 0]
    assert len(where(TABLE, {})) == len(TABLE)
    assert len(where(TABLE, {"regime": "none"})) == 0


@pytest.mark.parametrize(("value", "rows"), [("value", [[10, 15], [20, 25]]), ("loss", [[0, -5], [0, -5]])])
def test_a_curve_has_a_row_a_seed_in_order(value, rows):
    found = curves(TABLE, {"regime": "adam"}, value=value)
    np.testing.assert_array_equal(found.x, [0, 5])
    np.testing.assert_array_equal(found.values, rows)
