"""Alarms go off once, and again after the metric came back."""

import json
import math

import pytest

from tests.torch_experiments.diagnostics.samples import diagnosis
from torch_experiments.diagnostics import DEFAULT_ALARMS, Alarm, Overfitting, Raised
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


def test_a_level_or_a_number_of_looks_without_sense_is_refused():
    with pytest.raises(ValueError, match="by: got nan; a level has to be finite"):
        Alarm("dead", "above", math.nan)
    with pytest.raises(ValueError, match="looks: got 0; it has to be at least 1"):
        Alarm("rank", "falls", 0.5, looks=0)
    with pytest.raises(ValueError, match="by, still: got 0 and"):
        Overfitting(by=0)
    with pytest.raises(ValueError, match="looks: got 1; it has to be at least 2"):
        Overfitting(looks=1)


def course(alarm, values, metric="dead"):
    """Return the looks at which an alarm goes off on a course of values."""
    watch = Watchman((alarm,))
    return [k for k, value in enumerate(values) if watch.look(k, diagnosis(**{metric: value}))]


def test_a_level_goes_off_from_the_first_look_on_and_again_after_recovery():
    above, below = Alarm("dead", "above", 0.3), Alarm("dead", "below", 2.0)
    assert course(above, [0.9, 0.8, 0.31, 0.95]) == [0]
    assert course(above, [0.9, 0.3, 0.31]) == [0, 2]  # within the level for the first time
    assert course(above, [0.1, 0.2, 0.29, 0.3]) == []
    assert course(above, [0.1, 0.31, 0.25, 0.4, 0.2, 0.4]) == [1, 5]  # back by less than half, then by half
    assert course(below, [3.0, 2.0, 1.9, 2.1, 1.0, 2.6, 1.9]) == [2, 6]
    assert course(below, [1.0, 1.5, 2.0, 1.9]) == [0, 3]


def test_a_level_says_which_it_is():
    (raised,) = Watchman((Alarm("dead_fraction", "above", 0.3),)).look(7, diagnosis(dead_fraction=0.5))
    assert raised.message == "step 7: mean of the layers: dead_fraction is 0.5, above 0.3"
    assert (raised.kind, raised.value, raised.threshold) == ("dead", 0.5, 0.3)


def test_a_rank_that_returns_is_no_alarm_and_one_that_stays_low_is():
    alarm = Alarm("rank", "falls", 0.5, looks=3)
    assert course(alarm, [10, 4, 4, 6, 4, 4, 6, 4], "rank") == []
    assert course(alarm, [10, 4, 4, 4, 4, 4], "rank") == [3]
    assert course(alarm, [10, 4, 4, 4, 8, 4, 4, 4], "rank") == [3, 7]
    watch = Watchman((alarm,))
    said = [r.message for k, rank in enumerate([10, 4, 3, 2]) for r in watch.look(k, diagnosis(rank=rank))]
    assert said == ["step 3: mean of the layers: rank falls to 2; its largest was 10, for 3 measurements in a row"]


def test_one_metric_is_one_alarm_at_a_look():
    watch = Watchman((Alarm("dead", "rises", 0.2), Alarm("dead", "above", 0.3)))
    counts = [len(watch.look(k, diagnosis(dead=dead))) for k, dead in enumerate([0.0, 0.25, 0.31, 0.5])]
    assert counts == [0, 1, 1, 0]
    watch = Watchman((Alarm("dead", "rises", 0.2), Alarm("dead", "above", 0.3)))
    assert [len(watch.look(k, diagnosis(dead=dead))) for k, dead in enumerate([0.0, 0.9, 0.9])] == [0, 1, 0]


@pytest.mark.parametrize(
    ("metric", "sick", "healthy", "kind"),
    [
        ("dead_fraction", [0.35], [0.3], "dead"),
        ("duplicate_fraction", [0.9], [0.8], "duplicate"),
        ("forward_cloning_score", [0.99], [0.9], "duplicate"),
        ("shannon_rank_centred", [30.0] + 10 * [8.0], [30.0] + 10 * [10.0], "rank"),
        ("shannon_rank_centred", [30.0] + 12 * [20.0] + [9.0], [30.0] + 12 * [20.0] + [11.0], "rank"),
        ("dormant_fraction", [0.1, 0.5], [0.1, 0.4], "dormant"),
    ],
)
def test_the_default_alarms_know_levels_moves_and_what_does_not_return(metric, sick, healthy, kind):
    for values, expected in ((sick, [kind]), (healthy, [])):
        watch = Watchman(DEFAULT_ALARMS)
        raised = [r.kind for k, value in enumerate(values) for r in watch.look(k, diagnosis(**{metric: value}))]
        assert raised == expected


def losses(alarm, training, validation):
    """Return the looks at which an alarm goes off on a course of losses."""
    watch, pairs = Watchman((alarm,)), zip(training, validation, strict=True)
    return [k for k, pair in enumerate(pairs) if watch.look(k, diagnosis(), pair)]


def test_a_plateau_in_training_with_growing_loss_on_new_data_is_overfitting():
    alarm = Overfitting(looks=3)
    plateau, falling = [2.0, 0.5, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1], [2.0, 1.7, 1.4, 1.2, 1.0, 0.8, 0.6, 0.4]
    growing, level = [2.0, 1.0, 1.1, 1.3, 1.4, 1.5, 1.6, 1.7], [2.0, 1.0, 1.05, 1.1, 1.0, 1.1, 1.05, 1.1]
    assert losses(alarm, plateau, growing) == [5]
    assert losses(alarm, falling, growing) == []
    assert losses(alarm, plateau, level) == []
    assert losses(alarm, plateau, [2.0, 1.0, 1.5, 1.5, 0.9, 1.5, 1.5, 0.9]) == []  # it comes back


def test_overfitting_is_said_once_and_again_after_it_came_back():
    alarm = Overfitting(looks=2)
    validation = [1.0, 1.0, 2.0, 2.0, 2.0, 1.0, 2.0, 2.0, 2.0]
    assert losses(alarm, [1.0] * 9, validation) == [3, 7]
    watch = Watchman((alarm,))
    (said,) = [str(r) for k, v in enumerate(validation[:4]) for r in watch.look(k, diagnosis(), (1.0, v))]
    assert said == "step 3: the validation loss is 2, its smallest was 1, while the training loss stands still at 1"


def test_small_losses_are_held_against_how_far_they_fell():
    """A loss that fell from 2.3 to 0.01 is not degraded at 0.1, but it is at 0.3."""
    for end, expected in ((0.1, []), (0.3, [4])):
        assert losses(Overfitting(looks=2), [1.0, 0.1, 0.1, 0.1, 0.1], [2.3, 0.01, 0.01, end, end]) == expected


def test_a_watchman_goes_on_where_it_was():
    alarms = (Alarm("rank", "falls", 0.5, looks=3), Overfitting(looks=3))
    values, pairs = [10, 4, 4, 4, 4], [(1.0, 1.0), (1.0, 2.0), (1.0, 2.0), (1.0, 2.0), (1.0, 2.0)]
    whole, first = Watchman(alarms), Watchman(alarms)
    expected = [whole.look(k, diagnosis(rank=values[k]), pairs[k]) for k in range(5)]
    found = [first.look(k, diagnosis(rank=values[k]), pairs[k]) for k in range(3)]
    second = Watchman(alarms)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    found += [second.look(k, diagnosis(rank=values[k]), pairs[k]) for k in (3, 4)]
    assert found == expected
    assert [len(raised) for raised in expected] == [0, 0, 0, 2, 0]
    second.load_state_dict({"looks": 3, "best": {}, "on": []})  # of before
    assert second.losses == ([], [])


def test_kinds_choose_remedies():
    names = ["dead_fraction", "shannon_rank_raw", "srank_raw", "backward_cloning_score", "validation_loss", "rank"]
    kinds = [Raised(0, "", name, 0.0, 0.0, 0.0, "").kind for name in names]
    assert kinds == ["dead", "rank", "srank_raw", "duplicate", "validation_loss", "rank"]
