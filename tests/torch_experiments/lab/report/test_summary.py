"""The first page of the results follows the findings and the records."""

import numpy as np
import pytest

from tests.torch_experiments.lab.report.curves import KEPT, LOST, beside
from torch_experiments.lab.campaign import items
from torch_experiments.lab.report import series, summary, symptoms
from torch_experiments.lab.report.findings import Finding
from torch_experiments.lab.report.series import ACCURACY, FREE, Runs


@pytest.mark.parametrize(
    ("found", "answer"),
    [
        (Finding("P1", "", "", True, False, 3), "Holds"),
        (Finding("P1", "", "", False, True, 3), "Contradicted"),
        (Finding("P1", "", "", False, False, 3), "Neither shown nor contradicted"),
        (Finding("P1", "", "", True, False, 2), "Open"),
        (Finding("P1", "", ""), "Open"),
    ],
)
def test_a_statement_is_judged_by_three_seeds_or_more(found, answer):
    assert summary.answer(found) == answer


def test_statements_are_listed_by_their_answers(tmp_path):
    judges = {
        "P1": lambda folder: Finding("P1", "units die", "", True, False, 5),
        "P2": lambda folder: Finding("P2", "x", ""),
    }
    assert summary.answers(judges, tmp_path) == (
        "- **Holds**: [P1](claims/CLAIMS.md#p1) units die (5 runs).\n- **Open**: [P2](claims/CLAIMS.md#p2) x."
    )


def test_cells_that_start_and_end_judge_otherwise_are_marked(made):
    folder = made("mlp", beside("mlp", {"none": LOST}, LOST | {ACCURACY: (0.3, 0.3)}))
    runs = [Runs("mlp", folder)]
    assert "| 0 of 3 | 3 of 3 ◂ |" in summary.verdicts(runs)
    assert "Of 1 cells with a fresh network beside them 0 lose it in every seed, 1 in none" in summary.overturned(
        runs
    )
    assert "judged 1 otherwise" in summary.overturned(runs)
    folder = made("mlp", beside("mlp", {"none": LOST}))
    assert "| 3 of 3 | 3 of 3 |" in summary.verdicts([Runs("mlp", folder)])


def test_the_best_symptom_is_told_whether_it_tells_or_not(made):
    made("remedies", beside("remedies", {"none": LOST, "l2": KEPT}))
    folder = made("remedies", {"none": KEPT}, seeds=(4,))
    cells = symptoms.cells(folder)
    assert "| 4 (1) | 6 (2) | none; best dead units (1.00, p = 1)" in summary.telling(cells)
    assert "dead units do not, after the correction (1.00, p = 1)" in summary.sentence(cells)
    assert "| effective rank | against a fresh network | ×0.1" in summary.every_test(cells)
    assert summary.sentence([cell for cell in cells if cell.lost]).startswith("No records")


def test_the_share_behind_the_input_is_that_of_the_committed_mlp_and_none_where_other_weights_are_held(made):
    runs = series.runs("mlp")
    found = summary.behind_the_input(runs, "none")
    assert found.shape == (3, 40)
    assert (found < runs.over("none", FREE)).all()
    assert summary.behind_the_input(runs, "layer, affine") is None
    assert summary.behind_the_input(series.runs("remedies"), "none") is None
    other = Runs("mlp", made("mlp", {"none": KEPT | {FREE: (0.5, 0.5)}}))
    assert summary.behind_the_input(other, "none") is None


@pytest.mark.parametrize(("name", "inputs"), [("mlp", 12_288), ("mlp-long", 768)])
def test_widths_are_those_of_the_network(name, inputs):
    config = items.item(name).configs("")["none"]
    assert summary.widths(config) == (inputs, *[128] * 5, 200)


def test_what_no_unit_holds_is_free():
    assert summary.alive(np.zeros((5, 2)), (4, 3, 3, 3, 3, 3, 2)).tolist() == [1, 1]


def test_time_is_told_with_that_of_controls(made):
    runs = [Runs("mlp", made("mlp", beside("mlp", {"none": KEPT})))]
    assert "| mlp | 6 | 3.0 | 3.0 |" in summary.time(runs)
    assert "took 6 core-hours" in summary.total(runs)
