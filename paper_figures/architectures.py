"""Clones of four architectures under five regimes (claims M1, C9, E1; JL25 figure 2.1 and appendix, on digits)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.figure import Figure

from paper_figures.support import clones, drawing, style
from paper_figures.support.captions import Check
from paper_figures.support.clones import DIRECTIONS
from paper_figures.support.results import RESULTS, Profile
from paper_figures.support.tables import Array, where
from torch_experiments.lab.experiments import e01_cloning
from torch_experiments.lab.experiments.e01_cloning import WHOLE, Config, Regime

NAME = "architectures"
TITLE = "cloned MLP, CNN, ResNet-18 and ViT, one seed: score of cloning by epoch and by layer"

LABELS = {"mlp": "MLP", "cnn": "CNN", "resnet18": "ResNet-18", "vit": "ViT"}
KEPT: Mapping[Regime, str] = {"sgd": "SGD", "adam": "Adam"}
LEFT: Mapping[Regime, str] = {
    "noisy-elementwise": "noise, per entry",
    "noisy-normwise": "noise, per tensor",
    "dropout": "dropout",
}
SCORE, RESIDUAL, FUNCTION, PARTED = 1e-6, 1e-9, 1e-11, 1e-9
ROWS = ("gap, 1 − score", "gap, 1 − score, at the end")
DEEPEST, SHALLOWEST = 1e-10, 1.0
MARKERS = {"forward_score": "o", "backward_score": "x"}
SPARED = {"cnn": -1, "resnet18": -2}  # layers before these last ones, those on which dropout acts

TRAINING = dataclasses.replace(e01_cloning.SHORT, regimes=(*KEPT, *LEFT))
SIZES: Mapping[Profile, Mapping[str, Mapping[str, Any]]] = {
    "quick": e01_cloning.SMALL,
    "full": {
        "mlp": {},
        "cnn": {"width": 32},
        "resnet18": {"width": 16},
        "vit": {"patch": 2, "width": 96},
    },
}
EPOCHS: Mapping[Profile, Mapping[str, int]] = {
    "quick": e01_cloning.EPOCHS,
    "full": dict.fromkeys(LABELS, 50),
}


def compute(profile: Profile, results: Path = RESULTS) -> pa.Table:
    """Return the measurements of experiment 1 with a column `arch`; finished cells are read from `results`."""
    seeds = (0,) if profile == "quick" else (0, 1, 2)
    training = dataclasses.replace(TRAINING, seeds=seeds)
    return measure({arch: config(training, profile, arch) for arch in LABELS}, results)


def config(training: Config, profile: Profile, arch: str) -> Config:
    """Return the settings of one architecture: batch norm, and layer norm in the ViT, as in JL25."""
    settings = tuple(SIZES[profile][arch].items())
    norm, epochs = "layer" if arch == "vit" else "batch", EPOCHS[profile][arch]
    return dataclasses.replace(training, arch=arch, arch_settings=settings, norm=norm, epochs=epochs)


def measure(configs: Mapping[str, Config], results: Path) -> pa.Table:
    """Return the measurements of these configurations by architecture."""
    tables = []
    for arch, settings in configs.items():
        table = e01_cloning.run(settings, results, progress=True)
        tables.append(table.append_column("arch", pa.array([arch] * len(table))))
    return pa.concat_tables(tables)


def introduction(data: pa.Table) -> str:
    """Return what is shown, and how it was found."""
    return (
        "Four architectures trained on 8×8 digits, cloned, every hidden unit twice (channels, features, "
        "heads), and trained on, in float64, with batch norm, the ViT with layer norm (JL25 figure 2.1, appendix). "
        "Top: one minus the explained-variance score of cloning, 0 for exact copies, mean over layers, of "
        "activations (forward) and of their gradients (backward, dotted). Bottom: the same by layer at the last "
        "epoch; layers are activations of MLP and CNN, blocks of ResNet-18 and ViT. Noise and dropout come on top "
        "of SGD with momentum; SGD itself is without. Noise has a size of 0.01 of the gradient's norm, in every "
        "entry or for the tensor as a whole. Dropout of 0.1 acts on hidden layers of the MLP, on tokens and "
        "branches of the ViT, on the hidden linear layer of the CNN and before the head of ResNet-18. First seed."
    )


def checks(data: pa.Table) -> list[Check]:
    """Return what the caption claims."""
    departures = [clones.departure(of(data, arch), regime) for arch in LABELS for regime in KEPT]
    kept, residual = float(np.max(departures)), max(_end_residual(data, regime) for regime in KEPT)
    parted = {label: _least_departure(data, regime) for regime, label in LEFT.items()}
    least = ", ".join(f"{label} {value:.1g}" for label, value in parted.items())
    spared, acted = _under_dropout(data)
    gap, learnt = _function_gap(data), max(_loss_ratio(data, arch) for arch in LABELS)
    return [
        Check(
            f"A clone computes what its base does: outputs differ by {gap:.0e} of the largest or less.",
            gap <= FUNCTION,
        ),
        Check(
            "SGD and Adam keep all copies of all four: the largest 1 − score of any layer, epoch and direction is "
            f"{kept:.0e}, the largest distance of the weights from the manifold {residual:.0e} of their norm.",
            kept <= SCORE and residual <= RESIDUAL,
        ),
        Check(
            "Noise of both kinds and dropout part them in all four: at the end 1 − score, forward and backward, is "
            f"at least: {least}.",
            all(value > PARTED for value in parted.values()),
        ),
        Check(
            "Dropout parts the copies on which it acts and no others: 1 − score of the CNN's channels and of "
            f"ResNet-18's first three stages is {spared:.0e} at most, of the layers behind {acted:.0e} at least.",
            spared <= SCORE * PARTED and acted > PARTED,
        ),
        Check(
            f"Trapped clones go on learning (not drawn): losses end at {learnt:.2g} of the first or less.",
            learnt < 1,
        ),
    ]


def draw(data: pa.Table) -> Figure:
    """Return a column for each architecture: score by epoch, score by layer."""
    figure = Figure(figsize=(style.PAGE, 3.4))
    axes = figure.subplots(2, 4)
    for column, (arch, title) in zip(axes.T, LABELS.items(), strict=True):
        column[0].set_title(f"{title}, one seed")
        for regime in (*KEPT, *LEFT):
            _draw_regime(column, of(data, arch), regime)
        for axis, label in zip(column, ("epochs after cloning", "layer"), strict=True):
            axis.set_xlabel(label)
            axis.xaxis.get_major_locator().set_params(integer=True)
    _scale(axes)
    _explain(figure)
    return figure


def of(data: pa.Table, arch: str) -> pa.Table:
    """Return the rows of one architecture."""
    return data.filter(pc.equal(data["arch"], arch))


def by_layer(data: pa.Table, regime: str, metric: str) -> tuple[Array, Array]:
    """Return layers and the values of a metric there after the last epoch, of the clone with the first seed.

    Both have the shape (layers,).
    """
    place = {"regime": regime, "network": "clone", "metric": metric, "epoch": pc.max(data["epoch"]).as_py()}
    rows = where(data, place | {"seed": pc.min(data["seed"]).as_py()}).sort_by("layer")
    rows = rows.filter(pc.greater(rows["layer"], WHOLE))
    return rows["layer"].to_numpy(), rows["value"].to_numpy()


def _under_dropout(data: pa.Table) -> tuple[float, float]:
    """Return the largest 1 − score of layers on which dropout does not act, and the least of the others."""
    ends = [(by_layer(of(data, arch), "dropout", m)[1], last) for arch, last in SPARED.items() for m in DIRECTIONS]
    spared, acted = (
        np.concatenate(parts) for parts in zip(*((1 - v[:k], 1 - v[k:]) for v, k in ends), strict=True)
    )
    return float(np.max(np.abs(spared))), float(np.min(acted))


def _least_departure(data: pa.Table, regime: str) -> float:
    return float(np.min([clones.end_departure(of(data, arch), regime) for arch in LABELS]))


def _end_residual(data: pa.Table, regime: str) -> float:
    place = {"regime": regime, "metric": "coset_residual", "network": "clone"}
    return float(np.max(where(data, place)["value"].to_numpy()))


def _function_gap(data: pa.Table) -> float:
    return float(np.max(where(data, {"metric": "function_gap"})["value"].to_numpy()))


def _loss_ratio(data: pa.Table, arch: str) -> float:
    return float(np.max([clones.loss_ratio(of(data, arch), regime) for regime in KEPT]))


def _draw_regime(column: Array, data: pa.Table, regime: str) -> None:
    look: dict[str, Any] = {"color": clones.COLOURS[regime], "linewidth": 3.0 if regime == "sgd" else 1.2}
    for metric, line in DIRECTIONS.items():
        epochs, values = clones.band(data, regime, "clone", metric)
        column[0].plot(epochs, _shown(values[0]), line, marker=MARKERS[metric], markersize=3, **look)
        layers, ends = by_layer(data, regime, metric)
        column[1].plot(layers, _shown(ends), line, marker=MARKERS[metric], markersize=3, **look)


def _shown(score: Array) -> Array:
    """Return `1 − score`, rounding on either side of 0 as 0."""
    return np.where(np.abs(1 - score) < DEEPEST, 0.0, 1 - score)


def _scale(axes: Array) -> None:
    for axis in axes.flat:
        axis.set_yscale("symlog", linthresh=DEEPEST)
        axis.set_ylim(-DEEPEST / 2, SHALLOWEST)
        axis.set_yticks([0, 1e-9, 1e-6, 1e-3, 1], ["0", *(f"$10^{{{k}}}$" for k in (-9, -6, -3)), "1"])
    for axis in axes[:, 1:].flat:
        axis.set_yticklabels([])
    for axis, label in zip(axes[:, 0], ROWS, strict=True):
        axis.set_ylabel(label)


def _explain(figure: Figure) -> None:
    colours = [drawing.entry(label, color=clones.COLOURS[key]) for key, label in {**KEPT, **LEFT}.items()]
    names = {"forward_score": "forward", "backward_score": "backward"}
    lines = [drawing.entry(names[m], linestyle=DIRECTIONS[m], marker=MARKERS[m], markersize=3) for m in names]
    figure.legend(handles=[*colours, *lines], loc="outside lower center", ncols=7)
