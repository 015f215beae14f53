"""Which diagnostic leaves the range of the first tasks before a network falls behind a fresh one?"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from paper_figures.support import finished, style
from paper_figures.support.captions import Check
from paper_figures.support.finished import Tables
from paper_figures.support.results import RESULTS, Missing, Profile
from paper_figures.support.tables import Array
from torch_experiments.lab.campaign import items
from torch_experiments.lab.experiments import over_tasks
from torch_experiments.lab.report import lost as rule
from torch_experiments.lab.report.series import ACCURACY, DEAD, DUPLICATE, RANK, SILENT, THEIR_SATURATED

NAME = "early_warning"
TITLE = "which diagnostic moves before a network falls behind a fresh one, and by how many tasks"
CELL, FRESH = "none", "fresh"  # as the tables of a stream have them
FIRST, STAY = 5, 3  # tasks that make the band; tasks that have to lie outside at the end
DIGITS = "random labels"
PLACES: Mapping[str, tuple[str, str]] = {
    DIGITS: ("streams", "random labels: plain"),
    "pairs of classes": ("streams", "pairs: plain"),
    "permuted digits": ("streams", "permuted: plain"),
    "permuted, high rate": ("remedies", "none"),
    "Tiny ImageNet, 500 steps": ("mlp", "none"),
    "Tiny ImageNet, 2,000 steps": ("mlp-medium", "none"),
    "Tiny ImageNet, 10,000 steps": ("mlp-paper", "none"),
    "Tiny ImageNet, small, 10,000 steps": ("mlp-long", "none"),
}  # item and cell of a stream
COLUMNS, HEADING = (1.07, 1.2), -0.75  # of the counts beside the rows
COLOURS = dict(zip(PLACES, (*style.PALETTE, style.BLACK), strict=True))
MARKERS = dict(zip(PLACES, "os^Dvp*X", strict=True))
DIAGNOSTICS: Mapping[str, str] = {
    "weight_norm": "weight norm",
    SILENT: "nearly silent units",
    DEAD: "dead units",
    DUPLICATE: "duplicate units",
    RANK: "effective rank",
    "stable_rank_centred": "stable rank, centred",
    "train_accuracy": "accuracy at a task's end",
    THEIR_SATURATED: "saturated units (JL25)",
}


class Lead(NamedTuple):
    """How a diagnostic goes in a seed where plasticity is lost.

    Attributes:
        stream, seed, metric: where.
        moved: whether it leaves its band for good.
        after: by how many tasks after accuracy falls behind; negative is earlier, None where either is not known.
    """

    stream: str
    seed: int
    metric: str
    moved: bool
    after: int | None


def compute(profile: Profile, results: Path = RESULTS) -> Tables:
    """Return the finished runs of plain networks and of the fresh ones beside them, by stream.

    Raises:
        Missing: No stream has both.
    """
    found = {}
    for stream, (item, cell) in PLACES.items():
        with suppress(Missing):
            found[stream] = _pair(item, cell)
    if not found:
        raise Missing("there is no finished run of a plain network with a fresh one beside it")
    return found


def _pair(item: str, cell: str) -> pa.Table:
    names = {cell: CELL, items.item(item).control(cell) or "": FRESH}
    table = finished.runs(item)
    table = table.filter(pc.is_in(table["cell"], pa.array(list(names))))
    if len(finished.cells(table, names)) < len(names):
        raise Missing(f"of {item!r} {cell} or its fresh network is not finished")
    table = finished.shared(table, names)
    renamed = pa.array([names[label] for label in table["cell"].to_pylist()])
    return table.set_column(table.column_names.index("cell"), "cell", renamed)


def leaves(values: Array, first: int = FIRST, stay: int = STAY) -> int | None:
    """Return the task, from 0, at which values leave the band of the ``first`` tasks for good, None if they do not.

    The band is ``[min, max]`` of the first tasks; from the task that is returned to the end every value lies above
    the band, or every value lies below it, and these are at least ``stay`` tasks.
    """
    for outside in (values < values[:first].min(), values > values[:first].max()):
        task = int(np.flatnonzero(~outside)[-1]) + 1
        if len(values) - task >= stay:
            return task
    return None


def falls(behind: Array, stay: int = STAY) -> int | None:
    """Return the task from which on a network is behind a fresh one, None if it never is for good.

    From it on the mean of any ``stay`` tasks in a row is `lost.MARGIN` or more.
    """
    means = np.convolve(behind, np.full(stay, 1 / stay), "valid")
    task = max((int(k) + 1 for k in np.flatnonzero(means < rule.MARGIN)), default=0)
    return task if task < len(means) else None


def lost(data: Tables) -> dict[str, dict[int, int | None]]:
    """Return the seeds in which plasticity is lost, with the task from which on it is.

    The task is None where the fresh network has not learnt all tasks, so that it is not known.
    """
    return {stream: _lost(table, stream) for stream, table in data.items()}


def _lost(table: pa.Table, stream: str) -> dict[int, int | None]:
    own, fresh = _by_seed(table, CELL, ACCURACY), _by_seed(table, FRESH, ACCURACY)
    last = min(items.item(PLACES[stream][0]).last, min(map(len, own.values())) - 1)
    gone = {s: bool(rule.is_lost(rule.mean_behind(own[s][None], fresh[s][None], last))[0]) for s in own}
    whole = {s: len(own[s]) == len(fresh[s]) for s in own}
    return {s: falls(fresh[s] - own[s]) if whole[s] else None for s in own if gone[s]}


def leads(data: Tables) -> list[Lead]:
    """Return when every diagnostic moves, for every seed where plasticity is lost."""
    found = []
    for stream, seeds in lost(data).items():
        for metric in DIAGNOSTICS:
            if finished.has(data[stream], CELL, metric):
                rows = _by_seed(data[stream], CELL, metric)
                found += [_lead(stream, seed, metric, leaves(rows[seed]), task) for seed, task in seeds.items()]
    return found


def _lead(stream: str, seed: int, metric: str, moves: int | None, falls_at: int | None) -> Lead:
    after = None if moves is None or falls_at is None else moves - falls_at
    return Lead(stream, seed, metric, moves is not None, after)


class Alarms(NamedTuple):
    """In how many of so many seeds a diagnostic moves."""

    moved: int
    of: int


def false_alarms(data: Tables, metric: str) -> Alarms:
    """Return how often a diagnostic leaves its band for good where plasticity is kept."""
    moved = []
    for stream, seeds in lost(data).items():
        if finished.has(data[stream], CELL, metric):
            rows = _by_seed(data[stream], CELL, metric)
            moved += [leaves(row) is not None for seed, row in rows.items() if seed not in seeds]
    return Alarms(sum(moved), len(moved))


def _by_seed(table: pa.Table, cell: str, metric: str) -> dict[int, Array]:
    return dict(zip(finished.seeds(table, cell), over_tasks(table, cell, metric), strict=True))


def introduction(data: Tables) -> str:
    """Return what is shown, and how it was found."""
    lacking = finished.gaps(stream for stream in PLACES if stream not in data)
    untimed = [stream for stream, seeds in lost(data).items() if None in seeds.values()]
    only = (
        f" Fresh networks on the last tasks alone, hence no points: {finished.listed(untimed)}." if untimed else ""
    )
    return (
        f"Plasticity is lost where a fresh network learns the last tasks better by {rule.MARGIN:g} or more in "
        f"accuracy while learning, and from the first task on from which the mean of any {STAY} tasks in a row "
        "says so. A diagnostic leaves for good at the first task from which on it lies on one side of its band, "
        f"the range of the first {FIRST} tasks, to the end, for {STAY} tasks or more. Points: that task minus the "
        "one from which on plasticity is lost, for every seed that loses it; left of zero the diagnostic is first. "
        "Bars: medians, where it moves in more than half of these seeds. At the right: in how many of the seeds "
        "that lose plasticity it moves, and in how many of those that keep it, which are false alarms. Plain "
        f"multilayer perceptrons, records.{only}{lacking}"
    )


def checks(data: Tables) -> list[Check]:
    """Return what the caption claims."""
    seeds = lost(data)
    counts = [
        f"{stream} {len(which)} of {len(finished.seeds(data[stream], CELL))}" for stream, which in seeds.items()
    ]
    every = DIGITS not in data or len(seeds[DIGITS]) == len(finished.seeds(data[DIGITS], CELL))
    also = "; under random labels in all" if DIGITS in data else ""
    return [Check(f"Plasticity is lost in these seeds: {finished.listed(counts)}{also}.", every)]


def notes(data: Tables) -> list[str]:
    """Return when diagnostics move, which of them always move first, and which move where nothing is lost."""
    found = leads(data)
    medians = sorted((m, metric) for metric in _shown(found) if (m := median(found, metric)) is not None)
    listed = ", ".join(f"{DIAGNOSTICS[metric]} {value:+g} ({_share(found, metric)})" for value, metric in medians)
    return [
        f"Medians in tasks, over those of these seeds in which a diagnostic moves: {listed}.",
        _first(found),
        *_alarms(data, found),
    ]


def median(found: list[Lead], metric: str) -> float | None:
    """Return the median of a diagnostic's tasks after the accuracy's, None if it never moves."""
    values = [w.after for w in found if w.metric == metric and w.after is not None]
    return float(np.median(values)) if values else None


def moves(found: list[Lead], metric: str) -> Alarms:
    """Return in how many of the seeds that lose plasticity a diagnostic moves."""
    own = [lead.moved for lead in found if lead.metric == metric]
    return Alarms(sum(own), len(own))


def _share(found: list[Lead], metric: str) -> str:
    return "{} of {}".format(*moves(found, metric))


def always_before(found: list[Lead]) -> list[str]:
    """Return the diagnostics that move first in every seed that loses plasticity, where both are known."""
    timed = {metric: [w for w in found if w.metric == metric and _known(w)] for metric in _shown(found)}
    return [m for m, own in timed.items() if own and all(w.after is not None and w.after < 0 for w in own)]


def _known(lead: Lead) -> bool:
    """Whether it is known when plasticity was lost, so that a diagnostic that never moves counts."""
    return lead.after is not None or not lead.moved


def _first(found: list[Lead]) -> str:
    names = [DIAGNOSTICS[metric] for metric in always_before(found)]
    if not names:
        return "No diagnostic moves first in every seed."
    return f"First, in every seed where it was measured: {finished.listed(names)}."


def _alarms(data: Tables, found: list[Lead]) -> list[str]:
    """Return what moves where nothing is lost, where there are such seeds."""
    counts = {metric: false_alarms(data, metric) for metric in _shown(found)}
    if not any(alarms.of for alarms in counts.values()):
        return []
    listed = ", ".join(f"{DIAGNOSTICS[m]} {a.moved} of {a.of}" for m, a in counts.items() if a.of)
    return [f"Seeds that keep their plasticity and in which a diagnostic moves all the same: {listed}."]


def _shown(found: list[Lead]) -> list[str]:
    there = {lead.metric for lead in found}
    return [metric for metric in DIAGNOSTICS if metric in there]


def draw(data: Tables) -> Figure:
    """Return a row a diagnostic."""
    found = leads(data)
    metrics = _shown(found)
    figure = Figure(figsize=(style.WIDTH, 1.2 + 0.24 * len(metrics)))
    axis = figure.subplots()
    for row, metric in enumerate(metrics):
        _draw_row(axis, [lead for lead in found if lead.metric == metric], row)
        for place, alarms in zip(COLUMNS, (moves(found, metric), false_alarms(data, metric)), strict=True):
            _write(axis, place, row, f"{alarms.moved}/{alarms.of}" if alarms.of else "–")
    for place, title in zip(
        (*COLUMNS, sum(COLUMNS) / 2), ("lost", "kept", "moves where\nplasticity is"), strict=True
    ):
        _write(axis, place, HEADING - 0.7 * ("\n" in title), title)
    axis.axvline(0, color=style.GREY, linewidth=0.8, zorder=0)
    axis.set_yticks(range(len(metrics)), [DIAGNOSTICS[metric] for metric in metrics])
    axis.set_ylim(len(metrics) - 0.5, -0.5)
    axis.set_xlabel("tasks after the network falls behind a fresh one")
    axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axis.margins(x=0.06)
    figure.legend(handles=_handles(axis), loc="outside lower center", ncols=3)
    return figure


def _draw_row(axis: Axes, found: list[Lead], row: int) -> None:
    moved = [(lead.stream, lead.after) for lead in found if lead.after is not None]
    offsets = np.linspace(-0.25, 0.25, len(moved)) if len(moved) > 1 else np.zeros(len(moved))
    for (stream, after), offset in zip(moved, offsets, strict=True):
        axis.plot(after, row + offset, MARKERS[stream], color=COLOURS[stream], markersize=3, label=stream)
    middle = median(found, found[0].metric)
    if middle is not None and 2 * len(moved) > len(found):
        axis.plot(
            [middle] * 2, [row - 0.35, row + 0.35], color=style.BLACK, linewidth=1.2, zorder=1, label="median"
        )


def _write(axis: Axes, place: float, height: float, text: str) -> None:
    """Write at the right of the axis."""
    axis.text(place, height, text, transform=axis.get_yaxis_transform(), ha="center", va="center", fontsize=6)


def _handles(axis: Axes) -> list[Any]:
    handles, labels = axis.get_legend_handles_labels()
    return list(dict(zip(labels, handles, strict=True)).values())
