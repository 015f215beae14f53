"""What figures share that read finished runs of the campaign and train nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from paper_figures.support import tasks
from paper_figures.support.captions import Check
from paper_figures.support.results import Missing
from paper_figures.support.tables import Array, where
from torch_experiments.lab.campaign import items
from torch_experiments.lab.experiments import over_tasks
from torch_experiments.lab.report import series
from torch_experiments.lab.report.series import ACCURACY, DEAD, DUPLICATE, LATER, SILENT, UNMASKED
from torch_experiments.lab.report.tables import with_interval
from torch_experiments.lab.training.measures import WHOLE

Tables = Mapping[str, pa.Table]

COUNTED: Mapping[str, str] = {  # what JL25's code measures under the same name
    ACCURACY: UNMASKED,
    DEAD: SILENT,
    DUPLICATE: LATER,
}


class Kind(NamedTuple):
    """What metrics with a word in their name can be."""

    name: str
    text: str
    low: float
    high: float


KINDS = (
    Kind("_accuracy", "accuracies lie between 0 and 1", 0, 1),
    Kind("_fraction", "shares lie between 0 and 1", 0, 1),
    Kind("_rank", "ranks are 1 or more", 1, math.inf),
)


class Interval(NamedTuple):
    """A mean over seeds and half the width of its 95 % t-interval, 0 for one seed."""

    mean: float
    half: float


def runs(name: str) -> pa.Table:
    """Return the finished runs of an item of the campaign.

    Raises:
        Missing: There are none.
    """
    found = items.found(name, items.RESULTS)
    if found is None:
        raise Missing(f"there is no finished run of {name!r} below {items.RESULTS / name}")
    return found.table


def complete(name: str) -> pa.Table:
    """Return the runs of an item all of which are finished.

    Raises:
        Missing: Some are not.
    """
    table = runs(name)
    if lacking := absent(name, table, items.item(name).configs("")):
        raise Missing(f"of {name!r} these runs are not finished: {'; '.join(lacking)}")
    return table


def several(names: Iterable[str]) -> dict[str, pa.Table]:
    """Return the finished runs of those items that have some.

    Raises:
        Missing: None has any.
    """
    tables, reasons = {}, []
    for name in names:
        try:
            tables[name] = runs(name)
        except Missing as reason:
            reasons.append(str(reason))
    if not tables:
        raise Missing("; ".join(reasons))
    return tables


def cells(table: pa.Table, wanted: Iterable[str]) -> list[str]:
    """Return those of the wanted cells that have a finished run."""
    there = set(pc.unique(table["cell"]).to_pylist())
    return [cell for cell in wanted if cell in there]


def needed(name: str, wanted: Iterable[str]) -> pa.Table:
    """Return the finished runs of an item that has some of the wanted cells.

    Raises:
        Missing: It has none of them.
    """
    table = runs(name)
    if not cells(table, wanted := tuple(wanted)):
        raise Missing(f"of {name!r} no cell of {', '.join(wanted)} is finished")
    return table


@dataclass(frozen=True)
class Shown:
    """Cells of an item of the campaign that a figure shows, as far as their runs are finished."""

    item: str
    wanted: tuple[str, ...]

    def table(self) -> pa.Table:
        """Return the finished runs of the item.

        Raises:
            Missing: There is none of these cells.
        """
        return needed(self.item, self.wanted)

    def cells(self, table: pa.Table) -> list[str]:
        """Return those of the cells that are drawn."""
        return cells(table, self.wanted)

    def gaps(self, table: pa.Table) -> str:
        """Return the sentence of a caption that names the runs that are not there, or nothing."""
        return gaps(absent(self.item, table, self.wanted))


def has(table: pa.Table, cell: str, metric: str) -> bool:
    """Return whether a metric of the whole network was measured in a cell."""
    rows = where(table, {"cell": cell, "metric": metric, "layer": WHOLE})
    return len(rows) > 0


def seeds(table: pa.Table, cell: str) -> list[int]:
    """Return the seeds of a cell in order."""
    found: list[int] = pc.unique(where(table, {"cell": cell})["seed"]).to_pylist()
    return sorted(found)


def shared(table: pa.Table, wanted: Iterable[str]) -> pa.Table:
    """Return the rows of those seeds of which every one of these cells is finished."""
    common = set.intersection(*(set(seeds(table, cell)) for cell in wanted))
    return table.filter(pc.is_in(table["seed"], pa.array(sorted(common), pa.int64())))


def absent(name: str, table: pa.Table, wanted: Iterable[str]) -> list[str]:
    """Return which of the wanted runs of an item are not there, as ``cell`` or ``cell (seeds 1 and 2)``."""
    lacking = []
    for cell in wanted:
        missing = sorted(set(items.item(name).seeds) - set(seeds(table, cell)))
        if len(missing) == len(items.item(name).seeds):
            lacking.append(cell)
        elif missing:
            lacking.append(f"{cell} ({'seed' if len(missing) == 1 else 'seeds'} {listed(missing)})")
    return lacking


def gaps(lacking: Iterable[str]) -> str:
    """Return the sentence that names runs that are not there, or nothing."""
    found = "; ".join(lacking)
    return f" Left out for want of finished runs: {found}." if found else ""


def named(table: pa.Table, cell: str, name: str = "") -> str:
    """Return the name of a cell for a legend, which says so if it rests on one seed."""
    return f"{name or cell}{' (one seed)' if len(seeds(table, cell)) == 1 else ''}"


def listed(values: Iterable[object]) -> str:
    """Return ``a``, ``a and b`` or ``a, b and c``."""
    *first, last = map(str, values)
    return f"{', '.join(first)} and {last}" if first else last


def lines(table: pa.Table, shown: Iterable[str]) -> str:
    """Return the sentence of a caption that explains line and band."""
    counts = sorted({len(seeds(table, cell)) for cell in shown})
    if counts == [1]:
        return "Line: one seed."
    return (
        f"Line: mean of {' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} seeds; band: their range."
    )


def layers(table: pa.Table, cell: str, metric: str) -> Array:
    """Return a metric at the end of every task, mean over seeds, ``[layers, tasks]``."""
    rows = where(table, {"cell": cell, "metric": metric})
    rows = rows.filter(pc.greater(rows["layer"], WHOLE))
    rows = rows.filter(pc.equal(rows["step"], pc.max(rows["step"])))
    rows = rows.sort_by([(name, "ascending") for name in ("seed", "layer", "task")])
    seeds, count = (len(pc.unique(rows[name])) for name in ("seed", "layer"))
    found: Array = rows["value"].to_numpy().reshape(seeds, count, -1).mean(axis=0)
    return found


def interval(values: Array) -> Interval:
    """Return mean and half width of the 95 % t-interval of values, one a seed."""
    low, high = series.interval(values) or (0.0, 0.0)
    return Interval(float(values.mean()), (high - low) / 2)


def told(values: Array, digits: int) -> str:
    """Return the mean of differences, one a seed, with its interval, and whether that leaves zero out."""
    return f"{with_interval(values, digits)}{'' if series.sign(values) else ', not told from none'}"


def differences(found: Mapping[str, Array], digits: int) -> str:
    """Return `told` for differences by name."""
    return "; ".join(f"{told(values, digits)} ({name})" for name, values in found.items())


def ends(table: pa.Table, cell: str, metric: str) -> tuple[float, float]:
    """Return the means over seeds of the first and of the last five tasks."""
    return float(tasks.start(table, cell, metric).mean()), float(tasks.end(table, cell, metric).mean())


def course(table: pa.Table, cell: str, metrics: Mapping[str, str], about: str) -> str:
    """Return what becomes of metrics, by name, from the first to the last five tasks in a cell."""
    found = {metric: ends(table, cell, metric) for metric in metrics if has(table, cell, metric)}
    text = ", ".join(f"{metrics[metric]} {first:.3g} → {last:.3g}" for metric, (first, last) in found.items())
    return f"{about}: {text}."


def sound(tables: Iterable[pa.Table], shown: Iterable[str], metrics: Iterable[str]) -> Check:
    """Return that all values of the metrics in these cells are such that they can be what they are called.

    It guards notes: their numbers are read off, so that no data make them untrue, but broken records would make
    them meaningless.
    """
    rows = pa.concat_tables(table.select(["cell", "metric", "value"]) for table in tables)
    for column, values in (("cell", shown), ("metric", metrics)):
        rows = rows.filter(pc.is_in(rows[column], pa.array(values)))
    kinds = [kind for kind in KINDS if any(kind.name in metric for metric in pc.unique(rows["metric"]).to_pylist())]
    return Check(
        f"No value is missing; {listed(kind.text for kind in kinds or KINDS)}.",
        bool(kinds) and all(_inside(rows, kind) for kind in kinds),
    )


def _inside(rows: pa.Table, kind: Kind) -> bool:
    """Return whether the values of metrics of a kind are numbers within its limits."""
    values = rows.filter(pc.match_substring(rows["metric"], kind.name))["value"].to_numpy()
    return bool(((values >= kind.low) & (values <= kind.high)).all())


def masked_is_no_less(table: pa.Table, shown: Iterable[str]) -> bool:
    """Return whether the accuracy over a task's classes is nowhere below that over all outputs, as it has to be."""
    pairs = [(over_tasks(table, cell, ACCURACY), over_tasks(table, cell, UNMASKED)) for cell in shown]
    return all(bool((masked >= unmasked - 1e-9).all()) for masked, unmasked in pairs)
