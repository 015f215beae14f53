"""What figures share that read finished runs of `campaign` and train nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from paper_figures.support import tasks
from paper_figures.support.captions import Statement
from paper_figures.support.results import Missing
from torch_experiments.lab.campaign import items as campaign
from torch_experiments.lab.experiments.runner import over_tasks
from torch_experiments.lab.report import series
from torch_experiments.lab.report.tables import with_interval
from torch_experiments.lab.training.measures import WHOLE

Array = np.ndarray[Any, Any]
Tables = Mapping[str, pa.Table]

ACCURACY, DEAD, RANK, DUPLICATE = tasks.PANELS
UNMASKED, SATURATED, FREE = "online_accuracy_unmasked", "jl25_saturated_fraction", "free_fraction"
SILENT = "nearly_silent_fraction"
COUNTED: Mapping[str, str] = {  # what JL25's code measures under the same name
    ACCURACY: UNMASKED,
    DEAD: SILENT,
    DUPLICATE: "later_duplicate_fraction",
}


class Interval(NamedTuple):
    """A mean over seeds and half the width of its 95 % t-interval, 0 for one seed."""

    mean: float
    half: float


def runs(name: str) -> pa.Table:
    """Return the finished runs of an item of `campaign`.

    Raises:
        Missing: There are none.
    """
    found = campaign.found(name, campaign.RESULTS)
    if found is None:
        raise Missing(f"there is no finished run of {name!r} below {campaign.RESULTS / name}")
    return found.table


def complete(name: str) -> pa.Table:
    """Return the runs of an item all of which are finished.

    Raises:
        Missing: Some are not.
    """
    table = runs(name)
    if lacking := absent(name, table, campaign.item(name).configs("")):
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


def has(table: pa.Table, cell: str, metric: str) -> bool:
    """Return whether a metric of the whole network was measured in a cell."""
    rows = where(table, {"cell": cell, "metric": metric, "layer": WHOLE})
    return len(rows) > 0


def where(table: pa.Table, place: Mapping[str, Any]) -> pa.Table:
    """Return the rows with these values of columns."""
    for column, value in place.items():
        table = table.filter(pc.equal(table[column], value))
    return table


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
        missing = sorted(set(campaign.item(name).seeds) - set(seeds(table, cell)))
        if len(missing) == len(campaign.item(name).seeds):
            lacking.append(cell)
        elif missing:
            lacking.append(f"{cell} ({'seed' if len(missing) == 1 else 'seeds'} {listed(missing)})")
    return lacking


def gaps(lacking: Iterable[str]) -> str:
    """Return the sentence that names runs that are not there, or nothing."""
    found = "; ".join(lacking)
    return f" Left out for want of finished runs: {found}." if found else ""


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


def interval(values: Array) -> Interval:
    """Return mean and half width of the 95 % t-interval of values, one a seed."""
    low, high = series.interval(values) or (0.0, 0.0)
    return Interval(float(values.mean()), (high - low) / 2)


def sign(values: Array) -> int:
    """Return 1 or −1 where the interval of values, one a seed, lies on that side of zero, else 0."""
    found = interval(values)
    return int(len(values) > 1) * (int(found.mean > found.half) - int(-found.mean > found.half))


def told(values: Array, digits: int) -> str:
    """Return the mean of differences, one a seed, with its interval, and whether that leaves zero out."""
    return f"{with_interval(values, digits)}{'' if sign(values) else ', not told from none'}"


def differences(found: Mapping[str, Array], digits: int) -> str:
    """Return `told` for differences by name."""
    return "; ".join(f"{told(values, digits)} ({name})" for name, values in found.items())


def ends(table: pa.Table, cell: str, metric: str) -> tuple[float, float]:
    """Return the means over seeds of the first and of the last five tasks."""
    return float(tasks.start(table, cell, metric).mean()), float(tasks.end(table, cell, metric).mean())


def finite(*values: float) -> bool:
    """Return whether all values are numbers."""
    return all(math.isfinite(value) for value in values)


def over(table: pa.Table, cell: str, metrics: Mapping[str, str], about: str) -> Statement:
    """Return what becomes of metrics, by name, from the first to the last five tasks in a cell."""
    found = {metric: ends(table, cell, metric) for metric in metrics if has(table, cell, metric)}
    shares = [value for metric, pair in found.items() if metric.endswith("fraction") for value in pair]
    text = ", ".join(f"{metrics[metric]} {first:.3g} → {last:.3g}" for metric, (first, last) in found.items())
    return Statement(
        f"{about}: {text}.", finite(*(v for pair in found.values() for v in pair)) and _are_shares(shares)
    )


def _are_shares(values: Iterable[float]) -> bool:
    return all(0 <= value <= 1 for value in values)


def masked_is_no_less(table: pa.Table, shown: Iterable[str]) -> bool:
    """Return whether the accuracy over a task's classes is nowhere below that over all outputs, as it has to be."""
    pairs = [(over_tasks(table, cell, ACCURACY), over_tasks(table, cell, UNMASKED)) for cell in shown]
    return all(bool((masked >= unmasked - 1e-9).all()) for masked, unmasked in pairs)
