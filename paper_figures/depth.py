"""Correlations layer by layer (claim R5): with centring they end at 0, without it at 1 or in between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.support import drawing, style
from paper_figures.support.captions import Check
from paper_figures.support.results import RESULTS, Profile
from paper_figures.support.tables import Array
from simulate.width import WidthSample, random_networks
from theory.activations import moments
from theory.depth import Normalisation, correlation_flow, critical_bound, critical_law, limit

NAME = "depth"
TITLE = "correlations with depth: centred they end at 0, raw ReLU at 1, raw GELU in between"

START, DEPTH, DEEP = 0.95, 40, 3000
BIAS = 20.0  # of means over networks, times the width: kernels are limits of infinite width
CENTRED = ("tanh", "silu", "relu", "abs")
RAW = ("relu", "gelu", "elu", "tanh", "sigmoid")
LAWS = ("relu", "abs")


@dataclass(frozen=True)
class Config:
    """Width and number of the random networks."""

    width: int = 1000
    runs: int = 40


@dataclass(frozen=True)
class Curve:
    """One activation: the recursion from `START`, where it ends, and random networks of finite width."""

    flow: Array
    end: float
    sample: WidthSample


@dataclass(frozen=True)
class Data:
    """Curves by activation, and `1 − ρ` of raw ramps over layers 1 to `DEEP` from `ρ = 0`."""

    config: Config
    centred: Mapping[str, Curve]
    raw: Mapping[str, Curve]
    distances: Mapping[str, Array]


CONFIGS: Mapping[Profile, Config] = {"quick": Config(), "full": Config(width=4000, runs=100)}


def compute(profile: Profile, results: Path = RESULTS) -> Data:
    """Return the curves; they take seconds and are not recorded."""
    return measure(CONFIGS[profile])


def measure(config: Config) -> Data:
    """Return recursions, simulations and the power law."""
    return Data(
        config,
        {name: _curve(name, "standardised", config) for name in CENTRED},
        {name: _curve(name, "raw", config) for name in RAW},
        {name: 1 - correlation_flow(name, 0.0, DEEP, normalisation="raw")[1:] for name in LAWS},
    )


def _curve(name: str, normalisation: Normalisation, config: Config) -> Curve:
    return Curve(
        correlation_flow(name, START, DEPTH, normalisation=normalisation),
        limit(name, START, normalisation=normalisation),
        random_networks(
            name,
            START,
            DEPTH,
            width=config.width,
            runs=config.runs,
            normalisation=normalisation,
            keep_norm=True,
            seed=1,
        ),
    )


def introduction(data: Data) -> str:
    """Return what is shown, and how it was found."""
    return (
        f"Correlation of two inputs, {START} at the start, with depth. Lines: the dual kernel iterated, infinite "
        f"width; dots: mean and standard deviation over {data.config.runs} random networks of width "
        f"{data.config.width} with activations kept at unit norm. Top left: standardised activations; top right: "
        "as they are (cosine). Bottom: distance from 1 of raw ReLU and |z| from ρ = 0, with the asymptotic law "
        "4/(k l)² dashed."
    )


def checks(data: Data) -> list[Check]:
    """Return what the caption claims."""
    last = {name: abs(curve.flow[-1]) for name, curve in data.centred.items()}
    shares = {name: moments(name).linear_share for name in data.centred}
    slowest = max(last, key=lambda name: last[name])
    inner = ", ".join(f"{style.ACTIVATIONS[name]} {data.raw[name].end:.3f}" for name in ("gelu", "elu"))
    nearer = [bool((np.diff(np.abs(curve.flow - curve.end)) <= 0).all()) for curve in data.raw.values()]
    layers = np.arange(1, DEEP + 1)
    law = max(abs(data.distances[name][-1] / critical_law(name, DEEP) - 1) for name in LAWS)
    above = max((data.distances[name] / critical_bound(name, 0.0, layers)).max() for name in LAWS)
    spread = max(curve.sample.spread.max() for curve in (*data.centred.values(), *data.raw.values()))
    off = max(_deviation(curve, data.config.width) for curve in (*data.centred.values(), *data.raw.values()))
    return [
        Check(
            f"Standardised, all fall to 0, the slower the larger the linear share: after {DEPTH} layers "
            f"{style.ACTIVATIONS[slowest]}, of share {shares[slowest]:.2f}, is at {last[slowest]:.3f}.",
            bool(slowest == max(shares, key=lambda name: shares[name]) and last[slowest] < START / 5)
            and all(curve.end == 0 for curve in data.centred.values()),
        ),
        Check(
            "As they are, ReLU and sigmoid go to 1, tanh (odd) to 0, and others to a fixed point in between: "
            f"{inner}; every layer brings every one of them nearer.",
            data.raw["relu"].end == data.raw["sigmoid"].end == 1
            and data.raw["tanh"].end == 0
            and all(0.5 < data.raw[name].end < 0.8 for name in ("gelu", "elu"))
            and all(nearer),
        ),
        Check(
            f"At layer {DEEP} the distances are within {100 * law:.1f} % of the law (9π²/2)/(μ l)², μ = 1 for "
            "ReLU and 2 for |z|, and never above the bound (1 + k l/2)^−2.",
            bool(law < 0.02 and above <= 1 + 1e-9),
        ),
        Check(
            f"Networks stay with the recursion: their means are within {off:.1f} standard errors plus {BIAS:.0f} "
            f"over the width; single networks vary by up to {spread:.2f}.",
            bool(off <= 5),
        ),
    ]


def _deviation(curve: Curve, width: int) -> float:
    """Return how many standard errors the mean is off, after an allowance of `BIAS/width`."""
    sample = curve.sample
    beyond = np.abs(sample.mean - curve.flow)[1:] - BIAS / width
    return float((beyond / sample.standard_error[1:]).max())


def draw(data: Data) -> Figure:
    """Return three panels."""
    figure = Figure(figsize=(style.WIDTH, 4.2))
    axes = figure.subplot_mosaic([["centred", "raw"], ["law", "law"]])
    _draw_curves(axes["centred"], data.centred)
    _draw_curves(axes["raw"], data.raw)
    axes["centred"].set(title="standardised", xlabel="layer", ylabel="correlation", ylim=(-0.05, 1.03))
    axes["raw"].set(title="as they are", xlabel="layer", ylim=(-0.05, 1.03))
    _draw_laws(axes["law"], data)
    _explain(figure, data)
    return figure


def _explain(figure: Figure, data: Data) -> None:
    """Name activations by colour, and lines, dots and dashes."""
    names = dict.fromkeys([*data.centred, *data.raw])
    colours = [drawing.entry(style.ACTIVATIONS[n], color=style.ACTIVATION_COLOURS[n]) for n in names]
    networks = drawing.entry("networks", marker=".", markersize=4, linestyle="")
    law = drawing.entry("asymptotic law", linestyle="--", linewidth=0.7)
    marks = [drawing.entry("infinite width"), networks, law]
    figure.legend(handles=[*colours, *marks], loc="outside lower center", ncols=4, columnspacing=1.2)


def _draw_laws(axis: Axes, data: Data) -> None:
    layers = np.arange(1, DEEP + 1)
    for name in LAWS:
        colour, far = style.ACTIVATION_COLOURS[name], layers[9:]  # the law is asymptotic
        axis.loglog(layers, data.distances[name], color=colour)
        axis.loglog(far, critical_law(name, far), color=colour, linestyle="--", linewidth=0.7)
    axis.set(xlabel="layer $l$", ylabel=r"$1 - \rho_l$", xlim=(1, DEEP), title="as they are, from 0")


def _draw_curves(axis: Axes, curves: Mapping[str, Curve]) -> None:
    layers, shown = np.arange(DEPTH + 1), np.arange(2, DEPTH + 1, 6)
    for name, curve in curves.items():
        colour, mean, spread = style.ACTIVATION_COLOURS[name], curve.sample.mean[shown], curve.sample.spread[shown]
        axis.plot(layers, curve.flow, color=colour)
        axis.errorbar(shown, mean, spread, color=colour, fmt=".", markersize=2.5, elinewidth=0.6)
