"""What the committed records of experiment 8 show of language (claims Q1 to Q9), and records that must not."""

import dataclasses

import numpy as np
import pytest

from tests.torch_experiments.lab.report.verdicts import settled
from torch_experiments.lab.campaign import items
from torch_experiments.lab.experiments.e08_language import (
    BARE,
    DOMAINS,
    GPT2,
    GRADUAL,
    LABELS,
    PLAIN,
    REMEDIES,
    SLOW,
    fresh_of,
)
from torch_experiments.lab.language.run import ENTROPY
from torch_experiments.lab.report import language
from torch_experiments.lab.report.language import LOSS
from torch_experiments.lab.report.series import DEAD, FREE, RANK

CASES = (PLAIN, BARE, SLOW, GRADUAL, LABELS, DOMAINS, GPT2, *REMEDIES)
FRESH = {LOSS: (2.8, 2.8), RANK: (17.0, 17.0), DEAD: (0.02, 0.02), ENTROPY: (0.2, 0.2), FREE: (0.98, 0.98)}
SHOWN = {  # records that show every claim
    PLAIN: FRESH | {LOSS: (2.8, 3.2), RANK: (17.0, 5.0), DEAD: (0.02, 0.1), ENTROPY: (0.2, 0.1)},
    BARE: FRESH | {LOSS: (2.8, 2.6), RANK: (17.0, 30.0), FREE: (0.98, 0.7)},
    SLOW: FRESH | {LOSS: (2.8, 3.2)},
    GPT2: FRESH | {LOSS: (2.8, 3.2)},
    GRADUAL: FRESH,
    LABELS: FRESH | {ENTROPY: (0.2, 0.1)},
    DOMAINS: FRESH | {LOSS: (2.8, 2.5), RANK: (17.0, 50.0), ENTROPY: (0.2, 0.1)},
    **dict.fromkeys(REMEDIES, FRESH),
    "shrink-perturb": FRESH | {DEAD: (0.5, 0.5)},
    "optimizer-reset": FRESH | {LOSS: (2.8, 3.0), RANK: (17.0, 30.0)},
}
SHOWN |= {fresh_of(case): FRESH for case in CASES}
OTHERWISE = {  # by claim: one case that must not show it, and what it must say instead of it
    "Q1": {PLAIN: {LOSS: (2.8, 2.6)}, GPT2: {LOSS: (2.8, 2.6)}},
    "Q2": {BARE: {LOSS: (2.8, 3.0)}, SLOW: {LOSS: (2.8, 2.6)}},
    "Q3": {LABELS: {LOSS: (2.8, 3.0)}},
    "Q4": {DOMAINS: {LOSS: (2.8, 3.0)}},
    "Q5": {PLAIN: {RANK: (17.0, 30.0)}},
    "Q6": {PLAIN: {DEAD: (0.5, 0.9)}, "shrink-perturb": {DEAD: (0.0, 0.1)}},
    "Q7": {LABELS: {ENTROPY: (0.2, 0.4)}, DOMAINS: {ENTROPY: (0.2, 0.4)}},
    "Q8": {BARE: {FREE: (1.0, 1.0)}},
    "Q9": {"shrink-perturb": {LOSS: (2.8, 3.2)}},
}


@pytest.mark.claim("Q1", "training")
def test_layer_norm_at_a_high_rate_loses_plasticity_on_new_alphabets():
    settled(language.of("Q1"))


@pytest.mark.claim("Q2", "training")
def test_at_one_rate_no_norm_keeps_what_layer_norm_loses():
    settled(language.of("Q2"))


@pytest.mark.claim("Q3", "training")
def test_new_labels_alone_lose_nothing():
    settled(language.of("Q3"))


@pytest.mark.claim("Q4", "training")
def test_domains_of_natural_text_lose_nothing():
    settled(language.of("Q4"))


@pytest.mark.claim("Q5", "training")
def test_the_rank_goes_with_plasticity():
    settled(language.of("Q5"))


@pytest.mark.claim("Q6", "training")
def test_dead_units_do_not_tell_what_is_lost():
    settled(language.of("Q6"))


@pytest.mark.claim("Q7", "training")
def test_attention_saturates_where_nothing_is_lost():
    settled(language.of("Q7"))


@pytest.mark.claim("Q8", "training")
def test_the_free_share_falls_where_nothing_is_lost():
    settled(language.of("Q8"))


@pytest.mark.claim("Q9", "training")
def test_shrink_and_perturb_leaves_nothing_lost():
    settled(language.of("Q9"))


@pytest.mark.control("Q1")
@pytest.mark.control("Q2")
@pytest.mark.control("Q3")
@pytest.mark.control("Q4")
@pytest.mark.control("Q5")
@pytest.mark.control("Q6")
@pytest.mark.control("Q7")
@pytest.mark.control("Q8")
@pytest.mark.control("Q9")
def test_records_the_other_way_round_show_the_contrary(made):
    folder = made("language", SHOWN)
    for claim, changed in OTHERWISE.items():
        assert language.of(claim, folder).shown, claim
        made("language", {case: SHOWN[case] | new for case, new in changed.items()})
        found = language.of(claim, folder)
        assert found.shown is False, claim
        assert found.contrary, claim
        made("language", {case: SHOWN[case] for case in changed})


@pytest.mark.control("Q1")
@pytest.mark.control("Q2")
@pytest.mark.control("Q5")
@pytest.mark.control("Q6")
def test_each_half_of_a_statement_is_asked_for(made):
    made("language", SHOWN)
    for claim, case, changed in (
        ("Q1", PLAIN, {LOSS: (2.8, 2.8)}),
        ("Q1", GPT2, {LOSS: (2.8, 2.8)}),
        ("Q2", BARE, {LOSS: (2.8, 2.8)}),
        ("Q2", SLOW, {LOSS: (2.8, 2.8)}),
        ("Q2", fresh_of(SLOW), {LOSS: (4.0, 4.0)}),
        ("Q5", BARE, {RANK: (17.0, 10.0)}),
        ("Q5", DOMAINS, {RANK: (17.0, 10.0)}),
        ("Q6", PLAIN, {DEAD: (0.5, 0.9)}),
        ("Q6", "shrink-perturb", {DEAD: (0.0, 0.1)}),
    ):
        assert language.of(claim, made("language", {case: SHOWN[case] | changed})).shown is False
        made("language", {case: SHOWN[case]})


def test_networks_that_are_as_fresh_ones_are_neither_better_nor_worse(made):
    folder = made("language", dict.fromkeys(SHOWN, FRESH))
    for claim in ("Q1", "Q2", "Q4", "Q5", "Q7", "Q8"):
        found = language.of(claim, folder)
        assert found.shown is False
        assert not found.contrary
    for claim in ("Q3", "Q9"):
        assert language.of(claim, folder).shown


def test_layer_norm_that_loses_and_is_ahead_all_the_same_is_not_what_is_said(made):
    made("language", SHOWN)
    low = FRESH | {LOSS: (2.0, 2.0)}
    found = language.of("Q2", made("language", {SLOW: FRESH | {LOSS: (2.0, 2.5)}, fresh_of(SLOW): low}))
    assert "with layer norm minus without −" in found.words
    assert not found.shown


def test_seeds_that_differ_too_widely_show_nothing(made):
    made("language", SHOWN)
    for seed, end in enumerate((2.2, 3.4, 2.4, 3.3, 2.8)):
        folder = made("language", {PLAIN: FRESH | {LOSS: (2.8, end)}}, seeds=(seed,))
    found = language.of("Q1", folder)
    assert not found.shown
    assert not found.contrary


def test_missing_records_and_too_few_seeds_are_never_a_finding(made, tmp_path):
    for claim in language.FINDINGS:
        assert language.of(claim, tmp_path).shown is None
    folder = made("language", SHOWN, seeds=(0, 1, 2, 3))
    for claim in language.FINDINGS:
        found = language.of(claim, folder)
        assert found.shown is None
        assert "fewer than 5 seeds" in found.words


def test_what_is_no_number_is_never_a_finding(made):
    folder = made("language", dict.fromkeys(SHOWN, dict.fromkeys(FRESH, (np.nan, np.nan))))
    for claim in language.FINDINGS:
        found = language.of(claim, folder)
        assert found.shown is None
        assert "missing or no number" in found.words


def test_every_finding_has_its_claim():
    from claims import ledger

    named = {name for name in ledger.load() if name.startswith("Q") and len(name) == 2}
    assert set(language.FINDINGS) == named


def test_a_case_and_the_networks_beside_it_differ_in_the_remedy_and_their_tasks_alone():
    cells = items.item("language").configs("")
    for case in CASES:
        own, fresh = cells[case], cells[fresh_of(case)]
        same = {"remedy": "none", "remedy_settings": (), "tasks": 1, "every": 1}
        assert dataclasses.replace(own, **same) == dataclasses.replace(fresh, **same)
        assert (fresh.tasks - 1) * fresh.every == own.tasks - 1
