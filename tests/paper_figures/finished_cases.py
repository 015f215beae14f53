"""Figures that read finished runs, on tables made up with the columns of records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

from paper_figures import (
    cifar_cloning,
    early_warning,
    free_fraction,
    layers_over_time,
    remedy_ranking,
    tiny_bars,
    tiny_normalisation,
    tiny_symptoms,
)
from paper_figures.support import finished, registry, tasks
from paper_figures.support.style import NORMS
from paper_figures.support.tables import where
from torch_experiments.lab.campaign.items import PUBLISHED
from torch_experiments.lab.experiments.e04_remedies import FRESH, SETTINGS
from torch_experiments.lab.report import series

LAYERS = 5
TASKS = 40
ENDS: Mapping[str, tuple[float, ...]] = {  # accuracy, dead, rank, duplicates: first and last value
    "none": (0.6, 0.3, 0.1, 0.5, 70, 30, 0.01, 0.02),
    PUBLISHED: (0.6, 0.3, 0.2, 0.6, 40, 20, 0.02, 0.03),
    "batch": (0.6, 0.8, 0.0, 0.0, 70, 90, 0.0, 0.0),
    "batch, affine": (0.6, 0.8, 0.0, 0.02, 70, 80, 0.0, 0.0),
    "layer": (0.6, 0.7, 0.01, 0.05, 70, 75, 0.0, 0.01),
    "layer, affine": (0.6, 0.75, 0.01, 0.06, 70, 78, 0.0, 0.01),
    "dropout": (0.55, 0.4, 0.1, 0.4, 60, 40, 0.0, 0.01),
}


def lines(cell: str, seed: int, count: int = TASKS) -> dict[str, np.ndarray]:
    """Return metrics that go straight from one value to another, with some noise of the seed, by layer."""
    ends = np.array(ENDS.get(cell, ENDS["none"])).reshape(4, 2)
    source = np.random.default_rng([seed, len(cell)])
    course = np.linspace(0, 1, count)
    found = {}
    for metric, (first, last) in zip(tasks.PANELS, ends, strict=True):
        found[metric] = (first + (last - first) * course) * (1 + 0.02 * source.random(count))
    return found


def of_units(metric: str, values: np.ndarray) -> np.ndarray:
    """Return values of the layers whose mean is the value of the network."""
    factors = np.linspace(0.5, 1.5, LAYERS)[:, None]
    return values * (factors if metric in tasks.PANELS[1:] else np.ones((LAYERS, 1)))


def rows_of(cell: str, seed: int, count: int = TASKS) -> Iterator[dict[str, Any]]:
    """Yield the rows of a run."""
    found = lines(cell, seed, count)
    layers = {metric: of_units(metric, values) for metric, values in found.items()}
    dead = layers[series.DEAD]
    whole = {metric: by_layer.mean(axis=0) for metric, by_layer in layers.items()}
    whole |= {
        series.UNMASKED: whole[series.ACCURACY] - 0.01,
        series.THEIR_SATURATED: 0.7 + 0 * whole[series.DEAD],
        series.SATURATED: whole[series.DEAD],
        finished.COUNTED[series.DEAD]: whole[series.DEAD] + 0.2,
        finished.COUNTED[series.DUPLICATE]: whole[series.DUPLICATE] / 2,
        series.FREE: free_fraction.alive(dead),
        "weight_norm": np.linspace(30, 60, count),
    }
    for metric, values in whole.items():
        yield from row(cell, seed, 0, metric, values)
    for metric in tasks.PANELS[1:]:
        for k, values in enumerate(layers[metric], start=1):
            yield from row(cell, seed, k, metric, values)


def row(cell: str, seed: int, layer: int, metric: str, values: np.ndarray) -> Iterator[dict[str, Any]]:
    for task, value in enumerate(values):
        place = {"task": task, "step": 500, "layer": layer, "metric": metric, "cell": cell, "seed": seed}
        yield place | {"value": float(value)}


def table(cells: Mapping[str, tuple[int, ...]], count: int = TASKS) -> pa.Table:
    """Return the runs of these cells and seeds."""
    return pa.Table.from_pylist([r for c, seeds in cells.items() for s in seeds for r in rows_of(c, s, count)])


@cache
def mlp() -> pa.Table:
    return table(dict.fromkeys(ENDS, (0, 1, 2)))


def small_symptoms(results: Any) -> finished.Tables:
    plain = {"none": (0,)}
    longer = edited(lambda row: row["value"] * LONGER.get(row["metric"], 1))(table(plain))
    return {"mlp": mlp(), "mlp-medium": longer, "cnn": table(plain), "vit": table(plain)}


LONGER = {series.DEAD: 1.2, series.RANK: 0.8}  # times what shorter tasks show


def small_layers(results: Any) -> finished.Tables:
    """Return layers of which the last two collapse without norm and none does with it."""
    return {
        name: layered(place.cell, name in layers_over_time.LOST) for name, place in layers_over_time.SHOWN.items()
    }


def layered(cell: str, lost: bool) -> pa.Table:
    """Return dead units and ranks of a run by layer, and their means as those of the network."""
    rows, course = [], np.linspace(0, 1, TASKS)
    late = np.array([[0], [0], [0], [1], [1]]) * course * lost
    for metric, values in ((series.DEAD, 0.9 * late), (series.RANK, 80 - 75 * late)):
        for layer, line in enumerate((values.mean(axis=0), *values)):
            rows += row(cell, 0, layer, metric, line)
    return pa.Table.from_pylist(rows)


def small_remedies(results: Any) -> pa.Table:
    """Return remedies whose accuracy at the end grows in the order of their names' list, the fresh network last."""
    rows = []
    for k, name in enumerate([*(name for name in SETTINGS if name != FRESH), "layer-norm", "batch-norm", FRESH]):
        for seed in range(5):
            level = 0.3 + 0.02 * k + 0.004 * seed * (-1) ** k
            rows += [*row(name, seed, 0, series.ACCURACY, np.linspace(0.6, level, 20))]
            rows += [*row(name, seed, 0, series.RANK, np.linspace(20, 10 + k, 20))]
    return pa.Table.from_pylist(rows)


def small_warnings(results: Any) -> finished.Tables:
    """Return one stream that loses plasticity and one that keeps it."""
    return {
        early_warning.DIGITS: beside(table({"none": (0, 1, 2)}), 0.6),
        "permuted, high rate": beside(table({"none": (3, 4)}), 0.2),
    }


def beside(runs: pa.Table, level: float) -> pa.Table:
    """Return the runs of a plain network with those of fresh ones, whose accuracy stays at a level."""
    whole = where(runs, {"layer": 0})
    fresh = put(level, metric=series.ACCURACY)(whole)
    at = fresh.column_names.index("cell")
    return pa.concat_tables([whole, fresh.set_column(at, "cell", pa.array([early_warning.FRESH] * len(fresh)))])


def small_cifar(results: Any) -> pa.Table:
    """Return clones that keep their copies under two regimes and part under two."""
    rows = []
    for arch, seeds in (("mlp", (0, 1)), ("cnn", (0,)), ("vit", (0,)), ("resnet18", (0,))):
        for regime in cifar_cloning.REGIMES:
            for seed in seeds:
                rows += cloned(arch, regime, seed)
    return pa.Table.from_pylist(rows)


def cloned(arch: str, regime: str, seed: int) -> list[dict[str, Any]]:
    epochs = np.array([0, 5, 10])
    kept = regime in cifar_cloning.TRAPPED
    loss = (1 + 0.1 * seed) * np.exp(-epochs / 3)
    curves = {
        ("clone", cifar_cloning.SCORE): np.ones(3) - (0 if kept else 0.02) * epochs,
        ("clone", cifar_cloning.LOSS): loss if kept else 0.5 * loss,
        ("base", cifar_cloning.LOSS): loss,
    }
    place = {"arch": arch, "regime": regime, "seed": seed, "layer": 0}
    return [
        place | {"network": network, "metric": metric, "epoch": int(epoch), "value": float(value)}
        for (network, metric), values in curves.items()
        for epoch, value in zip(epochs, values, strict=True)
    ]


def edited(edit: Callable[[dict[str, Any]], float], item: str | None = None) -> Callable[[Any], Any]:
    """Return a change of values, in the table of an item where there are several."""

    def change(data: pa.Table) -> pa.Table:
        values = pa.array([edit(row) for row in data.to_pylist()])
        return data.set_column(data.column_names.index("value"), "value", values)

    return change if item is None else lambda data: {**data, item: change(data[item])}


def put(value: float, item: str | None = None, **place: Any) -> Callable[[Any], Any]:
    """Return a change: the value where the columns are as told."""
    return edited(lambda row: value if place.items() <= row.items() else row["value"], item)


def told(figure: Any, data: Any) -> str:
    """Return the caption in one line."""
    return " ".join(str(registry.caption(figure, data)).split())


NAN = float("nan")
LOSING, SHORTER, KEEPING = layers_over_time.SHOWN
CASES: Mapping[str, tuple[Any, Any, dict[str, Any], list[str]]] = {
    "tiny_symptoms": (
        tiny_symptoms,
        small_symptoms,
        {
            "unmasked is more": put(1.0, "cnn", cell="none", metric=series.UNMASKED),
            "a share above one": put(1.1, "vit", metric=series.DEAD),
            "one class shows less": put(0.0, "mlp", cell=PUBLISHED, metric=series.DEAD),
            "a value is missing": put(NAN, "mlp-medium", metric=series.RANK),
            "longer tasks spare units": put(0.0, "mlp-medium", metric=series.DEAD),
        },
        [
            label
            for name in ("MLP\nseeds: 3, 1", "CNN, half width\none seed", "ViT, quarter width\none seed")
            for label in (name, "", "", "")
        ],
    ),
    "tiny_normalisation": (
        tiny_normalisation,
        lambda results: mlp(),
        {
            "saturated, not dead": put(0.9, cell="layer", metric=series.SATURATED),
            "dead, not silent": put(0.0, cell="none", metric=series.SILENT),
            "no rank": put(0.0, cell="batch", metric=series.RANK),
            "a share below zero": put(-0.1, cell="batch", metric=series.DEAD),
            "accuracy above one": put(1.2, metric=series.ACCURACY),
        },
        [""] * 4,
    ),
    "tiny_bars": (
        tiny_bars,
        lambda results: mlp(),
        {
            "a share above one": put(1.5, cell="layer", metric=series.DUPLICATE),
            "unmasked is more": put(1.0, cell="layer", metric=series.UNMASKED),
        },
        [""] * 5,
    ),
    "layers_over_time": (
        layers_over_time,
        small_layers,
        {
            "layers without mean": put(0.9, LOSING, layer=3, metric=series.DEAD),
            "no rank": put(NAN, KEEPING, layer=2, metric=series.RANK),
            "a share above one": put(1.1, LOSING, layer=0, metric=series.DEAD),
            "ranks below one": edited(lambda row: 0.5, SHORTER),
            "the last layer keeps its rank": put(80.0, LOSING, layer=5, metric=series.RANK),
            "no unit dies in shorter tasks": put(0.0, SHORTER, metric=series.DEAD),
            "units die with layer norm": put(0.5, KEEPING, layer=4, metric=series.DEAD),
        },
        ["layer", "", "", "layer", "", "", "dead units", "effective rank"],
    ),
    "free_fraction": (
        free_fraction,
        lambda results: mlp(),
        {
            "not the dead units": put(0.9, cell="none", metric=series.FREE),
            "more than all": put(1.1, cell="batch", metric=series.FREE),
        },
        ["", ""],
    ),
    "remedy_ranking": (
        remedy_ranking,
        small_remedies,
        {
            "accuracy above one": put(1.2, cell="cbp", metric=series.ACCURACY),
            "nothing is lost": put(0.9, cell="none", metric=series.ACCURACY),
            "a value is missing": put(NAN, cell="none", metric=series.ACCURACY),
        },
        ["", ""],
    ),
    "early_warning": (
        early_warning,
        small_warnings,
        {"plasticity is kept": put(0.5, early_warning.DIGITS, metric=series.ACCURACY)},
        [""],
    ),
    "cifar_cloning": (
        cifar_cloning,
        small_cifar,
        {
            "Adam leaves": put(0.99, regime="adam", metric=cifar_cloning.SCORE),
            "noise stays": put(1.0, regime="noisy-elementwise", metric=cifar_cloning.SCORE),
            "no loss": put(NAN, network="base", metric=cifar_cloning.LOSS),
        },
        ["score of cloning", *[""] * 7],
    ),
}
assert set(NORMS) < set(ENDS)
