"""Agents on CartPole whose observations are shifted anew in every task: returns, dead units and entropy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from paper_figures.support import drawing, finished, style
from paper_figures.support.captions import Check
from paper_figures.support.results import RESULTS, Missing, Profile
from paper_figures.support.tables import Array
from torch_experiments.lab.campaign import items
from torch_experiments.lab.experiments import e09_reinforcement as e09
from torch_experiments.lab.experiments import over_tasks
from torch_experiments.lab.report import agents, series
from torch_experiments.lab.report.series import DEAD
from torch_experiments.lab.rl.measures import ENTROPY, RETURN

NAME = "agents"
TITLE = "agents (PPO) on shifted observations: returns beside a fresh agent, dead units, entropy of the policy"
CELLS: Mapping[str, str] = {
    "plain": style.VERMILION,
    "shrink-perturb": style.BLUE,
    e09.FRESH: style.GREY,
}
METRICS: Mapping[str, str] = {RETURN: "return", DEAD: "dead units", ENTROPY: "entropy of the policy (nats)"}
COMMAND = "lop run e09 --profile full --out results/reinforcement"
CONSTANT = 9.4  # what a constant action returns
IDLE: Mapping[str, Any] = {"color": style.BLACK, "linestyle": ":", "linewidth": 0.7}  # has learned nothing


def compute(profile: Profile, results: Path = RESULTS) -> pa.Table:
    """Return the finished runs of experiment 9."""
    found = agents.agents(items.RESULTS)
    if lacking := [cell for cell in CELLS if len(found.seeds(cell)) < agents.FEWEST]:
        few = f"fewer than {agents.FEWEST} seeds"
        raise Missing(f"there is no finished run, or {few}, of {', '.join(lacking)}: {COMMAND}")
    return found.table


def introduction(data: pa.Table) -> str:
    """Return what is shown, and how it was found."""
    counts = " and ".join(str(n) for n in sorted({len(finished.seeds(data, cell)) for cell in CELLS}))
    return (
        "CartPole with another offset of what is seen in every task (normal, deviation 2), proximal policy "
        "optimisation with Adam all along: what 64 episodes return at the end of each task, for a plain agent, one "
        "that is shrunk and perturbed at every task, and one that is fresh in every task; share of units that are "
        "silent on the last observations; entropy of the policy on them. Dotted: what a constant action returns, "
        f"and the entropy of chance, which is that of a policy that chooses evenly. Line: mean of {counts} seeds; "
        "band: 95 % t-interval over seeds. Differences are of the second half of the tasks, paired by seed."
    )


def checks(data: pa.Table) -> list[Check]:
    """Return what the caption claims."""
    lost = difference(data, "plain", e09.FRESH, RETURN)
    dead = difference(data, "plain", e09.FRESH, DEAD)
    return [
        Check(
            f"The plain agent learns less than a fresh one: {finished.told(lost, 0)}.",
            series.sign(lost) == -1,
        ),
        Check(f"More of its units are dead: {finished.told(dead, 2)}.", series.sign(dead) == 1),
    ]


def notes(data: pa.Table) -> list[str]:
    """Return what shrink-and-perturb changes, and how decided the policies are."""
    gain = difference(data, "shrink-perturb", "plain", RETURN)
    entropy = difference(data, "plain", e09.FRESH, ENTROPY)
    return [
        f"Shrunk and perturbed it returns more by {finished.told(gain, 0)}.",
        f"The entropy of the plain policy minus that of a fresh one is {finished.told(entropy, 2)}.",
    ]


def difference(data: pa.Table, cell: str, other: str, metric: str) -> Array:
    """Return a metric in the second half of the tasks minus that of another cell, for every seed of both."""
    common = finished.shared(data, [cell, other])
    own, theirs = (series.second_half(over_tasks(common, name, metric)) for name in (cell, other))
    return own - theirs


def draw(data: pa.Table) -> Figure:
    """Return a panel a metric."""
    figure = Figure(figsize=(style.PAGE, 1.9))
    axes = figure.subplots(1, len(METRICS))
    for axis, level in ((axes[0], CONSTANT), (axes[2], np.log(2))):
        axis.axhline(level, zorder=0, **IDLE)
    for axis, (metric, title) in zip(axes, METRICS.items(), strict=True):
        for cell, colour in CELLS.items():
            _line(axis, over_tasks(data, cell, metric), color=colour, label=cell)
        axis.set_title(title)
        axis.set_xlabel("task")
        axis.set_ylim(bottom=0)
        axis.margins(x=0.02)
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    handles = [*axes[1].get_legend_handles_labels()[0], drawing.entry("constant action, uniform policy", **IDLE)]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def _line(axis: Axes, values: Array, **line: Any) -> None:
    """Draw the mean over seeds of `values [seeds, tasks]` with its interval."""
    limits = [series.interval(column) or (column[0], column[0]) for column in values.T]
    low, high = np.array(limits).T
    tasks = np.arange(1, values.shape[1] + 1)
    drawing.band(axis, tasks, values.mean(axis=0), np.maximum(low, 0), high, **line)
