"""The symptoms of loss of plasticity on Tiny ImageNet over forty tasks (claims P1 to P6; JL25 figure 3.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from paper_figures.support import drawing, finished, style, tasks
from paper_figures.support.captions import Check
from paper_figures.support.finished import Tables
from paper_figures.support.results import RESULTS, Missing, Profile
from torch_experiments.lab.campaign.items import PUBLISHED
from torch_experiments.lab.experiments import over_tasks
from torch_experiments.lab.report import published
from torch_experiments.lab.report.series import ACCURACY, DEAD, DUPLICATE, LATER, RANK, SILENT
from torch_experiments.lab.report.tables import STILL, direction

NAME = "tiny_symptoms"
TITLE = "plain networks on forty tasks of Tiny ImageNet: accuracy while learning, dead units, rank, duplicates"
CELL = "none"


class Course(NamedTuple):
    """An item of the campaign: what it is, its architecture, its row, its steps a task, how its line looks."""

    about: str
    arch: str
    row: str
    steps: str
    line: Mapping[str, Any]


COURSES: Mapping[str, Course] = {
    "mlp": Course("MLP, 500 steps a task", "mlp", "MLP", "500", {"color": style.BLUE}),
    "mlp-medium": Course("MLP, 2,000 steps a task", "mlp", "MLP", "2,000", {"color": style.ORANGE}),
    "mlp-paper": Course("MLP, 10,000 steps a task", "mlp", "MLP", "10,000", {"color": style.VERMILION}),
    "cnn": Course("CNN of half width, 500 steps a task", "cnn", "CNN, half width", "500", {"color": style.BLUE}),
    "vit": Course(
        "ViT of a quarter of the width, 500 steps a task",
        "vit",
        "ViT, quarter width",
        "500",
        {"color": style.BLUE},
    ),
}
NAMES: Mapping[str, str] = {ACCURACY: "accuracy", DEAD: "dead units", RANK: "rank", DUPLICATE: "duplicates"}
PANELS: Mapping[
    str, Mapping[str, str]
] = {  # by architecture, one question a panel; and how JL25 calls what it shows
    "mlp": {ACCURACY: ACCURACY, DEAD: "", SILENT: DEAD, RANK: RANK},
    "cnn": {ACCURACY: ACCURACY, DEAD: "", SILENT: DEAD, RANK: RANK},
    "vit": {ACCURACY: ACCURACY, DUPLICATE: "", LATER: DUPLICATE, RANK: RANK},  # none of its units are dead
}
FULL = "mlp"  # runs at its published size
LONGEST = "MLP"  # the row of one network in tasks of several lengths


def compute(profile: Profile, results: Path = RESULTS) -> Tables:
    """Return the finished runs of every network, by item.

    Raises:
        Missing: There are none.
    """
    found = finished.several(COURSES)
    plain = {name: table for name, table in found.items() if finished.cells(table, [CELL])}
    if not plain:
        raise Missing(f"of the finished runs of {finished.listed(found)} none is a run without normalisation")
    return plain


def introduction(data: Tables) -> str:
    """Return what is shown, and how it was found."""
    return (
        "Networks without normalisation on 40 tasks of 5 classes of Tiny ImageNet, with Adam all along (JL25 "
        "figure 3.1): accuracy over the classes of the task, and units measured on 500 images of all its classes. "
        "Dead units are zero on all of them; those that are silent at 95 % of the values are the ones that JL25's "
        "code calls dead. No unit of the ViT is dead: it is shown with duplicates, correlated with another unit by "
        "0.95 or more, and with those that have the direction of an earlier unit, as published. MLP at its "
        "published size, CNN and ViT reduced and on images of 32×32. Triangles: where published curves end (open: "
        "of the network at full size), after 10,000 steps a task by the published code, accuracy over all 200 "
        f"outputs. {_lines(data)}{finished.gaps(_absent(data))}"
    )


def checks(data: Tables) -> list[Check]:
    """Return what the caption claims."""
    return [
        finished.sound(data.values(), [CELL, PUBLISHED], [*NAMES, *finished.COUNTED.values()]),
        Check(
            "Over the classes of the task the accuracy is nowhere lower than over all outputs.",
            all(finished.masked_is_no_less(table, _measured(table)) for table in data.values()),
        ),
        *_by_length(data),
        *_one_class(data),
    ]


def notes(data: Tables) -> list[str]:
    """Return how every network goes, and which published directions it takes; ends are means over five tasks."""
    courses = [finished.course(table, CELL, NAMES, COURSES[name].about) for name, table in data.items()]
    return [*courses, _agreements(data)]


def _agreements(data: Tables) -> str:
    """Return which of the published directions the means take, by the rule of the results page."""
    taken = {name: _taken(name, table) for name, table in data.items()}
    listed = "; ".join(
        f"{COURSES[name].about}, {len(which)} of {len(_published(name))}{_named(which)}"
        for name, which in taken.items()
    )
    return (
        "Counted as published, so many of the published directions are taken (a change below "
        f"{STILL}, of a rank below {STILL * 100:g} %, is none): {listed}."
    )


def _taken(name: str, table: pa.Table) -> list[str]:
    theirs = _published(name)
    return [metric for metric in theirs if direction(*_course(table, metric)) == direction(*theirs[metric])]


def _named(metrics: list[str]) -> str:
    return f" ({finished.listed(NAMES[metric] for metric in metrics)})" if metrics else ""


def _course(table: pa.Table, metric: str) -> tuple[float, float]:
    return finished.ends(table, _measured(table)[-1], finished.COUNTED.get(metric, metric))


def _published(name: str) -> dict[str, published.Ends]:
    """Return the ends of the published curves of an item's network, by metric."""
    curves = {metric: published.ends(COURSES[name].arch, metric) for metric in tasks.PANELS}
    return {metric: ends[CELL] for metric, ends in curves.items() if CELL in ends}


def _by_length(data: Tables) -> list[Check]:
    """Return that longer tasks leave more dead units and less rank, where there are tasks of several lengths."""
    lengths = [name for name in data if COURSES[name].row == LONGEST]
    if len(lengths) < 2:
        return []
    dead, rank = ([finished.ends(data[name], CELL, metric)[1] for name in lengths] for metric in (DEAD, RANK))
    return [
        Check(
            f"The longer the tasks of the MLP ({finished.listed(COURSES[name].steps for name in lengths)} steps), "
            "the more of its units are dead in the last five, "
            f"{finished.listed(f'{value:.2f}' for value in dead)}, and the lower is its rank, "
            f"{finished.listed(f'{value:.0f}' for value in rank)}.",
            all(a < b for a, b in pairwise(dead)) and all(a > b for a, b in pairwise(rank)),
        )
    ]


def _one_class(data: Tables) -> list[Check]:
    """Return what a batch of one class does to the measurements, for seeds of which both runs are finished."""
    table = finished.shared(data["mlp"], [CELL, PUBLISHED]) if "mlp" in data else None
    if table is None or not len(table):
        return []
    dead, rank = ([float(over_tasks(table, c, m).mean()) for c in (CELL, PUBLISHED)] for m in (DEAD, RANK))
    return [
        Check(
            f"A batch of one class, as published, would show more dead units in the MLP, {dead[1]:.3f} instead of "
            f"{dead[0]:.3f}, and a lower rank, {rank[1]:.0f} instead of {rank[0]:.0f} (500 steps, means over all "
            "tasks).",
            dead[1] > dead[0] and rank[1] < rank[0],
        )
    ]


def _measured(table: pa.Table) -> list[str]:
    return finished.cells(table, [CELL, PUBLISHED])


def _lines(data: Tables) -> str:
    """Return the sentence on seeds of every network."""
    counts = {name: len(finished.seeds(table, CELL)) for name, table in data.items()}
    return (
        f"Mean and range over seeds ({', '.join(f'{COURSES[n].about}: {count}' for n, count in counts.items())})."
    )


def _absent(data: Tables) -> list[str]:
    lacking = [COURSES[name].about for name in COURSES if name not in data]
    for name, table in data.items():
        wanted = [CELL, PUBLISHED] if name == "mlp" else [CELL]
        lacking += [f"{COURSES[name].about}: {run}" for run in finished.absent(name, table, wanted)]
    return lacking


def draw(data: Tables) -> Figure:
    """Return a row a network of four panels, one question each."""
    rows: dict[str, list[str]] = {}
    for name in data:
        rows.setdefault(COURSES[name].row, []).append(name)
    figure = Figure(figsize=(style.PAGE, 0.9 + 1.2 * len(rows)))
    axes = figure.subplots(len(rows), 4, sharex=True, squeeze=False)
    for line, (row, names) in zip(axes, rows.items(), strict=True):
        for axis, metric in zip(line, PANELS[COURSES[names[0]].arch], strict=True):
            _panel(axis, {name: data[name] for name in names}, metric)
        line[0].set_ylabel(f"{row}\n{_seeds(data, names)}")
    for axis in axes[-1]:
        axis.set_xlabel("task")
    figure.legend(handles=_handles(data), loc="outside lower center", ncols=5)
    return figure


def _seeds(data: Tables, names: list[str]) -> str:
    """Return the numbers of seeds of a row, in the order of its lines."""
    counts = [len(finished.seeds(data[name], CELL)) for name in names]
    return "one seed" if set(counts) == {1} else f"seeds: {', '.join(map(str, counts))}"


def _panel(axis: Axes, runs: Tables, metric: str) -> None:
    """Draw a metric of one network in tasks of several lengths, and where its published curve ends."""
    name = next(iter(runs))
    for item, table in runs.items():
        tasks.band(axis, table, CELL, metric, **COURSES[item].line, linewidth=1)
    if ends := _published(name).get(PANELS[COURSES[name].arch][metric]):
        drawing.mark(axis, ends.last, style.BLACK, filled=COURSES[name].arch == FULL)
    tasks.decorate([axis], [metric])
    _note_zero(axis)


def _note_zero(axis: Axes) -> None:
    """Give a panel of nothing but zeros the axis of a share, and say so."""
    if not any(np.any(line.get_ydata()) for line in axis.lines):
        axis.set_ylim(0, 1)
        axis.text(0.5, 0.5, "none in any task", transform=axis.transAxes, ha="center", fontsize=style.SMALLEST)


def _handles(data: Tables) -> list[Line2D]:
    """Return what the legend explains: steps by colour, and published ends."""
    return [*_steps(data), *_ends(data)]


def _steps(data: Tables) -> Iterator[Line2D]:
    lines = {COURSES[name].steps: COURSES[name].line for name in data}
    return (drawing.entry(f"{steps} steps a task", **line) for steps, line in lines.items())


def _ends(data: Tables) -> Iterator[Line2D]:
    sizes = {COURSES[name].arch == FULL for name in data}
    texts = {True: "published end, 10,000 steps", False: "the same, at full width"}
    return (drawing.handle(texts[full], filled=full) for full in sorted(sizes, reverse=True))
