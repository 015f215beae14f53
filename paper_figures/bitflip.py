"""Slowly changing regression: plasticity lost and kept (claim E4; Dohare et al. 2024, JL25 figure B.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from rich.progress import track

from paper_figures.support import drawing, style
from paper_figures.support.captions import Check
from paper_figures.support.results import RESULTS, Profile, code_of, remembered
from paper_figures.support.tables import Array, Curves, curves, where
from simulate import bit_flipping, lane_kernels, learner_kernels, learners, randomness, streams, unit_metrics
from simulate.streams import Stream

NAME = "bitflip"
TITLE = "slowly changing regression: loss and effective rank, plain and with remedies"

LABELS = {
    "sgd": "SGD",
    "linear": "linear learner",
    "l2-init": "L2 Init",
    "redo": "ReDo",
    "cbp": "continual backprop",
    "escape": "escape, function kept",
}
COLOURS = dict(
    zip(
        LABELS,
        (style.VERMILION, style.GREY, style.ORANGE, style.PURPLE, style.BLUE, style.GREEN),
        strict=True,
    )
)
REMEDIES = ("cbp", "escape")
WIDELY = ("sgd", *REMEDIES)  # the learners that are run at all widths
DOHARE = {"sgd": (1.34, 0.10), "linear": (0.96, 0.0), "cbp": (0.58, 0.04)}  # published code, 10 runs of 10⁶ steps
JL25 = {
    "loss": {"sgd": (0.928, 0.843, 0.597, 0.533), "cbp": (0.465, 0.380, 0.053, 0.101)},
    "rank": {"sgd": (2.93, 4.54, 7.36, 7.66), "cbp": (4.30, 7.08, 9.41, 9.38)},
}  # figure B.1, after 5·10⁶ steps
DIAMOND: Mapping[str, Any] = {"marker": "D", "markersize": 3, "markerfacecolor": "white", "linestyle": ""}
SQUARE: Mapping[str, Any] = {"marker": "s", "markersize": 3.5, "markerfacecolor": "white", "linestyle": ""}
JL25_WIDTHS, JL25_STEPS = (5, 10, 50, 100), 5_000_000
QUANTITIES = {"loss": "squared error", "rank": "effective rank"}


@dataclass(frozen=True)
class Config:
    """Lengths in steps of the two streams, widths, seeds, and bins a run."""

    redraw_steps: int = 1_000_000
    flip_steps: int = 1_000_000
    widths: tuple[int, ...] = (5, 50)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    bins: int = 50


CONFIGS: Mapping[Profile, Config] = {
    "quick": Config(),
    "full": Config(flip_steps=JL25_STEPS, widths=JL25_WIDTHS, seeds=tuple(range(30))),
}


def compute(profile: Profile, results: Path = RESULTS) -> pa.Table:
    """Return the runs, one row a bin; finished ones are read from `results`."""
    return measure(CONFIGS[profile], results)


def measure(config: Config, results: Path) -> pa.Table:
    """Return columns `stream`, `learner`, `hidden`, `seed`, `steps`, `loss`, `rank`, `silent` and `renewed`.

    Rank (Roy & Vetterli, centred) and the share of silent units are measured on the inputs of the task at hand.
    """
    code = code_of(streams, learners, learner_kernels, lane_kernels, randomness, unit_metrics, bit_flipping)
    about = {"experiment": "figure_bitflip", "code": code, **asdict(config)}
    return remembered(results, about, lambda: _run(config, results / "bit_flipping" / code))


def cases(config: Config) -> Iterator[tuple[streams.Kind, str, int, int]]:
    """Yield stream, learner, hidden units and steps of every run."""
    yield from (("redraw", learner, 5, config.redraw_steps) for learner in LABELS)
    yield from (("flip-one", learner, h, config.flip_steps) for learner in WIDELY for h in config.widths)


def introduction(data: pa.Table) -> str:
    """Return what is shown, and how it was found."""
    seeds = len(pc.unique(data["seed"]))
    steps = [pc.max(where(data, {"stream": kind})["steps"]).as_py() for kind in ("redraw", "flip-one")]
    published = "; open squares: as published" if _is_published(data) else ""
    return (
        "Slowly changing regression: 15 of 20 input bits hold for 10,000 steps, one sample a step, learning rate "
        "0.01. Left: all slow bits are drawn anew (Dohare et al. 2024), 5 ReLU units; diamonds: ends by their "
        f"published code after {steps[0]:,} steps. Right: one slow bit flips (JL25 figure B.1), mean over the last "
        f"tenth of {steps[1]:,} steps against the number of units{published}. Top: squared error before the step; "
        "bottom: "
        "effective rank (Roy and Vetterli, centred) of the activations on the inputs of the task at hand. "
        f"Mean and standard error of {seeds} seeds."
    )


def checks(data: pa.Table) -> list[Check]:
    """Return what the caption claims."""
    loss = {name: float(end(data, "redraw", name, 5, "loss").mean()) for name in LABELS}
    rank = {name: float(end(data, "redraw", name, 5, "rank").mean()) for name in WIDELY}
    renewed = {name: _renewed(data, name) for name in REMEDIES}
    start = float(curve(data, "redraw", "sgd", 5, "loss")[1][:, 0].mean())
    ratio = _largest_ratio(data)
    return [
        Check(
            f"Plain SGD begins at {start:.2f} and ends at {loss['sgd']:.2f}, above the linear learner's "
            f"{loss['linear']:.2f}.",
            start < loss["linear"] < loss["sgd"],
        ),
        Check(
            f"Continual backprop ends at {loss['cbp']:.2f}, the escape at {loss['escape']:.2f}, below it.",
            max(loss[name] for name in REMEDIES) < loss["linear"],
        ),
        Check(
            f"The escape re-draws {renewed['escape']:.0f} units a run, continual backprop {renewed['cbp']:.0f}.",
            0 < renewed["escape"] < renewed["cbp"],
        ),
        Check(
            f"The rank ends at {rank['sgd']:.1f} for SGD, {rank['cbp']:.1f} and {rank['escape']:.1f} with these.",
            rank["sgd"] < min(rank[name] for name in REMEDIES),
        ),
        Check(
            f"Where one bit flips, at every width both end at {ratio:.2f} of SGD's error or less.",
            0 <= ratio < 1,
        ),
    ]


def curve(data: pa.Table, stream: str, learner: str, hidden: int, quantity: str) -> Curves:
    """Return a quantity over the steps, `values [seeds, bins]`."""
    return curves(data, {"stream": stream, "learner": learner, "hidden": hidden}, "steps", quantity)


def end(data: pa.Table, stream: str, learner: str, hidden: int, quantity: str) -> Array:
    """Return the mean over the last tenth of the bins, `[seeds]`."""
    values = curve(data, stream, learner, hidden, quantity)[1]
    return values[:, -max(1, values.shape[1] // 10) :].mean(axis=1)


def draw(data: pa.Table) -> Figure:
    """Return two rows (error, rank) of two columns (over time, against width)."""
    figure = Figure(figsize=(style.WIDTH, 3.5))
    axes = figure.subplots(2, 2, sharex="col", width_ratios=(1.5, 1))
    for row, quantity in zip(axes, QUANTITIES, strict=True):
        for learner in LABELS:
            if learner != "linear" or quantity == "loss":
                _draw_curve(row[0], data, learner, quantity)
        for learner in WIDELY:
            _draw_widths(row[1], data, learner, quantity)
        row[0].set_ylabel(QUANTITIES[quantity])
    _mark_dohare(axes[0, 0], data)
    _label(axes, data)
    _legend(figure, data)
    return figure


def _draw_curve(axis: Axes, data: pa.Table, learner: str, quantity: str) -> None:
    steps, values = curve(data, "redraw", learner, 5, quantity)
    mean, error = values.mean(axis=0), _standard_error(values)
    line = "--" if learner == "linear" else "-"
    look: dict[str, Any] = {"color": COLOURS[learner], "linestyle": line, "linewidth": 1, "alpha": 0.15}
    drawing.band(axis, steps / 1e6, mean, mean - error, mean + error, **look)


def _draw_widths(axis: Axes, data: pa.Table, learner: str, quantity: str) -> None:
    widths = _widths(data)
    ends = np.array([end(data, "flip-one", learner, h, quantity) for h in widths])
    colour, errors = COLOURS[learner], _standard_error(ends.T)
    axis.errorbar(
        widths, ends.mean(axis=1), errors, marker="o", color=colour, linewidth=1, markersize=3, capsize=1.5
    )
    if _is_published(data) and learner in JL25[quantity]:
        axis.plot(JL25_WIDTHS, JL25[quantity][learner], color=COLOURS[learner], **SQUARE)


def _mark_dohare(axis: Axes, data: pa.Table) -> None:
    if _dohare_compares(data):
        for learner, (mean, error) in DOHARE.items():
            axis.errorbar(1.04, mean, error or None, color=COLOURS[learner], clip_on=False, **DIAMOND)


def _dohare_compares(data: pa.Table) -> bool:
    """Say whether the left column has the length of the runs of Dohare et al."""
    return bool(pc.max(where(data, {"stream": "redraw"})["steps"]).as_py() == 1_000_000)


def _label(axes: Array, data: pa.Table) -> None:
    axes[0, 0].set_title("slow bits drawn anew, 5 units")
    axes[0, 1].set_title("one bit flips")
    axes[1, 0].set_xlabel("steps in millions")
    axes[1, 1].set_xlabel("hidden units")
    axes[1, 1].set_xscale("log")
    axes[1, 1].set_xticks(_widths(data), [str(h) for h in _widths(data)])
    axes[1, 1].minorticks_off()
    for axis in axes.flat:
        axis.set_ylim(bottom=0)


def _legend(figure: Figure, data: pa.Table) -> None:
    lines = [
        Line2D([], [], color=COLOURS[name], linestyle="--" if name == "linear" else "-", label=label)
        for name, label in LABELS.items()
    ]
    if _dohare_compares(data):
        lines.append(drawing.entry("published end", **DIAMOND))
    if _is_published(data):
        lines.append(drawing.entry("JL25", **SQUARE))
    figure.legend(handles=lines, loc="outside lower center", ncols=3, columnspacing=1.2)


def _run(config: Config, folder: Path) -> pa.Table:
    tables = []
    for stream, learner, hidden, steps in track([*cases(config)], "bit flipping"):
        about = bit_flipping.Config(
            learner,
            hidden,
            steps,
            config.seeds,
            steps // config.bins,
            Stream(stream),
        )
        found = bit_flipping.run(about, folder / f"{bit_flipping.key(about)}.npz")
        tables.append(_table(stream, learner, hidden, about, found))
    return pa.concat_tables(tables)


def _table(
    stream: str, learner: str, hidden: int, config: bit_flipping.Config, found: bit_flipping.Result
) -> pa.Table:
    seeds, bins = found.loss.shape
    columns = {"loss": found.loss, "rank": found.metrics["recent_roy_vetterli_rank"]}
    columns |= {"silent": found.metrics["recent_dead_fraction"], "renewed": found.metrics["renewed"]}
    place = {
        "stream": [stream] * found.loss.size,
        "learner": [learner] * found.loss.size,
        "hidden": np.full(found.loss.size, hidden),
        "seed": np.repeat(config.seeds, bins),
        "steps": np.tile(config.bin * np.arange(1, bins + 1), seeds),
    }
    return pa.table(place | {name: values.ravel() for name, values in columns.items()})


def _widths(data: pa.Table) -> list[int]:
    return sorted(pc.unique(where(data, {"stream": "flip-one"})["hidden"]).to_pylist())


def _is_published(data: pa.Table) -> bool:
    """Say whether the right column has the length of the published runs."""
    return pc.max(where(data, {"stream": "flip-one"})["steps"]).as_py() == JL25_STEPS


def _renewed(data: pa.Table, learner: str) -> float:
    return float(curve(data, "redraw", learner, 5, "renewed")[1][:, -1].mean())


def _largest_ratio(data: pa.Table) -> float:
    """Return the largest ratio over widths of a remedy's mean error to SGD's where one bit flips; nan if any is."""
    means = {(name, h): end(data, "flip-one", name, h, "loss").mean() for name in WIDELY for h in _widths(data)}
    return float(np.max([means[name, h] / means["sgd", h] for name in REMEDIES for h in _widths(data)]))


def _standard_error(values: Array) -> Array:
    """Return the standard error over seeds (the first axis)."""
    return values.std(axis=0, ddof=1) / np.sqrt(len(values))
