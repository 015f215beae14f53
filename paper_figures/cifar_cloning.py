"""Clones of four architectures on CIFAR-10: do copies part, what is gained? (claims P10 to P12; JL25 figure 2.1)"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from paper_figures.support import clones, drawing, finished, style
from paper_figures.support.captions import Check
from paper_figures.support.clones import ROUNDING
from paper_figures.support.results import RESULTS, Missing, Profile
from paper_figures.support.tables import Array, Curves, where
from torch_experiments.lab.campaign import items
from torch_experiments.lab.report import published, series

NAME = "cifar_cloning"
TITLE = "cloning on CIFAR-10 in four architectures: score of cloning by epoch, loss of clone over base"
ARCHS: Mapping[str, str] = {"mlp": "MLP", "cnn": "CNN", "vit": "ViT", "resnet18": "ResNet-18"}
SCORE, LOSS = "forward_score", "train_loss"


class Look(NamedTuple):
    """Name, colour and width of a regime's line; widths tell lines apart that lie upon each other."""

    name: str
    colour: str
    width: float


REGIMES: Mapping[str, Look] = {
    "momentum": Look("SGD with momentum", style.BLUE, 2.6),
    "adam": Look("Adam", style.SKY, 1.2),
    "noisy-elementwise": Look("noisy SGD", style.VERMILION, 1.2),
    "dropout": Look("dropout", style.PURPLE, 1.2),
}
TRAPPED = ("momentum", "adam")


def compute(profile: Profile, results: Path = RESULTS) -> pa.Table:
    """Return the finished runs of experiment 1 on CIFAR-10.

    Raises:
        Missing: There are none.
    """
    found = items.cloning(items.RESULTS)
    if found is None:
        raise Missing(f"there is no finished run of cloning on CIFAR-10 below {items.RESULTS / 'e01'}")
    return found


def introduction(data: pa.Table) -> str:
    """Return what is shown, and how it was found."""
    archs = finished.listed(f"{ARCHS[arch]} {_seeds(data, arch)}" for arch in archs_of(data))
    return (
        f"{items.CLONING.about[0].upper()}{items.CLONING.about[1:]}: every hidden unit twice, trained on "
        "under four regimes (JL25 figure 2.1). Top: explained-variance score of cloning of the activations, mean "
        "over layers, 1 for exact copies and 0 for independent units; dots: epochs that were measured, "
        f"{_epochs(data)}; lines between them only join them; means and ranges over seeds (runs: {archs}). Bottom: "
        "training loss of the clone over that of its base under the same regime, geometric mean over the second "
        f"half of the epochs; a dot a seed.{finished.gaps(_absent(data))}"
    )


def archs_of(data: pa.Table) -> list[str]:
    """Return the architectures that have a finished run."""
    return [arch for arch in ARCHS if len(where(data, {"arch": arch}))]


def regimes_of(data: pa.Table, arch: str) -> list[str]:
    """Return the regimes that have a finished run of an architecture."""
    return [regime for regime in REGIMES if len(where(data, {"arch": arch, "regime": regime}))]


def band(data: pa.Table, arch: str, regime: str, network: str, metric: str) -> Curves:
    """Return a metric of the whole network over the epochs, `values [seeds, epochs]`."""
    return clones.band(where(data, {"arch": arch}), regime, network, metric)


def checks(data: pa.Table) -> list[Check]:
    """Return what the caption claims."""
    kept = [1 - _all(data, a, r).min() for a in archs_of(data) for r in regimes_of(data, a) if r in TRAPPED]
    left = {place: _end(data, *place) for place in _left(data)}
    return [
        Check(
            "Under momentum and Adam the copies stay exact in every epoch, layer and seed (largest 1 − score: "
            f"{max(kept, default=0.0):.1g}).",
            max(kept, default=0.0) <= ROUNDING,
        ),
        Check(
            f"Under noise and dropout they part; the score ends at {_listed(left)}.",
            all(1 - value > 1e3 * ROUNDING for value in left.values()),
        ),
        Check(
            "All losses are positive numbers.",
            bool((where(data, {"metric": LOSS})["value"].to_numpy() > 0).all()),
        ),
    ]


def notes(data: pa.Table) -> list[str]:
    """Return the published scores, and what a clone gains beside its base."""
    theirs = {key: published.cloning()[key].score for key in _left(data)}
    return [
        f"Published after 500 epochs are scores of {_listed(theirs)}, by a formula of theirs that gives more to "
        "independent units, so that it is not drawn: only whether copies part can be compared.",
        "Loss of the clone over that of its base, geometric means over the second half of the epochs, from the "
        f"least to the largest seed: {'; '.join(_losses(data))}. Published at the end, for the MLP: "
        f"{_published_losses()}.",
    ]


def _left(data: pa.Table) -> list[tuple[str, str]]:
    """Return architectures and regimes whose copies part."""
    return [(arch, regime) for arch in archs_of(data) for regime in regimes_of(data, arch) if regime not in TRAPPED]


def _all(data: pa.Table, arch: str, regime: str) -> Any:
    """Return the scores of every layer, epoch and seed."""
    return where(data, {"arch": arch, "regime": regime, "metric": SCORE})["value"].to_numpy()


def _end(data: pa.Table, arch: str, regime: str) -> float:
    return float(band(data, arch, regime, "clone", SCORE).values[:, -1].mean())


def gains(data: pa.Table, arch: str, regime: str) -> Any:
    """Return the loss of the clone over that of its base for every seed, as `series.ratio` has it."""
    return series.ratio(*(band(data, arch, regime, network, LOSS).values for network in ("clone", "base")))


def _losses(data: pa.Table) -> list[str]:
    """Return ratios of the clone's loss to the base's, for every architecture."""
    return [
        f"{ARCHS[arch]} "
        + ", ".join(f"{_range(gains(data, arch, r))} ({REGIMES[r].name})" for r in regimes_of(data, arch))
        for arch in archs_of(data)
    ]


def _range(values: Any) -> str:
    low, high = (f"{value:.2f}" for value in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def _published_losses() -> str:
    """Return the published ratios for the MLP."""
    found = {regime: ends for (arch, regime), ends in published.cloning().items() if arch == "mlp"}
    return ", ".join(f"{e.clone_loss / e.base_loss:.2g} ({REGIMES[r].name})" for r, e in found.items())


def _listed(values: Mapping[tuple[str, str], float]) -> str:
    return ", ".join(f"{value:.4f} ({ARCHS[a]}, {REGIMES[r].name})" for (a, r), value in values.items())


def _seeds(data: pa.Table, arch: str) -> int:
    return len(where(data, {"arch": arch})["seed"].unique())


def _epochs(data: pa.Table) -> str:
    """Return how many epochs were measured, for every architecture."""
    counts = {arch: where(data, {"arch": arch})["epoch"].unique() for arch in archs_of(data)}
    return finished.listed(f"{len(epochs)} ({ARCHS[arch]})" for arch, epochs in counts.items())


def _absent(data: pa.Table) -> list[str]:
    """Return which runs of the list are not there."""
    wanted = items.CLONING.configs("")
    there = set(zip(*(data[name].to_pylist() for name in ("arch", "regime", "seed")), strict=True))
    return [
        f"{ARCHS[arch]}, {REGIMES[regime].name}, seed {seed}"
        for arch, config in wanted.items()
        for regime in config.regimes
        for seed in config.seeds
        if (arch, regime, seed) not in there
    ]


def draw(data: pa.Table) -> Figure:
    """Return a column an architecture: score above, ratio of the losses below."""
    archs = archs_of(data)
    figure = Figure(figsize=(style.PAGE, 3.2))
    axes = figure.subplots(2, len(archs), sharey="row", squeeze=False, height_ratios=(1.4, 1))
    for (scores, losses), arch in zip(axes.T, archs, strict=True):
        for row, regime in enumerate(REGIMES):
            if regime in regimes_of(data, arch):
                _draw_scores(scores, data, arch, regime)
                _draw_gains(losses, gains(data, arch, regime), row, REGIMES[regime].colour)
        _label(scores, losses)
        scores.set_title(f"{ARCHS[arch]} ({series.counted(_seeds(data, arch))})")
    axes[0, 0].set_ylabel("score of cloning")
    axes[1, 0].set_yticks(range(len(REGIMES)), [look.name for look in REGIMES.values()])
    axes[1, 0].set_ylim(len(REGIMES) - 0.5, -0.5)
    _explain(figure)
    return figure


def _draw_scores(axis: Axes, data: pa.Table, arch: str, regime: str) -> None:
    look = REGIMES[regime]
    epochs, scores = band(data, arch, regime, "clone", SCORE)
    line: dict[str, Any] = {"marker": "o", "markersize": 1.8, "linewidth": look.width}
    drawing.band(axis, epochs, scores.mean(axis=0), *drawing.bounds(scores), color=look.colour, **line)


def _draw_gains(axis: Axes, values: Array, row: int, colour: str) -> None:
    """Draw a dot a seed, side by side where there are several."""
    beside = 0.18 * (np.arange(len(values)) - (len(values) - 1) / 2)
    axis.plot(values, row + beside, "o", color=colour, markersize=3)


def _label(scores: Axes, losses: Axes) -> None:
    scores.set_ylim(0.75, 1.02)
    scores.set_xlabel("epochs after cloning")
    scores.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    losses.axvline(1, color=style.GREY, linewidth=0.6, zorder=0)
    losses.set_xscale("log")
    low, high = losses.get_xlim()
    losses.set_xlim(min(low, 0.12), max(high, 8))
    losses.xaxis.set_major_locator(FixedLocator([0.01, 0.1, 0.3, 1, 3, 10, 100]))
    losses.xaxis.set_major_formatter("{x:g}")
    losses.xaxis.set_minor_locator(NullLocator())
    losses.set_xlabel("loss, clone : base")


def _explain(figure: Figure) -> None:
    handles = [drawing.entry(look.name, color=look.colour) for look in REGIMES.values()]
    handles.append(drawing.entry("measured", linestyle="", marker="o", markersize=1.8))
    figure.legend(handles=handles, loc="outside lower center", ncols=5)
