"""What small batches do to near-clones: exponents, predicted and measured, ordered and shuffled (S1 to S4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure

from paper_figures.support import style
from paper_figures.support.captions import Check
from paper_figures.support.results import RESULTS, Profile
from paper_figures.support.tables import Array
from simulate.stochastic import (
    Activation,
    Record,
    Setting,
    exponents,
    follow,
    isotropic_exponent,
    noise_matrix,
    second_moment,
    shuffled,
)

NAME = "stochastic_stability"
TITLE = "what small batches do to near-clones: exponents over dimension, rate and batch; in order and shuffled"
RULES = ((0.03, 1), (0.05, 1), (0.05, 2), (0.1, 4), (0.1, 8))  # rate and batch for ReLU
SMOOTH = ((0.005, 4), (0.01, 4), (0.01, 16))
WIDE = 0.16  # rate at which shuffled and centred matrices are multiplied: the law does not depend on it
REST = 4  # a base is at rest where the mean of b is below this share of the lowest curvature
CURVED = 0.005  # and where that is no smaller than this
NOISE = 0.5
DIMENSIONS = (1, 2, 3, 5, 8)


@dataclass(frozen=True)
class Size:
    """How much is computed: problems an activation, steps for ReLU, rate times steps for smooth units, shuffles."""

    problems: int
    relu: int
    smooth: float
    shuffles: int


SIZES: Mapping[Profile, Size] = {"quick": Size(6, 120_000, 150, 4), "full": Size(24, 1_000_000, 1_000, 16)}


@dataclass(frozen=True)
class Problem:
    """A smooth unit that cannot fit: lowest curvature and exponent over rate, each an entry a rule of `SMOOTH`."""

    activation: Activation
    inputs: int
    curvature: Array
    measured: Array


@dataclass(frozen=True)
class Data:
    """Exponents over `η²` for ReLU, over `η` for smooth units.

    Attributes:
        dimensions: of the inputs.
        predicted, measured: the largest exponent but that of the unit's own scale; shape (rules, dimensions).
        largest: the largest, which is that of the scale, same shape.
        mixed, mixed_error: of the first rule's matrices in random order, shape (dimensions,).
        centred, centred_error: of these without their mean.
        formula: of independent centred noise, shape (dimensions,).
        problems: smooth units whose base rests under every rule.
        restless: how many do not.
    """

    dimensions: tuple[int, ...]
    predicted: Array
    measured: Array
    largest: Array
    mixed: Array
    mixed_error: Array
    centred: Array
    centred_error: Array
    formula: Array
    problems: tuple[Problem, ...]
    restless: int


def compute(profile: Profile, results: Path = RESULTS) -> Data:
    """Return the exponents; they take some ten seconds and are not recorded."""
    return measure(SIZES[profile], DIMENSIONS)


def measure(size: Size, dimensions: tuple[int, ...]) -> Data:
    """Return the exponents in these dimensions."""
    shape = (len(RULES), len(dimensions))
    predicted, measured, largest = np.empty(shape), np.empty(shape), np.empty(shape)
    mixed = np.empty((2, 2, len(dimensions)))
    formula = np.empty(len(dimensions))
    for j, d in enumerate(dimensions):
        for i, (rate, batch) in enumerate(RULES):
            setting = Setting.matched(d, rate=rate, noise=NOISE, batch=batch)
            record = follow(setting, size.relu, warmup=20_000)
            predicted[i, j] = -np.sort(np.linalg.eigvalsh(noise_matrix(record)))[1] / 2
            largest[i, j], measured[i, j] = exponents(record, 2).values / rate**2
            if i == 0:
                mixed[0, :, j] = _shuffled(record, size.shuffles)
                centred = replace(record, b=record.b - record.b.mean(axis=0), rate=WIDE)
                mixed[1, :, j] = _shuffled(centred, size.shuffles)
                formula[j] = isotropic_exponent(d, float(np.trace(second_moment(centred))) / d)
    tried = [_problem(a, seed, size.smooth) for a in ("tanh", "gelu") for seed in range(size.problems)]
    kept = tuple(sorted((p for p in tried if p is not None), key=lambda p: float(p.curvature[0])))
    ((raw, raw_error), (clean, clean_error)) = mixed
    return Data(
        dimensions, predicted, measured, largest, raw, raw_error, clean, clean_error, formula, kept,
        len(tried) - len(kept),
    )  # fmt: skip


def _shuffled(record: Record, shuffles: int) -> tuple[float, float]:
    """Return the mean largest exponent over `η²` of shuffled matrices, and its standard error."""
    found = [exponents(shuffled(record, seed), 1).values[0] / record.rate**2 for seed in range(shuffles)]
    return float(np.mean(found)), float(np.std(found, ddof=1) / np.sqrt(shuffles))


def _problem(activation: Activation, seed: int, time: float) -> Problem | None:
    """Return the exponents of a unit that learns from three others; `None` if its base does not rest."""
    rng = np.random.default_rng(seed)
    d = 1 + seed % 3
    W, a = 2 * rng.standard_normal((3, d)), rng.standard_normal(3)
    start = W[:1] + 0.3 * rng.standard_normal((1, d))
    lows, found = [], []
    for rate, batch in SMOOTH:
        setting = Setting(start, a[:1] / 2, W, a, rate, activation, activation, noise=0.1, batch=batch)
        record = follow(setting, round(time / rate), warmup=round(150 / rate), seed=seed)
        assert record.curvature is not None
        low = float(np.linalg.eigvalsh(record.curvature.mean(axis=0))[0])
        if abs(low) < max(CURVED, REST * float(np.linalg.norm(record.b.mean(axis=0)))):
            return None
        lows.append(low)
        found.append(exponents(record, 1).values[0] / rate)
    return Problem(activation, d, np.array(lows), np.array(found))


def introduction(data: Data) -> str:
    """Return what is shown, and how it was found."""
    return (
        "Exponents at which clones that are slightly moved part (red) or come together (blue); the signs in the "
        "cells are predicted. (a) A ReLU unit with one output and noisy targets, after the exponent of its own "
        f"scale, over the rate squared; predicted by the matrix N. (b) {len(data.problems)} smooth units that "
        "cannot fit their targets, over the rate; predicted by the lowest curvature, if positive as not parting. "
        f"{data.restless} whose base does not rest are left out. (c) The same as in (a), rate {RULES[0][0]}, batch "
        "1, in order and shuffled in time; bars are standard errors."
    )


def checks(data: Data) -> list[Check]:
    """Return what the caption claims."""
    agree, cells = int((np.sign(data.predicted) == np.sign(data.measured)).sum()), data.measured.size
    off = float(np.abs(data.measured / data.predicted - 1).max())
    signs = [bool(s) for p in data.problems for s in _as_predicted(p)]
    parted = np.array(
        [(c, m) for p in data.problems for c, m in zip(p.curvature, p.measured, strict=True) if c < 0]
    )
    fit = float(np.corrcoef(parted.T)[0, 1]) if len(parted) > 2 else 0.0
    high = np.array(data.dimensions) >= 3
    law = np.abs(data.centred - data.formula) < 4 * data.centred_error + 0.15 * np.abs(data.formula) + 0.004
    return [
        Check(
            f"(a) The sign is as predicted in {agree} of {cells} cells, and the size to {off:.0%}: in no "
            "dimension, at no rate and no batch do near-clones of the ReLU unit part.",
            agree == cells and off < 0.3,
        ),
        Check(
            f"(a) The largest exponent, that of the scale, is zero: at most {np.abs(data.largest).max():.1g}.",
            float(np.abs(data.largest).max()) < 0.02,
        ),
        Check(
            f"(b) The sign of the curvature decides in {sum(signs)} of {len(signs)} cells, at any rate and batch; "
            f"rates at which clones part are proportional to it (correlation {-fit:.3f}).",
            all(signs) and fit < -0.9,
        ),
        Check(
            "(c) In random order the same matrices part clones in three dimensions and more.",
            float(data.mixed[high].mean()) > 2 * float(np.sqrt((data.mixed_error[high] ** 2).mean() / high.sum())),
        ),
        Check(
            "(c) Without their mean they follow the law of independent noise: one dimension attracts, two are "
            "neutral, three part.",
            bool(law.all()),
        ),
    ]


def _as_predicted(problem: Problem) -> Array:
    """Return by rule whether a negative curvature parts, and a positive one does not."""
    parts = problem.measured > 0.01 * np.abs(problem.curvature)
    return np.asarray(parts == (problem.curvature < 0))


def draw(data: Data) -> Figure:
    """Return the three panels."""
    figure = Figure(figsize=(style.PAGE, 2.4))
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1.25, 1.1))
    _cells(left, data.measured, np.sign(data.predicted), 0.02, "$\\lambda/\\eta^2$")
    left.set_xticks(range(len(data.dimensions)), [str(d) for d in data.dimensions])
    left.set(xlabel="dimension", title="(a) ReLU, noise")
    left.set_yticks(range(len(RULES)), [f"{rate:g}, {batch}" for rate, batch in RULES])
    left.set_ylabel("rate, batch")
    found = np.array([p.measured for p in data.problems]).T
    _cells(middle, found, -np.sign([p.curvature for p in data.problems]).T, 0.002, "$\\lambda/\\eta$")
    middle.set_yticks(range(len(SMOOTH)), [f"{rate:g}, {batch}" for rate, batch in SMOOTH])
    middle.set_xticks([])
    middle.set(xlabel="problem, by curvature", title="(b) smooth, misfit")
    _orders(right, data)
    return figure


def _cells(axis: Axes, values: Array, signs: Array, linear: float, label: str) -> None:
    limit = float(np.abs(values).max())
    image = axis.imshow(values, cmap="RdBu_r", norm=SymLogNorm(linear, vmin=-limit, vmax=limit), aspect="auto")
    for (i, j), sign in np.ndenumerate(signs):
        dark = abs(values[i, j]) > limit / 4
        ink = style.PALE if dark else style.BLACK
        axis.text(j, i, "+" if sign > 0 else "−", ha="center", va="center", fontsize=7, color=ink)
    bar = axis.figure.colorbar(image, ax=axis, pad=0.03)
    bar.ax.minorticks_off()
    bar.set_ticks([-limit, 0, limit], labels=[f"−{limit:.2g}", "0", f"{limit:.2g}"])
    bar.set_label(label, labelpad=-6)


def _orders(axis: Axes, data: Data) -> None:
    d = np.array(data.dimensions)
    axis.axhline(0, color=style.GREY, linewidth=0.5)
    axis.plot(d, data.largest[0], "o-", color=style.PALETTE[0], markersize=3, label="in order: largest")
    axis.plot(
        d,
        data.measured[0],
        "s-",
        color=style.PALETTE[0],
        markersize=3,
        markerfacecolor="white",
        linewidth=0.8,
        label="in order: next",
    )
    options: dict[str, Any] = {"markersize": 3, "linewidth": 1, "capsize": 1.5}
    axis.errorbar(d, data.mixed, data.mixed_error, fmt="^-", color=style.PALETTE[3], label="shuffled", **options)
    axis.errorbar(
        d, data.centred, data.centred_error, fmt="v", color=style.PALETTE[2], label="shuffled, centred", **options
    )
    axis.plot(d, data.formula, ":", color=style.BLACK, label="formula")
    axis.set(xlabel="dimension", ylabel="$\\lambda/\\eta^2$", title="(c) order matters", xticks=d)
    axis.set_ylim(top=1.9 * float(np.max(data.mixed + data.mixed_error)))
    axis.legend(loc="upper left", labelspacing=0.25)
