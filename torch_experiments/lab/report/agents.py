"""What the records of experiment 9 show: whether agents lose plasticity, by what, and what helps (Q11 to Q33).

Every comparison is of two cells seed by seed over the second half of the tasks, where both have learnt the same
tasks with the same settings; it counts if the 95 % t-interval over seeds leaves zero out. Ids are those of
`claims/ledger.toml`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from torch_experiments.lab import experiments, records
from torch_experiments.lab.campaign import items
from torch_experiments.lab.experiments import e09_reinforcement as e09
from torch_experiments.lab.experiments import over_tasks
from torch_experiments.lab.experiments.e09_reinforcement import fresh_of
from torch_experiments.lab.report import series
from torch_experiments.lab.report.findings import Finding
from torch_experiments.lab.report.series import DEAD, FREE, RANK, Array
from torch_experiments.lab.report.tables import number, with_interval
from torch_experiments.lab.rl.measures import ENTROPY, GAP, RETURN

FOLDER = "reinforcement"  # below the results
FEWEST = 5  # seeds
PLAIN = "plain"
KEPT = 25.0  # of a return: a twentieth of the largest of CartPole; less is nothing that is lost
UNSEEN = (5, 6, 7, 8, 9)  # seeds that had no record yet of a cell when a claim on it was written
LOST = 15.0  # a return below which a task of CartPole is lost: a constant action returns 9.4, chance 22
METRICS = (RETURN, ENTROPY, GAP, DEAD, RANK, FREE)


@dataclass(frozen=True)
class Agents:
    """The finished runs of a profile of experiment 9, or another, below a folder, of some seeds.

    Attributes:
        folder: of the results.
        among: seeds.
        profile, experiment: by whose cells runs are found.
        metrics: what is read of them, where they have it.

    >>> Agents(Path("nowhere")).seeds("plain")
    ()
    """

    folder: Path = items.RESULTS
    among: tuple[int, ...] = e09.SEEDS["full"]
    profile: str = "full"
    metrics: tuple[str, ...] = METRICS
    experiment: str = e09.NAME

    @cached_property
    def records(self) -> Mapping[tuple[str, int], records.Record]:
        """The records that there are, by cell and seed."""
        cells = experiments.load(self.experiment).configs(self.profile).items()
        pairs = [
            ((label, seed), records.find(self.folder / FOLDER, config.identity(seed)))
            for label, config in cells
            for seed in self.among
        ]
        return {place: record for place, record in pairs if record is not None}

    @cached_property
    def table(self) -> pa.Table | None:
        """All measurements with the columns ``cell`` and ``seed``; None if there are none."""
        found = [experiments.labelled(record, label) for (label, _), record in self.records.items()]
        return pa.concat_tables(found) if found else None

    @cached_property
    def _values(self) -> dict[tuple[str, int, str], Array]:
        found: dict[tuple[str, int, str], Array] = {}
        for (label, seed), record in self.records.items():
            own = experiments.labelled(record, label)
            known = set(pc.unique(own["metric"]).to_pylist()).intersection(self.metrics)
            found |= {(label, seed, metric): over_tasks(own, label, metric)[0] for metric in known}
        return found

    def seeds(self, *cells: str) -> tuple[int, ...]:
        """Return the seeds that are finished in all of these cells."""
        return tuple(s for s in self.among if all((cell, s) in self.records for cell in cells))

    def has(self, cell: str, metric: str) -> bool:
        """Return whether this is measured in all records of a cell."""
        return all((cell, seed, metric) in self._values for seed in self.seeds(cell))

    def over(self, cell: str, metric: str, seeds: Sequence[int] | None = None) -> Array:
        """Return a metric of the whole agent at the end of every task, ``[seeds, tasks]``."""
        return np.stack([self._values[cell, s, metric] for s in (self.seeds(cell) if seeds is None else seeds)])

    def difference(self, cell: str, other: str, metric: str) -> Array:
        """Return a metric in the second half of the tasks minus that of another cell, seed by seed."""
        common = self.seeds(cell, other)
        own, theirs = (series.second_half(self.over(name, metric, common)) for name in (cell, other))
        return own - theirs


def agents(
    folder: Path = items.RESULTS,
    among: tuple[int, ...] = e09.SEEDS["full"],
    profile: str = "full",
    metrics: tuple[str, ...] = METRICS,
    experiment: str = e09.NAME,
) -> Agents:
    """Return the finished runs below ``folder``, read once as long as their files stay as they are."""
    stamp = tuple((f.name, f.stat().st_mtime_ns) for f in sorted((folder / FOLDER).glob("*.parquet")))
    return _read(Agents(folder, among, profile, metrics, experiment), stamp)


@lru_cache(maxsize=8)
def _read(found: Agents, stamp: tuple[tuple[str, int], ...]) -> Agents:
    return found


def missing(found: Agents, cells: Sequence[str]) -> str:
    """Return why these cells say nothing; empty if they do."""
    if lost := [cell for cell in cells if not found.seeds(cell)]:
        return f"no record of experiment 9: {'; '.join(lost)}"
    if (n := len(found.seeds(*cells))) < FEWEST:
        return f"{series.counted(n)} of {'; '.join(cells)}; {FEWEST} are needed"
    pairs = [(cell, metric) for cell in cells for metric in found.metrics if found.has(cell, metric)]
    lost = [cell for cell, metric in pairs if not np.isfinite(found.over(cell, metric)).all()]
    return f"measurements that are no number: {'; '.join(dict.fromkeys(lost))}" if lost else ""


def _compared(
    claim: str,
    about: str,
    pairs: Sequence[tuple[str, str, str, int]],
    folder: Path,
    among: tuple[int, ...] = e09.SEEDS["full"],
) -> Finding:
    return compared(claim, about, pairs, agents(folder, among))


def compared(claim: str, about: str, pairs: Sequence[tuple[str, str, str, int]], found: Agents) -> Finding:
    """Judge that every pair of cells differs in a metric in the direction given, 1 or −1."""
    if lacking := missing(found, list(dict.fromkeys(cell for a, b, *_ in pairs for cell in (a, b)))):
        return Finding(claim, about, lacking)
    texts, signs = [], []
    for cell, other, metric, way in pairs:
        values = found.difference(cell, other, metric)
        common = found.seeds(cell, other)
        own, theirs = (float(series.second_half(found.over(c, metric, common)).mean()) for c in (cell, other))
        places = 0 if metric == RETURN else 2
        texts.append(
            f"{metric.replace('_', ' ')}: {cell} {number(own, places)}, {other} {number(theirs, places)}, "
            f"difference {with_interval(values, places)}"
        )
        signs.append(series.sign(values) * way)
    seeds = len(found.seeds(*(cell for pair in pairs for cell in pair[:2])))
    words = f"{'; '.join(texts)} ({series.counted(seeds)})"
    return Finding(claim, about, words, all(s > 0 for s in signs), all(s < 0 for s in signs), seeds)


def loses(folder: Path) -> Finding:
    """Q11: a plain agent learns less of later tasks than a fresh one."""
    return _compared("Q11", "a plain agent loses plasticity", [(PLAIN, e09.FRESH, RETURN, -1)], folder)


def units(folder: Path) -> Finding:
    """Q12: its units die and its rank is lower."""
    pairs = [(PLAIN, e09.FRESH, DEAD, 1), (PLAIN, e09.FRESH, RANK, -1)]
    return _compared("Q12", "units die and the rank falls", pairs, folder)


def free(folder: Path) -> Finding:
    """Q13: the share of its parameters that the certificate finds free is smaller."""
    return _compared("Q13", "the certificate's free share falls", [(PLAIN, e09.FRESH, FREE, -1)], folder)


def saturated(folder: Path) -> Finding:
    """Q14: in tasks that a plain agent loses its softmax is saturated, in the others it is not."""
    about, found = "the softmax is saturated where a task is lost", agents(folder)
    if lacking := missing(found, [PLAIN]):
        return Finding("Q14", about, lacking)
    gaps, texts = [], []
    lost = found.over(PLAIN, RETURN) < LOST
    for metric in (ENTROPY, GAP, DEAD):
        values = found.over(PLAIN, metric)
        both = lost.any(axis=1) & ~lost.all(axis=1)
        if both.sum() < FEWEST:
            return Finding("Q14", about, f"{series.counted(int(both.sum()))} with tasks of both kinds")
        pairs = [(v[w].mean(), v[~w].mean()) for v, w in zip(values[both], lost[both], strict=True)]
        own, other = np.array(pairs).T
        gaps.append(own - other)
        texts.append(
            f"{metric.replace('_', ' ')} {own.mean():.2f} in lost tasks, {other.mean():.2f} in others, "
            f"difference {with_interval(own - other, 2)}"
        )
    counted = f"means of those of {series.counted(int(both.sum()))} with tasks of both kinds"
    words = f"{int(lost.sum())} of {lost.size} tasks return less than {LOST:.0f}; {'; '.join(texts)} ({counted})"
    shown = (series.sign(gaps[0]), series.sign(gaps[1])) == (-1, 1)
    contrary = (series.sign(gaps[0]), series.sign(gaps[1])) == (1, -1)
    return Finding("Q14", about, words, shown, contrary, int(both.sum()))


def tanh(folder: Path) -> Finding:
    """Q15: an agent with tanh loses plasticity too, though no unit is dead."""
    about = "an agent with tanh loses plasticity without a dead unit"
    lost = _compared("Q15", about, [("tanh", fresh_of("tanh"), RETURN, -1)], folder)
    if lost.shown is None:
        return lost
    dead = float(agents(folder).over("tanh", DEAD).max())
    words = f"{lost.words}; largest dead fraction {dead:.3f}"
    return Finding("Q15", about, words, bool(lost.shown) and dead == 0.0, lost.contrary, lost.seeds)


def shrinks(folder: Path) -> Finding:
    """Q16: shrink-and-perturb carries over."""
    return _better("Q16", "shrink-and-perturb", "shrink-perturb", folder)


def recycles(folder: Path) -> Finding:
    """Q17: ReDo carries over."""
    return _better("Q17", "ReDo", "redo", folder)


def stationary(folder: Path) -> Finding:
    """Q18: where nothing changes, long training loses nothing."""
    pairs = [("stationary", fresh_of("stationary"), RETURN, 1)]
    return _compared("Q18", "an agent in a world that stays as it is learns on", pairs, folder)


def betas(folder: Path) -> Finding:
    """Q19: Adam with equal betas loses less."""
    return _better("Q19", "Adam with equal betas", "equal betas", folder)


def _better(claim: str, name: str, cell: str, folder: Path) -> Finding:
    return _compared(claim, f"{name} learns later tasks better than plain", [(cell, PLAIN, RETURN, 1)], folder)


def permuted(folder: Path) -> Finding:
    """Q30: signed permutations of what is seen lose plasticity too; on seeds that were run after it was written."""
    pairs = [("permuted", fresh_of("permuted"), RETURN, -1)]
    return _compared("Q30", "signed permutations of what is seen lose plasticity too", pairs, folder, UNSEEN)


def bonus(folder: Path) -> Finding:
    """Q31: an entropy bonus keeps the policy less decided, and the agent learns more of later tasks."""
    pairs = [("entropy bonus", PLAIN, ENTROPY, 1), ("entropy bonus", PLAIN, RETURN, 1)]
    return _compared("Q31", "an entropy bonus keeps the policy open and the return up", pairs, folder)


def rewards(folder: Path) -> Finding:
    """Q32: where rewards alone are of another size nothing is lost."""
    return _kept("Q32", "where rewards alone are of another size nothing is lost", "rewards", folder)


def physics(folder: Path) -> Finding:
    """Q33: where the constants of the physics alone change nothing is lost."""
    return _kept("Q33", "where the constants of the physics change nothing is lost", "dynamics", folder)


def _kept(claim: str, about: str, cell: str, folder: Path) -> Finding:
    """Judge that a cell returns as much as its fresh agents, or less by fewer than `KEPT`: the whole interval."""
    told = _compared(claim, about, [(cell, fresh_of(cell), RETURN, 1)], folder)
    if told.shown is None:
        return told
    low, high = series.limits(agents(folder).difference(cell, fresh_of(cell), RETURN))
    return Finding(claim, about, told.words, low > -KEPT, high < -KEPT, told.seeds)


FINDINGS: Mapping[str, Callable[[Path], Finding]] = {
    "Q11": loses,
    "Q12": units,
    "Q13": free,
    "Q14": saturated,
    "Q15": tanh,
    "Q16": shrinks,
    "Q17": recycles,
    "Q18": stationary,
    "Q19": betas,
    "Q30": permuted,
    "Q31": bonus,
    "Q32": rewards,
    "Q33": physics,
}


def of(claim: str, folder: Path = items.RESULTS) -> Finding:
    """Return what the records below ``folder`` say of a claim.

    >>> of("Q11", Path("nowhere")).words
    'no record of experiment 9: plain; fresh'
    """
    return FINDINGS[claim](folder)


def rows(folder: Path = items.RESULTS) -> list[str]:
    """Return the lines of a Markdown table of cells beside their fresh agents, in the second half of the tasks."""
    return table(agents(folder))


def table(found: Agents) -> list[str]:
    """Return `rows` of these runs."""
    lines = [
        "| agent | seeds | return | fresh | difference | dead units | entropy |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for cell in e09.configs(found.profile):
        fresh = fresh_of(cell)
        common = found.seeds(cell, fresh)
        if not cell.startswith(e09.FRESH) and len(common) >= FEWEST:
            own, theirs = (mean(found, name, RETURN, common) for name in (cell, fresh))
            symptoms = (mean(found, cell, metric, common) for metric in (DEAD, ENTROPY))
            numbers = " | ".join(number(value, 2) for value in symptoms)
            differs = with_interval(found.difference(cell, fresh, RETURN), 0)
            lines.append(
                f"| {cell} | {len(common)} | {number(own, 0)} | {number(theirs, 0)} | {differs} | {numbers} |"
            )
    return lines


def mean(found: Agents, cell: str, metric: str, seeds: Sequence[int]) -> float:
    """Return the mean over seeds of a metric in the second half of the tasks."""
    return float(series.second_half(found.over(cell, metric, seeds)).mean())
