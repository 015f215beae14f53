"""The one rule of lost plasticity: behind a fresh network on the last tasks."""

import numpy as np
import pytest

from tests.torch_experiments.lab.report.curves import KEPT, LOST, beside
from torch_experiments.lab.campaign import items
from torch_experiments.lab.report import lost
from torch_experiments.lab.report.series import ACCURACY, Runs


def runs(made, name, curves, fresh=KEPT, **rest):
    return Runs(name, made(name, beside(name, curves, fresh), **rest))


@pytest.mark.parametrize(("fresh", "answer"), [(0.45, False), (0.451, True), (0.3, False)])
def test_the_margin_is_between_lost_and_kept(made, fresh, answer):
    level, other = ({**KEPT, ACCURACY: (value, value)} for value in (0.4005, fresh))
    found = runs(made, "mlp", {"none": level}, other)
    assert lost.lost(found, "none") == dict.fromkeys((0, 1, 2), answer)
    assert lost.in_every(found, "none") is answer


def test_only_the_controlled_tasks_count(made):
    found = runs(made, "mlp", {"none": LOST})
    own = np.linspace(0.8, 0.3, 40)[-5:].mean()
    assert lost.behind(found, "none") == pytest.approx([0.8 - own] * 3)
    assert f"0.{round(1000 * own)} where a fresh network has 0.800 (last 5 tasks; " in lost.told(found, "none")


def test_a_fall_from_its_own_start_is_none_where_the_fresh_network_falls_too(made):
    found = runs(made, "remedies", {"none": LOST}, LOST)
    assert lost.in_every(found, "none") is False


def test_the_first_task_of_a_run_never_counts(made):
    cell = "warm start: plain"
    found = runs(made, "streams", {cell: KEPT | {ACCURACY: (0.9, 0.1)}}, KEPT | {ACCURACY: (0.9, 0.5)})
    assert lost.behind(found, cell) == pytest.approx([0.4] * 5)


def test_seeds_without_a_fresh_network_or_without_a_number_do_not_count(made):
    made("mlp", {"none": LOST})
    found = runs(made, "mlp", {"none": LOST}, seeds=(1,))
    assert lost.lost(found, "none") == {1: True}
    assert lost.told(found, "none").endswith(", one seed)")
    found = runs(made, "mlp-medium", {"none": LOST}, KEPT | {ACCURACY: (np.nan, np.nan)})
    assert lost.lost(found, "none") == {}


@pytest.mark.parametrize(("cell", "why"), [("none", "no record of it"), ("dropout", "this item has none")])
def test_a_run_without_control_says_so(made, cell, why):
    found = Runs("mlp", made("mlp", {cell: LOST}))
    assert lost.in_every(found, cell) is None
    assert lost.told(found, cell) == f"no fresh network beside it ({why})"


def test_fresh_networks_have_none_and_every_other_control_is_a_run():
    for name, item in items.ITEMS.items():
        for cell, config in item.configs("").items():
            control = item.control(cell)
            assert control is None or item.runs("")[control].remedy == "fresh", (name, cell)
            assert config.remedy != "fresh" or control is None, (name, cell)
            assert control is None or item.runs("")[control].norm == config.norm, (name, cell)
