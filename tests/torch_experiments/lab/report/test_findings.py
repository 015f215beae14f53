"""JL25's empirical statements on the committed records of continual training (claims P1 to P9 and P13).

Where records are missing, or do not show it, a claim is left open with the reason, and never passes.
"""

import dataclasses
import re

import numpy as np
import pytest

from tests.torch_experiments.lab.report.curves import KEPT, LOST
from tests.torch_experiments.lab.report.verdicts import contradicted, settled
from torch_experiments.lab.campaign import items
from torch_experiments.lab.report import findings
from torch_experiments.lab.report.series import ACCURACY, DEAD, DUPLICATE, FREE, RANK, SATURATED
from torch_experiments.lab.training import WHOLE


@pytest.mark.claim("P1", "counterexample")
def test_the_mlp_with_the_steps_of_the_text_does_not_collapse():
    contradicted(findings.of("P1"))


@pytest.mark.claim("P2", "training")
def test_the_mlp_loses_accuracy_with_longer_tasks():
    settled(findings.of("P2"))


@pytest.mark.claim("P3", "training")
def test_the_cnn_loses_units_and_rank_and_no_accuracy():
    settled(findings.of("P3"))


@pytest.mark.claim("P4", "training")
def test_the_vit_without_norm_collapses():
    settled(findings.of("P4"))


@pytest.mark.claim("P5", "training")
def test_units_die_where_accuracy_is_lost():
    settled(findings.of("P5"))


@pytest.mark.claim("P6", "training")
def test_the_rank_falls_where_accuracy_is_lost():
    settled(findings.of("P6"))


@pytest.mark.claim("P7", "training")
def test_norms_hold_the_rank_of_the_mlp():
    settled(findings.of("P7"))


@pytest.mark.claim("P8", "training")
def test_norms_hold_the_rank_of_cnn_and_vit():
    settled(findings.of("P8"))


@pytest.mark.claim("P9", "training")
def test_norms_reduce_dead_saturated_and_duplicate_units():
    settled(findings.of("P9"))


@pytest.mark.claim("P13", "training")
def test_continual_backprop_keeps_the_rank():
    settled(findings.of("P13"))


@pytest.mark.control("P1")
@pytest.mark.control("P2")
@pytest.mark.control("P4")
def test_accuracy_that_is_kept_is_no_collapse(made):
    for name, claim in (("mlp", "P1"), ("mlp-medium", "P2"), ("vit", "P4")):
        assert findings.of(claim, made(name, {"none": LOST})).shown
        assert not findings.of(claim, made(name, {"none": KEPT})).shown


def test_what_is_lost_against_layer_norm_on_the_same_tasks_is_told(made):
    found = findings.of("P2", made("mlp-medium", {"none": LOST, "layer, affine": KEPT}))
    assert "minus that with layer norm on the same tasks" in found.words
    assert "layer norm" not in findings.of("P1", made("mlp", {"none": LOST})).words


def test_how_many_parameters_are_free_is_told_beside_how_many_the_first_layer_holds(made):
    words = findings.of("P2", made("mlp-paper", {"none": LOST | {FREE: (1.0, 0.9)}})).words
    assert "free by the certificate 0.995 → 0.905, of which the first layer holds 94%" in words
    assert "certificate" not in findings.of("P1", made("mlp", {"none": LOST})).words


def test_a_rise_before_the_fall_is_told():
    hill = np.interp(np.arange(40), (0, 12, 39), (0.6, 0.9, 0.6))[None]
    assert findings._highest(hill) == " (highest 0.88, tasks 12 to 16)"
    assert findings._highest(hill[:, :13]) == ""


@pytest.mark.control("P4")
def test_a_fall_of_accuracy_alone_is_no_collapse_of_the_vit(made):
    assert not findings.of("P4", made("vit", {"none": KEPT | {ACCURACY: (0.8, 0.3)}})).shown


@pytest.mark.control("P3")
def test_units_that_live_and_accuracy_that_falls_are_not_what_is_said_of_the_cnn(made):
    kept_accuracy = LOST | {ACCURACY: (0.8, 0.8)}
    assert findings.of("P3", made("cnn", {"none": kept_accuracy})).shown
    for other in (KEPT, LOST, kept_accuracy | {DEAD: (0.6, 0.1)}):
        assert not findings.of("P3", made("cnn", {"none": other})).shown


@pytest.mark.control("P3")
def test_accuracy_that_one_seed_loses_does_not_hold(made, monkeypatch):
    monkeypatch.setitem(items.ITEMS, "cnn", dataclasses.replace(items.item("cnn"), seeds=(0, 1)))
    made("cnn", {"none": LOST | {ACCURACY: (0.8, 0.8)}}, seeds=(0,))
    assert findings.of("P3", made("cnn", {"none": LOST | {ACCURACY: (0.8, 0.79)}}, seeds=(1,))).shown
    assert not findings.of("P3", made("cnn", {"none": LOST}, seeds=(1,))).shown


def test_the_vit_is_made_of_clones_at_first_and_recovers():
    table = items.found("vit").table
    shares = {(r["task"], r["step"]): r["value"] for r in table.to_pylist() if plain_whole(r, DUPLICATE)}
    ranks = {(r["task"], r["step"]): r["value"] for r in table.to_pylist() if plain_whole(r, RANK)}
    assert (shares[0, 0], round(shares[0, 100], 2)) == (0, 0.92)
    assert (round(ranks[0, 0]), round(ranks[0, 100])) == (44, 12)
    assert shares[20, 500] < 0.1
    assert ranks[20, 500] > 20


def plain_whole(row, metric):
    return (row["cell"], row["layer"], row["metric"]) == ("none", WHOLE, metric)


def test_a_reduced_network_is_no_counterexample(made):
    better = LOST | {ACCURACY: (0.3, 0.8), DEAD: (0.6, 0.1), RANK: (5.0, 50.0)}
    for name in findings.REDUCED:
        folder = made(name, {"none": better, findings.LAYER: LOST})
    for claim in ("P3", "P4", "P8"):
        found = findings.of(claim, folder)
        assert found.shown is False
        assert not found.contrary
    assert findings.of("P4", made("gpu-vit", {"none": better})).contrary
    assert findings.of("P1", made("mlp", {"none": better})).contrary


@pytest.mark.control("P5")
@pytest.mark.control("P6")
def test_symptoms_the_other_way_round_are_seen(made):
    made("mlp", {"none": KEPT})
    folder = made("remedies", {"none": LOST})
    assert findings.of("P5", folder).shown
    assert findings.of("P6", folder).shown
    folder = made("mlp-medium", {"none": LOST | {DEAD: (0.6, 0.1), RANK: (5.0, 50.0)}})
    assert not findings.of("P5", folder).shown
    assert not findings.of("P6", folder).shown


@pytest.mark.control("P5")
@pytest.mark.control("P6")
def test_symptoms_that_come_with_and_without_a_loss_tell_nothing(made):
    made("mlp", {"none": LOST | {ACCURACY: (0.8, 0.8)}})
    folder = made("remedies", {"none": LOST})
    for claim in ("P5", "P6"):
        found = findings.of(claim, folder)
        assert found.shown is False
        assert "in 5 of 5 runs that lose it and 3 of 3 runs that keep it" in found.words
        assert "p = 1)" in found.words


def test_symptoms_of_runs_that_keep_their_accuracy_are_told(made):
    made("remedies", {"none": LOST})
    words = findings.of("P5", made("mlp", {"none": LOST | {ACCURACY: (0.8, 0.8)}})).words
    assert re.search(r"remedies: none, .* with accuracy .*\. Where accuracy is kept: mlp: none, 0\.1\d → ", words)


@pytest.mark.control("P7")
def test_a_norm_whose_rank_falls_holds_no_rank(made):
    good = dict.fromkeys(findings.NORMS, KEPT)
    found = findings.of("P7", made("mlp", {"none": LOST} | good))
    assert found.shown
    assert "holds too" not in found.words
    assert "none 50 → 50, which holds too" in findings.of("P7", made("mlp", {"none": KEPT} | good)).words
    assert not findings.of("P7", made("mlp", good | {"none": LOST, "layer": LOST | {RANK: (50.0, 30.0)}})).shown
    assert not findings.of("P7", made("mlp", good | {"none": KEPT | {RANK: (50.0, 60.0)}})).shown


@pytest.mark.control("P8")
def test_a_norm_with_less_rank_than_none_holds_no_rank(made):
    for name in ("cnn", "vit"):
        folder = made(name, {"none": LOST, findings.LAYER: KEPT})
    assert findings.of("P8", folder).shown
    made("vit", {"none": KEPT, findings.LAYER: LOST})
    assert not findings.of("P8", folder).shown


@pytest.mark.control("P9")
@pytest.mark.parametrize("metric", [DEAD, SATURATED, DUPLICATE])
def test_a_norm_with_more_of_one_symptom_does_not_reduce_them(made, metric):
    good = dict.fromkeys(findings.NORMS, KEPT | {DUPLICATE: (0.0, 0.0)})
    assert findings.of("P9", made("mlp", {"none": LOST} | good)).shown
    worse = KEPT | {DUPLICATE: (0.0, 0.0), metric: (0.9, 0.9)}
    assert not findings.of("P9", made("mlp", {"none": LOST} | good | {"batch": worse})).shown


@pytest.mark.control("P13")
def test_equal_ranks_are_no_gain_of_continual_backprop(made):
    assert findings.of("P13", made("remedies", {"none": LOST, "cbp": KEPT})).shown
    assert not findings.of("P13", made("remedies", {"none": KEPT, "cbp": KEPT})).shown


@pytest.mark.control("P9")
def test_symptoms_are_compared_seed_by_seed(made):
    some, few, many = (dict.fromkeys(findings.SYMPTOMS, (share, share)) for share in (0.4, 0.2, 0.9))
    made("mlp", dict.fromkeys(findings.NORMS, KEPT | some), seeds=(0,))
    made("mlp", {"none": KEPT | many}, seeds=(1,))
    assert not findings.of("P9", made("mlp", {"none": KEPT | few}, seeds=(0,))).shown


def test_missing_records_are_never_a_finding(tmp_path):
    for claim in findings.FINDINGS:
        found = findings.of(claim, tmp_path)
        assert found.shown is None
        assert not found.contrary
        assert "no record" in found.words


def test_what_is_no_number_or_not_measured_is_never_a_finding(made):
    broken = dict.fromkeys(KEPT, (np.nan, np.nan))
    cells = dict.fromkeys(("none", *findings.NORMS, "cbp"), broken)
    for name in ("mlp", "mlp-medium", "cnn", "vit", "remedies"):
        folder = made(name, cells)
    runs = [claim for claim in findings.FINDINGS if claim not in ("P10", "P11", "P12")]
    for found in (findings.of(claim, folder) for claim in runs):
        assert found.shown is None
        assert not found.contrary
        assert "missing or no number: " in found.words
    del broken[DUPLICATE]
    assert "duplicate_fraction (none)" in findings.of("P1", made("mlp", {"none": broken})).words


def test_seeds_that_no_two_cells_share_are_never_a_finding(made):
    for name, other in (("mlp", findings.NORMS), ("remedies", ("cbp",))):
        made(name, {"none": LOST}, seeds=(0,))
        folder = made(name, dict.fromkeys(other, KEPT), seeds=(1,))
    for found in (findings.of(claim, folder) for claim in ("P7", "P9", "P13")):
        assert found.shown is None
        assert "of one seed in all of: none; " in found.words


def test_every_finding_has_its_claim():
    from claims import ledger

    assert set(findings.FINDINGS) == {name for name in ledger.load() if name.startswith("P")}
