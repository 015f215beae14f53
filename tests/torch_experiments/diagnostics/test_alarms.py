"""Alarms go off once, and again after the metric came back."""

import pytest

from tests.torch_experiments.diagnostics.samples import diagnosis
from torch_experiments.diagnostics import (
    Alarm,
)
from torch_experiments.diagnostics.alarms import MEAN, Watchman


def test_alarms_go_off_once_and_again_after_recovery():
    watch = Watchman((Alarm("rank", "falls", 0.5), Alarm("dead", "rises", 0.2, layer="a")))
    course = [(10, 0.1), (12, 0.1), (6.1, 0.29), (5.9, 0.31), (5, 0.5), (8, 0.29), (5, 0.31), (11, 0.2), (5, 0.2)]
    seen = [
        [(r.layer, r.metric, r.best) for r in watch.look(k, diagnosis(rank=r, dead=d))]
        for k, (r, d) in enumerate(course)
    ]
    rank, dead = (MEAN, "rank", 12), ("a", "dead", 0.1)
    assert seen == [[], [], [], [rank, dead], [], [], [], [], [rank]]
    late = Watchman((Alarm("rank", "falls", 0.5, after=2),))
    assert not any(late.look(k, diagnosis(rank=r)) for k, r in enumerate((10, 10, 4, 3)))
    each = Watchman((Alarm("dead", "rises", 0.2, layer="*"),))
    each.look(0, diagnosis(dead=0.0))
    assert [r.layer for r in each.look(1, diagnosis(dead=0.3))] == ["a", "b"]


@pytest.mark.parametrize("bad", [("rank", "drops", 0.5), ("rank", "falls", 1.5), ("rank", "rises", 0.0)])
def test_an_alarm_without_sense_is_refused(bad):
    with pytest.raises(ValueError, match=r"(kind|by): got"):
        Alarm(*bad)
