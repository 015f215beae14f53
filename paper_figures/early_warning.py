"""Which diagnostic leaves the range of the first tasks before accuracy does, where plasticity is lost?"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from paper_figures import symptoms
from paper_figures.support import finished, style
from paper_figures.support.captions import Check
from paper_figures.support.finished import Tables
from paper_figures.support.results import RESULTS, Missing, Profile
from paper_figures.support.tables import Array
from torch_experiments.lab.experiments import over_tasks
from torch_experiments.lab.report.series import ACCURACY, DEAD, DUPLICATE, RANK, SILENT, THEIR_SATURATED

NAME = "early_warning"
TITLE = "which diagnostic moves before accuracy falls, and by how many tasks"
CELL = "none"
FIRST, STAY = 5, 3  # tasks that make the band; tasks that have to lie outside at the end
DIGITS = "random labels"
ITEMS: Mapping[str, str] = {
    "remedies": "permuted digits",
    "mlp": "Tiny ImageNet, 500 steps",
    "mlp-medium": "Tiny ImageNet, 2,000 steps",
    "mlp-paper": "Tiny ImageNet, 10,000 steps",
}
COLUMNS, HEADING = (1.07, 1.2), -0.75  # of the counts beside the rows
STREAMS = (DIGITS, *ITEMS.values())
COLOURS = dict(zip(STREAMS, (style.BLUE, style.ORANGE, style.GREEN, style.VERMILION, style.PURPLE), strict=True))
MARKERS = dict(zip(STREAMS, "os^Dv", strict=True))
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
    """When a diagnostic leaves for good in a seed, against the accuracy: negative is earlier; None is never."""

    stream: str
    seed: int
    metric: str
    after: int | None


def compute(profile: Profile, results: Path = RESULTS) -> Tables:
    """Return the measurements of experiment 2 on digits, and the finished runs of longer streams, by stream."""
    found = {DIGITS: symptoms.compute(profile, results)}
    for item, stream in ITEMS.items():
        with suppress(Missing):
            found[stream] = finished.needed(item, [CELL])
    return found


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


def falls(accuracy: Array) -> int | None:
    """Return the task at which accuracy leaves its band downwards for good, None if it does not."""
    task = leaves(accuracy)
    return task if task is not None and accuracy[task] < accuracy[:FIRST].min() else None


def lost(data: Tables) -> dict[str, dict[int, int]]:
    """Return the task at which accuracy falls, for every stream and those seeds where it does."""
    found = {}
    for stream, table in data.items():
        rows = _by_seed(table, ACCURACY)
        found[stream] = {seed: task for seed, row in rows.items() if (task := falls(row)) is not None}
    return found


def leads(data: Tables) -> list[Lead]:
    """Return when every diagnostic moves, for every seed where plasticity is lost."""
    found = []
    for stream, seeds in lost(data).items():
        for metric in DIAGNOSTICS:
            if finished.has(data[stream], CELL, metric):
                rows = _by_seed(data[stream], metric)
                found += [
                    Lead(stream, seed, metric, _after(leaves(rows[seed]), task)) for seed, task in seeds.items()
                ]
    return found


class Alarms(NamedTuple):
    """In how many of so many seeds a diagnostic moves."""

    moved: int
    of: int


def false_alarms(data: Tables, metric: str) -> Alarms:
    """Return how often a diagnostic leaves its band for good where accuracy does not fall."""
    moved = []
    for stream, seeds in lost(data).items():
        if finished.has(data[stream], CELL, metric):
            rows = _by_seed(data[stream], metric)
            moved += [leaves(row) is not None for seed, row in rows.items() if seed not in seeds]
    return Alarms(sum(moved), len(moved))


def _by_seed(table: pa.Table, metric: str) -> dict[int, Array]:
    return dict(zip(finished.seeds(table, CELL), over_tasks(table, CELL, metric), strict=True))


def _after(moves: int | None, falls_at: int) -> int | None:
    return None if moves is None else moves - falls_at


def introduction(data: Tables) -> str:
    """Return what is shown, and how it was found."""
    lacking = finished.gaps(stream for stream in STREAMS if stream not in data)
    return (
        f"A quantity leaves for good at the first task from which on it lies on one side of its band, the range of "
        f"the first {FIRST} tasks, to the end, for {STAY} tasks or more. Points: that task of a diagnostic minus "
        "that of the accuracy while learning, for every seed in which accuracy leaves downwards; left of zero the "
        "diagnostic moves first. Bars: medians, where it moves in more than half of these seeds. At the right: in "
        "how many of the seeds in which accuracy falls it moves, and in how many of those in which accuracy does "
        "not fall, which are false alarms. Plain multilayer perceptrons; random labels: the runs of the figure on "
        f"symptoms, the others: records.{lacking}"
    )


def checks(data: Tables) -> list[Check]:
    """Return what the caption claims."""
    seeds = lost(data)
    counts = [
        f"{stream} {len(which)} of {len(finished.seeds(data[stream], CELL))}" for stream, which in seeds.items()
    ]
    return [
        Check(
            f"Accuracy falls for good in these seeds: {finished.listed(counts)}; under random labels in all.",
            len(seeds[DIGITS]) == len(finished.seeds(data[DIGITS], CELL)),
        )
    ]


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
    """Return in how many of the seeds whose accuracy falls a diagnostic moves."""
    own = [lead.after is not None for lead in found if lead.metric == metric]
    return Alarms(sum(own), len(own))


def _share(found: list[Lead], metric: str) -> str:
    return "{} of {}".format(*moves(found, metric))


def always_before(found: list[Lead]) -> list[str]:
    """Return the diagnostics that move before accuracy in every seed where it falls."""
    return [m for m in _shown(found) if all(_ahead(w) for w in found if w.metric == m)]


def _ahead(lead: Lead) -> bool:
    return lead.after is not None and lead.after < 0


def _first(found: list[Lead]) -> str:
    names = [DIAGNOSTICS[metric] for metric in always_before(found)]
    if not names:
        return "No diagnostic moves before accuracy in every seed."
    return f"Before accuracy, in every seed where it was measured: {finished.listed(names)}."


def _alarms(data: Tables, found: list[Lead]) -> list[str]:
    """Return what moves where nothing is lost, where there are such seeds."""
    counts = {metric: false_alarms(data, metric) for metric in _shown(found)}
    if not any(alarms.of for alarms in counts.values()):
        return []
    listed = ", ".join(f"{DIAGNOSTICS[m]} {a.moved} of {a.of}" for m, a in counts.items() if a.of)
    return [f"Seeds in which accuracy does not fall and a diagnostic moves all the same: {listed}."]


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
    for place, title in zip((*COLUMNS, sum(COLUMNS) / 2), ("falls", "stays", "moves where\naccuracy"), strict=True):
        _write(axis, place, HEADING - 0.7 * ("\n" in title), title)
    axis.axvline(0, color=style.GREY, linewidth=0.8, zorder=0)
    axis.set_yticks(range(len(metrics)), [DIAGNOSTICS[metric] for metric in metrics])
    axis.set_ylim(len(metrics) - 0.5, -0.5)
    axis.set_xlabel("tasks after accuracy falls")
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
