"""The cost of the coarsest partition against the number of weights: in proportion, or nearly so (claim C11)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure
from rich.progress import track

from paper_figures.support import scaling, style
from paper_figures.support.captions import Check
from paper_figures.support.results import RESULTS, Profile, code_of, remembered
from paper_figures.support.scaling import Config, Line, Times
from theory import network, partitions
from theory.network import Network
from theory.partitions import coarsest_equitable_partition

NAME = "refinement"
TITLE = "time to find the coarsest partition, from a thousand weights to millions"
LINES: Mapping[str, Line] = {
    "random": Line("no copies", style.BLUE, "o"),
    "cloned": Line("four copies of each hidden unit", style.VERMILION, "s"),
}
COPIES = 4
STEEPEST = 1.5  # n log n stays below it at these sizes, n² does not
REPEATED = 1_000_000  # from here on a time is taken once
SIZES = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000)
CONFIGS: Mapping[Profile, Config] = {
    "quick": Config(SIZES, fit_from=10_000),
    "full": Config((*SIZES, 10_000_000), fit_from=10_000),
}


def compute(profile: Profile, results: Path = RESULTS) -> Times:
    """Return the times; they are measured once and then read from `results`."""
    return measure(CONFIGS[profile], results)


def measure(config: Config, results: Path) -> Times:
    """Return the times of `config`, from `results` if they are there."""
    code = code_of(network, partitions, scaling)
    about = {"experiment": "figure_refinement", "code": code, **asdict(config)}
    return Times(remembered(results, about, lambda: _times(config)), config.fit_from)


def introduction(data: Times) -> str:
    """Return what is shown, and how it was found."""
    return (
        "Seconds to find the coarsest two-sided equitable partition, exact on float64 weights, of layered networks "
        "with three hidden layers. Dashed: a line of slope one."
    )


def checks(data: Times) -> list[Check]:
    """Return what the caption claims."""
    slopes = scaling.slopes(data, LINES)
    fitted = ", ".join(f"{value:.2f} with {label}" for label, value in slopes.items())
    return [
        Check(
            "Random weights leave every unit alone, and in cloned networks exactly the copies are found.",
            data.right,
        ),
        Check(
            f"The time grows with slope {fitted}, fitted from {data.fit_from:,} weights on; in proportion would be "
            "1, quadratic growth 2.",
            all(0 < value <= STEEPEST for value in slopes.values()),
        ),
    ]


def notes(data: Times) -> list[str]:
    """Return the time of the largest network."""
    largest = data.table.sort_by([("size", "descending"), ("seconds", "descending")]).slice(0, 1).to_pylist()[0]
    return [f"{largest['size']:,} weights take {largest['seconds']:.1f} s."]


def draw(data: Times) -> Figure:
    """Return one log-log panel."""
    figure, axis = scaling.panel(data, LINES)
    scaling.guide(axis, *scaling.points(data, "cloned"), below=6)
    axis.set(xlabel="weights", ylabel="seconds")
    axis.legend(loc="upper left")
    return figure


def build(kind: str, weights: int, seed: int) -> tuple[Network, int]:
    """Return a layered ReLU network with about that many weights, and the number of blocks it should have.

    Its widths are `b, 4b, 4b, 4b, b`. Cloned: the random weights of widths `b`, each hidden unit copied four
    times and the weight shared out among the copies; random: Gaussian weights throughout.
    """
    b = max(1, round(sqrt(weights / (2 * COPIES + 2 * COPIES**2))))
    draws = np.random.default_rng(seed)
    shapes = [(COPIES, 1), (COPIES, COPIES), (COPIES, COPIES), (1, COPIES)]
    if kind == "cloned":
        matrices = [np.kron(draws.standard_normal((b, b)), np.ones(shape) / shape[1]) for shape in shapes]
        return Network.layered(matrices, "relu"), 5 * b
    matrices = [draws.standard_normal((m * b, n * b)) for m, n in shapes]
    return Network.layered(matrices, "relu"), (2 + 3 * COPIES) * b


def _times(config: Config) -> pa.Table:
    cases = [(kind, weights) for weights in config.sizes for kind in LINES]
    rows = [_row(kind, weights, config) for kind, weights in track(cases, "refinement")]
    return pa.Table.from_pylist(rows)


def _row(kind: str, weights: int, config: Config) -> dict[str, Any]:
    graph, expected = build(kind, weights, config.seed)
    repetitions = config.repetitions if weights < REPEATED else 1
    act, size = partial(_blocks, graph), len(graph.source)
    return scaling.row(kind, size, expected, act, repetitions=repetitions, clock=time.perf_counter)


def _blocks(graph: Network) -> int:
    return len(coarsest_equitable_partition(graph))
