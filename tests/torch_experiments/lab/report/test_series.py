"""What is read out of records: the end of every task, and intervals over seeds."""

import numpy as np
import pytest

from tests.torch_experiments.lab.report.curves import LOST
from torch_experiments.lab.report import series
from torch_experiments.lab.report.series import ACCURACY, Runs


def test_series_take_the_end_of_every_task_of_the_whole_network(made):
    runs = Runs("mlp", made("mlp", {"none": LOST}))
    values = runs.over("none", ACCURACY)
    assert values == pytest.approx(np.tile(np.linspace(0.8, 0.3, 40), (3, 1)))
    assert series.start(values) == pytest.approx(np.linspace(0.8, 0.3, 40)[:5].mean())
    assert runs.missing("none", "layer") == ["layer (seed 0, 1, 2)"]
    assert runs.seeds("none", "layer") == ()


def test_the_interval_is_that_of_students_t():
    low, high = series.interval(np.array([1.0, 2.0, 3.0]))
    assert (low, high) == pytest.approx((2 - 4.302652730 / 3**0.5, 2 + 4.302652730 / 3**0.5))
    assert series.interval(np.array([1.0])) is None
