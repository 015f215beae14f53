"""Certificates over training: which share of the parameters is free, with the share of dead units (claim F2)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from paper_figures.support import finished, style, tasks
from paper_figures.support.captions import Check
from paper_figures.support.finished import Shown, layers
from paper_figures.support.results import RESULTS, Missing, Profile
from paper_figures.support.style import NORMS
from paper_figures.support.tables import Array, where
from torch_experiments.lab.experiments import over_tasks
from torch_experiments.lab.report.series import DEAD, FREE

NAME = "free_fraction"
TITLE = "Tiny ImageNet, certificates over training: the share of free parameters, with the share of dead units"
PLAIN = "none"
RUNS = Shown("mlp", tuple(NORMS))
LONGER: Mapping[str, str] = {"mlp-medium": "none, 2,000 steps", "mlp-paper": "none, 10,000 steps"}
STYLES: Mapping[str, Mapping[str, Any]] = {
    **NORMS,
    **dict(zip(LONGER.values(), ({"color": style.VERMILION}, {"color": style.PURPLE}), strict=True)),
}
SMALL = 0.002  # lines that never leave zero by more look alike
NEAR_ZERO: Mapping[str, Any] = {"color": style.GREY}
WIDTHS = (12_288, 128, 128, 128, 128, 128, 200)  # of the published MLP on images of 64×64


def compute(profile: Profile, results: Path = RESULTS) -> pa.Table:
    """Return the finished runs of the MLP, and its plain ones with longer tasks under names of their own."""
    tables = [RUNS.table()]
    for item, cell in LONGER.items():
        with suppress(Missing):
            tables.append(_renamed(where(finished.runs(item), {"cell": PLAIN}), cell))
    return pa.concat_tables(tables)


def _renamed(table: pa.Table, cell: str) -> pa.Table:
    place = table.column_names.index("cell")
    return table.set_column(place, "cell", pa.array([cell] * len(table), table["cell"].type))


def introduction(data: pa.Table) -> str:
    """Return what is shown, and how it was found."""
    return (
        "Top: share of parameters that are not free in the certificate of the network at the end of every task of "
        "Tiny ImageNet: they belong to units that are frozen on the 500 images of the batch, or to exact copies. "
        "Bottom: share of dead units, mean over the hidden layers. A first layer of 12,288 inputs holds 94 % of "
        f"the parameters. Tasks of 500 steps unless it says more. {_together(data)}"
        f"{finished.lines(data, shown(data))}{RUNS.gaps(data)}"
    )


def near_zero(data: pa.Table) -> list[str]:
    """Return the cells in which hardly a parameter is ever not free."""
    return [cell for cell in shown(data) if float((1 - over_tasks(data, cell, FREE)).max()) < SMALL]


def _together(data: pa.Table) -> str:
    cells = near_zero(data)
    about = f"at most a share of {SMALL:g} of the parameters is not free"
    return f"Grey lines, near zero: {'; '.join(cells)}, where {about} in every task and seed. " if cells else ""


def shown(data: pa.Table) -> list[str]:
    """Return the cells that are drawn."""
    return finished.cells(data, STYLES)


def checks(data: pa.Table) -> list[Check]:
    """Return what the caption claims."""
    return [finished.sound([data], shown(data), [FREE, DEAD]), *_counted(data)]


def notes(data: pa.Table) -> list[str]:
    """Return how little of the networks is lost."""
    free = {cell: over_tasks(data, cell, FREE) for cell in shown(data)}
    least = min(free, key=lambda cell: float(free[cell].min()))
    last = ", ".join(f"{tasks.end(data, cell, FREE).mean():.4f} ({cell})" for cell in free)
    return [
        f"At least a share of {free[least].min():.3f} of the parameters is free in every network and task "
        f"(least: {least}).",
        f"In the last five tasks the free share is {last}.",
    ]


def _counted(data: pa.Table) -> list[Check]:
    """Return that plain networks' certificates count the weights and biases of dead units, and nothing else."""
    cells = finished.cells(data, (PLAIN, *LONGER.values()))
    same = [_of_dead_units(data, cell, seed) for cell in cells for seed in finished.seeds(data, cell)]
    if not same:
        return []
    return [
        Check(
            "Without norm exactly the parameters that enter or leave dead units are lost, in every task and seed.",
            all(same),
        )
    ]


def _of_dead_units(data: pa.Table, cell: str, seed: int) -> bool:
    one = where(data, {"cell": cell, "seed": seed})
    return bool(np.allclose(over_tasks(one, cell, FREE)[0], alive(layers(one, cell, DEAD)), atol=1e-9))


def alive(dead: Array) -> Array:
    """Return the share of the MLP's weights and biases between living units, from `dead [layers, tasks]`."""
    ends = np.ones((1, dead.shape[1]))
    live = np.vstack([ends, 1 - dead, ends]) * np.array(WIDTHS)[:, None]
    parameters = sum(n * m + m for n, m in pairwise(WIDTHS))
    found: Array = sum(n * m + m for n, m in pairwise(live)) / parameters
    return found


def draw(data: pa.Table) -> Figure:
    """Return two panels over one another."""
    figure = Figure(figsize=(style.WIDTH, 3.0))
    upper, lower = figure.subplots(2, 1, sharex=True)
    lines = {**STYLES, **dict.fromkeys(near_zero(data), NEAR_ZERO)}
    for cell in shown(data):
        values = 1 - over_tasks(data, cell, FREE)
        tasks.draw(upper, values, **lines[cell])
        tasks.band(lower, data, cell, DEAD, **lines[cell])
    tasks.decorate([lower], [DEAD])
    upper.set_title("parameters that are not free")
    upper.set_ylim(bottom=0)
    lower.set_xlabel("task")
    figure.legend(handles=_handles(data), loc="outside lower center", ncols=2)
    return figure


def _handles(data: pa.Table) -> list[Line2D]:
    """Return an entry a line, and one for all that lie on zero."""
    together = near_zero(data)
    apart = [cell for cell in shown(data) if cell not in together]
    found = [Line2D([], [], label=finished.named(data, cell), **STYLES[cell]) for cell in apart]
    return found + [Line2D([], [], label=f"{len(together)} settings, near zero", **NEAR_ZERO)] * bool(together)
