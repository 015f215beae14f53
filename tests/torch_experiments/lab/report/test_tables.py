"""The tables of the page of results."""

import re

import numpy as np
import pytest

from tests.torch_experiments.lab.report.curves import KEPT, LOST
from torch_experiments.lab.campaign import items
from torch_experiments.lab.report import page, tables
from torch_experiments.lab.report.series import ACCURACY, SILENT, TEST, UNMASKED


def test_a_defect_that_changes_the_direction_is_named(made):
    fair = KEPT | {UNMASKED: (0.8, 0.1)}
    text = page.text(made("mlp", {"none": fair, items.PUBLISHED: fair}))
    row = next(line for line in text.splitlines() if line.startswith("| mlp, 3 seeds | accuracy over all 200"))
    assert "**changes**: down as published, as it was" in row
    assert "−0.664 [−0.664, −0.664]" in row
    row = next(line for line in text.splitlines() if line.startswith("| mlp, 3 seeds | all of it together"))
    assert "**changes**: down as published, as it was" in row


def test_a_choice_of_metric_is_looked_at_where_no_run_is_as_published(made):
    metrics = KEPT | {UNMASKED: (0.8, 0.8), SILENT: (0.1, 0.6)}
    text = page.text(made("mlp-medium", {"none": metrics}))
    row = next(line for line in text.splitlines() if line.startswith("| mlp-medium, one seed | dead: silent"))
    assert "**changes**: up as published, as it was" in row
    assert "No pair of runs yet, as published and corrected, of: mlp" in text


def test_a_norm_is_compared_over_the_seeds_that_it_shares_with_none(made):
    made("mlp", {"none": LOST | {UNMASKED: (0.2, 0.2)}}, seeds=(1,))
    made("mlp", {"none": LOST | {UNMASKED: (0.6, 0.6)}}, seeds=(0,))
    text = page.text(made("mlp", {"batch": KEPT | {UNMASKED: (0.5, 0.5)}}, seeds=(0,)))
    assert "| mlp: batch | accuracy, mean | 0.944 (none 0.727) | 0.500 (none 0.600) | no: down |" in text


def test_remedies_are_ranked_with_intervals(made):
    cells = {"none": LOST, "fresh": KEPT, "cbp": KEPT | {ACCURACY: (0.8, 0.6)}}
    folder = made("remedies", {cell: metrics | {TEST: (0.5, 0.5)} for cell, metrics in cells.items()})
    rows = page.text(folder).splitlines()
    ranked = [line for line in rows if re.match(r"\| (none|fresh|cbp) \| 5 \|", line)]
    assert [line.split(" | ")[0] for line in ranked] == ["| fresh", "| cbp", "| none"]
    gained = (
        f"{0.3 * 14.5 / 19:.3f}"  # the loss of accuracy differs by 0.3, of which the second half has seen 14.5 / 19
    )
    assert f"+{gained} [{gained}, {gained}]" in ranked[1]


def test_a_norm_is_set_against_a_fresh_network_with_that_norm(made):
    good, better = KEPT | {TEST: (0.5, 0.5)}, KEPT | {ACCURACY: (0.9, 0.9), TEST: (0.5, 0.5)}
    rows = page.text(made("remedies", {"fresh": good, "layer-norm": good, "fresh, layer-norm": better}))
    assert "| layer-norm | 5 | 0.800 (0.800–0.800) | – | −0.100 [−0.100, −0.100] |" in rows
    cells = {f"random labels: {arm}": good for arm in ("plain", "layer norm", "fresh")}
    rows = page.text(made("streams", cells | {"random labels: fresh, layer norm": better}))
    assert re.search(r"\| random labels: plain .* \+0.000 \[0.000, 0.000\] \|", rows)
    assert re.search(r"\| random labels: layer norm .* −0.100 \[−0.100, −0.100\] \|", rows)


def test_a_trend_that_two_columns_share_is_no_correlation():
    source = np.random.default_rng(0)
    trend = np.linspace(0, 100, 50)
    one, two = (trend + source.normal(size=(4, 3, 50)) for _ in range(2))
    found = {name: tables._by_seed(one, two, change).mean() for name, change in tables.WITHIN.items()}
    assert found["within a setting"] > 0.9
    assert abs(found["within a setting, without its trend over the tasks"]) < 0.2


@pytest.mark.parametrize(("first", "last", "found"), [(0.5, 0.51, 0), (0.5, 0.4, -1), (50, 50.9, 0), (50, 52, 1)])
def test_directions(first, last, found):
    assert tables.direction(first, last) == found
