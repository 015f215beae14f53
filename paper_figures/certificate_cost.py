"""The cost of a certificate against the number of parameters."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from paper_figures.support import captions, style
from paper_figures.support.captions import Statement
from paper_figures.support.results import RESULTS, Profile, code_of, remembered
from torch_experiments import certify, clone, coarsest_blocks
from torch_experiments.certificates import certificate
from torch_experiments.cloning import partition
from torch_experiments.lab.models import mlp

Array = np.ndarray[Any, Any]

NAME = "certificate_cost"
TITLE = "time to certify a network from its weights, up to 100 million parameters"
DEPTH, COPIES, TOLERANCE = 3, 2, 1e-5
LINES = {
    "random": ("partition, no copies", style.BLUE, "o"),
    "cloned": ("partition, every unit twice", style.VERMILION, "s"),
    "certificate": ("certificate, every unit twice", style.GREEN, "^"),
}
SLOPES = (0.7, 1.3)
REPEATED = 20_000_000  # from here on a time is taken once


@dataclass(frozen=True)
class Config:
    """Sizes in parameters; the slope is fitted from `fit_from` on."""

    parameters: tuple[int, ...]
    fit_from: int = 1_000_000
    repetitions: int = 3
    seed: int = 0


SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000, 30_000_000, 100_000_000)
CONFIGS: Mapping[Profile, Config] = {"quick": Config(SIZES), "full": Config((*SIZES, 300_000_000))}


@dataclass(frozen=True)
class Data:
    """Columns `line`, `parameters`, `different`, `expected` (units) and `seconds`, and from where on to fit."""

    table: pa.Table
    fit_from: int


def compute(profile: Profile, results: Path = RESULTS) -> Data:
    """Return the times; they are measured once and then read from `results`."""
    return measure(CONFIGS[profile], results)


def measure(config: Config, results: Path) -> Data:
    """Return the times of `config`, from `results` if they are there."""
    about = {"experiment": "figure_certificate_cost", "code": code_of(partition, certificate), **asdict(config)}
    return Data(remembered(results, about, lambda: _times(config)), config.fit_from)


def caption(data: Data) -> str:
    """Return the caption."""
    introduction = (
        "CPU-seconds, on one thread, to find the coarsest two-sided equitable partition of the units of a "
        "multilayer perceptron with three hidden layers from its float32 weights, scaled copies included, and for "
        "the whole certificate but the parts that need data or gradients. They are measured when the figure is "
        "first made. Dashed: a line of slope one."
    )
    return captions.join(introduction, statements(data))


def statements(data: Data) -> list[Statement]:
    """Return what the caption claims."""
    slopes = {label: slope(data, line) for line, (label, *_) in LINES.items()}
    fitted = ", ".join(f"{value:.2f} ({label})" for label, value in slopes.items())
    parameters, seconds = points(data, "certificate")
    return [
        Statement(
            "Random weights have no copies, and of the others exactly the copies are found.",
            data.table["different"].equals(data.table["expected"]),
        ),
        Statement(
            f"From {data.fit_from:,} parameters on the time grows with slope {fitted}; in proportion is 1. Below, "
            "fixed costs count.",
            all(SLOPES[0] <= value <= SLOPES[1] for value in slopes.values()),
        ),
        Statement(
            f"The certificate of {parameters[-1]:,} parameters takes {seconds[-1]:.1f} s.", 0 < seconds[-1] < 60
        ),
    ]


def slope(data: Data, line: str) -> float:
    """Return the least-squares slope of log time against log parameters."""
    parameters, seconds = points(data, line)
    fitted = parameters >= data.fit_from
    return float(np.polyfit(np.log(parameters[fitted]), np.log(seconds[fitted]), 1)[0])


def points(data: Data, line: str) -> tuple[Array, Array]:
    """Return parameters and seconds of one line, smallest first."""
    rows = data.table.filter(pc.equal(data.table["line"], line)).sort_by("parameters")
    return rows["parameters"].to_numpy(), rows["seconds"].to_numpy()


def draw(data: Data) -> Figure:
    """Return one log-log panel."""
    figure = Figure(figsize=(style.WIDTH, 2.3))
    axis = figure.subplots()
    for line, (label, colour, marker) in LINES.items():
        name = f"{label}: slope {slope(data, line):.2f}"
        axis.loglog(*points(data, line), color=colour, marker=marker, markersize=3, linewidth=1, label=name)
    parameters, seconds = points(data, "random")
    far = parameters >= data.fit_from
    axis.loglog(
        parameters[far], seconds[-1] / 3 * parameters[far] / parameters[-1], "--", color=style.GREY, linewidth=0.7
    )
    axis.set(xlabel="parameters", ylabel="CPU-seconds")
    axis.legend(loc="upper left")
    return figure


def _times(config: Config) -> pa.Table:
    rows = [row for parameters in config.parameters for row in _rows(parameters, config)]
    return pa.Table.from_pylist(rows)


def _rows(parameters: int, config: Config) -> list[dict[str, Any]]:
    width = 2 * max(1, round(sqrt(parameters / (DEPTH + 1)) / 2))
    x = torch.randn(4, width, generator=torch.Generator().manual_seed(config.seed))
    return [_plain(width, x, config), *_cloned(width, x, config)]


def _plain(width: int, x: Tensor, config: Config) -> dict[str, Any]:
    model = mlp(width, width, width=width, depth=DEPTH, seed=config.seed)
    return _row("random", model, config, lambda: different(model, x), DEPTH * width)


def _cloned(width: int, x: Tensor, config: Config) -> list[dict[str, Any]]:
    base = mlp(width, width, width=width // COPIES, depth=DEPTH, seed=config.seed)
    model, expected = clone(base, COPIES, example_inputs=x), DEPTH * width // COPIES
    return [
        _row("cloned", model, config, lambda: different(model, x), expected),
        _row("certificate", model, config, lambda: certified(model, x), expected),
    ]


def different(model: nn.Module, x: Tensor) -> int:
    """Return the number of different hidden units."""
    return _blocks(coarsest_blocks(model, x, tolerance=TOLERANCE, scaled=True))


def certified(model: nn.Module, x: Tensor) -> int:
    """Return the number of different hidden units by the certificate of the weights."""
    return _blocks(certify(model, x, parts=(), tolerance=TOLERANCE).blocks)


def _blocks(found: partition.Blocks) -> int:
    return sum(int(profile.block.max()) + 1 for profile in found.groups.values())


def _row(line: str, model: nn.Module, config: Config, act: Callable[[], int], expected: int) -> dict[str, Any]:
    parameters = sum(p.numel() for p in model.parameters())
    runs = [_timed(act) for _ in range(config.repetitions if parameters < REPEATED else 1)]
    seconds, found = min(runs)
    return {
        "line": line,
        "parameters": parameters,
        "different": found,
        "expected": expected,
        "seconds": seconds,
    }


def _timed(act: Callable[[], int]) -> tuple[float, int]:
    start = time.process_time()
    found = act()
    return time.process_time() - start, found
