"""Figures of finished runs: what they do with a part of the runs or none, and what they compute from them."""

import math
import re
import sys
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from matplotlib.figure import Figure

from paper_figures import (
    after_escape,
    cifar_cloning,
    early_warning,
    free_fraction,
    generalisation,
    layers_over_time,
    remedy_ranking,
    streams,
    tiny_bars,
    tiny_normalisation,
    tiny_symptoms,
)
from paper_figures.normalisation import LINES
from paper_figures.support import finished, registry, style
from paper_figures.support.results import Missing
from tests.paper_figures.finished_cases import CASES, mlp, put, small_cifar, small_remedies, small_symptoms, table
from torch_experiments.lab.campaign import items as campaign
from torch_experiments.lab.report import published

OF_RECORDS = [registry.load(name) for name in CASES if name != "early_warning"]
OF_COMPLETE_RECORDS = (generalisation, after_escape, streams)
OF_MLP = (tiny_normalisation, tiny_bars, layers_over_time, free_fraction)


@pytest.fixture
def no_records(monkeypatch, tmp_path):
    monkeypatch.setattr(campaign, "RESULTS", tmp_path)


@pytest.mark.parametrize("figure", [*OF_RECORDS, *OF_COMPLETE_RECORDS], ids=lambda figure: figure.NAME)
def test_without_records_a_figure_says_what_is_missing(figure, no_records, tmp_path):
    with pytest.raises(Missing, match="no finished run"):
        figure.compute("quick", tmp_path)


@pytest.mark.parametrize("figure", OF_COMPLETE_RECORDS, ids=lambda figure: figure.NAME)
def test_a_figure_of_all_runs_is_left_out_when_one_lacks(figure, monkeypatch):
    item = campaign.item(figure.ITEM)
    runs = dict.fromkeys(item.configs(""), item.seeds)
    monkeypatch.setattr(campaign, "found", lambda name, folder: campaign.Found(table(runs, 1), {}))
    assert len(figure.compute("quick"))
    cell, *_ = runs
    runs[cell] = item.seeds[1:]
    with pytest.raises(Missing, match=re.escape(f"not finished: {cell} (seed 0)")):
        figure.compute("quick")


def test_a_figure_without_records_is_skipped_and_no_failure(no_records, tmp_path, capsys):
    registry.main(("tiny_bars", "cifar_cloning"), out=tmp_path / "out", results=tmp_path)
    shown = " ".join(capsys.readouterr().out.split())
    assert "skipped: there is no finished run of 'mlp'" in shown
    assert "skipped: there is no finished run of cloning on CIFAR-10" in shown
    assert not (tmp_path / "out").exists()


def test_the_others_are_drawn(no_records, tmp_path, monkeypatch):
    drawn = []
    true = SimpleNamespace(NAME="true", TITLE="a title")
    monkeypatch.setitem(sys.modules, "paper_figures.true", true)
    monkeypatch.setattr(registry, "FIGURES", ("tiny_bars", "true"))
    make = registry.make
    monkeypatch.setattr(
        registry, "make", lambda name, *rest: drawn.append(name) or [] if name == "true" else make(name, *rest)
    )
    registry.main(out=tmp_path, results=tmp_path)
    assert drawn == ["true"]


def test_finished_runs_are_read_by_item(monkeypatch):
    runs = {"mlp": campaign.Found(mlp(), {}), "vit": campaign.Found(table({"layer, affine": (0,)}), {})}
    monkeypatch.setattr(campaign, "found", lambda name, folder: runs.get(name))
    assert list(tiny_symptoms.compute("quick")) == ["mlp"]
    assert tiny_bars.compute("quick") == runs["mlp"].table
    monkeypatch.setattr(campaign, "found", lambda name, folder: runs["vit"])
    with pytest.raises(Missing, match="of 'mlp' no cell of none, batch, layer is finished"):
        layers_over_time.compute("quick")
    with pytest.raises(Missing, match="none is a run without normalisation"):
        tiny_symptoms.compute("quick")


@pytest.mark.parametrize("figure", OF_MLP, ids=lambda figure: figure.NAME)
@pytest.mark.parametrize("runs", [{"none": (0,)}, {"layer": (1,), "dropout": (2,)}], ids=str)
def test_a_part_of_the_runs_is_drawn_and_the_rest_named(figure, runs):
    if not set(runs) & set(getattr(figure, "CELLS", LINES)):
        pytest.skip("this figure shows none of them")
    data = table(runs, 12)
    registry.check(figure, data)
    assert "Left out for want of finished runs: " in figure.caption(data)
    assert "batch" in figure.caption(data).split("finished runs: ")[1]
    with style.context():
        assert figure.draw(data).axes


@pytest.mark.parametrize("items", [["mlp"], ["mlp-medium"], ["cnn", "vit"]], ids=str)
def test_symptoms_of_some_networks_are_drawn(items):
    data = {name: table({"none": (0,)}) for name in items}
    registry.check(tiny_symptoms, data)
    assert ("CNN of half width" in tiny_symptoms.caption(data).split("finished runs: ")[1].split(". ")[0]) == (
        "cnn" not in items
    )
    with style.context():
        rows = {tiny_symptoms.COURSES[name].row for name in items}
        assert len(tiny_symptoms.draw(data).axes) == 4 * len(rows)


def test_some_remedies_are_ranked():
    data = finished.where(small_remedies(None), {"cell": "redo"})
    registry.check(remedy_ranking, data)
    assert "First is redo" in remedy_ranking.caption(data)
    with style.context():
        remedy_ranking.draw(data)


def test_some_clones_are_drawn():
    data = finished.where(small_cifar(None), {"arch": "cnn", "regime": "dropout"})
    registry.check(cifar_cloning, data)
    assert "ResNet-18, Adam, seed 0" in cifar_cloning.caption(data)
    with style.context():
        assert len(cifar_cloning.draw(data).axes) == 2


def test_absent_runs_are_named():
    data = table({"none": (0, 2), "batch": (0, 1, 2), "layer": (1,)}, 6)
    found = finished.absent("mlp", data, ["none", "batch", "layer", "dropout"])
    assert found == ["none (seed 1)", "layer (seeds 0 and 2)", "dropout"]
    assert finished.gaps([]) == ""


def test_cells_are_compared_on_their_common_seeds():
    data = table({"none": (0, 2), "layer": (1, 2)}, 6)
    assert set(finished.shared(data, ["none", "layer"])["seed"].to_pylist()) == {2}
    assert len(finished.shared(data, ["none", "batch"])) == 0


def test_lines_count_the_seeds():
    data = table({"none": (0, 2), "layer": (1,)}, 6)
    assert finished.lines(data, ["none"]) == "Line: mean of 2 seeds; band: their range."
    assert finished.lines(data, ["none", "layer"]) == "Line: mean of 1 to 2 seeds; band: their range."
    assert finished.lines(data, ["layer"]) == "Line: one seed."


def test_an_interval_is_students():
    mean, half = finished.interval(np.array([1.0, 2.0, 3.0]))
    assert mean == 2
    assert half == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert finished.interval(np.array([5.0])) == (5.0, 0.0)


def test_a_sign_is_told_where_the_interval_leaves_zero_out():
    above, about = np.array([1.0, 2.0, 3.0, 4.0]), np.array([-1.0, 2.0, 3.0])
    assert [finished.sign(values) for values in (above, -above, about, above[:1])] == [1, -1, 0, 0]
    assert finished.told(above, 1) == "+2.5 [0.4, 4.6]"
    assert finished.told(about, 1) == "+1.3 [−3.8, 6.5], not told from none"


BAND = [3.0, 5.0, 4.0, 4.0, 3.5]


@pytest.mark.parametrize(
    ("later", "task"),
    [
        ([2.0, 1.0, 0.0], 5),  # below from the first chance on
        ([6.0, 7.0, 8.0, 9.0], 5),  # above
        ([4.0, 6.0, 6.0, 6.0], 6),
        ([6.0, 4.0, 6.0, 6.0], None),  # comes back, then too few tasks are left
        ([6.0, 6.0, 6.0, 5.0], None),  # the edge belongs to the band
        ([2.0, 6.0, 6.0, 6.0], 6),  # below, then for good above
        ([6.0, 2.0, 6.0, 2.0], None),  # outside, on no one side
        ([math.nan, math.nan, math.nan], None),
        ([], None),
    ],
)
def test_leaving_the_band_for_good(later, task):
    assert early_warning.leaves(np.array([*BAND, *later])) == task


def test_accuracy_falls_only_downwards():
    assert early_warning.falls(np.array([*BAND, 2.0, 2.0, 2.0])) == 5
    assert early_warning.falls(np.array([*BAND, 6.0, 6.0, 6.0])) is None


def warned(**metrics):
    """Return a stream of one seed in which accuracy falls at the tenth task."""
    rows = {"online_accuracy": [0.5, 0.6, *[0.55] * 8, *[0.4] * 5], **metrics}
    return pa.Table.from_pylist(
        [
            {"task": k, "step": 9, "layer": 0, "metric": metric, "cell": "none", "seed": 7, "value": value}
            for metric, values in rows.items()
            for k, value in enumerate(values)
        ]
    )


def test_leads_are_tasks_after_the_fall_of_accuracy():
    rank, norm = [*[10.0] * 7, *[9.0] * 8], [1.0] * 15
    data = {early_warning.DIGITS: warned(roy_vetterli_rank_raw=rank, weight_norm=norm)}
    assert early_warning.lost(data) == {early_warning.DIGITS: {7: 10}}
    found = early_warning.leads(data)
    assert [(lead.metric, lead.after) for lead in found] == [("weight_norm", None), ("roy_vetterli_rank_raw", -3)]
    assert early_warning.always_before(found) == ["roy_vetterli_rank_raw"]
    assert early_warning.median(found, "weight_norm") is None
    assert early_warning.moves(found, "weight_norm") == (0, 1)
    assert early_warning.moves(found, "roy_vetterli_rank_raw") == (1, 1)
    assert "effective rank -3 (1 of 1)" in early_warning.caption(data)


@pytest.mark.parametrize(("rest", "bars"), [([1.0], 1), ([1.0, 2.0], 0)], ids=str)
def test_a_median_is_drawn_where_more_than_half_move(rest, bars):
    found = [early_warning.Lead(early_warning.DIGITS, 0, "weight_norm", -2)]
    found += [early_warning.Lead(early_warning.DIGITS, k, "weight_norm", None) for k in range(1, len(rest))]
    axis = Figure().subplots()
    early_warning._draw_row(axis, found, 0)
    assert [line.get_label() for line in axis.lines].count("median") == bars


def test_alarms_are_false_where_accuracy_stays():
    moving = warned(online_accuracy=[0.5] * 15, weight_norm=[float(k) for k in range(15)])
    data = {early_warning.DIGITS: warned(), "other": moving}
    assert early_warning.false_alarms(data, "weight_norm") == (1, 1)
    assert early_warning.false_alarms(data, "dead_fraction") == (0, 0)


def test_free_parameters_are_those_between_living_units():
    dead = np.zeros((5, 2))
    dead[0, 1] = 1.0
    whole, headless = free_fraction.alive(dead)
    assert whole == 1
    lost = 12_288 * 128 + 128 + 128 * 128  # into the first layer, its biases, and out of it
    assert headless == pytest.approx(1 - lost / (12_288 * 128 + 128 + 4 * (128 * 128 + 128) + 128 * 200 + 200))


def test_lines_on_zero_share_an_entry_of_the_legend():
    with style.context():
        (legend,) = free_fraction.draw(mlp()).legends
    entries = [text.get_text() for text in legend.get_texts()]
    assert free_fraction.near_zero(mlp()) == ["batch"]
    assert "batch" not in entries
    assert entries[-1] == "1 settings, near zero"
    assert "Grey lines, near zero: batch, where" in free_fraction.caption(mlp())


def test_layers_are_means_over_seeds():
    data = table({"none": (0, 1)}, 6)
    found = layers_over_time.layers(data, "none", finished.DEAD)
    one, two = (
        layers_over_time.layers(finished.where(data, {"seed": seed}), "none", finished.DEAD) for seed in (0, 1)
    )
    assert found.shape == (5, 6)
    np.testing.assert_allclose(found, (one + two) / 2)


def test_published_numbers_are_in_their_ranges():
    for metric in published.METRICS:
        bars = published.bars("mlp", metric)
        assert set(bars) == set(LINES)
        assert all(bar.low <= bar.value <= bar.high for bar in bars.values())
    for arch in ("mlp", "cnn", "resnet18", "vit"):
        shares = [published.ends(arch, metric) for metric in published.METRICS if metric != finished.RANK]
        assert any(shares)
        assert all(0 <= value <= 1 for ends in shares for pair in ends.values() for value in pair)
    assert {arch for arch, _ in published.cloning()} == set(cifar_cloning.ARCHS)


def test_both_ways_of_measuring_are_drawn():
    with style.context():
        axes = tiny_symptoms.draw(small_symptoms(None)).axes
    dashed = [len([line for line in axis.lines if line.get_linestyle() == "--"]) for axis in axes]
    assert dashed == [2, 2, 1, 2, *[1, 1, 0, 1] * 2]


def test_published_ends_are_filled_where_the_network_is_the_same():
    with style.context():
        axes = tiny_symptoms.draw(small_symptoms(None)).axes
    faces = [[line.get_markerfacecolor() for line in axis.lines if line.get_marker() == "<"] for axis in axes]
    assert faces[:4] == [[style.BLACK] * 2] * 3 + [[]]
    assert faces[4:] == [["white"]] * 8


def test_a_panel_without_dead_units_says_so():
    data = {"vit": put(0.0, metric=finished.DEAD)(put(0.0, metric=finished.SILENT)(table({"none": (0,)})))}
    with style.context():
        _, dead, *others = tiny_symptoms.draw(data).axes
    assert [text.get_text() for text in dead.texts] == ["none in any task"]
    assert dead.get_ylim() == (0, 1)
    assert not any(axis.texts for axis in others)


def test_directions_are_those_of_the_results_page():
    data = {"mlp": table({"none": (0, 1)})}
    assert tiny_symptoms._taken("mlp", data["mlp"]) == [finished.ACCURACY, finished.DEAD, finished.RANK]
    still = put(0.5, metric=finished.UNMASKED)(data["mlp"])
    assert tiny_symptoms._taken("mlp", still) == [finished.DEAD, finished.RANK]


def test_settings_that_hardly_differ_are_no_agreement():
    data = mlp()
    assert tiny_bars.agreement(data, finished.ACCURACY) == (4, 5)  # dropout is published lower, and is higher here
    assert tiny_bars.agreement(put(0.5, metric=finished.UNMASKED)(data), finished.ACCURACY) == (0, 5)
    apart = pa.concat_tables([table({"none": (0,)}), table({"batch": (0,), "layer": (1,)})])
    assert tiny_bars.agreement(apart, finished.ACCURACY) == (1, 1)


def test_every_bar_is_drawn():
    with style.context():
        axes = tiny_bars.draw(mlp()).axes
    assert [len(axis.patches) // 6 for axis in axes] == [3, 3, 2, 3, 1]
    assert [axis.get_xlabel() for axis in axes] == [""] * 4 + ["(not published)"]
