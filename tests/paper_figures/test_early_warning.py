import math

import numpy as np
import pyarrow as pa
import pytest
from matplotlib.figure import Figure

from paper_figures import early_warning
from tests.paper_figures.finished_cases import told

BAND = [3.0, 5.0, 4.0, 4.0, 3.5]


@pytest.mark.parametrize(
    ("later", "task"),
    [
        ([2.0, 1.0, 0.0], 5),  # below from the first chance on
        ([6.0, 7.0, 8.0, 9.0], 5),  # above
        ([4.0, 6.0, 6.0, 6.0], 6),
        ([6.0, 4.0, 6.0, 6.0], None),  # comes back, then too few tasks are left
        ([6.0, 6.0, 6.0, 5.0], None),  # the edge belongs to the band
        ([2.0, 6.0, 6.0, 6.0], 6),  # below, then for good above
        ([6.0, 2.0, 6.0, 2.0], None),  # outside, on no one side
        ([math.nan, math.nan, math.nan], None),
        ([], None),
    ],
)
def test_leaving_the_band_for_good(later, task):
    assert early_warning.leaves(np.array([*BAND, *later])) == task


def test_accuracy_falls_only_downwards():
    assert early_warning.falls(np.array([*BAND, 2.0, 2.0, 2.0])) == 5
    assert early_warning.falls(np.array([*BAND, 6.0, 6.0, 6.0])) is None


def warned(**metrics):
    """Return a stream of one seed in which accuracy falls at the tenth task."""
    rows = {"online_accuracy": [0.5, 0.6, *[0.55] * 8, *[0.4] * 5], **metrics}
    return pa.Table.from_pylist(
        [
            {"task": k, "step": 9, "layer": 0, "metric": metric, "cell": "none", "seed": 7, "value": value}
            for metric, values in rows.items()
            for k, value in enumerate(values)
        ]
    )


def test_leads_are_tasks_after_the_fall_of_accuracy():
    rank, norm = [*[10.0] * 7, *[9.0] * 8], [1.0] * 15
    data = {early_warning.DIGITS: warned(roy_vetterli_rank_raw=rank, weight_norm=norm)}
    assert early_warning.lost(data) == {early_warning.DIGITS: {7: 10}}
    found = early_warning.leads(data)
    assert [(lead.metric, lead.after) for lead in found] == [("weight_norm", None), ("roy_vetterli_rank_raw", -3)]
    assert early_warning.always_before(found) == ["roy_vetterli_rank_raw"]
    assert early_warning.median(found, "weight_norm") is None
    assert early_warning.moves(found, "weight_norm") == (0, 1)
    assert early_warning.moves(found, "roy_vetterli_rank_raw") == (1, 1)
    assert "effective rank -3 (1 of 1)" in told(early_warning, data)


@pytest.mark.parametrize(("rest", "bars"), [([1.0], 1), ([1.0, 2.0], 0)], ids=str)
def test_a_median_is_drawn_where_more_than_half_move(rest, bars):
    found = [early_warning.Lead(early_warning.DIGITS, 0, "weight_norm", -2)]
    found += [early_warning.Lead(early_warning.DIGITS, k, "weight_norm", None) for k in range(1, len(rest))]
    axis = Figure().subplots()
    early_warning._draw_row(axis, found, 0)
    assert [line.get_label() for line in axis.lines].count("median") == bars


def test_alarms_are_false_where_accuracy_stays():
    moving = warned(online_accuracy=[0.5] * 15, weight_norm=[float(k) for k in range(15)])
    data = {early_warning.DIGITS: warned(), "other": moving}
    assert early_warning.false_alarms(data, "weight_norm") == (1, 1)
    assert early_warning.false_alarms(data, "dead_fraction") == (0, 0)
