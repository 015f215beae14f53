"""Training moves units through the map of saturation; normalised ones stay where they are (claims R7, E3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from paper_figures.support import drawing, style
from paper_figures.support.captions import Check
from paper_figures.support.results import RESULTS, Profile
from paper_figures.support.tables import Array
from simulate.drift import Config, Course, onset, run
from theory.saturation import frozen_fraction

NAME = "drift"
TITLE = "training drives units into saturation along gain and threshold; normalisation does not let it"
RATES = {"tanh": 0.1, "relu": 0.02}
LEVEL, SILENT = 0.5, 0.99
SHOWN = (0.1, 8.0), (-4.0, 4.0)  # gains and thresholds of panel (a)
SIZES: Mapping[Profile, tuple[int, int]] = {"quick": (100, 20), "full": (300, 60)}  # tasks and seeds


@dataclass(frozen=True)
class Data:
    """Courses by activation and whether pre-activations are normalised."""

    courses: Mapping[tuple[str, bool], Course]


def compute(profile: Profile, results: Path = RESULTS) -> Data:
    """Return the courses; they take some ten seconds and are not recorded."""
    return measure(*SIZES[profile])


def measure(tasks: int, seeds: int) -> Data:
    """Return the courses over that many tasks, for that many seeds."""
    cases = [(name, normalised) for name in RATES for normalised in (False, True)]
    return Data({case: run(Config(*case, rate=RATES[case[0]], tasks=tasks, seeds=seeds)) for case in cases})


def introduction(data: Data) -> str:
    """Return what is shown, and how it was found."""
    config = data.courses["tanh", False].config
    return (
        f"Regression on targets that change with {config.slow} of {config.slow + config.fast} inputs, drawn anew "
        f"every {config.hold} steps; {config.hidden} hidden units, {config.seeds} seeds, SGD. (a) Frozen share of "
        f"tanh units (slope below {config.delta}) over gain and threshold, and units before and after training; "
        "normalised ones are at the diamond. (b) Mean frozen share over the tasks: measured (dots), told by "
        "the map from gain and threshold (lines)."
    )


def checks(data: Data) -> list[Check]:
    """Return what the caption claims."""
    off = max(float(np.abs((course.frozen - course.predicted()).mean(axis=(1, 2))).max()) for course in _all(data))
    tanh, still = data.courses["tanh", False], data.courses["tanh", True]
    start, end = _share(tanh)[[0, -1]]
    gains = np.median(tanh.gain[0]), np.median(tanh.gain[-1])
    reached, told = onset(tanh.frozen, LEVEL), onset(tanh.predicted(), LEVEL)
    both = (reached >= 0) & (told >= 0)
    relu = _share(data.courses["relu", False])
    silent = {n: float((data.courses["relu", n].frozen[1:] > SILENT).mean()) for n in (False, True)}
    return [
        Check(
            f"The map tells the mean share at every moment, to {off:.3f}.",
            off < 0.02,
        ),
        Check(
            f"Plain tanh units go from {100 * start:.0f} % to {100 * end:.0f} % frozen while the median gain grows "
            f"from {gains[0]:.2f} to {gains[1]:.2f}.",
            bool(end > 2 * start and gains[1] > 2 * gains[0]),
        ),
        Check(
            f"Networks of them are half frozen, if at all, after {_median(reached)} tasks (median), by the map "
            f"after {_median(told)}.",
            bool(both.any()) and abs(_median(reached) - _median(told)) <= 0.2 * _median(told) + 2,
        ),
        Check(
            f"Normalised ones stay at {100 * float(_share(still).max()):.0f} %.",
            float(_share(still).max()) < 0.1,
        ),
        Check(
            f"Plain ReLU units do not freeze on average, but {100 * silent[False]:.0f} % of them are frozen on "
            f"more than {100 * SILENT:.0f} % of a task's inputs; of the normalised ones none is.",
            bool(relu[-1] < relu[0] + 0.1) and silent[False] > 0.02 and silent[True] == 0,
        ),
    ]


def _all(data: Data) -> list[Course]:
    return list(data.courses.values())


def _share(course: Course) -> Array:
    """Return the mean measured frozen share, shape (tasks + 1,)."""
    return np.asarray(course.frozen.mean(axis=(1, 2)))


def _median(tasks: Array) -> int:
    """Return the median over seeds that reached the level; −1 if none did."""
    reached = tasks[tasks >= 0]
    return int(np.median(reached)) if reached.size else -1


def draw(data: Data) -> Figure:
    """Return the two panels."""
    figure = Figure(figsize=(style.PAGE, 2.9))
    left, right = figure.subplots(1, 2)
    _map(left, data)
    _shares(right, data)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower left", ncols=3)
    marks = [drawing.entry("measured", marker=".", linestyle="", markersize=4), drawing.entry("told by the map")]
    handles = [*right.get_legend_handles_labels()[0], *marks]
    figure.legend(handles=handles, loc="outside lower right", ncols=3)
    return figure


def _map(axis: Axes, data: Data) -> None:
    course = data.courses["tanh", False]
    gain, threshold = np.meshgrid(np.geomspace(*SHOWN[0], 81), np.linspace(*SHOWN[1], 81))
    frozen = frozen_fraction("tanh", gain, -gain * threshold, course.config.delta)
    shades = axis.contourf(gain, threshold, frozen, np.linspace(0, 1, 11), cmap="Greys", vmin=0, vmax=1.8)
    for moment, colour, label in ((0, style.BLUE, "before"), (-1, style.VERMILION, "after")):
        a, b = course.gain[moment].ravel(), course.shift[moment].ravel()
        axis.plot(a, -b / a, ".", color=colour, markersize=2.5, label=f"units {label}")
    axis.plot(1, 0, "D", color=style.GREEN, markersize=5, markeredgecolor="white", label="normalised")
    axis.set(xscale="log", xlim=SHOWN[0], ylim=SHOWN[1], xlabel="gain $a$", ylabel="threshold $-b/a$")
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_title("(a) tanh units")
    axis.figure.colorbar(shades, ax=axis, ticks=[0, 0.5, 1]).ax.set_title("frozen", fontsize=style.SMALLEST)


def _shares(axis: Axes, data: Data) -> None:
    colours = iter((style.VERMILION, style.GREEN, style.ORANGE, style.SKY))
    for (name, normalised), course in data.courses.items():
        colour, tasks = next(colours), np.arange(len(course.frozen))
        label = f"{style.ACTIVATIONS[name]}{', normalised' if normalised else ''}"
        axis.plot(tasks, course.predicted().mean(axis=(1, 2)), color=colour, linewidth=1, label=label)
        shown = np.unique(np.linspace(0, len(tasks) - 1, 21).round().astype(int))
        axis.plot(tasks[shown], _share(course)[shown], ".", color=colour, markersize=4)
    axis.set(xlabel="task", ylabel="frozen share", title="(b) with and without normalisation")
    axis.set_ylim(0, 0.7)
