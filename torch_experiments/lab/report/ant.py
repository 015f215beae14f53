"""What the records of the Slippery Ant show, the profile ``ant`` of experiment 9 (Q20 to Q24).

As in `agents` two cells are compared seed by seed over the second half of the tasks, and a difference counts if its
95 % t-interval over seeds leaves zero out. Ids are those of `claims/ledger.toml`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from torch_experiments.lab.campaign import items
from torch_experiments.lab.experiments import e09_reinforcement as e09
from torch_experiments.lab.experiments.e09_reinforcement import fresh_of
from torch_experiments.lab.report import agents, series
from torch_experiments.lab.report.agents import Agents, compared, missing
from torch_experiments.lab.report.findings import Finding
from torch_experiments.lab.report.series import DEAD, FREE, RANK
from torch_experiments.lab.report.tables import number, with_interval
from torch_experiments.lab.rl.measures import ENTROPY, RETURN, SATURATED

PROFILE = "ant"
SLIPPERY, STATIONARY = "ant", "ant, stationary"
METRICS = (RETURN, ENTROPY, SATURATED, DEAD, RANK, FREE)


def robots(folder: Path = items.RESULTS) -> Agents:
    """Return the finished runs of the profile below ``folder``."""
    return agents.agents(folder, e09.SEEDS[PROFILE], PROFILE, METRICS)


def loses(folder: Path) -> Finding:
    """Q20: where the friction changes the agent returns less than a fresh one."""
    pairs = [(SLIPPERY, fresh_of(SLIPPERY), RETURN, -1)]
    return compared("Q20", "a robot loses plasticity when its friction changes", pairs, robots(folder))


def stationary(folder: Path) -> Finding:
    """Q21: where it stays as it is too, after as many steps."""
    pairs = [(STATIONARY, fresh_of(STATIONARY), RETURN, -1)]
    return compared("Q21", "a robot loses plasticity in long training alone", pairs, robots(folder))


def change(folder: Path) -> Finding:
    """Q22: what it loses with the changes is more than what it loses without."""
    about, found = "the changes of friction cost a robot return", robots(folder)
    cells = [SLIPPERY, fresh_of(SLIPPERY), STATIONARY, fresh_of(STATIONARY)]
    if lacking := missing(found, cells):
        return Finding("Q22", about, lacking)
    common = found.seeds(*cells)
    ends = {cell: series.second_half(found.over(cell, RETURN, common)) for cell in cells}
    lost, without = (ends[cell] - ends[fresh_of(cell)] for cell in (SLIPPERY, STATIONARY))
    values = lost - without
    words = (
        f"return minus that of a fresh agent: {number(lost.mean(), 0)} where the friction changes, "
        f"{number(without.mean(), 0)} where it does not, difference {with_interval(values, 0)} "
        f"({series.counted(len(common))})"
    )
    return Finding("Q22", about, words, series.sign(values) < 0, series.sign(values) > 0, len(common))


def units(folder: Path) -> Finding:
    """Q23: its units die and its rank falls."""
    pairs = [(SLIPPERY, fresh_of(SLIPPERY), DEAD, 1), (SLIPPERY, fresh_of(SLIPPERY), RANK, -1)]
    return compared("Q23", "units of a robot's networks die and the rank falls", pairs, robots(folder))


def decided(folder: Path) -> Finding:
    """Q24: its policy is more decided: less entropy, and more means that the bounds of the actions cut."""
    pairs = [(SLIPPERY, fresh_of(SLIPPERY), ENTROPY, -1), (SLIPPERY, fresh_of(SLIPPERY), SATURATED, 1)]
    return compared("Q24", "a robot's policy is decided", pairs, robots(folder))


FINDINGS: Mapping[str, Callable[[Path], Finding]] = {
    "Q20": loses,
    "Q21": stationary,
    "Q22": change,
    "Q23": units,
    "Q24": decided,
}


def of(claim: str, folder: Path = items.RESULTS) -> Finding:
    """Return what the records below ``folder`` say of a claim.

    >>> of("Q20", Path("nowhere")).words
    'no record of experiment 9: ant; fresh, ant'
    """
    return FINDINGS[claim](folder)


def rows(folder: Path = items.RESULTS) -> list[str]:
    """Return the lines of a Markdown table of the cells beside their fresh agents."""
    return agents.table(robots(folder))
