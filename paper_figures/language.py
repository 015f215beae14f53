"""Language: what a character model loses on new alphabets, with and without norm, beside fresh networks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from paper_figures.support import drawing, finished, style, tasks
from paper_figures.support.captions import Check
from paper_figures.support.results import RESULTS, Profile
from paper_figures.support.tables import Array
from torch_experiments.lab.experiments import over_tasks
from torch_experiments.lab.experiments.e08_language import (
    BARE,
    DOMAINS,
    EVERY,
    GPT2,
    GRADUAL,
    LABELS,
    PLAIN,
    REMEDIES,
    SLOW,
    fresh_of,
)
from torch_experiments.lab.language.run import ENTROPY
from torch_experiments.lab.report import language, series
from torch_experiments.lab.report.language import LOSS, MARGIN
from torch_experiments.lab.report.series import DEAD, RANK

NAME = "language"
TITLE = "character models on new alphabets: held-out loss beside fresh networks, rank, dead units, attention"
ITEM = "language"
NEEDED = (PLAIN, BARE, LABELS, DOMAINS)
ORDER = (PLAIN, *REMEDIES, GRADUAL, SLOW, GPT2, LABELS, DOMAINS, BARE)
COLOURS: Mapping[str, str] = {PLAIN: style.VERMILION, BARE: style.BLUE}
PANELS: Mapping[str, str] = {
    LOSS: "held-out loss (nats)",
    DEAD: "dead units",
    RANK: "effective rank",
    ENTROPY: "entropy of attention",
}


def compute(profile: Profile, results: Path = RESULTS) -> pa.Table:
    """Return the finished runs."""
    wanted = [one for case in NEEDED for one in (case, fresh_of(case))]
    return finished.needed(ITEM, wanted)


def introduction(data: pa.Table) -> str:
    """Return what is shown, and how it was found."""
    return (
        "A GPT of two blocks of width 64 reads the plays of Shakespeare, in an alphabet drawn anew for every task "
        "of 100 steps of Adam. Left: with layer norm at a rate of 0.01, and without norm at 0.003; dashed: fresh "
        "networks on every fifth task. Loss: held out, at the end of the task. Dead: zero on all of 2,048 "
        "characters. Effective rank (Roy and Vetterli): mean over blocks. Entropy of attention: a share of its "
        f"maximum, mean over heads and blocks. {tasks.lines(data)} Right: held-out loss minus that of fresh "
        "networks on the same tasks but the first; points are seeds, bars 95 % t-intervals, not corrected "
        "for their number. All cases but no norm and the lower rate (0.003) have the rate 0.01; labels alone: what "
        "is read stays as it is; gradual: four pairs of characters change places; domains: natural text."
        f"{_gaps(data)}"
    )


def cases(data: pa.Table) -> list[str]:
    """Return the cases that have a finished run, and fresh networks beside it."""
    return [case for case in ORDER if len(finished.cells(data, (case, fresh_of(case)))) == 2]


def behind(data: pa.Table, case: str, metric: str = LOSS) -> Array:
    """Return a metric minus that of fresh networks on their tasks but the first, `[seeds]`."""
    both = finished.shared(data, (case, fresh_of(case)))
    own, fresh = language.paired(*(over_tasks(both, one, metric) for one in (case, fresh_of(case))))
    return np.asarray((own - fresh).mean(axis=1))


def checks(data: pa.Table) -> list[Check]:
    """Return what the caption claims."""
    loss = {case: behind(data, case) for case in cases(data)}
    rank = {case: behind(data, case, RANK) for case in (PLAIN, BARE)}
    found = [
        Check(
            f"With layer norm plasticity is lost, by {finished.told(loss[PLAIN], 2)} nats.",
            series.sign(loss[PLAIN]) == 1,
        ),
        Check(
            f"Without norm the network ends better than fresh ones, by {finished.told(loss[BARE], 2)}.",
            series.sign(loss[BARE]) == -1,
        ),
        Check(
            f"Natural text loses nothing ({finished.told(loss[DOMAINS], 2)}), nor do labels alone by more than "
            f"{MARGIN} ({finished.told(loss[LABELS], 2)}).",
            series.sign(loss[DOMAINS]) == -1 and _most(loss[LABELS]) < MARGIN,
        ),
        Check(
            f"The rank goes with it: against fresh networks {finished.differences(rank, 1)}.",
            series.sign(rank[PLAIN]) == -1 and series.sign(rank[BARE]) == 1,
        ),
    ]
    return [*found, *(_remedied(loss) if set(REMEDIES) <= set(loss) else [])]


def _remedied(loss: Mapping[str, Array]) -> list[Check]:
    best = min(REMEDIES, key=lambda name: float(loss[name].mean()))
    told = finished.differences({name: loss[name] for name in REMEDIES}, 2)
    return [Check(f"Of the remedies shrink-and-perturb leaves least: {told}.", best == "shrink-perturb")]


def _most(values: Array) -> float:
    found = series.interval(values)
    return found[1] if found else float("inf")


def _gaps(data: pa.Table) -> str:
    wanted = dict.fromkeys(one for case in ORDER for one in (case, fresh_of(case)))
    return finished.gaps(finished.absent(ITEM, data, wanted))


def draw(data: pa.Table) -> Figure:
    """Return the course of four metrics, and all cases against fresh networks."""
    figure = Figure(figsize=(style.PAGE, 3.1))
    grid = figure.add_gridspec(2, 3, width_ratios=(1, 1, 1.1))
    for place, (metric, title) in enumerate(PANELS.items()):
        axis = figure.add_subplot(grid[place // 2, place % 2])
        _course(axis, data, metric)
        axis.set_title(title)
        if place > 1:
            axis.set_xlabel("task")
    _differences(figure.add_subplot(grid[:, 2]), data)
    colours = {"remedies on layer norm": style.GREEN, "other networks and streams": style.BLACK}
    others = [drawing.entry(name, color=colour, marker="|", linewidth=0.9) for name, colour in colours.items()]
    figure.legend(
        handles=[*figure.axes[0].get_legend_handles_labels()[0], *others], loc="outside lower center", ncols=6
    )
    return figure


def _course(axis: Axes, data: pa.Table, metric: str) -> None:
    for case, colour in COLOURS.items():
        tasks.band(axis, data, case, metric, color=colour, label=case)
        fresh = over_tasks(data, fresh_of(case), metric).mean(axis=0)
        places = 1 + EVERY * np.arange(len(fresh))
        dashed: Mapping[str, Any] = {"linestyle": "--", "marker": "o", "markersize": 2.5, "linewidth": 0.8}
        axis.plot(places, fresh, color=colour, label=fresh_of(case), **dashed)
    if metric != LOSS:
        axis.set_ylim(bottom=0)
    axis.margins(x=0.02)
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _differences(axis: Axes, data: pa.Table) -> None:
    shown = cases(data)
    for row, case in enumerate(shown):
        values = behind(data, case)
        colour = COLOURS.get(case, style.GREEN if case in REMEDIES else style.BLACK)
        axis.plot(values, np.full(len(values), row), "o", color=colour, markersize=2, alpha=0.5)
        found = finished.interval(values)
        axis.errorbar(found.mean, row, xerr=found.half or None, fmt="|", color=colour, markersize=7, elinewidth=0.9)
    axis.axvline(0, color=style.GREY, linewidth=0.6, zorder=0)
    axis.set_yticks(range(len(shown)), shown)
    axis.invert_yaxis()
    axis.set_title("held-out loss minus fresh")
