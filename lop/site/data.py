"""The numbers that the explorers read: activations, a small network, the table of optimizers, the runs.

Each file is a script that hands one value to `lop.data`, so that pages opened from a disk, where browsers fetch
nothing, work too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.polynomial import chebyshev

from paper_figures import optimizers as figure
from simulate.ensembles import unit_gram
from theory.activations import Activation
from theory.catalogue import named
from torch_experiments.lab import optimizer_table, records
from torch_experiments.lab.campaign import items
from torch_experiments.lab.report import agents
from torch_experiments.lab.training import WHOLE

Array = np.ndarray[Any, Any]
REACH = 24.0  # of what an activation is given: gain up to 3 times 6.5 standard deviations, and a shift of 4
DEGREE, DEEPEST, CLOSE = 15, 9, 1e-10
DIGITS = 8
COMMITTED = items.RESULTS / "optimizers"
AGENTS = "Agents on streams of tasks of control, trained by PPO"


def write(folder: Path) -> None:
    """Write all files of data below a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    _file(folder / "activations.js", "activations", activations())
    _file(folder / "network.js", "network", network())
    _file(folder / "optimizers.js", "optimizers", optimizers())
    found = runs()
    for name, item in found.items():
        _file(folder / f"runs-{name}.js", f"runs-{name}", item)
    _file(folder / "runs.js", "runs", {name: item["about"] for name, item in found.items()})


def _file(path: Path, key: str, value: Any) -> None:
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    path.write_text(f"lop.data[{json.dumps(key)}]={text};\n", encoding="utf-8")


# ------------------------------------------------------------------------------------ activations


def activations() -> dict[str, Any]:
    """Return every activation that is not constant as polynomials on pieces, and two matrices of correlations."""
    rng = np.random.default_rng(0)
    matrices = {
        f"{n} features of rank {r}, at random": unit_gram(n, r, rng).round(DIGITS).tolist()
        for n, r in ((8, 2), (16, 4))
    }
    return {
        "activations": {name: pieces(phi) for name, phi in named().items() if name != "one"},
        "matrices": matrices,
        "reach": REACH,
    }


def pieces(phi: Activation) -> dict[str, Any]:
    """Return an activation as Chebyshev series on pieces of [−24, 24]: ends, and coefficients of `φ` and `φ'`.

    A piece is halved until the series is within 1e-10 of the function, relative to the size of the function there.

    >>> from theory.catalogue import get
    >>> found = pieces(get("relu"))
    >>> found["ends"], found["value"]
    ([-24.0, 0.0, 24.0], [[0.0], [12.0, 12.0]])
    """
    inner = sorted({*phi.breaks, 0.0})
    edges = [-REACH, *(edge for edge in inner if -REACH < edge < REACH), REACH]
    made = [piece for low, high in pairwise(edges) for piece in _split(phi, low, high, 0)]
    return {
        "ends": [made[0][0], *(piece[1] for piece in made)],
        "value": [piece[2] for piece in made],
        "slope": [piece[3] for piece in made],
        "kinks": list(phi.kinks),
    }


def _split(
    phi: Activation, low: float, high: float, depth: int
) -> Iterator[tuple[float, float, list[float], list[float]]]:
    value, slope = (_series(f, low, high) for f in (phi.value, phi.slope))
    if depth < DEEPEST and (value is None or slope is None):
        middle = (low + high) / 2
        yield from _split(phi, low, middle, depth + 1)
        yield from _split(phi, middle, high, depth + 1)
        return
    if value is None or slope is None:
        raise ValueError(f"{phi.name} is not resolved between {low} and {high}: give its kinks")
    yield low, high, value, slope


def _series(function: Any, low: float, high: float) -> list[float] | None:
    """Return Chebyshev coefficients of a function between two points, or None if it needs more of them."""
    nodes = np.cos(np.pi * (np.arange(2 * DEGREE + 2) + 0.5) / (2 * DEGREE + 2))
    values = np.asarray(function((low + high) / 2 + (high - low) / 2 * nodes), dtype=float)
    coefficients = chebyshev.chebfit(nodes, values, 2 * DEGREE + 1)
    size = max(1.0, float(np.abs(values).max()))
    if np.abs(coefficients[DEGREE:]).max() > CLOSE * size:
        return None
    kept = [float(f"{c:.12g}") for c in coefficients[:DEGREE]]
    while len(kept) > 1 and abs(kept[-1]) <= CLOSE / 10 * size:
        kept.pop()
    return [0.0 if abs(c) <= 1e-14 * size else c for c in kept]


# ------------------------------------------------------------------------------------ a small network


def network() -> dict[str, Any]:
    """Return samples with targets, and weights of a network with three hidden units, and of one with six."""
    rng = np.random.default_rng(11)
    x = rng.uniform(-1.5, 1.5, (2, 24))
    y = np.sin(2 * x[0]) + 0.5 * x[1] ** 2 - 0.5
    base = {"inner": rng.normal(0, 0.8, (3, 3)), "outer": rng.normal(0, 0.6, 4)}
    fresh = {"inner": rng.normal(0, 0.8, (6, 3)), "outer": rng.normal(0, 0.4, 7)}
    plain = {
        name: {k: v.round(DIGITS).tolist() for k, v in given.items()}
        for name, given in (("base", base), ("fresh", fresh))
    }
    return {"x": x.round(DIGITS).tolist(), "y": y.round(DIGITS).tolist(), **plain}


# ------------------------------------------------------------------------------------ optimizers


def optimizers() -> dict[str, Any]:
    """Return what was measured of each rule on each kind of clones, and the signs that follow."""
    found = optimizer_table.cells(table_of_optimizers())
    ruled = list(dict.fromkeys(rule for rule, _ in found))
    return {
        "rules": ruled,
        "manifolds": list(optimizer_table.MANIFOLDS),
        "cells": {f"{rule}|{kind}": _cell(rows) for (rule, kind), rows in found.items()},
    }


def table_of_optimizers(folder: Path = COMMITTED) -> pa.Table:
    """Return the committed table of the figure `optimizers`; for other rules or another torch, its own."""
    record = records.find(folder, figure.identity(figure.CONFIGS["quick"]))
    return figure.compute("quick") if record is None else record.table


def _cell(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "steps": [row["step"] for row in rows],
        "equations": [_number(row["equations"]) for row in rows],
        "coset": [_number(row["coset"]) for row in rows],
        "verdict": {which: optimizer_table.verdict(rows, which) for which in ("equations", "coset")},
    }


def _number(value: float) -> float | None:
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


# ------------------------------------------------------------------------------------ runs


def runs(folder: Path = items.RESULTS) -> dict[str, dict[str, Any]]:
    """Return all finished runs by item: of every cell and metric of the whole network a row of tasks a seed.

    >>> runs(Path("nowhere"))
    {}
    """
    found = {name: (item.about, items.found(name, folder)) for name, item in items.every().items()}
    tables = {name: (about, there.table) for name, (about, there) in found.items() if there}
    if (table := agents.agents(folder).table) is not None:
        tables[agents.FOLDER] = (AGENTS, table)
    return {name: {"about": about, "cells": cells(table)} for name, (about, table) in tables.items()}


def cells(table: pa.Table) -> dict[str, Any]:
    """Return what each run measured of the whole network at the end of each task, by cell, metric and seed."""
    table = table.filter(pc.equal(table["layer"], WHOLE))
    columns = (table[name].to_pylist() for name in ("cell", "metric", "seed", "task", "step", "value"))
    last: dict[tuple[str, str, int], dict[int, tuple[int, float]]] = {}
    for cell, metric, seed, task, step, value in zip(*columns, strict=True):
        tasks = last.setdefault((cell, metric, seed), {})
        if task not in tasks or step >= tasks[task][0]:
            tasks[task] = (step, value)
    found: dict[str, Any] = {}
    for (cell, metric, seed), tasks in sorted(last.items()):
        row = [_number(tasks[task][1]) for task in sorted(tasks)]
        found.setdefault(cell, {}).setdefault(metric, {})[str(seed)] = row
    return found
