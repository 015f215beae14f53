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


@pytest.mark.parametrize(
    ("behind", "task"),
    [
        ([0.0] * 4 + [0.1] * 4, 3),  # the mean of tasks 3 to 5 is above the margin already
        ([0.1] * 8, 0),
        ([0.1] * 5 + [0.0] * 3, None),
        ([0.1] * 3 + [-0.2] + [0.1] * 6, 4),
        ([-0.1] * 8, None),
    ],
)
def test_a_network_falls_behind_for_good(behind, task):
    assert early_warning.falls(np.array(behind)) == task


def warned(**metrics):
    """Return a stream of one seed that falls behind a fresh network at the tenth task."""
    own = {"online_accuracy": [0.5, 0.6, *[0.55] * 8, *[0.4] * 5], **metrics}
    rows = {"none": own, "fresh": {"online_accuracy": [*[0.55] * 10, *[0.6] * 5]}}
    return pa.Table.from_pylist(
        [
            {"task": k, "step": 9, "layer": 0, "metric": metric, "cell": cell, "seed": 7, "value": value}
            for cell, found in rows.items()
            for metric, values in found.items()
            for k, value in enumerate(values)
        ]
    )


def test_leads_are_tasks_after_the_network_falls_behind():
    rank, norm = [*[10.0] * 7, *[9.0] * 8], [1.0] * 15
    data = {early_warning.DIGITS: warned(roy_vetterli_rank_raw=rank, weight_norm=norm)}
    assert early_warning.lost(data) == {early_warning.DIGITS: {7: 8}}
    found = early_warning.leads(data)
    assert [(w.metric, w.moved, w.after) for w in found] == [
        ("weight_norm", False, None),
        ("roy_vetterli_rank_raw", True, -1),
    ]
    assert early_warning.always_before(found) == ["roy_vetterli_rank_raw"]
    assert early_warning.median(found, "weight_norm") is None
    assert early_warning.moves(found, "weight_norm") == (0, 1)
    assert early_warning.moves(found, "roy_vetterli_rank_raw") == (1, 1)
    assert "effective rank -1 (1 of 1)" in told(early_warning, data)


def test_fresh_networks_on_the_last_tasks_alone_tell_what_is_lost_and_not_when():
    table = warned(weight_norm=[float(k) for k in range(15)])
    late = [row for row in table.to_pylist() if row["cell"] == "none" or row["task"] >= 10]
    data = {early_warning.DIGITS: pa.Table.from_pylist(late)}
    assert early_warning.lost(data) == {early_warning.DIGITS: {7: None}}
    assert early_warning.leads(data) == [early_warning.Lead(early_warning.DIGITS, 7, "weight_norm", True, None)]
    assert early_warning.always_before(early_warning.leads(data)) == []
    assert "hence no points: random labels" in told(early_warning, data)


@pytest.mark.parametrize(("rest", "bars"), [([1.0], 1), ([1.0, 2.0], 0)], ids=str)
def test_a_median_is_drawn_where_more_than_half_move(rest, bars):
    found = [early_warning.Lead(early_warning.DIGITS, 0, "weight_norm", True, -2)]
    found += [early_warning.Lead(early_warning.DIGITS, k, "weight_norm", False, None) for k in range(1, len(rest))]
    axis = Figure().subplots()
    early_warning._draw_row(axis, found, 0)
    assert [line.get_label() for line in axis.lines].count("median") == bars


def test_alarms_are_false_where_plasticity_is_kept():
    moving = warned(online_accuracy=[0.6] * 15, weight_norm=[float(k) for k in range(15)])
    data = {early_warning.DIGITS: warned(), "pairs of classes": moving}
    assert early_warning.false_alarms(data, "weight_norm") == (1, 1)
    assert early_warning.false_alarms(data, "dead_fraction") == (0, 0)


def test_a_figure_reads_the_fresh_network_beside_a_cell():
    data = early_warning.compute("quick")
    table = data["permuted, high rate"]
    assert set(table["cell"].to_pylist()) == {"none", "fresh"}
    assert set(early_warning.lost(data)["permuted, high rate"]) == {0, 1, 2, 3, 4}
