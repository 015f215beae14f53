"""Facts of runs in the sentences of the results page come from configurations and records."""

import dataclasses
import re

import pytest

from torch_experiments.lab.campaign import items
from torch_experiments.lab.report import prose, published, series
from torch_experiments.lab.report.series import Runs


@dataclasses.dataclass(frozen=True)
class Done(Runs):
    """An item of which some cells are said to be finished."""

    done: tuple[str, ...] = ()

    @property
    def environments(self):
        return {(cell, seed): {} for cell in self.done for seed in self.item.seeds}


def said(**done):
    """Return what is not run if these cells of items are finished."""
    return prose.not_run({name: Done(name, done=done.get(name.replace("-", "_"), ())) for name in items.every()})


def test_without_records_every_network_waits():
    text = " ".join(said().split())
    assert "- MLP, CNN, ResNet-18 and ViT: a training step takes seconds" in text
    assert "at full width" not in text
    assert "More than one seed" not in text
    assert all(f"Item `{name}`, for a GPU" in text for name in items.GPU_ITEMS)


def test_a_reduced_network_waits_at_full_width_and_a_full_one_no_more():
    assert "CNN and ViT at full width on images of 64×64: a training step" in said(cnn=("none",), vit=("none",))
    text = said(cnn=("none",), gpu_cnn_medium=("none",), gpu_vit=("none",), gpu_resnet18=("none",))
    assert "- MLP: a training step takes" in text
    assert "Item `gpu-cnn-medium`" not in text
    everything = said(mlp=("none",), gpu_cnn_medium=("none",), gpu_vit=("none",), gpu_resnet18=("none",))
    assert "a training step" not in everything


def test_cells_of_experiment_3_without_a_record_are_listed_by_network():
    text = said(cnn=("none", "layer, affine"), vit=("none",))
    assert "- The cells `batch`, `batch, affine`, `layer` and `dropout` of CNN." in text
    assert "- The cells `batch`, `batch, affine`, `layer`, `layer, affine` and `dropout` of ViT." in text


def test_items_with_one_seed_are_told():
    assert "- More than one seed of the items `mlp-medium` and `cnn`." in said(
        mlp=("none",), mlp_medium=("none",), cnn=("none",)
    )


def test_remedies_on_images_are_not_run_unless_an_item_has_them(monkeypatch):
    assert "Remedies on Tiny ImageNet" in said()
    medium = items.item("mlp-medium")
    configs = {"l2": dataclasses.replace(medium.configs("")["none"], remedy="l2")}
    monkeypatch.setitem(items.ITEMS, "mlp-medium", dataclasses.replace(medium, configs=lambda data: configs))
    assert "Remedies on Tiny ImageNet" not in said()


def test_epochs_of_clones_are_those_of_their_configurations(monkeypatch, tmp_path):
    text = " ".join(prose.clones(series.clones()).split())
    assert "trained for 20 epochs, then 50 (MLP), 20 (CNN) or 10 more" in text
    assert "too; two measurements for ViT and ResNet-18)" in text
    shorter = {arch: dataclasses.replace(c, epochs=7, factor=3) for arch, c in items.CLONING.configs("").items()}
    monkeypatch.setattr(items, "CLONING", items.Cloning("", lambda data: shorter))
    text = " ".join(prose.clones(series.clones(tmp_path)).split())
    assert text.startswith("Every hidden unit three times; base trained for 20 epochs, then 7 more for")
    assert "measurements" not in text


@pytest.mark.parametrize("name", items.every())
def test_what_an_item_says_of_its_tasks_and_steps_is_what_it_runs(name):
    item = items.item(name)
    found = re.search(r"(\d+) (?:tasks|stretches) of ([\d,]+) steps", item.about)
    for config in item.configs("").values() if found else ():
        assert (config.tasks, config.steps) == (int(found[1]), int(found[2].replace(",", "")))


def test_the_published_networks_have_names():
    assert set(published.NAMES) == {arch for arch, _, _ in published.streams()}
