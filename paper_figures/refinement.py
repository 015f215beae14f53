"""The cost of the coarsest partition against the number of weights (claim C11)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.figure import Figure
from rich.progress import track

from paper_figures.support import captions, style
from paper_figures.support.captions import Statement
from paper_figures.support.results import RESULTS, Profile, code_of, remembered
from theory import network, partitions
from theory.network import Network
from theory.partitions import coarsest_equitable_partition

Array = np.ndarray[Any, Any]

NAME = "refinement"
TITLE = "time to find the coarsest partition, from a thousand weights to millions"
KINDS = {"random": "no copies", "cloned": "four copies of each hidden unit"}
COPIES = 4
STEEPEST = 1.5


@dataclass(frozen=True)
class Config:
    """Sizes in weights; the slope is fitted from `fit_from` on; times are the best of so many repetitions."""

    weights: tuple[int, ...]
    fit_from: int = 10_000
    repetitions: int = 3
    seed: int = 0


CONFIGS: Mapping[Profile, Config] = {
    "quick": Config((1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000)),
    "full": Config((1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)),
}


@dataclass(frozen=True)
class Data:
    """Columns `kind`, `weights`, `units`, `blocks`, `expected`, `seconds`, and from which size on to fit."""

    table: pa.Table
    fit_from: int


def compute(profile: Profile, results: Path = RESULTS) -> Data:
    """Return the times; they are measured once and then read from `results`."""
    return measure(CONFIGS[profile], results)


def measure(config: Config, results: Path) -> Data:
    """Return the times of `config`, from `results` if they are there."""
    about = {"experiment": "figure_refinement", "code": code_of(network, partitions), **asdict(config)}
    return Data(remembered(results, about, lambda: _times(config)), config.fit_from)


def caption(data: Data) -> str:
    """Return the caption."""
    introduction = (
        "Seconds to find the coarsest two-sided equitable partition, exact on float64 weights, of layered networks "
        "with three hidden layers. Dashed: a line of slope one."
    )
    return captions.join(introduction, statements(data))


def statements(data: Data) -> list[Statement]:
    """Return what the caption claims."""
    slopes = {KINDS[kind]: slope(data, kind) for kind in KINDS}
    right = data.table["blocks"].equals(data.table["expected"])
    largest = data.table.sort_by([("weights", "descending"), ("seconds", "descending")]).slice(0, 1).to_pylist()[0]
    fitted = ", ".join(f"{value:.2f} with {label}" for label, value in slopes.items())
    return [
        Statement(
            "Random weights leave every unit alone, and in cloned networks exactly the copies are found.", right
        ),
        Statement(
            f"The time grows with slope {fitted}, fitted from {data.fit_from:,} weights on; in proportion would be "
            "1, quadratic growth 2.",
            all(0 < value <= STEEPEST for value in slopes.values()),
        ),
        Statement(f"{largest['weights']:,} weights take {largest['seconds']:.1f} s.", largest["seconds"] > 0),
    ]


def slope(data: Data, kind: str) -> float:
    """Return the least-squares slope of log time against log weights."""
    weights, seconds = points(data, kind)
    fitted = weights >= data.fit_from
    return float(np.polyfit(np.log(weights[fitted]), np.log(seconds[fitted]), 1)[0])


def points(data: Data, kind: str) -> tuple[Array, Array]:
    """Return weights and seconds of one kind of network, smallest first."""
    rows = data.table.filter(pc.equal(data.table["kind"], kind)).sort_by("weights")
    return rows["weights"].to_numpy(), rows["seconds"].to_numpy()


def draw(data: Data) -> Figure:
    """Return one log-log panel."""
    figure = Figure(figsize=(style.WIDTH, 2.3))
    axis = figure.subplots()
    looks = {"random": (style.BLUE, "o"), "cloned": (style.VERMILION, "s")}
    for kind, (colour, marker) in looks.items():
        label = f"{KINDS[kind]}: slope {slope(data, kind):.2f}"
        axis.loglog(*points(data, kind), color=colour, marker=marker, markersize=3, linewidth=1, label=label)
    weights, seconds = points(data, "cloned")
    axis.loglog(weights, seconds[-1] * weights / weights[-1] / 6, color=style.GREY, linestyle="--", linewidth=0.7)
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
    cases = [(kind, weights) for weights in config.weights for kind in KINDS]
    rows = [_row(kind, weights, config) for kind, weights in track(cases, "refinement")]
    return pa.Table.from_pylist(rows)


def _row(kind: str, weights: int, config: Config) -> dict[str, Any]:
    clone, expected = build(kind, weights, config.seed)
    runs = [_timed(clone) for _ in range(config.repetitions if weights < 1_000_000 else 1)]
    return {
        "kind": kind,
        "weights": len(clone.source),
        "units": len(clone.units),
        "blocks": runs[0][1],
        "expected": expected,
        "seconds": min(seconds for seconds, _ in runs),
    }


def _timed(graph: Network) -> tuple[float, int]:
    start = time.perf_counter()
    blocks = len(coarsest_equitable_partition(graph))
    return time.perf_counter() - start, blocks
