"""Agents of experiment 9 on the committed records (claims Q11 to Q19 and Q30 to Q33).

Where records are missing, or do not show it, a claim is left open with the reason, and never passes.
"""

import numpy as np
import pytest

from claims import ledger
from tests.torch_experiments.lab.report.agent_records import written
from tests.torch_experiments.lab.report.verdicts import contradicted, settled
from torch_experiments.lab.experiments import e09_reinforcement as e09
from torch_experiments.lab.report import agents, deck, page
from torch_experiments.lab.report.series import DEAD, FREE, RANK
from torch_experiments.lab.rl.measures import ENTROPY, GAP, RETURN

GOOD = {RETURN: 300.0, ENTROPY: 0.5, GAP: 1.0, DEAD: 0.2, RANK: 5.0, FREE: 0.6}
BAD = {RETURN: 50.0, ENTROPY: 0.1, GAP: 9.0, DEAD: 0.7, RANK: 1.5, FREE: 0.2}
TANH = GOOD | {DEAD: 0.0, FREE: 1.0}


@pytest.mark.claim("Q11", "training")
def test_a_plain_agent_loses_plasticity():
    settled(agents.of("Q11"))


@pytest.mark.claim("Q12", "training")
def test_units_die_and_the_rank_falls():
    settled(agents.of("Q12"))


@pytest.mark.claim("Q13", "training")
def test_the_free_share_falls():
    settled(agents.of("Q13"))


@pytest.mark.claim("Q14", "training")
def test_the_softmax_is_saturated_where_a_task_is_lost():
    settled(agents.of("Q14"))


@pytest.mark.claim("Q15", "training")
def test_tanh_loses_without_a_dead_unit():
    settled(agents.of("Q15"))


@pytest.mark.claim("Q16", "training")
def test_shrink_and_perturb_carries_over():
    settled(agents.of("Q16"))


@pytest.mark.claim("Q17", "training")
def test_redo_carries_over():
    settled(agents.of("Q17"))


@pytest.mark.claim("Q18", "training")
def test_a_world_that_stays_loses_nothing():
    settled(agents.of("Q18"))


@pytest.mark.claim("Q19", "counterexample")
def test_equal_betas_do_not_lose_less():
    contradicted(agents.of("Q19"))


@pytest.mark.claim("Q30", "training")
def test_signed_permutations_lose_plasticity_too():
    settled(agents.of("Q30"))


@pytest.mark.claim("Q31", "training")
def test_an_entropy_bonus_keeps_policy_and_return():
    settled(agents.of("Q31"))


@pytest.mark.claim("Q32", "training")
def test_rewards_of_another_size_lose_nothing():
    settled(agents.of("Q32"))


@pytest.mark.claim("Q33", "training")
def test_other_constants_of_the_physics_lose_nothing():
    settled(agents.of("Q33"))


@pytest.fixture
def made(tmp_path):
    """Return a function that writes records of cells whose metrics have these values in all tasks, with noise."""

    def write(cells, seeds=range(5), lost=()):
        def of_task(cell, task, values):
            return values | (BAD | {RETURN: 9.4} if task in lost and cell == "plain" else {})

        return written(tmp_path, e09.configs("full"), cells, seeds, of_task)

    return write


@pytest.mark.control("Q11")
@pytest.mark.control("Q12")
@pytest.mark.control("Q13")
def test_an_agent_that_is_as_good_as_a_fresh_one_has_lost_nothing(made):
    for claim in ("Q11", "Q12", "Q13"):
        assert agents.of(claim, made({"plain": BAD, "fresh": GOOD})).shown
        assert agents.of(claim, made({"plain": GOOD, "fresh": GOOD})).shown is False
        turned = agents.of(claim, made({"plain": GOOD, "fresh": BAD}))
        assert (turned.shown, turned.contrary) == (False, True)


@pytest.mark.control("Q12")
@pytest.mark.parametrize("metric", [DEAD, RANK])
def test_one_symptom_without_the_other_is_not_both(made, metric):
    assert agents.of("Q12", made({"plain": BAD | {metric: GOOD[metric]}, "fresh": GOOD})).shown is False


@pytest.mark.control("Q14")
def test_lost_tasks_with_a_policy_that_is_not_decided_are_seen(made, monkeypatch):
    found = agents.of("Q14", made({"plain": GOOD}, lost=(2, 7)))
    assert found.shown
    assert "10 of 50 tasks return less than 15" in found.words
    monkeypatch.setitem(BAD, ENTROPY, 0.69)
    monkeypatch.setitem(BAD, GAP, 0.1)
    turned = agents.of("Q14", made({"plain": GOOD}, lost=(2, 7)))
    assert (turned.shown, turned.contrary) == (False, True)


def test_agents_that_lose_no_task_or_all_say_nothing_of_lost_tasks(made):
    for lost in ((), range(10)):
        found = agents.of("Q14", made({"plain": GOOD}, lost=lost))
        assert found.shown is None
        assert "0 seeds with tasks of both kinds" in found.words


@pytest.mark.control("Q15")
def test_a_dead_unit_or_no_loss_is_not_what_is_said_of_tanh(made):
    lost = TANH | {RETURN: 50.0}
    assert agents.of("Q15", made({"tanh": lost, "fresh, tanh": TANH})).shown
    assert agents.of("Q15", made({"tanh": TANH, "fresh, tanh": TANH})).shown is False
    assert agents.of("Q15", made({"tanh": lost | {DEAD: 0.01}, "fresh, tanh": TANH})).shown is False


@pytest.mark.parametrize(
    ("claim", "cell", "other"),
    [
        pytest.param("Q16", "shrink-perturb", "plain", marks=pytest.mark.control("Q16")),
        pytest.param("Q17", "redo", "plain", marks=pytest.mark.control("Q17")),
        pytest.param("Q18", "stationary", "fresh, stationary", marks=pytest.mark.control("Q18")),
        pytest.param("Q19", "equal betas", "plain", marks=pytest.mark.control("Q19")),
    ],
)
def test_what_is_no_better_does_not_help(made, claim, cell, other):
    assert agents.of(claim, made({cell: GOOD, other: BAD})).shown
    for values in (BAD, GOOD):
        assert agents.of(claim, made({cell: BAD, other: values})).shown is False
    assert agents.of(claim, made({cell: BAD, other: GOOD})).contrary


@pytest.mark.control("Q30")
def test_seeds_that_were_seen_before_say_nothing_of_permutations(made):
    cells = {"permuted": BAD, "fresh, permuted": GOOD}
    found = agents.of("Q30", made(cells, seeds=range(5)))
    assert found.shown is None
    assert "no record" in found.words
    found = agents.of("Q30", made(cells, seeds=range(5, 10)))
    assert (found.shown, found.seeds) == (True, 5)
    turned = agents.of("Q30", made({"permuted": GOOD, "fresh, permuted": BAD}, seeds=range(5, 10)))
    assert (turned.shown, turned.contrary) == (False, True)
    assert agents.of("Q30", made({"fresh, permuted": GOOD}, seeds=range(5, 10))).shown is False


@pytest.mark.control("Q31")
def test_a_bonus_has_to_keep_both_policy_and_return(made):
    cell = "entropy bonus"
    assert agents.of("Q31", made({cell: GOOD, "plain": BAD})).shown
    for metric in (RETURN, ENTROPY):
        assert agents.of("Q31", made({cell: GOOD | {metric: BAD[metric]}})).shown is False
    assert agents.of("Q31", made({cell: BAD, "plain": GOOD})).contrary


@pytest.mark.parametrize(
    ("claim", "cell"),
    [
        pytest.param("Q32", "rewards", marks=pytest.mark.control("Q32")),
        pytest.param("Q33", "dynamics", marks=pytest.mark.control("Q33")),
    ],
)
def test_less_than_a_twentieth_is_nothing_that_is_lost(made, claim, cell):
    fresh = f"fresh, {cell}"
    assert agents.of(claim, made({cell: GOOD | {RETURN: 290.0}, fresh: GOOD})).shown
    lost = agents.of(claim, made({cell: GOOD | {RETURN: 260.0}}))
    assert (lost.shown, lost.contrary) == (False, True)
    few = agents.of(claim, made({cell: GOOD | {RETURN: 275.0}}))
    assert (few.shown, few.contrary) == (False, False)


def test_seeds_are_compared_with_themselves(made):
    made({"plain": BAD}, seeds=range(5))
    found = agents.of("Q11", made({"fresh": GOOD}, seeds=range(5, 10)))
    assert found.shown is None
    assert "0 seeds of plain; fresh; 5 are needed" in found.words


def test_missing_records_and_few_seeds_are_never_a_finding(made, tmp_path):
    for claim in agents.FINDINGS:
        found = agents.of(claim, tmp_path / "nowhere")
        assert found.shown is None
        assert "no record of experiment 9" in found.words
    found = agents.of("Q11", made({"plain": BAD, "fresh": GOOD}, seeds=range(4)))
    assert found.shown is None
    assert "4 seeds of plain; fresh; 5 are needed" in found.words


def test_what_is_no_number_is_never_a_finding(made):
    found = agents.of("Q11", made({"plain": BAD | {RETURN: np.nan}, "fresh": GOOD}))
    assert found.shown is None
    assert "measurements that are no number: plain" in found.words


def test_only_the_second_half_of_the_tasks_counts(made):
    folder = made({"plain": BAD, "fresh": GOOD})
    assert agents.agents(folder).difference("plain", "fresh", RETURN).mean() == pytest.approx(-250, abs=10)
    assert agents.agents(made({"plain": GOOD, "fresh": GOOD}, lost=(0, 1, 2))).difference(
        "plain", "fresh", RETURN
    ).mean() == pytest.approx(0, abs=10)


def test_every_finding_has_its_claim():
    named = {name for name in ledger.load() if name.startswith("Q") and int(name[1:]) > 10}
    found = [claim for module in (*page.AGENTS, deck) for claim in module.FINDINGS]
    assert len(found) == len(set(found))
    assert set(found) == named
