import math

import numpy as np
import pytest

from paper_figures.support import finished
from paper_figures.support.tables import where
from tests.paper_figures.finished_cases import put, table
from torch_experiments.lab.report import series


def test_absent_runs_are_named():
    data = table({"none": (0, 2), "batch": (0, 1, 2), "layer": (1,)}, 6)
    found = finished.absent("mlp", data, ["none", "batch", "layer", "dropout"])
    assert found == ["none (seed 1)", "layer (seeds 0 and 2)", "dropout"]
    assert finished.gaps([]) == ""


def test_cells_are_compared_on_their_common_seeds():
    data = table({"none": (0, 2), "layer": (1, 2)}, 6)
    assert set(finished.shared(data, ["none", "layer"])["seed"].to_pylist()) == {2}
    assert len(finished.shared(data, ["none", "batch"])) == 0


def test_lines_count_the_seeds():
    data = table({"none": (0, 2), "layer": (1,)}, 6)
    assert finished.lines(data, ["none"]) == "Line: mean of 2 seeds; band: their range."
    assert finished.lines(data, ["none", "layer"]) == "Line: mean of 1 to 2 seeds; band: their range."
    assert finished.lines(data, ["layer"]) == "Line: one seed."


def test_an_interval_is_students():
    mean, half = finished.interval(np.array([1.0, 2.0, 3.0]))
    assert mean == 2
    assert half == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert finished.interval(np.array([5.0])) == (5.0, 0.0)


def test_a_sign_is_told_where_the_interval_leaves_zero_out():
    above, about = np.array([1.0, 2.0, 3.0, 4.0]), np.array([-1.0, 2.0, 3.0])
    assert [series.sign(values) for values in (above, -above, about, above[:1])] == [1, -1, 0, 0]
    assert finished.told(above, 1) == "+2.5 [0.4, 4.6]"
    assert finished.told(about, 1) == "+1.3 [−3.8, 6.5], not told from none"


def test_layers_are_means_over_seeds():
    data = table({"none": (0, 1)}, 6)
    found = finished.layers(data, "none", series.DEAD)
    one, two = (finished.layers(where(data, {"seed": seed}), "none", series.DEAD) for seed in (0, 1))
    assert found.shape == (5, 6)
    np.testing.assert_allclose(found, (one + two) / 2)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (math.nan, {"metric": series.RANK, "layer": 2}),
        (0.5, {"metric": series.RANK, "layer": 0}),
        (1.1, {"metric": series.DEAD, "layer": 3}),
        (-0.1, {"metric": series.ACCURACY}),
    ],
    ids=str,
)
def test_unsound_values_are_noticed_where_they_are_shown(value, place):
    data, metrics = table({"none": (0,), "layer": (0,)}, 6), [series.ACCURACY, series.DEAD, series.RANK]
    assert finished.sound([data], ["none", "layer"], metrics).holds
    broken = put(value, cell="layer", **place)(data)
    assert not finished.sound([data, broken], ["none", "layer"], metrics).holds
    assert finished.sound([data, broken], ["none"], metrics).holds
    assert not finished.sound([data], ["dropout"], metrics).holds
