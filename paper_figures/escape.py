"""Escape from a cloned manifold: predicted by linearisation, measured over seeds (claims C10, E1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter

from paper_figures.support import drawing, style
from paper_figures.support.captions import Check
from paper_figures.support.results import RESULTS, Profile
from paper_figures.support.tables import Array
from simulate.clones import (
    Convention,
    Disturbance,
    Problem,
    base_path,
    first_passage,
    measured_distances,
    perturbations,
    predicted_distances,
    predicted_noise,
    random_problem,
)

NAME = "escape"
TITLE = "when clones part: predicted from the manifold, measured over seeds"
GOAL, STEPS = 0.1, 4000
SIZES = (1e-2, 1e-3, 1e-4, 1e-5)
SIGMAS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
CONVENTIONS: tuple[Convention, ...] = ("entry", "vector")
SEEDS: Mapping[Profile, int] = {"quick": 24, "full": 200}


@dataclass(frozen=True)
class Data:
    """Escape times in steps; −1 where a run did not escape.

    Attributes:
        predicted, measured: For each size of the perturbation, one a seed.
        noisy: For each convention and each `σ₀`, one a seed.
        law: For each convention and each `σ₀`, the step at which the predicted root mean square distance is `GOAL`.
        steps: After how many steps a run was given up.
    """

    predicted: Mapping[float, Array]
    measured: Mapping[float, Array]
    noisy: Mapping[Convention, Array]
    law: Mapping[Convention, Array]
    steps: int


def compute(profile: Profile, results: Path = RESULTS) -> Data:
    """Return the times; they take seconds and are not recorded."""
    return measure(SEEDS[profile], STEPS)


def measure(seeds: int, steps: int) -> Data:
    """Return the times of one base network over perturbations and noise."""
    problem = random_problem(4, 5, 60, np.random.default_rng(0), rate=0.05)
    b, norms = base_path(problem, steps)
    starts = {size: perturbations(problem, size, seeds, np.random.default_rng(1)) for size in SIZES}
    laws = {
        convention: np.array([_law(problem, b, norms, sigma, convention) for sigma in SIGMAS])
        for convention in CONVENTIONS
    }
    return Data(
        predicted={k: first_passage(predicted_distances(b, *v, problem.rate), GOAL) for k, v in starts.items()},
        measured={k: first_passage(measured_distances(problem, *v, steps), GOAL) for k, v in starts.items()},
        noisy={c: np.array([_noisy(problem, sigma, c, seeds, steps) for sigma in SIGMAS]) for c in CONVENTIONS},
        law=laws,
        steps=steps,
    )


def _law(problem: Problem, b: Array, norms: Array, sigma: float, convention: Convention) -> int:
    distances = predicted_noise(b, norms, problem.rate, Disturbance(sigma=sigma, convention=convention))
    return int(first_passage(distances[:, None], GOAL)[0])


def _noisy(problem: Problem, sigma: float, convention: Convention, seeds: int, steps: int) -> Array:
    epsilon, alpha = np.zeros((seeds, *problem.W.shape)), np.zeros((seeds, len(problem.a)))
    disturbance = Disturbance(sigma=sigma, convention=convention)
    rng = np.random.default_rng(2)
    return first_passage(measured_distances(problem, epsilon, alpha, steps, disturbance, rng), GOAL)


def introduction(data: Data) -> str:
    """Return what is shown, and how it was found."""
    seeds = len(data.measured[SIZES[0]])
    return (
        "Steps of gradient descent until pairs of cloned ReLU units are at distance 0.1 from their manifold; one "
        f"hidden layer, four pairs, {seeds} seeds each. (a) From a random perturbation: predicted by linearising "
        "along the path on the manifold, and measured. (b) From the manifold itself under gradient noise of "
        "relative size σ₀, per entry as in JL25's code or per vector: medians and quartiles; lines: when the "
        "predicted root mean square distance is 0.1."
    )


def fit(data: Data, sizes: tuple[float, ...] = SIZES) -> tuple[float, float]:
    """Return slope and R² of log measured against log predicted times, where both escaped, over these sizes."""
    t, m = (np.concatenate([times[size] for size in sizes]) for times in (data.predicted, data.measured))
    both = (t > 0) & (m > 0)
    if both.sum() < 3:
        return float("nan"), float("nan")
    x, y = np.log(t[both]), np.log(m[both])
    return float(np.polyfit(x, y, 1)[0]), float(np.corrcoef(x, y)[0, 1] ** 2)


def checks(data: Data) -> list[Check]:
    """Return what the caption claims."""
    slope, r2 = fit(data)
    last = fit(data, SIZES[-1:])
    missed = int(((data.predicted[SIZES[-1]] > 0) & (data.measured[SIZES[-1]] < 0)).sum())
    medium = fit(data, SIZES[:-1])
    escaped = {size: float((times > 0).mean()) for size, times in data.measured.items()}
    medians = {c: np.array([_median(times) for times in data.noisy[c]]) for c in CONVENTIONS}
    ratios = np.concatenate([medians[c] / np.where(data.law[c] > 0, data.law[c], np.nan) for c in CONVENTIONS])
    known = ratios[np.isfinite(ratios)]
    return [
        Check(
            f"Measured times follow the prediction with slope {slope:.2f} and R² {r2:.3f} in log-log over all "
            f"sizes, {medium[0]:.2f} and {medium[1]:.3f} without the smallest. From {SIZES[-1]:g} alone the law "
            f"fails: slope {last[0]:.2f}, R² {last[1]:.2f}, {missed} that should escape do not; so late the path "
            "of the perturbed network is not that of the base network any more.",
            abs(slope - 1) < 0.1 and r2 > 0.95 and medium[1] > 0.97 and not last[1] > 0.5,
        ),
        Check(
            f"The smaller the perturbation, the fewer escape within {data.steps:,} steps: "
            + ", ".join(f"{100 * share:.0f} % from {size:g}" for size, share in escaped.items())
            + "; the rate falls as the base network learns.",
            list(escaped.values()) == sorted(escaped.values(), reverse=True) and escaped[SIZES[0]] == 1,
        ),
        Check(
            "Mean squares are made by the fastest seeds: under noise the median time is "
            f"{known.min():.2f} to {known.max():.2f} times that of the mean square; "
            f"{'noise per entry leaves earlier at every σ₀' if known.size else ''}.",
            bool(known.size >= 4 and known.min() > 0.6 and known.max() < 1.8)
            and bool((medians["entry"] <= medians["vector"]).all()),
        ),
    ]


def _median(times: Array) -> float:
    """Return the median, with runs that never escaped at infinity."""
    return float(np.median(np.where(times > 0, times, np.inf)))


def draw(data: Data) -> Figure:
    """Return the two panels."""
    figure = Figure(figsize=(style.PAGE, 2.6))
    left, right = figure.subplots(1, 2)
    _scatter(left, data)
    _noise(right, data)
    return figure


def _scatter(axis: Axes, data: Data) -> None:
    for (size, times), colour in zip(data.predicted.items(), style.PALETTE, strict=False):
        found = data.measured[size]
        both = (times > 0) & (found > 0)
        axis.loglog(times[both], found[both], ".", color=colour, markersize=3.5, label=_power(size))
    ends = np.array(axis.get_xlim())
    axis.plot(ends, ends, color=style.BLACK, linewidth=0.7, zorder=0, label="as predicted")
    for side in (axis.xaxis, axis.yaxis):
        side.set_minor_formatter(NullFormatter())
        side.set_major_locator(FixedLocator([300, 1000, 3000]))
        side.set_major_formatter("{x:,.0f}")
    axis.set(xlabel="predicted steps", ylabel="measured steps", title="(a) perturbed")
    axis.legend(title="size at the start", loc="upper left", title_fontsize=style.SMALLEST, handletextpad=0.5)


def _noise(axis: Axes, data: Data) -> None:
    for convention, colour in zip(CONVENTIONS, (style.VERMILION, style.BLUE), strict=True):
        times = np.where(data.noisy[convention] > 0, data.noisy[convention], np.inf)
        low, middle, high = (np.quantile(times, q, axis=1, method="nearest") for q in (0.25, 0.5, 0.75))
        shown = np.isfinite(high)
        low, middle, high = low[shown], middle[shown], high[shown]
        x, law = np.array(SIGMAS), data.law[convention]
        label = f"per {convention}"
        axis.errorbar(
            x[shown],
            middle,
            [middle - low, high - middle],
            fmt="o",
            markersize=3,
            linewidth=0.8,
            color=colour,
            label=label,
        )
        axis.plot(x[law > 0], law[law > 0], color=colour, linewidth=0.9)
    axis.set(xscale="log", yscale="log", xlabel="noise $\\sigma_0$", ylabel="steps", title="(b) noise")
    predicted = drawing.entry("predicted", linewidth=0.9)
    axis.legend(handles=[*axis.get_legend_handles_labels()[0], predicted], loc="upper right")


def _power(size: float) -> str:
    """Return a power of ten in print, ``$10^{-5}$``."""
    return f"$10^{{{round(np.log10(size))}}}$"
