import itertools

import numpy as np
import pyarrow as pa
import pytest

from paper_figures.support import scaling, style
from paper_figures.support.scaling import Line, Times

LINES = {"a": Line("linear", style.BLUE, "o"), "b": Line("squared", style.ORANGE, "s")}
POWERS = {"a": 1, "b": 2}
ROWS = [
    {"line": line, "size": size, "found": 3, "expected": 3, "seconds": 1e-6 * size**power + (size < 10)}
    for size in (1000, 1, 10, 100)
    for line, power in POWERS.items()
]
DATA = Times(pa.Table.from_pylist(ROWS), fit_from=10)


def test_a_slope_is_the_power_from_the_size_on_where_the_fit_begins():
    assert scaling.slopes(DATA, LINES) == pytest.approx({"linear": 1, "squared": 2})
    assert scaling.slope(Times(DATA.table, 0), "a") < 0.5


def test_points_are_in_order():
    size, seconds = scaling.points(DATA, "b")
    np.testing.assert_array_equal(size, [1, 10, 100, 1000])
    np.testing.assert_allclose(seconds[1:], [1e-4, 1e-2, 1])


def test_the_least_time_counts():
    ticks = itertools.accumulate([0.0, 5.0, 0.0, 3.0, 0.0, 4.0])
    row = scaling.row("a", 7, 2, lambda: 2, repetitions=3, clock=lambda: next(ticks))
    assert row == {"line": "a", "size": 7, "found": 2, "expected": 2, "seconds": 3.0}


def test_a_wrong_number_is_noticed():
    assert DATA.right
    assert not Times(pa.Table.from_pylist([*ROWS[1:], {**ROWS[0], "found": 4}]), 10).right


def test_the_guide_has_slope_one():
    with style.context():
        _, axis = scaling.panel(DATA, LINES)
        scaling.guide(axis, *scaling.points(DATA, "b"), below=4)
    assert [line.get_label() for line in axis.lines[:2]] == ["linear: slope 1.00", "squared: slope 2.00"]
    size, seconds = axis.lines[-1].get_data()
    np.testing.assert_allclose(seconds / size, 1 / 4 / 1000)
