"""Figures of finished runs: what they do with a part of the runs or none, and what they compute from them."""

import re
import sys
from types import SimpleNamespace

import pytest

from paper_figures import (
    after_escape,
    cifar_cloning,
    free_fraction,
    generalisation,
    language,
    layers_over_time,
    remedy_ranking,
    streams,
    tiny_bars,
    tiny_normalisation,
    tiny_symptoms,
)
from paper_figures.support import registry, style
from paper_figures.support.results import Missing
from paper_figures.support.style import NORMS
from paper_figures.support.tables import where
from tests.paper_figures.finished_cases import CASES, mlp, small_cifar, small_remedies, table, told
from torch_experiments.lab.campaign import items
from torch_experiments.lab.report import published, series

OF_RECORDS = [registry.load(name) for name in CASES if name != "early_warning"]


OF_COMPLETE_RECORDS = (generalisation, after_escape, streams)


OF_MLP = (tiny_normalisation, tiny_bars, free_fraction)


@pytest.fixture
def no_records(monkeypatch, tmp_path):
    monkeypatch.setattr(items, "RESULTS", tmp_path)


@pytest.mark.parametrize("figure", [*OF_RECORDS, *OF_COMPLETE_RECORDS, language], ids=lambda figure: figure.NAME)
def test_without_records_a_figure_says_what_is_missing(figure, no_records, tmp_path):
    with pytest.raises(Missing, match="no finished run"):
        figure.compute("quick", tmp_path)


@pytest.mark.parametrize("figure", OF_COMPLETE_RECORDS, ids=lambda figure: figure.NAME)
def test_a_figure_of_all_runs_is_left_out_when_one_lacks(figure, monkeypatch):
    item = items.item(figure.ITEM)
    runs = dict.fromkeys(item.configs(""), item.seeds)
    monkeypatch.setattr(items, "found", lambda name, folder: items.Found(table(runs, 1), {}))
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

    def made(name, *rest):
        drawn.append(name)
        return registry.Made([], 1, 0) if name == "true" else make(name, *rest)

    monkeypatch.setattr(registry, "make", made)
    registry.main(out=tmp_path, results=tmp_path)
    assert drawn == ["tiny_bars", "true"]


def test_finished_runs_are_read_by_item(monkeypatch):
    runs = {"mlp": items.Found(mlp(), {}), "vit": items.Found(table({"batch": (0,)}), {})}
    monkeypatch.setattr(items, "found", lambda name, folder: runs.get(name))
    assert list(tiny_symptoms.compute("quick")) == ["mlp"]
    assert tiny_bars.compute("quick") == runs["mlp"].table
    monkeypatch.setattr(items, "found", lambda name, folder: runs["vit"])
    with pytest.raises(Missing, match="none is of a cell that is shown"):
        layers_over_time.compute("quick")
    with pytest.raises(Missing, match="none is a run without normalisation"):
        tiny_symptoms.compute("quick")


@pytest.mark.parametrize("figure", OF_MLP, ids=lambda figure: figure.NAME)
@pytest.mark.parametrize("runs", [{"none": (0,)}, {"layer": (1,), "dropout": (2,)}], ids=str)
def test_a_part_of_the_runs_is_drawn_and_the_rest_named(figure, runs):
    if not set(runs) & set(getattr(figure, "CELLS", NORMS)):
        pytest.skip("this figure shows none of them")
    data = table(runs, 12)
    registry.check(figure, data)
    assert "Left out for want of finished runs: " in told(figure, data)
    assert "batch" in told(figure, data).split("finished runs: ")[1]
    with style.context():
        assert figure.draw(data).axes


def test_some_remedies_are_ranked():
    data = where(small_remedies(None), {"cell": "redo"})
    registry.check(remedy_ranking, data)
    assert "First is redo" in told(remedy_ranking, data)
    with style.context():
        remedy_ranking.draw(data)


def test_some_clones_are_drawn():
    data = where(small_cifar(None), {"arch": "cnn", "regime": "dropout"})
    registry.check(cifar_cloning, data)
    assert "ResNet-18, Adam, seed 0" in told(cifar_cloning, data)
    with style.context():
        assert len(cifar_cloning.draw(data).axes) == 2


def test_published_numbers_are_in_their_ranges():
    for metric in published.METRICS:
        bars = published.bars("mlp", metric)
        assert set(bars) == set(NORMS)
        assert all(bar.low <= bar.value <= bar.high for bar in bars.values())
    for arch in ("mlp", "cnn", "resnet18", "vit"):
        shares = [published.ends(arch, metric) for metric in published.METRICS if metric != series.RANK]
        assert any(shares)
        assert all(0 <= value <= 1 for ends in shares for pair in ends.values() for value in pair)
    assert {arch for arch, _ in published.cloning()} == set(cifar_cloning.ARCHS)
