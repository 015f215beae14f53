"""The cost of a certificate against the number of parameters: in proportion (claim C11 on modules)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from math import sqrt
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from paper_figures.support import scaling, style
from paper_figures.support.captions import Check
from paper_figures.support.results import RESULTS, Profile, code_of, remembered
from paper_figures.support.scaling import Config, Line, Times
from torch_experiments import certify, clone, coarsest_blocks
from torch_experiments.certificates import certificate
from torch_experiments.cloning import partition
from torch_experiments.lab.models import mlp

NAME = "certificate_cost"
TITLE = "time to certify a network from its weights, up to 100 million parameters"
DEPTH, COPIES, TOLERANCE = 3, 2, 1e-5
LINES: Mapping[str, Line] = {
    "random": Line("partition, no copies", style.BLUE, "o"),
    "cloned": Line("partition, every unit twice", style.VERMILION, "s"),
    "certificate": Line("certificate, every unit twice", style.GREEN, "^"),
}
SLOPES = (0.7, 1.3)  # of what grows in proportion, with the noise of a machine at work
REPEATED = 20_000_000  # from here on a time is taken once


SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000, 30_000_000, 100_000_000)
CONFIGS: Mapping[Profile, Config] = {
    "quick": Config(SIZES, fit_from=1_000_000),
    "full": Config((*SIZES, 300_000_000), fit_from=1_000_000),
}


def compute(profile: Profile, results: Path = RESULTS) -> Times:
    """Return the times; they are measured once and then read from `results`."""
    return measure(CONFIGS[profile], results)


def measure(config: Config, results: Path) -> Times:
    """Return the times of `config`, from `results` if they are there."""
    code = code_of(partition, certificate, scaling)
    about = {"experiment": "figure_certificate_cost", "code": code, **asdict(config)}
    return Times(remembered(results, about, lambda: _times(config)), config.fit_from)


def introduction(data: Times) -> str:
    """Return what is shown, and how it was found."""
    return (
        "CPU-seconds, on one thread, to find the coarsest two-sided equitable partition of the units of a "
        "multilayer perceptron with three hidden layers from its float32 weights, scaled copies included, and for "
        "the whole certificate but the parts that need data or gradients. They are measured when the figure is "
        "first made. Dashed: a line of slope one."
    )


def checks(data: Times) -> list[Check]:
    """Return what the caption claims."""
    slopes = scaling.slopes(data, LINES)
    fitted = ", ".join(f"{value:.2f} ({label})" for label, value in slopes.items())
    parameters, seconds = scaling.points(data, "certificate")
    return [
        Check(
            "Random weights have no copies, and of the others exactly the copies are found.",
            data.right,
        ),
        Check(
            f"From {data.fit_from:,} parameters on the time grows with slope {fitted}; in proportion is 1. Below, "
            "fixed costs count.",
            all(SLOPES[0] <= value <= SLOPES[1] for value in slopes.values()),
        ),
        Check(f"The certificate of {parameters[-1]:,} parameters takes {seconds[-1]:.1f} s.", 0 < seconds[-1] < 60),
    ]


def draw(data: Times) -> Figure:
    """Return one log-log panel."""
    figure, axis = scaling.panel(data, LINES)
    parameters, seconds = scaling.points(data, "random")
    far = parameters >= data.fit_from
    scaling.guide(axis, parameters[far], seconds[far], below=3)
    axis.set(xlabel="parameters", ylabel="CPU-seconds")
    axis.legend(loc="upper left")
    return figure


def _times(config: Config) -> pa.Table:
    rows = [row for parameters in config.sizes for row in _rows(parameters, config)]
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
    repetitions = config.repetitions if parameters < REPEATED else 1
    return scaling.row(line, parameters, expected, act, repetitions=repetitions)
