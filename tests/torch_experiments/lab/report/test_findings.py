"""JL25's empirical statements on the committed records of continual training (claims P1 to P9 and P13 to P16).

Where records are missing, or do not show it, a claim is left open with the reason, and never passes.
"""

import numpy as np
import pytest

from tests.torch_experiments.lab.report.curves import KEPT, LOST, beside
from tests.torch_experiments.lab.report.verdicts import contradicted, settled
from torch_experiments.lab.campaign import items
from torch_experiments.lab.report import findings
from torch_experiments.lab.report.series import ACCURACY, DEAD, DUPLICATE, FREE, LATER, RANK, SATURATED
from torch_experiments.lab.training import WHOLE


@pytest.mark.claim("P1", "training")
def test_the_mlp_loses_plasticity_with_the_steps_of_the_text():
    settled(findings.of("P1"))


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


@pytest.mark.claim("P14", "training")
def test_the_mlp_with_layer_norm_keeps_its_plasticity():
    settled(findings.of("P14"))


@pytest.mark.claim("P15", "training")
def test_resnet_loses_units_and_rank_and_no_accuracy():
    settled(findings.of("P15"))


@pytest.mark.claim("P16", "training")
def test_norms_hold_the_rank_of_resnet():
    settled(findings.of("P16"))


@pytest.mark.claim("P17", "training")
def test_the_mlp_on_small_images_loses_plasticity():
    settled(findings.of("P17"))


LOSES = {"P1": "mlp", "P2": findings.PAPER, "P4": findings.VIT, "P17": findings.MLP}
REFUTABLE = ("P1", "P2", "P3", "P4", "P14", "P15", "P16", "P17")  # that records can contradict


def against(claim):
    return pytest.param(claim, marks=pytest.mark.claim(claim, "counterexample"))


@pytest.mark.parametrize("claim", [against(claim) for claim in REFUTABLE])
def test_records_that_contradict_a_claim(claim):
    contradicted(findings.of(claim))


@pytest.mark.control("P1")
@pytest.mark.control("P2")
@pytest.mark.control("P4")
@pytest.mark.control("P17")
@pytest.mark.parametrize("claim", LOSES)
def test_what_a_fresh_network_learns_no_better_is_not_lost(made, claim):
    name = LOSES[claim]
    assert findings.of(claim, made(name, beside(name, {"none": LOST}))).shown
    kept = findings.of(claim, made(name, beside(name, {"none": LOST}, LOST | {ACCURACY: (0.3, 0.3)})))
    assert not kept.shown
    assert kept.contrary == (claim != "P4")  # of the ViT, which has the other two symptoms


@pytest.mark.control("P14")
def test_what_layer_norm_keeps_is_set_against_a_fresh_network_with_it(made):
    name = findings.MLP
    found = findings.of("P14", made(name, beside(name, {findings.LAYER: KEPT})))
    assert (found.shown, found.contrary) == (True, False)
    found = findings.of("P14", made(name, beside(name, {findings.LAYER: LOST})))
    assert (found.shown, found.contrary) == (False, True)


def test_a_statement_without_a_fresh_network_is_open_and_says_so(made):
    for claim, name in LOSES.items():
        found = findings.of(claim, made(name, {"none": LOST}))
        assert found.shown is None
        assert f"no record of item {name}: fresh beside none" in found.words


def test_one_seed_contradicts_nothing(made):
    found = findings.of("P17", made(findings.MLP, beside(findings.MLP, {"none": KEPT}), seeds=(0,)))
    assert (found.shown, found.contrary, found.seeds) == (False, False, 1)


def test_other_sizes_stand_beside_and_judge_nothing(made):
    made("mlp-medium", beside("mlp-medium", {"none": LOST}))
    found = findings.of("P2", made(findings.PAPER, beside(findings.PAPER, {"none": KEPT})))
    assert found.contrary
    assert "item mlp-medium (one seed, 40 tasks of 2,000 steps): accuracy while learning 0.326" in found.words


def test_how_many_parameters_are_free_is_told(made):
    curves = beside("mlp", {"none": LOST | {FREE: (1.0, 0.9)}})
    assert "free by the certificate 0.995 → 0.905" in findings.of("P1", made("mlp", curves)).words
    assert "certificate" not in findings.of("P1", made("mlp", beside("mlp", {"none": LOST}))).words


@pytest.mark.control("P4")
def test_one_symptom_alone_is_no_collapse_of_the_vit(made):
    for alone in ({ACCURACY: (0.8, 0.3)}, {LATER: (0.0, 0.9)}, {RANK: (50.0, 5.0)}):
        found = findings.of("P4", made(findings.VIT, beside(findings.VIT, {"none": KEPT | alone})))
        assert not found.shown
        assert not found.contrary
    assert findings.of("P4", made(findings.VIT, beside(findings.VIT, {"none": KEPT}))).contrary


@pytest.mark.control("P3")
@pytest.mark.control("P15")
@pytest.mark.parametrize(("claim", "name"), [("P3", findings.CNN), ("P15", findings.RESNET)])
def test_units_that_live_and_accuracy_that_is_lost_are_not_what_is_said_of_convolutions(made, claim, name):
    kept_accuracy = LOST | {ACCURACY: (0.8, 0.8)}
    assert findings.of(claim, made(name, beside(name, {"none": kept_accuracy}))).shown
    for other, contrary in ((KEPT, True), (LOST, True), (kept_accuracy | {DEAD: (0.6, 0.1)}, False)):
        found = findings.of(claim, made(name, beside(name, {"none": other})))
        assert (found.shown, found.contrary) == (False, contrary)


@pytest.mark.control("P3")
def test_accuracy_that_one_seed_loses_is_neither_kept_nor_lost(made):
    name, kept = findings.CNN, LOST | {ACCURACY: (0.8, 0.8)}
    made(name, beside(name, {"none": kept}), seeds=(0, 1))
    assert findings.of("P3", made(name, beside(name, {"none": kept}), seeds=(2,))).shown
    found = findings.of("P3", made(name, beside(name, {"none": LOST}), seeds=(2,)))
    assert (found.shown, found.contrary) == (False, False)


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


@pytest.mark.control("P5")
@pytest.mark.control("P6")
def test_symptoms_the_other_way_round_are_seen(made):
    for name in ("mlp", findings.PAPER, findings.MLP):
        made(name, beside(name, {"none": KEPT}))
    losing = [cell for name, cell in findings.OF_SYMPTOMS if name == "generalisation"]
    folder = made("generalisation", beside("generalisation", dict.fromkeys(losing, LOST)))
    assert findings.of("P5", folder).shown
    assert findings.of("P6", folder).shown
    healthy = LOST | {DEAD: (0.6, 0.1), RANK: (5.0, 50.0)}
    folder = made("mlp-medium", beside("mlp-medium", {"none": healthy}))
    assert not findings.of("P5", folder).shown
    assert not findings.of("P6", folder).shown


@pytest.mark.control("P5")
@pytest.mark.control("P6")
def test_symptoms_that_come_with_and_without_a_loss_tell_nothing(made):
    made("mlp", beside("mlp", {"none": LOST | {ACCURACY: (0.8, 0.8)}}))
    folder = made("remedies", beside("remedies", {"none": LOST}))
    for claim in ("P5", "P6"):
        found = findings.of(claim, folder)
        assert found.shown is False
        assert "in 5 of 5 runs that lose accuracy and 3 of 3 runs that keep it" in found.words
        assert "p = 1)" in found.words


@pytest.mark.control("P5")
@pytest.mark.control("P6")
def test_many_seeds_of_one_setting_count_once(made):
    made("mlp", beside("mlp", {"none": KEPT}))
    for claim in ("P5", "P6"):
        found = findings.of(claim, made("remedies", beside("remedies", {"none": LOST})))
        assert found.shown is False  # though all 5 runs that lose it move, and none of 3 that keep it
        assert "in the mean of 1 of 1 settings against 0 of 1" in found.words
        assert "p = 0.5)" in found.words


def test_runs_without_a_fresh_network_are_told_and_not_counted(made):
    made("mlp", {"none": LOST})
    found = findings.of("P5", made("remedies", beside("remedies", {"none": LOST})))
    assert found.seeds == 5
    assert "Without a fresh network, not counted: mlp: none" in found.words
    assert "remedies: none, 0.11 → 0.59 (5 of 5)" in found.words


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
@pytest.mark.control("P16")
@pytest.mark.parametrize(("claim", "names"), [("P8", (findings.CNN, findings.VIT)), ("P16", (findings.RESNET,))])
def test_a_norm_with_less_rank_than_none_holds_no_rank(made, claim, names):
    norms = (findings.BATCH, findings.LAYER)
    for name in names:
        folder = made(name, {"none": LOST} | dict.fromkeys(norms, KEPT))
    assert findings.of(claim, folder).shown
    made(names[-1], {"none": KEPT, findings.LAYER: LOST})
    assert not findings.of(claim, folder).shown
    for name in names:
        made(name, {"none": KEPT} | dict.fromkeys(norms, LOST))
    assert findings.of(claim, folder).contrary


def test_a_place_with_one_seed_is_what_a_statement_on_several_rests_on(made):
    norms = {"none": LOST, findings.LAYER: KEPT}
    made(findings.CNN, norms)
    assert findings.of("P8", made(findings.VIT, norms, seeds=(0,))).seeds == 1
    assert findings.of("P8", made(findings.VIT, norms)).seeds == 6


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
    for name in ("mlp", findings.PAPER, findings.MLP, findings.CNN, findings.VIT, findings.RESNET, "remedies"):
        folder = made(name, beside(name, cells, broken))
    runs = [claim for claim in findings.FINDINGS if claim not in ("P10", "P11", "P12")]
    for found in (findings.of(claim, folder) for claim in runs):
        assert found.shown is None
        assert not found.contrary
        assert "missing or no number: " in found.words
    del broken[DUPLICATE]
    assert "duplicate_fraction (none)" in findings.of("P1", made("mlp", {"none": broken})).words
    made(findings.MLP, beside(findings.MLP, {"none": LOST}, broken))
    assert "missing or no number: online_accuracy (fresh beside none)" in findings.of("P17", folder).words


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
