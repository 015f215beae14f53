"""Which update rules keep which cloned manifold, measured (claim C9)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from paper_figures.support import style
from paper_figures.support.captions import Check
from paper_figures.support.results import RESULTS, Profile, code_of, remembered
from torch_experiments.cloning import chains
from torch_experiments.lab import models, optimizer_table
from torch_experiments.lab import rules as update_rules
from torch_experiments.support import noise

NAME = "optimizers"
TITLE = "every optimizer of torch.optim against four kinds of cloned manifold"
IDENTICAL, EQUITABLE, SCALED, SIGNED = optimizer_table.MANIFOLDS
HEADINGS = {IDENTICAL: "identical", EQUITABLE: "equitable", SCALED: "scaled", SIGNED: "signed"}
LOW, HIGH = 1e-16, 1.0
OTHER = "○"

LINEAR = ("SGD", "SGD, momentum", "SGD, Nesterov")
ELEMENTWISE = ("Adam", "RMSprop", "Adagrad", "Rprop", "sign-SGD")
DECAYING = ("SGD, weight decay", "AdamW")
NEGATIVE = ("SGD, gradient noise", "SGD, dropout on clones", "SGD, unequal rates per unit")


@dataclass(frozen=True)
class Config:
    """What determines the table: copies of a unit, steps, seed, and the rules (all if none is named)."""

    factor: int = 3
    steps: int = 300
    seed: int = 0
    rules: tuple[str, ...] = ()


CONFIGS: Mapping[Profile, Config] = {"quick": Config(), "full": Config(factor=5)}


def compute(profile: Profile, results: Path = RESULTS) -> pa.Table:
    """Return the table of `torch_experiments.lab.optimizer_table`."""
    return measure(CONFIGS[profile], results)


def measure(config: Config, results: Path) -> pa.Table:
    """Return the table of `config`, from `results` if it is there."""
    compute = partial(optimizer_table.table, _chosen(config), progress=True, **_numbers(config))
    return remembered(results, identity(config), compute)


def identity(config: Config) -> dict[str, Any]:
    """Return what determines a table, the code with it: what its record is found by."""
    return {
        "experiment": "figure_optimizers",
        "rules": [rule.name for rule in _chosen(config)],
        "torch": version("torch"),
        "code": code_of(optimizer_table, update_rules, chains, models, noise),
        **_numbers(config),
    }


def _chosen(config: Config) -> list[update_rules.Rule]:
    return [rule for rule in update_rules.rules() if rule.name in config.rules or not config.rules]


def _numbers(config: Config) -> dict[str, int]:
    return {"factor": config.factor, "steps": config.steps, "seed": config.seed}


def introduction(data: pa.Table) -> str:
    """Return what is shown, and how it was found."""
    steps = max(data["step"].to_pylist())
    return (
        f"Relative distance from the cloned manifold after {steps} steps on fresh random data (float64, two hidden "
        "layers, several copies of a unit). Columns: identical copies; equitable weights that are not constant on "
        "blocks; copies with positive scales (ReLU); copies with signs (tanh). "
        "✓ at most 1e-12 at the end; ✗ at least 1e-3 within 30 steps; ⚠ between: rounding that grows, or a slow "
        "departure; ○ the copies stay copies, but the weights move to another manifold of the same kind."
    )


def checks(data: pa.Table) -> list[Check]:
    """Return what the caption claims."""
    marks = marks_of(data)

    def all_are(mark: str, rules: Iterable[str], manifolds: Iterable[str]) -> bool:
        return all(marks[rule, manifold] == mark for rule in rules for manifold in manifolds)

    return [
        Check("Linear rules (SGD, momentum, Nesterov) keep all four.", all_are("✓", LINEAR, HEADINGS)),
        Check(
            "Odd elementwise rules (Adam, RMSprop, Adagrad, Rprop, sign-SGD) keep all but scaled copies.",
            all_are("✓", ELEMENTWISE, (IDENTICAL, EQUITABLE, SIGNED)) and all_are("✗", ELEMENTWISE, [SCALED]),
        ),
        Check(
            "Weight decay moves equitable weights to another manifold but keeps the copies.",
            all_are(OTHER, DECAYING, [EQUITABLE]),
        ),
        Check(
            "Adam with coupled L2 parts them, though it keeps identical ones.",
            all_are("✗", ["Adam, coupled L2"], [EQUITABLE]) and all_are("✓", ["Adam, coupled L2"], [IDENTICAL]),
        ),
        Check(
            "Gradient noise, dropout and unequal rates leave every one of them.", all_are("✗", NEGATIVE, HEADINGS)
        ),
    ]


def marks_of(data: pa.Table) -> dict[tuple[str, str], str]:
    """Return ✓, ⚠, ✗ or ○ for every rule and manifold."""
    return {place: mark(rows) for place, rows in optimizer_table.cells(data).items()}


def mark(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the verdict on the distance to the manifold, or ○ if only the equations of copies still hold."""
    coset, equations = (optimizer_table.verdict(rows, which) for which in ("coset", "equations"))
    return OTHER if coset != "✓" and equations == "✓" else coset


def draw(data: pa.Table) -> Figure:
    """Return the heat map, rules down and manifolds across, grouped by what the rules keep."""
    cells, marks = optimizer_table.cells(data), marks_of(data)
    rules = _grouped(marks)
    distances = np.array([[cells[rule, manifold][-1]["coset"] for manifold in HEADINGS] for rule in rules])
    figure = Figure(figsize=(style.WIDTH, 0.95 + 0.135 * len(rules)))
    axis = figure.subplots()
    picture = axis.imshow(
        np.clip(distances, LOW, HIGH), norm=LogNorm(LOW, HIGH), cmap="cividis", aspect="auto", interpolation="none"
    )
    for row, rule in enumerate(rules):
        for column, manifold in enumerate(HEADINGS):
            _write_mark(axis, (column, row), marks[rule, manifold], distances[row, column])
    _label(axis, rules)
    bar = figure.colorbar(picture, ax=axis, location="bottom", aspect=40, pad=0.01)
    bar.set_label("relative distance from the manifold")
    meanings = f"✓ stays   {OTHER} on another manifold   ⚠ slow departure   ✗ leaves"
    figure.supxlabel(meanings, fontsize=style.SMALLEST)
    return figure


def _grouped(marks: Mapping[tuple[str, str], str]) -> list[str]:
    """Return the rules, those that keep most first and equal patterns together."""
    order = {"✓": 0, OTHER: 1, "⚠": 2, "✗": 3}

    def pattern(rule: str) -> tuple[int, list[int]]:
        row = [order[marks[rule, manifold]] for manifold in HEADINGS]
        return sum(row), row

    return sorted(dict.fromkeys(rule for rule, _ in marks), key=pattern)


def _write_mark(axis: Axes, place: tuple[int, int], text: str, distance: float) -> None:
    bright = np.log10(np.clip(distance, LOW, HIGH)) > -7
    colour = style.BLACK if bright else "white"
    axis.text(
        *place, text, color=colour, ha="center", va="center", fontsize=style.SMALLEST, fontfamily="DejaVu Sans"
    )


def _label(axis: Axes, rules: Sequence[str]) -> None:
    axis.set_xticks(range(len(HEADINGS)), list(HEADINGS.values()))
    axis.set_yticks(range(len(rules)), rules)
    axis.tick_params(length=0, labeltop=True, labelbottom=False)
    axis.set_yticks(np.arange(len(rules)) - 0.5, minor=True)
    axis.set_xticks(np.arange(len(HEADINGS)) - 0.5, minor=True)
    axis.grid(which="minor", color="white", linewidth=0.6)
    axis.tick_params(which="minor", length=0)
    axis.spines[:].set_visible(False)
