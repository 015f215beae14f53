"""Which runs have lost plasticity: those that learn the last tasks worse than a fresh network does.

The one rule that findings, tables, figures and claims go by (`docs/full-scale-runs.md`). A fall from a network's
own start is no loss of plasticity, as later tasks may be harder, and a rise is no proof that none was lost.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from torch_experiments.lab.report import series
from torch_experiments.lab.report.series import ACCURACY, Array, Runs

MARGIN = 0.05  # of the accuracy while learning
FEWEST = 3  # seeds of a statement that is judged


def seeds(runs: Runs, cell: str) -> tuple[int, ...]:
    """Return the seeds in which the cell and its fresh network are finished and their accuracy is a number."""
    fresh = runs.item.control(cell)
    if fresh is None or not all(runs.has(label, ACCURACY) for label in (cell, fresh)):
        return ()
    common = runs.seeds(cell, fresh)
    found = [runs.over(label, ACCURACY, common) for label in (cell, fresh)] if common else []
    return tuple(s for k, s in enumerate(common) if all(np.isfinite(values[k]).all() for values in found))


def last(runs: Runs, cell: str) -> int:
    """Return how many tasks count, the last ones: those of `Item.last`, but never the first task of a run."""
    return min(runs.item.last, runs.item.configs("")[cell].tasks - 1)


def mean_behind(own: Array, fresh: Array, tasks: int) -> Array:
    """Return how far accuracies are behind those of fresh networks, mean over the last tasks, ``[seeds]``.

    >>> mean_behind(np.array([[0.9, 0.5, 0.6]]), np.array([[0.7, 0.7]]), 2)
    array([0.15])
    """
    return np.asarray((fresh[:, -tasks:] - own[:, -tasks:]).mean(axis=1))


def is_lost(behind: Array) -> Array:
    """Return whether plasticity is lost, from how far a network is behind a fresh one."""
    return np.asarray(behind >= MARGIN)


def over_last(runs: Runs, cell: str, metric: str, chosen: Sequence[int], tasks: int) -> Array:
    """Return a metric as its mean over the last tasks, ``[seeds]``."""
    return np.asarray(runs.over(cell, metric, chosen)[:, -tasks:].mean(axis=1))


def beside(runs: Runs, cell: str, metric: str) -> tuple[Array, Array]:
    """Return a metric of a cell and of its fresh network, means over the tasks that count, ``[seeds]`` each."""
    fresh, chosen = runs.item.control(cell), seeds(runs, cell)
    if fresh is None or not chosen:
        return np.empty(0), np.empty(0)
    tasks = last(runs, cell)
    return over_last(runs, cell, metric, chosen, tasks), over_last(runs, fresh, metric, chosen, tasks)


def behind(runs: Runs, cell: str) -> Array:
    """Return the accuracy while learning of a fresh network minus that of a cell, by seed; empty without one."""
    fresh, chosen = runs.item.control(cell), seeds(runs, cell)
    if fresh is None or not chosen:
        return np.empty(0)
    own, other = (runs.over(label, ACCURACY, chosen) for label in (cell, fresh))
    return mean_behind(own, other, last(runs, cell))


def lost(runs: Runs, cell: str) -> dict[int, bool]:
    """Return, for the seeds with a fresh network, whether the cell is behind it by `MARGIN` or more.

    >>> from pathlib import Path
    >>> lost(series.runs("mlp", Path("nowhere")), "none")
    {}
    """
    return dict(zip(seeds(runs, cell), is_lost(behind(runs, cell)).tolist(), strict=True))


def in_every(runs: Runs, cell: str) -> bool | None:
    """Return whether plasticity is lost in every seed; None where it is in some, and where nothing is known."""
    found = set(lost(runs, cell).values())
    return found.pop() if len(found) == 1 else None


def told(runs: Runs, cell: str) -> str:
    """Return how far a cell is behind a fresh network, for people."""
    found = behind(runs, cell)
    if not len(found):
        why = "this item has none" if runs.item.control(cell) is None else "no record of it"
        return f"no fresh network beside it ({why})"
    own, fresh = beside(runs, cell, ACCURACY)
    many = f", {series.counted(len(found))}" if len(found) != len(runs.seeds(cell)) else ""
    apart = " ".join(f"{value:+.3f}".replace("-", "−") for value in found)
    return (
        f"accuracy while learning {own.mean():.3f} where a fresh network has {fresh.mean():.3f} "
        f"(last {last(runs, cell)} tasks; behind by {apart}{many})"
    )
