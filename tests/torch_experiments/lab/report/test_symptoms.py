"""Which symptom tells losing from keeping cells: areas, exact p-values, and cells instead of seeds."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from tests.torch_experiments.lab.report.curves import KEPT, LOST, beside
from torch_experiments.lab.report import symptoms
from torch_experiments.lab.report.series import ACCURACY, DEAD
from torch_experiments.lab.report.symptoms import Cell


def test_one_group_is_the_test_of_mann_and_whitney():
    source = np.random.default_rng(0)
    more, other = source.normal(0.5, 1, 6), source.normal(0, 1, 7)
    area, p = symptoms.area([(more, other)])
    found = mannwhitneyu(more, other, method="exact")
    assert area == pytest.approx(found.statistic / 42)
    assert p == pytest.approx(found.pvalue)


def test_ties_and_groups_are_counted_out():
    groups = [(np.array([1.0, 1.0]), np.array([1.0, 0.0, 0.0])), (np.array([2.0]), np.array([0.0, 3.0]))]

    def pairs(more, other):
        return sum((a > b) + (a == b) / 2 for a in more for b in other)

    def relabelled(group):
        values = np.concatenate(group)
        for chosen in combinations(range(len(values)), len(group[0])):
            rest = [k for k in range(len(values)) if k not in chosen]
            yield pairs(values[list(chosen)], values[rest])

    observed = sum(pairs(*group) for group in groups)
    every = [a + b for a in relabelled(groups[0]) for b in relabelled(groups[1])]
    tail = min(np.mean([u >= observed for u in every]), np.mean([u <= observed for u in every]))
    assert symptoms.area(groups) == pytest.approx((observed / 8, min(1, 2 * tail)))


def cells(stream, lost, values):
    return [Cell(stream, str(k), lost, 1, {"dead units": v}, {"dead units": -v}) for k, v in enumerate(values)]


def test_symptoms_are_compared_within_streams_alone():
    one = [*cells("a", True, [0.5, 0.6, 0.7, 0.8]), *cells("a", False, [0.1, 0.2, 0.3, 0.4])]
    found = symptoms.tests([*one, *cells("b", True, [0.0] * 9)], lambda cell: cell.against)
    assert [(test.symptom, test.area, test.tells) for test in found] == [("dead units", 1.0, True)]
    assert found[0].p == pytest.approx(2 / 70)
    other = symptoms.tests(one, lambda cell: cell.moved)
    assert (other[0].area, other[0].p, other[0].tells) == (0.0, found[0].p, False)
    assert symptoms.tests(cells("b", True, [0.1, 0.2]), lambda cell: cell.against) == []


def test_seeds_of_a_cell_count_once_and_apart_where_they_differ(made):
    made("remedies", beside("remedies", {"none": LOST, "l2": KEPT}))
    folder = made("remedies", {"none": KEPT}, seeds=(4,))
    found = symptoms.cells(folder)
    assert [(cell.label, cell.lost, cell.seeds) for cell in found] == [
        ("none", True, 4),
        ("none", False, 1),
        ("l2", False, 5),
    ]
    own = np.linspace(*LOST[DEAD], 20)
    assert found[0].against["dead units"] == pytest.approx(own[-5:].mean() - 0.1)
    assert found[0].moved["dead units"] == pytest.approx(own[-2:].mean() - own[:2].mean())
    assert found[0].against["effective rank"] == pytest.approx(np.log(np.linspace(50, 5, 20)[-5:].mean() / 50))


def test_a_warm_start_has_no_course(made):
    cell = "warm start: plain"
    folder = made("streams", beside("streams", {cell: KEPT | {ACCURACY: (0.9, 0.1)}}))
    assert symptoms.cells(folder) == []
