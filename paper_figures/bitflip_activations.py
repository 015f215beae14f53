"""Slowly changing regression with six activations, SGD and Adam (Dohare et al. 2024, Extended Data figure 2b)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from rich.progress import track
from scipy import stats

from paper_figures.support import drawing, style
from paper_figures.support.captions import Check
from paper_figures.support.results import RESULTS, Profile, code_of, remembered
from paper_figures.support.tables import Array, curves, where
from simulate import bit_flipping, lane_kernels, learner_kernels, learners, randomness, streams, unit_metrics
from simulate.learners import ACTIVATIONS, Learner

NAME = "bitflip_activations"
TITLE = "slowly changing regression: error and silent units by activation, SGD and Adam, best of three rates"

RULES: Mapping[str, Learner] = {"SGD": Learner(), "Adam": Learner("adam", momentum=0.9)}
RATES = (0.01, 0.003, 0.001)
LINEAR = "linear learner"
UNITS = 5
EARLY, LATE = 1, -1  # tenths of the run; in the first one learners find their feet
LABELS = dict(zip(ACTIVATIONS, ("ReLU", "leaky ReLU", "ELU", "tanh", "sigmoid", "Swish"), strict=True))
COLOURS = dict(
    zip(
        ACTIVATIONS,
        (style.VERMILION, style.PURPLE, style.GREEN, style.BLUE, style.ORANGE, style.SKY),
        strict=True,
    )
)


@dataclass(frozen=True)
class Config:
    """Steps and bins of a run, ten or a multiple of whole tasks, and seeds."""

    steps: int = 300_000
    bins: int = 10
    seeds: tuple[int, ...] = tuple(range(16))


CONFIGS: Mapping[Profile, Config] = {"quick": Config(), "full": Config(1_000_000, 20, tuple(range(30)))}


def compute(profile: Profile, results: Path = RESULTS) -> pa.Table:
    """Return the runs, one row a bin; finished ones are read from `results`."""
    return measure(CONFIGS[profile], results)


def measure(config: Config, results: Path) -> pa.Table:
    """Return columns `rule`, `activation`, `rate`, `seed`, `steps`, `loss`, `rank` and `silent`."""
    modules = (streams, learners, learner_kernels, lane_kernels, randomness, unit_metrics, bit_flipping)
    code = code_of(*modules)
    about = {"experiment": "figure_bitflip_activations", "code": code, **asdict(config)}
    return remembered(results, about, lambda: _run(config, results / "bit_flipping" / code))


def cases() -> Iterator[tuple[str, str, float, Learner]]:
    """Yield rule, activation, rate and learner of every run."""
    yield "SGD", LINEAR, 0.01, Learner(linear=True)
    for rule, learner in RULES.items():
        for activation in ACTIVATIONS:
            for rate in RATES:
                yield rule, activation, rate, replace(learner, rate=rate, activation=activation)


def introduction(data: pa.Table) -> str:
    """Return what is shown, and how it was found."""
    steps, seeds = pc.max(data["steps"]).as_py(), len(pc.unique(data["seed"]))
    return (
        f"Slowly changing regression, all slow bits drawn anew every 10,000 steps, {UNITS} units: squared error "
        "before the step, for six activations, by SGD (left) and Adam (right), each at that of the rates "
        f"{', '.join(map(str, RATES))} whose error is least over the whole run of {steps:,} steps; dashed: a "
        "linear learner at 0.01. So Dohare et al. (2024) ask in Extended Data figure 2b; their 100 runs have "
        f"1,000,000 steps. Mean and standard error of {seeds} seeds, the same worlds for all."
    )


def checks(data: pa.Table) -> list[Check]:
    """Return what the caption claims; a rise is that of the error minus a linear learner's in the same worlds."""
    silent = {name: max(float(_silent(data, rule, name).mean()) for rule in RULES) for name in ACTIVATIONS}
    others = max(value for name, value in silent.items() if name != "relu")
    return [
        *(_rising(data, rule) for rule in RULES),
        Check(
            f"On the inputs of a task up to {silent['relu']:.0%} of the ReLUs end silent, of other units at most "
            f"{others:.0%}: that units are silent is not all of it.",
            others < 0.01 < silent["relu"],
        ),
    ]


def _rising(data: pa.Table, rule: str) -> Check:
    """Return that the error rises, mean over the activations, with the least and largest rise."""
    rises = np.array([rise(data, rule, name) for name in ACTIVATIONS])
    whole = rises.mean(axis=0)
    low, high = stats.t.interval(0.95, len(whole) - 1, whole.mean(), stats.sem(whole))
    one = {name: float(values.mean()) for name, values in zip(ACTIVATIONS, rises, strict=True)}
    least, most = min(one, key=one.__getitem__), max(one, key=one.__getitem__)
    return Check(
        f"With {rule} the lead over the linear learner shrinks by {whole.mean():.2f} [{low:.2f}, {high:.2f}] from "
        f"the second to the last tenth, mean over activations, by {one[least]:.2f} ({LABELS[least]}) to "
        f"{one[most]:.2f} ({LABELS[most]}).",
        bool(low > 0),
    )


def rise(data: pa.Table, rule: str, activation: str) -> Array:
    """Return by how much the error, minus a linear learner's, rises at the best rate, `[seeds]`."""
    own = _tenths(_best(data, rule, activation, "loss"))
    linear = _tenths(curves(data, {"activation": LINEAR}, "steps", "loss").values)
    return np.asarray((own - linear)[:, LATE] - (own - linear)[:, EARLY])


def _tenths(values: Array) -> Array:
    return np.asarray(values.reshape(len(values), 10, -1).mean(axis=2))


def best_rate(data: pa.Table, rule: str, activation: str) -> float:
    """Return the rate whose error is least over the whole run, mean over seeds."""
    rows = where(data, {"rule": rule, "activation": activation})
    means = {
        rate: pc.mean(where(rows, {"rate": rate})["loss"]).as_py() for rate in pc.unique(rows["rate"]).to_pylist()
    }
    return min(means, key=lambda rate: means[rate] if np.isfinite(means[rate]) else np.inf)


def draw(data: pa.Table) -> Figure:
    """Return the error over time, a panel an optimizer."""
    figure = Figure(figsize=(style.WIDTH, 2.3))
    axes = figure.subplots(1, 2, sharey=True, sharex=True)
    for axis, rule in zip(axes, RULES, strict=True):
        for activation in ACTIVATIONS:
            _draw(axis, data, rule, activation)
        steps, values = curves(data, {"activation": LINEAR}, "steps", "loss")
        axis.plot(steps / 1e6, values.mean(axis=0), color=style.GREY, linestyle="--", linewidth=1)
        axis.set_title(rule)
        axis.set_xlabel("steps in millions")
    axes[0].set_ylabel("squared error")
    axes[0].set_ylim(bottom=0)
    lines = [Line2D([], [], color=COLOURS[name], label=label) for name, label in LABELS.items()]
    lines.append(Line2D([], [], color=style.GREY, linestyle="--", label=LINEAR))
    figure.legend(handles=lines, loc="outside lower center", ncols=4, columnspacing=1.0)
    return figure


def _draw(axis: Axes, data: pa.Table, rule: str, activation: str) -> None:
    values = _best(data, rule, activation, "loss")
    steps = np.unique(data["steps"].to_numpy()) / 1e6
    mean, error = values.mean(axis=0), stats.sem(values)
    drawing.band(axis, steps, mean, mean - error, mean + error, color=COLOURS[activation], linewidth=1, alpha=0.15)


def _best(data: pa.Table, rule: str, activation: str, quantity: str) -> Array:
    place = {"rule": rule, "activation": activation, "rate": best_rate(data, rule, activation)}
    return curves(data, place, "steps", quantity).values


def _silent(data: pa.Table, rule: str, activation: str) -> Array:
    return np.asarray(_tenths(_best(data, rule, activation, "silent"))[:, LATE])


def _run(config: Config, folder: Path) -> pa.Table:
    tables = []
    for rule, activation, rate, learner in track([*cases()], "bit flipping by activation"):
        about = bit_flipping.Config(learner, UNITS, config.steps, config.seeds, config.steps // config.bins)
        found = bit_flipping.run(about, folder / f"{bit_flipping.key(about)}.npz", threads=1)
        seeds = len(config.seeds)
        columns = {
            "rule": [rule] * found.loss.size,
            "activation": [activation] * found.loss.size,
            "rate": np.full(found.loss.size, rate),
            "seed": np.repeat(config.seeds, config.bins),
            "steps": np.tile(about.bin * np.arange(1, config.bins + 1), seeds),
            "loss": found.loss.ravel(),
            "rank": found.metrics["recent_roy_vetterli_rank"].ravel(),
            "silent": found.metrics["recent_dead_fraction"].ravel(),
        }
        tables.append(pa.table(columns))
    return pa.concat_tables(tables)
