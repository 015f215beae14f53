"""The symptoms of loss of plasticity on Tiny ImageNet over forty tasks (claims P1 to P6; JL25 figure 3.1)."""

from __future__ import annotations

from collections.abc import Mapping
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
from torch_experiments.lab.report.series import ACCURACY, DEAD, DUPLICATE, RANK
from torch_experiments.lab.report.tables import STILL, direction

NAME = "tiny_symptoms"
TITLE = "plain networks on forty tasks of Tiny ImageNet: accuracy while learning, dead units, rank, duplicates"
CELL = "none"


class Course(NamedTuple):
    """An item of the campaign: what it is, its architecture, its row, how its line looks."""

    about: str
    arch: str
    row: str
    line: Mapping[str, Any]


COURSES: Mapping[str, Course] = {
    "mlp": Course("MLP, 500 steps a task", "mlp", "MLP", {"color": style.BLUE}),
    "mlp-medium": Course("MLP, 2,000 steps a task", "mlp", "MLP", {"color": style.ORANGE, "linewidth": 0.9}),
    "mlp-paper": Course("MLP, 10,000 steps a task", "mlp", "MLP", {"color": style.VERMILION, "linewidth": 0.9}),
    "cnn": Course("CNN of half width, 500 steps a task", "cnn", "CNN, half width", {"color": style.BLUE}),
    "vit": Course(
        "ViT of a quarter of the width, 500 steps a task", "vit", "ViT, quarter width", {"color": style.BLUE}
    ),
}
NAMES: Mapping[str, str] = {ACCURACY: "accuracy", DEAD: "dead units", RANK: "rank", DUPLICATE: "duplicates"}
FULL = "mlp"  # runs at its published size
AS_PUBLISHED: Mapping[str, Any] = {"linestyle": "--", "linewidth": 0.8}


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
        "figure 3.1). Solid: accuracy over the classes of the task, units measured on 500 images of all its "
        "classes. Dashed, in the colour of the same steps: counted as published, accuracy over all 200 outputs, "
        "dead units those that are silent at 95 % of the values, duplicates those with the direction of an earlier "
        "unit; for the MLP with 500 steps a task a run of its own, measured on images of one class. Where no "
        "dashed line is seen it lies on the solid one, or is the same quantity. MLP at its published size, CNN and "
        "ViT reduced and on images of 32×32. Triangles: where the published curves, counted so, end (open: of the "
        "network at full size); by its code that is trained for 10,000 steps a task. "
        f"{_lines(data)}{finished.gaps(_absent(data))}"
    )


def checks(data: Tables) -> list[Check]:
    """Return what the caption claims."""
    return [
        finished.sound(data.values(), [CELL, PUBLISHED], [*NAMES, *finished.COUNTED.values()]),
        Check(
            "Over the classes of the task the accuracy is nowhere lower than over all outputs.",
            all(finished.masked_is_no_less(table, _measured(table)) for table in data.values()),
        ),
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
    return finished.ends(table, *_as_published(table, metric))


def _published(name: str) -> dict[str, published.Ends]:
    """Return the ends of the published curves of an item's network, by metric."""
    curves = {metric: published.ends(COURSES[name].arch, metric) for metric in tasks.PANELS}
    return {metric: ends[CELL] for metric, ends in curves.items() if CELL in ends}


def _as_published(table: pa.Table, metric: str) -> tuple[str, str]:
    """Return the cell and the metric that come nearest to what was published."""
    return _measured(table)[-1], finished.COUNTED.get(metric, metric)


def _one_class(data: Tables) -> list[Check]:
    """Return what a batch of one class does to the measurements, for seeds of which both runs are finished."""
    table = finished.shared(data["mlp"], [CELL, PUBLISHED]) if "mlp" in data else None
    if table is None or not len(table):
        return []
    dead, rank = ([float(over_tasks(table, c, m).mean()) for c in (CELL, PUBLISHED)] for m in (DEAD, RANK))
    return [
        Check(
            f"A batch of one class shows more dead units in the MLP, {dead[1]:.3f} instead of {dead[0]:.3f}, and a "
            f"lower rank, {rank[1]:.0f} instead of {rank[0]:.0f} (500 steps, means over all tasks).",
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
    """Return a row a network of four panels."""
    rows = list(dict.fromkeys(COURSES[name].row for name in data))
    figure = Figure(figsize=(style.PAGE, 0.9 + 1.1 * len(rows)))
    axes = figure.subplots(len(rows), 4, sharex=True, squeeze=False)
    for name, table in data.items():
        for axis, metric in zip(axes[rows.index(COURSES[name].row)], tasks.PANELS, strict=True):
            _draw_course(axis, table, metric, COURSES[name].line)
            _mark(axis, name, metric)
    for row, panels in zip(rows, axes, strict=True):
        tasks.decorate(panels)
        panels[0].set_ylabel(row)
        _note_zero(panels[1])
    for axis in axes[1:].flat:
        axis.set_title("")
    for axis in axes[-1]:
        axis.set_xlabel("task")
    figure.legend(handles=_handles(data), loc="outside lower center", ncols=3)
    return figure


def _draw_course(axis: Axes, table: pa.Table, metric: str, line: Mapping[str, Any]) -> None:
    """Draw a metric, and beside it what is published: in a run of its own, or as far as the plain run has it."""
    tasks.band(axis, table, CELL, metric, **line)
    other, counted = _as_published(table, metric)
    if (other, counted) != (CELL, metric) and finished.has(table, other, counted):
        tasks.band(axis, table, other, counted, **{**line, **AS_PUBLISHED})


def _mark(axis: Axes, name: str, metric: str) -> None:
    if ends := _published(name).get(metric):
        drawing.mark(axis, ends.last, style.BLACK, filled=COURSES[name].arch == FULL)


def _note_zero(axis: Axes) -> None:
    """Give a panel of nothing but zeros the axis of a share, and say so."""
    if not any(np.any(line.get_ydata()) for line in axis.lines):
        axis.set_ylim(0, 1)
        axis.text(0.5, 0.5, "none in any task", transform=axis.transAxes, ha="center", fontsize=6.5)


def _handles(data: Tables) -> list[Line2D]:
    """Return what the legend explains: steps by colour, ways of counting by dashes, published ends."""
    lines = {COURSES[name].about.partition(", ")[2]: COURSES[name].line for name in data}
    found = [Line2D([], [], **{**line, "label": steps}) for steps, line in lines.items()]
    found.append(Line2D([], [], color=style.GREY, **AS_PUBLISHED, label="counted as published, same colour"))
    if any(COURSES[name].arch == FULL for name in data):
        found.append(drawing.handle("published end"))
    if any(COURSES[name].arch != FULL for name in data):
        found.append(drawing.handle("published end, at full size", filled=False))
    return found
