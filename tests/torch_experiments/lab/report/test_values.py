"""Deep Q-learning of experiment 9 on the committed records (claims Q25 to Q29).

Where records are missing, or do not show it, a claim is left open with the reason, and never passes.
"""

from functools import partial

import numpy as np
import pytest

from tests.torch_experiments.lab.report.agent_records import written
from tests.torch_experiments.lab.report.verdicts import settled
from torch_experiments.lab.campaign import items
from torch_experiments.lab.experiments import e09_values as e09
from torch_experiments.lab.report import agents, values
from torch_experiments.lab.report.series import DEAD
from torch_experiments.lab.report.values import FIXED, START
from torch_experiments.lab.rl.measures import DORMANT, FEATURES, RETURN, VALUE

GOOD = {RETURN: 300.0, VALUE: 60.0, DEAD: 0.1, DORMANT: 0.2, FEATURES: 20.0}
BAD = {RETURN: 50.0, VALUE: 20.0, DEAD: 0.5, DORMANT: 0.7, FEATURES: 6.0}
MOVING = GOOD | {DORMANT: 0.6, START: 0.2, FIXED: 0.3}


@pytest.mark.claim("Q25", "training")
def test_a_plain_agent_loses_plasticity():
    settled(values.of("Q25"))


@pytest.mark.claim("Q26", "training")
def test_a_heavy_start_is_not_made_up_for():
    settled(values.of("Q26"))


@pytest.mark.claim("Q27", "training")
def test_a_last_layer_drawn_anew_makes_up_for_it():
    settled(values.of("Q27"))


@pytest.mark.claim("Q28", "training")
def test_units_become_dormant_with_moving_targets():
    settled(values.of("Q28"))


@pytest.mark.claim("Q29", "training")
def test_the_rank_of_features_falls():
    settled(values.of("Q29"))


@pytest.fixture
def made(tmp_path):
    """Return a function that writes records of cells whose metrics have these values in all tasks, with noise."""
    return partial(written, tmp_path, e09.configs("full"))


@pytest.mark.parametrize(
    ("claim", "cell", "other", "worse", "better"),
    [
        pytest.param("Q25", "plain", "fresh", BAD, GOOD, marks=pytest.mark.control("Q25")),
        pytest.param("Q26", "heavy start", "fresh", BAD, GOOD, marks=pytest.mark.control("Q26")),
        pytest.param(
            "Q27", "heavy start, last layer anew", "heavy start", GOOD, BAD, marks=pytest.mark.control("Q27")
        ),
        pytest.param("Q29", "plain", "fresh", BAD, GOOD, marks=pytest.mark.control("Q29")),
    ],
)
def test_what_does_not_differ_or_differs_the_other_way_is_not_shown(made, claim, cell, other, worse, better):
    assert values.of(claim, made({cell: worse, other: better})).shown
    for same in (worse, better):
        assert values.of(claim, made({cell: same, other: same})).shown is False
    turned = values.of(claim, made({cell: better, other: worse}))
    assert (turned.shown, turned.contrary) == (False, True)


@pytest.mark.control("Q28")
def test_dormant_units_have_to_grow_and_to_be_more_than_with_fixed_targets(made):
    found = values.of("Q28", made({"fixed targets": MOVING}))
    assert found.shown
    assert "at the start 0.20, moving targets 0.61, fixed targets 0.30" in found.words
    assert values.of("Q28", made({"fixed targets": MOVING | {START: MOVING[DORMANT]}})).shown is False
    assert values.of("Q28", made({"fixed targets": MOVING | {FIXED: MOVING[DORMANT]}})).shown is False
    turned = values.of("Q28", made({"fixed targets": MOVING | {DORMANT: 0.05}}))
    assert (turned.shown, turned.contrary) == (False, True)


def test_missing_records_few_seeds_and_no_numbers_are_never_a_finding(made, tmp_path):
    for claim in values.FINDINGS:
        found = values.of(claim, tmp_path / "nowhere")
        assert found.shown is None
        assert "no record of experiment 9" in found.words
    found = values.of("Q25", made({"plain": BAD, "fresh": GOOD}, seeds=range(4)))
    assert found.shown is None
    assert "4 seeds of plain; fresh; 5 are needed" in found.words
    found = values.of("Q28", made({"fixed targets": MOVING | {FIXED: np.nan}}))
    assert found.shown is None
    assert "measurements that are no number: fixed targets" in found.words


def test_policies_and_values_are_told_apart(made):
    folder = made({"plain": BAD, "fresh": GOOD})
    assert agents.of("Q11", folder).shown is None
    assert values.of("Q25", folder).shown


def test_every_committed_record_is_found_by_a_cell():
    """So that no change of a configuration leaves records behind."""
    folder = items.RESULTS / agents.FOLDER
    policies = [agents.agents(profile=profile).records for profile in ("full", "ant")]
    assert sum(map(len, policies)) == len(list(folder.glob("e09_reinforcement-*.parquet")))
    assert len(values.values().records) == len(list(folder.glob("e09_dqn-*.parquet")))


def test_a_row_says_what_a_cell_differs_by(made):
    cells = {"plain": BAD | {VALUE: 120.0}, "fresh": GOOD, "fixed targets": MOVING, "fresh, stationary": GOOD}
    lines = values.rows(made(cells))
    assert len(lines) == 3
    assert lines[2].startswith("| plain | 5 | 50 | 303 | −25")
    assert lines[2].endswith(" | 121 | 0.71 | 6.1 |")
