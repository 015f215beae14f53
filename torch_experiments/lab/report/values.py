"""What the records of experiment 9 show of deep Q-learning: what is lost, by what, and what helps (Q25 to Q29).

As in `agents` two cells are compared seed by seed over the second half of the tasks, and a difference counts if its
95 % t-interval over seeds leaves zero out. Of the cell "fixed targets" three networks are compared on the same
observations: the agent's own, that with which it began the task, and one that was trained from there on the same
minibatches to values that stay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from torch_experiments.lab.campaign import items
from torch_experiments.lab.experiments import e09_values as cells
from torch_experiments.lab.experiments.e09_values import FRESH, fresh_of
from torch_experiments.lab.report import agents, series
from torch_experiments.lab.report.agents import FEWEST, PLAIN, Agents, compared, missing
from torch_experiments.lab.report.findings import Finding
from torch_experiments.lab.report.series import DEAD, Array
from torch_experiments.lab.report.tables import number, with_interval
from torch_experiments.lab.rl.measures import DORMANT, FEATURES, RETURN, VALUE

START, FIXED = (f"{name}_{DORMANT}" for name in ("start", "fixed"))
METRICS = (RETURN, VALUE, DEAD, DORMANT, FEATURES, START, FIXED)
MOST = 1.0 / (1.0 - cells.PLAIN.gamma)  # the largest value that there is where a step returns 1
HEAVY, HEAD, TARGETS = "heavy start", "heavy start, last layer anew", "fixed targets"


def values(folder: Path = items.RESULTS) -> Agents:
    """Return the finished runs of deep Q-learning below ``folder``."""
    return agents.agents(folder, cells.SEEDS["full"], "full", METRICS, cells.NAME)


def loses(folder: Path) -> Finding:
    """Q25: an agent that learns values learns less of later tasks than a fresh one."""
    about = "a plain agent of deep Q-learning loses plasticity"
    return compared("Q25", about, [(PLAIN, FRESH, RETURN, -1)], values(folder))


def primed(folder: Path) -> Finding:
    """Q26: many gradient steps on the first transitions are not made up for."""
    about = "an agent that begins with many gradient steps on its first transitions learns less"
    return compared("Q26", about, [(HEAVY, FRESH, RETURN, -1)], values(folder))


def reset(folder: Path) -> Finding:
    """Q27: with its last layer drawn anew it makes up for them."""
    about = "with its last layer drawn anew it learns more than without"
    return compared("Q27", about, [(HEAD, HEAVY, RETURN, 1)], values(folder))


def dormant(folder: Path) -> Finding:
    """Q28: units become dormant with moving targets, and fewer with fixed ones."""
    about, found = "units become dormant with moving targets, and fewer with fixed ones", values(folder)
    if lacking := missing(found, [TARGETS]):
        return Finding("Q28", about, lacking)
    grown, more = over(found, DORMANT) - over(found, START), over(found, DORMANT) - over(found, FIXED)
    shares = ", ".join(f"{name} {over(found, m).mean():.2f}" for name, m in _NETWORKS.items())
    words = (
        f"dormant share: {shares}; moving minus start {with_interval(grown, 2)}, moving minus fixed "
        f"{with_interval(more, 2)} ({series.counted(len(more))})"
    )
    signs = (series.sign(grown), series.sign(more))
    return Finding("Q28", about, words, signs == (1, 1), signs == (-1, -1), len(more))


_NETWORKS: Mapping[str, str] = {"at the start": START, "moving targets": DORMANT, "fixed targets": FIXED}


def over(found: Agents, metric: str) -> Array:
    """Return a metric of the cell "fixed targets" over the second half of the tasks, ``[seeds]``."""
    return series.second_half(found.over(TARGETS, metric))


def rank(folder: Path) -> Finding:
    """Q29: the rank of features falls."""
    return compared("Q29", "the rank of features falls", [(PLAIN, FRESH, FEATURES, -1)], values(folder))


FINDINGS: Mapping[str, Callable[[Path], Finding]] = {
    "Q25": loses,
    "Q26": primed,
    "Q27": reset,
    "Q28": dormant,
    "Q29": rank,
}


def of(claim: str, folder: Path = items.RESULTS) -> Finding:
    """Return what the records below ``folder`` say of a claim.

    >>> of("Q25", Path("nowhere")).words
    'no record of experiment 9: plain; fresh'
    """
    return FINDINGS[claim](folder)


def rows(folder: Path = items.RESULTS) -> list[str]:
    """Return the lines of a Markdown table of cells beside their fresh agents, in the second half of the tasks.

    The value is the median over tasks and seeds of the mean over observations. The agent of "fixed targets" is the
    fresh one in a world that stays, and has no row.
    """
    found = values(folder)
    lines = [
        "| agent | seeds | return | fresh | difference | value | dormant units | rank of features |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for cell in cells.configs("full"):
        fresh = fresh_of(cell)
        common = found.seeds(cell, fresh)
        if not cell.startswith(FRESH) and cell != TARGETS and len(common) >= FEWEST:
            own, theirs = (agents.mean(found, name, RETURN, common) for name in (cell, fresh))
            dormancy, features = (agents.mean(found, cell, metric, common) for metric in (DORMANT, FEATURES))
            value = found.over(cell, VALUE, common)
            middle = float(np.median(value[:, value.shape[1] // 2 :]))
            differs = with_interval(found.difference(cell, fresh, RETURN), 0)
            lines.append(
                f"| {cell} | {len(common)} | {number(own, 0)} | {number(theirs, 0)} | {differs} | "
                f"{number(middle, 0)} | {number(dormancy, 2)} | {number(features, 1)} |"
            )
    return lines
