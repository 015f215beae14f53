"""What the committed records of experiments 10 and 11 show (claims Q34 to Q37), and records that must not."""

import numpy as np
import pytest

from tests.torch_experiments.lab.report.verdicts import settled
from torch_experiments.lab.experiments import e11_transients
from torch_experiments.lab.experiments.e10_amplifiers import ARMS, FIXED, PLAIN, fresh_of
from torch_experiments.lab.report import deck, series
from torch_experiments.lab.report.series import ACCURACY, DEAD, RANK, TEST

NAME, SEEDS = deck.AMPLIFIERS, (10, 11, 12, 13, 14)  # as many as are needed
FRESH = {ACCURACY: (0.8, 0.8), deck.TRAIN: (0.9, 0.9), DEAD: (0.1, 0.1), RANK: (40.0, 40.0)}
LITTLE, MUCH = FRESH | {ACCURACY: (0.8, 0.7)}, FRESH | {ACCURACY: (0.8, 0.3)}
SHOWN = {  # records that show every claim
    PLAIN: FRESH | {ACCURACY: (0.8, 0.5), deck.TRAIN: (0.9, 0.6), DEAD: (0.1, 0.5)},
    **dict.fromkeys(deck.EQUAL, LITTLE),
    **dict.fromkeys((*deck.NORMS, "dropout"), MUCH),
    deck.LEAKY: LITTLE | {DEAD: (0.0, 0.0)},
    FIXED: FRESH,
}
SHOWN |= {fresh_of(cell): FRESH for cell in SHOWN}
OTHERWISE = {  # by claim: cells that must not show it, and what they must say instead of it
    "Q34": dict.fromkeys(deck.EQUAL, MUCH),
    "Q35": {"dropout": LITTLE},
    "Q36": dict.fromkeys(deck.NORMS, LITTLE),
    "Q37": {deck.LEAKY: FRESH | {ACCURACY: (0.8, 0.9), DEAD: (0.0, 0.0)}},
}


@pytest.mark.claim("Q34", "training")
def test_default_betas_amplify_the_loss():
    settled(deck.of("Q34"))


@pytest.mark.claim("Q35", "training")
def test_dropout_amplifies_the_loss():
    settled(deck.of("Q35"))


@pytest.mark.claim("Q36", "training")
def test_norms_amplify_the_loss():
    settled(deck.of("Q36"))


@pytest.mark.claim("Q37", "training")
def test_leaky_units_do_not_die_and_lose_all_the_same():
    settled(deck.of("Q37"))


def with_fresh(cells):
    """Return the curves of some cells of `SHOWN` and of the fresh networks beside them, and no more to be quick."""
    return {name: SHOWN[name] for cell in cells for name in (cell, fresh_of(cell))}


@pytest.mark.control("Q34")
@pytest.mark.control("Q35")
@pytest.mark.control("Q36")
@pytest.mark.control("Q37")
@pytest.mark.parametrize("claim", OTHERWISE)
def test_records_the_other_way_round_show_the_contrary(made, claim):
    folder = made(NAME, with_fresh({PLAIN, *OTHERWISE[claim]}), SEEDS)
    assert deck.of(claim, folder).shown
    found = deck.of(claim, made(NAME, OTHERWISE[claim], SEEDS))
    assert found.shown is False
    assert found.contrary


@pytest.mark.control("Q34")
@pytest.mark.control("Q36")
@pytest.mark.control("Q37")
@pytest.mark.parametrize(
    ("claim", "cell", "changed"),
    [
        *(("Q34", cell, MUCH) for cell in deck.EQUAL),
        *(("Q36", norm, LITTLE) for norm in deck.NORMS),
        ("Q37", deck.LEAKY, LITTLE),
        ("Q37", deck.LEAKY, FRESH | {DEAD: (0.0, 0.0)}),
    ],
)
def test_each_half_of_a_statement_is_asked_for(made, claim, cell, changed):
    folder = made(NAME, with_fresh({PLAIN, *OTHERWISE[claim]}) | {cell: changed}, SEEDS)
    assert deck.of(claim, folder).shown is False


def test_seeds_that_differ_too_widely_show_nothing(made):
    made(NAME, with_fresh((PLAIN, "dropout")), SEEDS)
    for seed, end in zip(SEEDS, (0.1, 0.9, 0.2, 0.8, 0.3), strict=True):
        folder = made(NAME, {"dropout": FRESH | {ACCURACY: (0.8, end)}}, seeds=(seed,))
    found = deck.of("Q35", folder)
    assert found.shown is False
    assert not found.contrary


def test_missing_records_too_few_seeds_and_what_is_no_number_are_never_a_finding(made, tmp_path):
    for claim in deck.FINDINGS:
        assert deck.of(claim, tmp_path).shown is None
    folder = made(NAME, with_fresh((PLAIN, *deck.EQUAL)), seeds=SEEDS[:4])
    assert "4 seeds of item amplifiers" in deck.of("Q34", folder).words
    folder = made(
        NAME, dict.fromkeys(with_fresh((PLAIN, deck.LEAKY)), dict.fromkeys(FRESH, (np.nan, np.nan))), SEEDS
    )
    assert deck.of("Q37", folder).words == "measurements that are no number: leaky relu"


def test_the_tables_set_every_cell_against_fresh_networks(made):
    folder = made(NAME, SHOWN, SEEDS)
    told = deck.amplifiers(series.runs(NAME, folder))
    assert sum(line.startswith("|") for line in told.splitlines()) == 2 + len(set(SHOWN).intersection(ARMS))
    row = next(line for line in told.splitlines() if line.startswith("| dropout"))
    assert "| 0.417 (0.417–0.417) | 0.800 (0.800–0.800) | −0.383 [−0.383, −0.383] |" in row
    (line,) = deck.answers(folder)
    assert "Dormant units under labels that move: 0.407, +0.307 [0.307, 0.307] against fresh networks" in line
    assert "fitted 0.670 at its end, a fresh one 0.900, a difference of −0.230" in line


def test_cases_tell_what_is_lost_in_generalisation(made):
    wrong = "transient: wrong labels"
    fit = {ACCURACY: (0.5, 0.9), deck.TRAIN: (0.5, 1.0), TEST: (0.5, 0.9)}
    curves = {wrong: fit, fresh_of(wrong): fit | {deck.TRAIN: (1.0, 1.0), TEST: (0.95, 0.95)}}
    told = deck.transients(series.runs(deck.TRANSIENTS, made(deck.TRANSIENTS, curves, range(5))))
    row = told.splitlines()[2]
    assert row.startswith("| transient: wrong labels | 5 | test, at the end | 0.900")
    assert "−0.050 [−0.050, −0.050], behind | +0.000" in row
    assert set(e11_transients.CASES) >= {wrong}


def test_every_question_has_its_answer(made):
    cells = (*e11_transients.CASES, *map(fresh_of, e11_transients.CASES))
    even = {ACCURACY: (0.8, 0.8), TEST: (0.8, 0.8), deck.TRAIN: (0.9, 0.9)}
    ahead = {"pairs: conv net": even | {ACCURACY: (0.9, 0.9)}}
    lines = deck.answers(made(deck.TRANSIENTS, dict.fromkeys(cells, even) | ahead, range(5)))
    assert len(lines) == len(deck.QUESTIONS) + 1
    assert "conv net +0.100 [0.100, 0.100], ahead; linear +0.000 [0.000, 0.000], open (5 seeds)." in lines[0]
    assert "blurred 8 +0.000 [0.000, 0.000], open" in lines[4]
    assert "0.900 right while it learns, the linear one 0.800, a difference of +0.100" in lines[5]
