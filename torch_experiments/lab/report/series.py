"""Finished runs of an item as arrays over seeds and tasks, and what is missing of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from scipy.stats import t as student

from torch_experiments.lab import records
from torch_experiments.lab.campaign import items
from torch_experiments.lab.campaign.items import Item
from torch_experiments.lab.training import WHOLE

Array = np.ndarray[Any, Any]
ACCURACY, UNMASKED, TEST = "online_accuracy", "online_accuracy_unmasked", "test_accuracy"
RANK, DEAD, SILENT = "roy_vetterli_rank_raw", "dead_fraction", "nearly_silent_fraction"
DUPLICATE, LATER = "duplicate_fraction", "later_duplicate_fraction"
SATURATED, THEIR_SATURATED, FREE = "saturated_fraction", "jl25_saturated_fraction", "free_fraction"


@dataclass(frozen=True)
class Runs:
    """The finished runs of an item of the campaign, as arrays over seeds and tasks.

    Attributes:
        name: of the item.
        folder: of the results.

    >>> runs = Runs("mlp", Path("nowhere"))
    >>> runs.seeds("none"), runs.missing("none")
    ((), ['none (seed 0, 1, 2)'])
    """

    name: str
    folder: Path = items.RESULTS

    @property
    def item(self) -> Item:
        """The item."""
        return items.item(self.name)

    @cached_property
    def cells(self) -> tuple[str, ...]:
        """All labels, finished or not, but those of fresh networks that an item has beside its cells."""
        return tuple(self.item.configs(""))

    @cached_property
    def planned(self) -> tuple[str, ...]:
        """All labels, those of fresh networks included."""
        return tuple(self.item.runs(""))

    @cached_property
    def environments(self) -> Mapping[tuple[str, int], Mapping[str, Any]]:
        """Environments of the finished runs, by cell and seed."""
        return self._found.environments if self._found else {}

    @cached_property
    def _found(self) -> items.Found | None:
        return items.found(self.name, self.folder)

    @cached_property
    def _ends(self) -> dict[tuple[str, str], dict[int, Array]]:
        """Values at the end of every task, ``[tasks]`` a seed, by cell and metric."""
        if self._found is None:
            return {}
        table = self._found.table
        table = table.filter(pc.equal(table["layer"], WHOLE))
        columns = (table[name].to_pylist() for name in ("cell", "metric", "seed", "task", "step", "value"))
        last: dict[tuple[str, str], dict[int, dict[int, tuple[int, float]]]] = {}
        for cell, metric, seed, task, step, value in zip(*columns, strict=True):
            tasks = last.setdefault((cell, metric), {}).setdefault(seed, {})
            if task not in tasks or step >= tasks[task][0]:
                tasks[task] = (step, value)
        return {place: {seed: _in_order(tasks) for seed, tasks in seeds.items()} for place, seeds in last.items()}

    def seeds(self, *cells: str) -> tuple[int, ...]:
        """Return the seeds that are finished in all of these cells."""
        return tuple(s for s in self.item.seeds if all((cell, s) in self.environments for cell in cells))

    def missing(self, *cells: str) -> list[str]:
        """Return the runs of these cells, or all with fresh networks, that are not finished, one text each."""
        lost = {c: [s for s in self.item.seeds if (c, s) not in self.environments] for c in cells or self.planned}
        return [f"{cell} (seed {', '.join(map(str, seeds))})" for cell, seeds in lost.items() if seeds]

    def over(self, cell: str, metric: str, seeds: Sequence[int] | None = None) -> Array:
        """Return a metric of the whole network at the end of every task, ``[seeds, tasks]``.

        Raises:
            KeyError: when there is no such measurement.
        """
        found = self._ends[cell, metric]
        return np.stack([found[seed] for seed in (self.seeds(cell) if seeds is None else seeds)])

    def layers(self, cell: str, metric: str, seed: int) -> Array:
        """Return a metric of every observed layer at the end of every task, ``[layers, tasks]``.

        Raises:
            KeyError: when there is no such measurement.
        """
        if self._found is None:
            raise KeyError((cell, metric, seed))
        table = self._found.table
        for name, wanted in (("cell", cell), ("metric", metric), ("seed", seed)):
            table = table.filter(pc.equal(table[name], wanted))
        found: dict[int, dict[int, tuple[int, float]]] = {}
        for layer, task, step, value in zip(
            *(table[name].to_pylist() for name in ("layer", "task", "step", "value")), strict=True
        ):
            if layer != WHOLE and step >= found.setdefault(layer, {}).get(task, (0, 0.0))[0]:
                found[layer][task] = (step, value)
        if not found:
            raise KeyError((cell, metric, seed))
        return np.stack([_in_order(found[layer]) for layer in sorted(found)])

    def has(self, cell: str, metric: str) -> bool:
        """Whether there is such a measurement of every finished run of the cell."""
        return set(self._ends.get((cell, metric), ())) >= set(self.seeds(cell)) and (cell, metric) in self._ends


def runs(name: str, folder: Path = items.RESULTS) -> Runs:
    """Return the finished runs of an item, read once as long as its files stay as they are."""
    return _read(name, folder, _stamp(folder / name))


def clones(folder: Path = items.RESULTS) -> Clones:
    """Return the finished runs of experiment 1, read once as long as their files stay as they are."""
    return _read_clones(folder, _stamp(folder / "e01"))


def _stamp(folder: Path) -> tuple[tuple[str, int], ...]:
    return tuple((file.name, file.stat().st_mtime_ns) for file in sorted(folder.glob("*.parquet")))


@lru_cache(maxsize=8)
def _read_clones(folder: Path, stamp: tuple[tuple[str, int], ...]) -> Clones:
    return Clones(folder)


@lru_cache(maxsize=64)
def _read(name: str, folder: Path, stamp: tuple[tuple[str, int], ...]) -> Runs:
    return Runs(name, folder)


def _in_order(tasks: Mapping[int, tuple[int, float]]) -> Array:
    return np.array([tasks[k][1] for k in sorted(tasks)])


def edge(tasks: int) -> int:
    """Return over how many tasks start and end are averaged: an eighth of them, at least one.

    >>> edge(40), edge(6)
    (5, 1)
    """
    return max(1, tasks // 8)


def start(values: Array) -> Array:
    """Return the mean over the first tasks of ``values [seeds, tasks]``.

    >>> start(np.arange(16.0)[None]), end(np.arange(16.0)[None]), second_half(np.arange(16.0)[None])
    (array([0.5]), array([14.5]), array([11.5]))
    """
    return values[:, : edge(values.shape[1])].mean(axis=1)


def end(values: Array) -> Array:
    """Return the mean over the last tasks of ``values [seeds, tasks]``."""
    return values[:, -edge(values.shape[1]) :].mean(axis=1)


def second_half(values: Array) -> Array:
    """Return the mean over the second half of the tasks of ``values [seeds, tasks]``."""
    return values[:, values.shape[1] // 2 :].mean(axis=1)


def ratio(clone: Array, base: Array) -> Array:
    """Return the loss of a clone over that of its base for every seed, from ``[seeds, epochs measured]``.

    It is the geometric mean over the second half of the epochs, as losses near zero jump about.

    >>> ratio(np.array([[1.0, 2.0, 8.0]]), np.array([[1.0, 1.0, 1.0]]))
    array([4.])
    """
    logarithm = np.log(clone / base)
    return np.asarray(np.exp(logarithm[:, logarithm.shape[1] // 2 :].mean(axis=1)))


def counted(seeds: int) -> str:
    """Return how many seeds there are, for people.

    >>> counted(1), counted(3)
    ('one seed', '3 seeds')
    """
    return "one seed" if seeds == 1 else f"{seeds} seeds"


def interval(values: Array) -> tuple[float, float] | None:
    """Return the 95 % confidence interval of the mean over seeds by Student's t; None for a single seed.

    ``mean ± t₀.₉₇₅(n − 1) s / √n`` with the deviation ``s`` of ``n`` seeds.

    >>> low, high = interval(np.array([1.0, 2.0, 3.0]))
    >>> round(low, 2), round(high, 2), interval(np.array([1.0]))
    (-0.48, 4.48, None)
    """
    n = len(values)
    if n < 2:
        return None
    half = float(student.ppf(0.975, n - 1)) * float(values.std(ddof=1)) / math.sqrt(n)
    return float(values.mean()) - half, float(values.mean()) + half


def limits(values: Array) -> tuple[float, float]:
    """Return the ends of `interval`; all numbers, for a single seed.

    >>> limits(np.array([1.0]))
    (-inf, inf)
    """
    return interval(values) or (-math.inf, math.inf)


def sign(values: Array) -> int:
    """Return 1 or −1 where the interval of values, one a seed, lies on that side of zero, else 0.

    >>> sign(np.array([1.0, 1.1, 0.9])), sign(np.array([-1.0, 1.0]))
    (1, 0)
    """
    found = interval(values)
    return 0 if found is None else int(found[0] > 0) - int(found[1] < 0)


@dataclass(frozen=True)
class Clones:
    """The finished runs of experiment 1, by architecture, seed and regime."""

    folder: Path = items.RESULTS

    @cached_property
    def found(self) -> Mapping[tuple[str, int, str], records.Record]:
        """The records that there are."""
        return items.clones(self.folder)

    @cached_property
    def planned(self) -> tuple[tuple[str, int, str], ...]:
        """All places."""
        return tuple(items.planned_clones())

    @cached_property
    def _columns(self) -> dict[tuple[str, int, str, str, str], Array]:
        return {
            (*place, *key): values
            for place, record in self.found.items()
            for key, values in _over_epochs(record).items()
        }

    def seeds(self, arch: str, regime: str) -> tuple[int, ...]:
        """Return the finished seeds."""
        return tuple(s for a, s, r in self.found if (a, r) == (arch, regime))

    def over(self, arch: str, regime: str, network: str, metric: str) -> Array:
        """Return a metric of the whole network, ``[seeds, epochs measured]``."""
        return np.stack([self._columns[arch, s, regime, network, metric] for s in self.seeds(arch, regime)])

    def missing(self) -> list[str]:
        """Return the runs that are not finished."""
        return [f"{a}, {r} (seed {s})" for a, s, r in self.planned if (a, s, r) not in self.found]


def _over_epochs(record: records.Record) -> dict[tuple[str, str], Array]:
    table = record.table.filter(pc.equal(record.table["layer"], WHOLE)).sort_by("epoch")
    found: dict[tuple[str, str], list[float]] = {}
    for network, metric, value in zip(*(table[c].to_pylist() for c in ("network", "metric", "value")), strict=True):
        found.setdefault((network, metric), []).append(value)
    return {place: np.array(values) for place, values in found.items()}
