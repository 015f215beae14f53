"""The Slippery Ant on the committed records (claims Q20 to Q24).

Where records are missing, or do not show it, a claim is left open with the reason, and never passes.
"""

import re
from functools import partial

import numpy as np
import pytest

from claims import ledger
from tests.torch_experiments.lab.report.agent_records import written
from tests.torch_experiments.lab.report.verdicts import settled
from torch_experiments.lab.experiments import e09_reinforcement as e09
from torch_experiments.lab.report import ant
from torch_experiments.lab.report.ant import SLIPPERY, STATIONARY
from torch_experiments.lab.report.series import DEAD, FREE, RANK
from torch_experiments.lab.rl.measures import ENTROPY, RETURN, SATURATED

GOOD = {RETURN: 900.0, ENTROPY: 8.0, SATURATED: 0.02, DEAD: 0.1, RANK: 30.0, FREE: 0.9}
BAD = {RETURN: 100.0, ENTROPY: 2.0, SATURATED: 0.6, DEAD: 0.5, RANK: 9.0, FREE: 0.4}
FRESH, FRESH_STATIONARY = map(e09.fresh_of, (SLIPPERY, STATIONARY))


@pytest.mark.claim("Q20", "training")
def test_a_robot_loses_plasticity_when_its_friction_changes():
    settled(ant.of("Q20"))


@pytest.mark.claim("Q21", "training")
def test_a_robot_loses_plasticity_in_long_training_alone():
    settled(ant.of("Q21"))


@pytest.mark.claim("Q22", "training")
def test_changes_of_friction_cost_return():
    settled(ant.of("Q22"))


@pytest.mark.claim("Q23", "training")
def test_units_die_and_the_rank_falls():
    settled(ant.of("Q23"))


@pytest.mark.claim("Q24", "training")
def test_the_policy_is_decided():
    settled(ant.of("Q24"))


@pytest.fixture
def made(tmp_path):
    """Return a function that writes records of cells whose metrics have these values in all tasks, with noise."""
    return partial(written, tmp_path, e09.configs("ant"))


@pytest.mark.parametrize(
    ("claim", "cell", "fresh"),
    [
        pytest.param("Q20", SLIPPERY, FRESH, marks=pytest.mark.control("Q20")),
        pytest.param("Q21", STATIONARY, FRESH_STATIONARY, marks=pytest.mark.control("Q21")),
        pytest.param("Q23", SLIPPERY, FRESH, marks=pytest.mark.control("Q23")),
        pytest.param("Q24", SLIPPERY, FRESH, marks=pytest.mark.control("Q24")),
    ],
)
def test_a_robot_that_is_as_a_fresh_one_has_lost_nothing(made, claim, cell, fresh):
    assert ant.of(claim, made({cell: BAD, fresh: GOOD})).shown
    assert ant.of(claim, made({cell: GOOD, fresh: GOOD})).shown is False
    turned = ant.of(claim, made({cell: GOOD, fresh: BAD}))
    assert (turned.shown, turned.contrary) == (False, True)


@pytest.mark.control("Q23")
@pytest.mark.control("Q24")
@pytest.mark.parametrize(("claim", "metric"), [("Q23", DEAD), ("Q23", RANK), ("Q24", ENTROPY), ("Q24", SATURATED)])
def test_one_symptom_without_the_other_is_not_both(made, claim, metric):
    found = ant.of(claim, made({SLIPPERY: BAD | {metric: GOOD[metric]}, FRESH: GOOD}))
    assert (found.shown, found.contrary) == (False, False)


@pytest.mark.control("Q22")
def test_what_is_lost_without_changes_is_no_cost_of_them(made):
    lost, kept = {SLIPPERY: BAD, FRESH: GOOD}, {STATIONARY: GOOD, FRESH_STATIONARY: GOOD}
    found = ant.of("Q22", made(lost | kept))
    assert found.shown
    assert re.search(r"difference −8[01]\d \[−8\d\d, −[78]\d\d\] \(5 seeds\)", found.words)
    as_much = {STATIONARY: BAD, FRESH_STATIONARY: GOOD}
    assert ant.of("Q22", made(lost | as_much)).shown is False
    turned = ant.of("Q22", made({SLIPPERY: GOOD, FRESH: GOOD} | as_much))
    assert (turned.shown, turned.contrary) == (False, True)


def test_missing_records_few_seeds_and_what_is_no_number_are_never_a_finding(made, tmp_path):
    for claim in ant.FINDINGS:
        found = ant.of(claim, tmp_path / "nowhere")
        assert found.shown is None
        assert "no record of experiment 9" in found.words
    found = ant.of("Q20", made({SLIPPERY: BAD, FRESH: GOOD}, seeds=range(4)))
    assert found.shown is None
    assert "4 seeds of ant; fresh, ant; 5 are needed" in found.words
    found = ant.of("Q20", made({SLIPPERY: BAD | {RETURN: np.nan}, FRESH: GOOD}))
    assert found.shown is None
    assert "measurements that are no number: ant" in found.words


def test_a_table_has_a_row_a_cell(made):
    (row,) = ant.rows(made({SLIPPERY: BAD, FRESH: GOOD}))[2:]
    assert re.match(r"\| ant \| 5 \| 10\d \| 9\d\d \| −8\d\d \[−8\d\d, −[78]\d\d\] \| 0.5\d \| 2.0\d \|", row)


def test_every_finding_has_its_claim():
    assert set(ant.FINDINGS) == {f"Q{n}" for n in range(20, 25)} <= set(ledger.load())
