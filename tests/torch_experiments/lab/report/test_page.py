"""JL25's empirical statements on the committed records (claims P1 to P13), and the page made of them.

Where records are missing, or do not show it, a claim is left open with the reason, and never passes.
"""

import dataclasses
import re
from itertools import product

import numpy as np
import pyarrow as pa
import pytest

from claims.evidence import witness
from paper_figures.support import registry
from torch_experiments.lab import records
from torch_experiments.lab.campaign import items
from torch_experiments.lab.images import pixels
from torch_experiments.lab.report import findings, page, published, series, tables
from torch_experiments.lab.report.series import (
    ACCURACY,
    DEAD,
    DUPLICATE,
    LATER,
    RANK,
    SATURATED,
    SILENT,
    TEST,
    UNMASKED,
    Clones,
    Runs,
)
from torch_experiments.lab.training import WHOLE, run_identity

KEPT = {ACCURACY: (0.8, 0.8), DEAD: (0.1, 0.1), DUPLICATE: (0.1, 0.1), LATER: (0.1, 0.1), RANK: (50.0, 50.0)}
KEPT[SATURATED] = (0.1, 0.1)
LOST = {ACCURACY: (0.8, 0.3), DEAD: (0.1, 0.6), DUPLICATE: (0.0, 0.9), LATER: (0.0, 0.9), RANK: (50.0, 5.0)}
LOST[SATURATED] = (0.1, 0.6)


def settled(claim):
    """Say that the records show a claim, or leave it open."""
    found = findings.of(claim)
    if found.shown is None:
        pytest.skip(found.words)
    if not found.shown:
        pytest.xfail(f"the records do not show it: {found.words}")
    witness(instances=found.seeds)


def contradicted(claim):
    """Say that the records show the opposite of a claim, or leave it open."""
    found = findings.of(claim)
    if not found.contrary:
        pytest.skip(f"the records show no counterexample: {found.words}")
    witness(instances=found.seeds)


@pytest.fixture
def made(tmp_path):
    """Return a function that writes records of an item whose metrics go straight from start to end."""

    def write(name, curves, seeds=None):
        item = items.item(name)
        fingerprint = items.TINY_IMAGENET if item.real else pixels.load("digits").fingerprint
        for cell, config in item.configs("").items():
            for seed in (seeds or item.seeds) if cell in curves else ():
                table = straight(config, curves[cell])
                about = run_identity(config, seed, fingerprint)
                records.save(tmp_path / name, records.Record(about, table, {"seconds": 3600.0, "threads": 1}))
        return tmp_path

    return write


def straight(config, metrics):
    rows = [
        {"task": k, "step": step, "layer": layer, "metric": metric, "value": float(value) if step else np.pi}
        for metric, (first, last) in metrics.items()
        for k, value in enumerate(np.linspace(first, last, config.tasks))
        for step in (0, config.steps)
        for layer in (0, 1)
    ]
    return pa.Table.from_pylist(rows)


@pytest.mark.claim("P1", "counterexample")
def test_the_mlp_with_the_steps_of_the_text_does_not_collapse():
    contradicted("P1")


@pytest.mark.claim("P2", "training")
def test_the_mlp_collapses_with_longer_tasks():
    settled("P2")


@pytest.mark.claim("P3", "training")
def test_the_cnn_loses_units_and_rank_and_no_accuracy():
    settled("P3")


@pytest.mark.claim("P4", "training")
def test_the_vit_without_norm_collapses():
    settled("P4")


@pytest.mark.claim("P5", "training")
def test_units_die_where_accuracy_is_lost():
    settled("P5")


@pytest.mark.claim("P6", "training")
def test_the_rank_falls_where_accuracy_is_lost():
    settled("P6")


@pytest.mark.claim("P7", "training")
def test_norms_hold_the_rank_of_the_mlp():
    settled("P7")


@pytest.mark.claim("P8", "training")
def test_norms_hold_the_rank_of_cnn_and_vit():
    settled("P8")


@pytest.mark.claim("P9", "training")
def test_norms_reduce_dead_saturated_and_duplicate_units():
    settled("P9")


@pytest.mark.claim("P13", "training")
def test_continual_backprop_keeps_the_rank():
    settled("P13")


@pytest.mark.control("P1")
@pytest.mark.control("P2")
@pytest.mark.control("P4")
def test_accuracy_that_is_kept_is_no_collapse(made):
    for name, claim in (("mlp", "P1"), ("mlp-medium", "P2"), ("vit", "P4")):
        assert findings.of(claim, made(name, {"none": LOST})).shown
        assert not findings.of(claim, made(name, {"none": KEPT})).shown


def test_the_pictures_of_the_page_are_there():
    for figure, _ in page.PICTURES.values():
        assert (page.DOCS / f"{figure}.png").is_file()


def test_make_draws_the_pictures_of_the_page():
    makefile = (page.PAGE.parent / "Makefile").read_text()
    drawn = re.search(r"^PICTURES := (.*)$", makefile, flags=re.MULTILINE)[1].split()
    assert set(drawn) == {figure for figure, _ in page.PICTURES.values()}


def test_captions_on_the_page_are_those_of_the_figures(tmp_path):
    for name, _ in page.PICTURES.values():
        figure = registry.load(name)
        data = figure.compute("quick", tmp_path)
        assert (page.DOCS / f"{name}.txt").read_text(encoding="utf-8") == str(registry.caption(figure, data))


def test_what_is_lost_against_layer_norm_on_the_same_tasks_is_told(made):
    found = findings.of("P2", made("mlp-medium", {"none": LOST, "layer, affine": KEPT}))
    assert "minus that with layer norm on the same tasks" in found.words
    assert "layer norm" not in findings.of("P1", made("mlp", {"none": LOST})).words


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
    folder = made("remedies", {"none": LOST})
    assert findings.of("P5", folder).shown
    assert findings.of("P6", folder).shown
    folder = made("mlp-medium", {"none": LOST | {DEAD: (0.6, 0.1), RANK: (5.0, 50.0)}})
    assert not findings.of("P5", folder).shown
    assert not findings.of("P6", folder).shown


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


def arches(claim, regimes, holds):
    """Check every architecture that there are records of, and witness its runs."""
    clones = series.clones()
    done = [arch for arch in items.CLONING.configs("") if any(clones.seeds(arch, r) for r in regimes)]
    assert {"mlp", "cnn", "vit"} <= set(done), f"{claim}: records of experiment 1 are gone"
    for arch in done:
        assert holds(clones, arch), arch
        witness(instances=sum(len(clones.seeds(arch, r)) for r in regimes))


@pytest.mark.claim("P10", "training")
def test_clones_stay_under_momentum_and_adam():
    arches("P10", findings.STAY, findings.stay)
    clones = series.clones()
    for arch, regime in product(items.CLONING.configs(""), findings.STAY):
        witness(instances=0, residual=float(clones.over(arch, regime, "clone", "coset_residual")[:, -1].max()))
    for regime in findings.STAY:
        for metric in ("forward_score", "backward_score"):
            score = clones.over("mlp", regime, "clone", metric)
            assert score == pytest.approx(np.ones_like(score), abs=1e-12)


@pytest.mark.control("P10")
def test_clones_under_noise_do_not_count_as_staying():
    assert findings.stay(series.clones(), "mlp", findings.PART) is False


@pytest.mark.claim("P11", "training")
def test_clones_part_under_noise_and_dropout():
    arches("P11", findings.PART, findings.part)
    for regime in findings.PART:
        assert (series.clones().over("mlp", regime, "clone", "forward_score")[:, -1] < 1 - findings.APART).all()


@pytest.mark.control("P11")
def test_clones_under_momentum_do_not_count_as_parted():
    assert findings.part(series.clones(), "mlp", findings.STAY) is False


@pytest.mark.claim("P12", "counterexample")
def test_dropout_makes_use_of_the_added_width_too():
    gain = findings.gain(series.clones(), "mlp", "dropout")
    assert (gain < 0.5).all()
    witness(instances=len(gain))


@pytest.mark.claim("P12", "training")
def test_clones_that_part_use_their_width_and_others_do_not():
    found = findings.of("P12")
    assert found.contrary, found.words
    witness(instances=found.seeds)


@pytest.mark.control("P12")
def test_clones_that_stay_gain_nothing_in_every_seed():
    for regime in findings.STAY:
        assert not (findings.gain(series.clones(), "mlp", regime) < 1).all()


def test_published_cloning_losses_say_the_same_of_dropout():
    found = published.cloning()
    assert found["mlp", "dropout"].clone_loss < found["mlp", "dropout"].base_loss
    assert found["mlp", "dropout"].clone_loss > found["mlp", "momentum"].base_loss


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


@pytest.mark.parametrize("claim", ["P10", "P11", "P12"])
def test_clones_that_are_no_number_are_never_a_finding(monkeypatch, claim):
    lost = np.full((1, 3), np.nan)
    monkeypatch.setattr(Clones, "over", lambda self, *place: lost)
    found = findings.of(claim)
    assert found.shown is None
    assert not found.contrary


def test_every_finding_has_its_claim():
    from claims import ledger

    assert set(findings.FINDINGS) == {name for name in ledger.load() if name.startswith("P")}


def test_series_take_the_end_of_every_task_of_the_whole_network(made):
    runs = Runs("mlp", made("mlp", {"none": LOST}))
    values = runs.over("none", ACCURACY)
    assert values == pytest.approx(np.tile(np.linspace(0.8, 0.3, 40), (3, 1)))
    assert series.start(values) == pytest.approx(np.linspace(0.8, 0.3, 40)[:5].mean())
    assert runs.missing("none", "layer") == ["layer (seed 0, 1, 2)"]
    assert runs.seeds("none", "layer") == ()


def test_the_interval_is_that_of_students_t():
    low, high = series.interval(np.array([1.0, 2.0, 3.0]))
    assert (low, high) == pytest.approx((2 - 4.302652730 / 3**0.5, 2 + 4.302652730 / 3**0.5))
    assert series.interval(np.array([1.0])) is None


# ------------------------------------------------------------------------------------------ the page


def test_the_committed_page_is_what_the_records_give():
    assert page.current(), "RESULTS.md: run `lop results --write`"


def test_an_old_page_is_found(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(page, "PAGE", tmp_path / "RESULTS.md")
    monkeypatch.setattr(page.current, "__defaults__", (tmp_path / "RESULTS.md", items.RESULTS))
    monkeypatch.setattr(page.write, "__defaults__", (tmp_path / "RESULTS.md", items.RESULTS))
    empty = tmp_path / "none"
    assert page.main(empty, check=True) == 1
    assert page.main(empty, save=True) == 0
    assert page.main(empty, check=True) == 0
    assert page.main(check=True) == 1
    assert "lop results --write" in capsys.readouterr().out


def test_without_records_every_item_is_said_to_be_missing(tmp_path):
    text = page.text(tmp_path)
    for name in items.ITEMS:
        section = text.split(f"## Item `{name}`")[1].split("\n## ")[0]
        assert "**Not run yet**" in section
        assert f"`lop campaign {name}" in section
    assert text.count("| open |") == len(findings.FINDINGS)
    assert "→ 0.389 | not run |" in text


def test_a_missing_cell_and_seed_are_named(made):
    folder = made("mlp", {"none": LOST | {UNMASKED: (0.8, 0.1)}})
    next((folder / "mlp").glob("*.parquet")).unlink()
    text = page.text(folder)
    assert "2 of 21 runs (cells × seeds) are finished" in text
    assert re.search(r"Missing: none \(seed [012]\); none, as published \(seed 0, 1, 2\);", text)
    assert "| mlp: none | accuracy | 0.884 → 0.389 | 0.764 (0.764–0.764) → 0.136 (0.136–0.136) | yes |" in text
    assert "2 core-hours by the clock" in text


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


@pytest.mark.parametrize("code", [0, 1])
def test_the_command_ends_with_the_answer(command, monkeypatch, code):
    monkeypatch.setattr(page, "main", lambda folder, *, save, check: code if check else 3)
    assert command("results", "--check")[0] == code


def test_a_folder_that_is_not_there_is_no_empty_one(command, tmp_path):
    code, _, err = command("results", "--write", "--folder", tmp_path / "typo")
    assert code == 2
    assert "there is no folder" in err


@pytest.mark.parametrize("option", ["--write", "--check"])
def test_the_page_is_not_written_from_other_records(command, made, option):
    before = page.PAGE.read_text()
    code, _, err = command("results", option, "--folder", made("mlp", {"none": KEPT}))
    assert code == 2
    assert "of the committed records" in err
    assert page.PAGE.read_text() == before


def test_a_folder_without_records_is_refused(command, tmp_path):
    code, out, err = command("results", "--folder", tmp_path)
    assert (code, out) == (2, "")
    assert "there are no records below" in err


@pytest.mark.parametrize(("first", "last", "found"), [(0.5, 0.51, 0), (0.5, 0.4, -1), (50, 50.9, 0), (50, 52, 1)])
def test_directions(first, last, found):
    assert tables.direction(first, last) == found
