"""The symptoms of loss of plasticity on Tiny ImageNet over forty tasks (JL25 figure 3.1)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from paper_figures import captions, finished, style, tasks
from paper_figures.captions import Statement
from paper_figures.finished import ACCURACY, DEAD, RANK, Tables
from paper_figures.results import RESULTS, Missing, Profile
from torch_experiments.campaign import PUBLISHED
from torch_experiments.experiments import over_tasks
from torch_experiments.report import published

NAME = "tiny_symptoms"
TITLE = "plain networks on forty tasks of Tiny ImageNet: accuracy while learning, dead units, rank, duplicates"
CELL = "none"


class Course(NamedTuple):
    """An item of the campaign: what it is, its row, how its line looks."""

    about: str
    row: str
    line: Mapping[str, Any]


COURSES: Mapping[str, Course] = {
    "mlp": Course("MLP, 500 steps a task", "MLP", {"color": style.BLUE}),
    "mlp-medium": Course("MLP, 2,000 steps a task", "MLP", {"color": style.ORANGE, "linewidth": 0.9}),
    "mlp-paper": Course("MLP, 10,000 steps a task", "MLP", {"color": style.VERMILION, "linewidth": 0.9}),
    "cnn": Course("CNN of half width, 500 steps a task", "CNN, half width", {"color": style.BLUE}),
    "vit": Course("ViT of a quarter of the width, 500 steps a task", "ViT, quarter width", {"color": style.BLUE}),
}
NAMES: Mapping[str, str] = {
    ACCURACY: "accuracy",
    DEAD: "dead units",
    RANK: "rank",
    tasks.PANELS[3]: "duplicates",
}
FALLS = {ACCURACY: "accuracy falls", RANK: "rank falls", DEAD: "dead units grow"}


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


def caption(data: Tables) -> str:
    """Return the caption."""
    introduction = (
        "Networks without normalisation on 40 tasks of 5 classes of Tiny ImageNet, with Adam all along (JL25 "
        "figure 3.1). Solid: accuracy over the classes of the task, units measured on 500 images of all its "
        "classes. Dashed: as published, accuracy over all 200 outputs, dead units those that are silent at 95 % of "
        "the values, duplicates those with the direction of an earlier unit; for the MLP with 500 steps a task on "
        "images of one class. MLP at its published size, CNN and ViT reduced and on images of 32×32. Triangles: "
        "where the published curves of the same network end; by its code that one is trained for 10,000 "
        f"steps a task. {_lines(data)}{finished.gaps(_absent(data))}"
    )
    return captions.join(introduction, statements(data))


def statements(data: Tables) -> list[Statement]:
    """Return what the caption claims; ends are means over five tasks and the seeds."""
    courses = [finished.over(table, CELL, NAMES, COURSES[name].about) for name, table in data.items()]
    masked = Statement(
        "Over the classes of the task the accuracy is nowhere lower than over all outputs.",
        all(finished.masked_is_no_less(table, _measured(table)) for table in data.values()),
    )
    agreeing = [_agreement(name, table) for name, table in data.items() if name.startswith("mlp")]
    return [*courses, masked, *agreeing, *_one_class(data)]


def _agreement(name: str, table: pa.Table) -> Statement:
    """Return which of the published directions the means take, from the first to the last five tasks."""
    found = {metric: finished.ends(table, CELL, metric) for metric in FALLS}
    taken = [FALLS[m] for m, (first, last) in found.items() if (last - first) * _published(m) > 0]
    what = finished.listed(taken) if taken else "none"
    return Statement(
        f"Of the published directions (accuracy and rank fall, dead units grow) the {COURSES[name].about}, takes "
        f"{len(taken)} of {len(FALLS)}: {what}.",
        finished.finite(*(value for pair in found.values() for value in pair)),
    )


def _published(metric: str) -> float:
    ends = published.ends("mlp", metric)[CELL]
    return ends.last - ends.first


def _one_class(data: Tables) -> list[Statement]:
    """Return what a batch of one class does to the measurements, for seeds of which both runs are finished."""
    table = finished.shared(data["mlp"], [CELL, PUBLISHED]) if "mlp" in data else None
    if table is None or not len(table):
        return []
    dead, rank = ([float(over_tasks(table, c, m).mean()) for c in (CELL, PUBLISHED)] for m in (DEAD, RANK))
    return [
        Statement(
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
    figure = Figure(figsize=(style.PAGE, 0.8 + 1.1 * len(rows)))
    axes = figure.subplots(len(rows), 4, sharex=True, squeeze=False)
    for name, table in data.items():
        for axis, metric in zip(axes[rows.index(COURSES[name].row)], tasks.PANELS, strict=True):
            _draw_course(axis, table, metric, COURSES[name].line)
    for row, panels in zip(rows, axes, strict=True):
        if row == "MLP":
            _mark(panels)
        tasks.decorate(panels)
        panels[0].set_ylabel(row)
    for axis in axes[1:].flat:
        axis.set_title("")
    for axis in axes[-1]:
        axis.set_xlabel("task")
    _explain(figure, data)
    return figure


def _draw_course(axis: Axes, table: pa.Table, metric: str, line: Mapping[str, Any]) -> None:
    """Draw a metric, and beside it what is published: in a run of its own, or as far as the plain run has it."""
    tasks.band(axis, table, CELL, metric, **line)
    other, counted = _measured(table)[-1], finished.COUNTED.get(metric, metric)
    if (other, counted) != (CELL, metric) and finished.has(table, other, counted):
        tasks.band(axis, table, other, counted, **{**line, "linestyle": "--", "linewidth": 0.8})


def _mark(panels: Any) -> None:
    for axis, metric in zip(panels, tasks.PANELS, strict=True):
        if ends := published.ends("mlp", metric).get(CELL):
            tasks.mark(axis, ends.last, style.BLACK)


def _explain(figure: Figure, data: Tables) -> None:
    handles = [Line2D([], [], color=style.BLUE, label="500 steps a task")]
    longer = (COURSES[name] for name in ("mlp-medium", "mlp-paper") if name in data)
    handles += [Line2D([], [], **{**course.line, "label": course.about.removeprefix("MLP, ")}) for course in longer]
    handles += [
        Line2D([], [], color=style.BLUE, linestyle="--", linewidth=0.8, label="measured as published"),
        Line2D([], [], color=style.BLACK, linestyle="", marker="<", markersize=3.2, label="published end"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
