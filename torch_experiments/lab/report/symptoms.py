"""Which symptom tells the runs that lose accuracy from those that keep it, in every stream and over all of them.

What is lost is told by `report.lost`. Seeds of one cell are alike, so the units that are compared are cells: a
cell counts once, with its mean over seeds, or twice where some of its seeds lose and others keep. In a stream
the ``m`` values of losing and ``k`` of keeping cells give the area under the ROC curve ``U / (m k)``, where
``U`` is the number of pairs in which the loser has more of the symptom, ties as halves; its p-value is exact,
over all choices of ``m`` among the ``m + k``, two-sided, and corrected for the number of symptoms by Holm. Over
streams ``U`` and ``m k`` are summed, and labels are exchanged within a stream alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from torch_experiments.lab.campaign import items
from torch_experiments.lab.experiments import e07_streams
from torch_experiments.lab.report import lost, series
from torch_experiments.lab.report.findings import SIGNIFICANT
from torch_experiments.lab.report.series import (
    DEAD,
    DUPLICATE,
    FREE,
    LATER,
    RANK,
    SATURATED,
    SILENT,
    THEIR_SATURATED,
    Array,
    Runs,
)

MORE, LESS = 1, -1  # what a network is expected to have of a symptom that loses accuracy
SYMPTOMS: Mapping[str, tuple[str, int]] = {
    "dead units": (DEAD, MORE),
    "nearly silent units": (SILENT, MORE),
    "saturated units": (SATURATED, MORE),
    "saturated units, JL25": (THEIR_SATURATED, MORE),
    "duplicates": (DUPLICATE, MORE),
    "duplicates, JL25": (LATER, MORE),
    "effective rank": (RANK, LESS),
    "effective rank of order 2": ("renyi2_rank_raw", LESS),
    "Shannon rank": ("shannon_rank_raw", LESS),
    "stable rank, centred": ("stable_rank_centred", LESS),
    "weight norm": ("weight_norm", MORE),
    "free parameters": (FREE, LESS),
}  # metric and direction
RELATIVE = ("rank", "norm")  # of these metrics ratios are compared, of shares differences
DIGITS: Mapping[str, str] = {
    "remedies": "permuted digits, high rate, remedies and norms",
    "generalisation": "permuted digits, widths, noise and decay",
}


@dataclass(frozen=True)
class Cell:
    """A cell whose seeds lose accuracy, or keep it, with its symptoms.

    Attributes:
        stream: where it learnt.
        label: which it is.
        lost: whether accuracy is lost in these seeds.
        seeds: how many there are.
        against: by symptom, how far it is from a fresh network on the last tasks.
        moved: by symptom, how far it is from its own start at the end.
    """

    stream: str
    label: str
    lost: bool
    seeds: int
    against: Mapping[str, float]
    moved: Mapping[str, float]


Read = Callable[[Cell], Mapping[str, float]]
SIDES: Mapping[str, Read] = {
    "against a fresh network": lambda cell: cell.against,
    "against its own start": lambda cell: cell.moved,
}


def cells(folder: Path = items.RESULTS) -> list[Cell]:
    """Return the cells with a fresh network beside them, by stream."""
    found = []
    for name in items.ITEMS:
        runs = series.runs(name, folder)
        for label in runs.cells:
            stream = _stream(name, label)
            gone = lost.lost(runs, label) if stream else {}
            for answer in (True, False):
                if chosen := [seed for seed, which in gone.items() if which == answer]:
                    found.append(_cell(runs, stream, label, answer, chosen))
    return found


def _stream(name: str, label: str) -> str:
    """Return the stream of a cell; empty for the warm start, which has one task after the first."""
    if name == "streams":
        stream = label.split(": ")[0]
        return "" if stream == e07_streams.WARM else f"{stream}, three networks"
    return DIGITS.get(name, f"item {name}")


def _cell(runs: Runs, stream: str, label: str, answer: bool, chosen: Sequence[int]) -> Cell:
    against, moved = {}, {}
    for symptom, (metric, _) in SYMPTOMS.items():
        control = runs.item.control(label)
        if control is None or not (runs.has(label, metric) and runs.has(control, metric)):
            continue
        tasks = lost.last(runs, label)
        own, fresh = (lost.over_last(runs, one, metric, chosen, tasks) for one in (label, control))
        values = runs.over(label, metric, chosen)
        against[symptom] = _apart(metric, own, fresh)
        moved[symptom] = _apart(metric, series.end(values), series.start(values))
    return Cell(stream, label, answer, len(chosen), against, moved)


def _apart(metric: str, values: Array, reference: Array) -> float:
    """Return the mean over seeds of the difference of shares, or of the logarithm of the ratio."""
    if any(word in metric for word in RELATIVE):
        return float(np.log(values / reference).mean())
    return float((values - reference).mean())


@dataclass(frozen=True)
class Test:
    """How well a symptom tells losing from keeping cells.

    Attributes:
        symptom: its name.
        losing, keeping: means over the cells, as differences or logarithms of ratios.
        area: under the ROC curve, in the direction that is expected of the symptom.
        p: exact, two-sided.
        corrected: by Holm over the symptoms that were tested together.
    """

    symptom: str
    losing: float
    keeping: float
    area: float
    p: float
    corrected: float

    @property
    def tells(self) -> bool:
        """Whether losing cells have more of the symptom, after the correction."""
        return self.area > 0.5 and self.corrected < SIGNIFICANT


def tests(chosen: Sequence[Cell], read: Read) -> list[Test]:
    """Return a test of every symptom within the streams of these cells; none without a contrast."""
    streams = [[c for c in chosen if c.stream == stream] for stream in dict.fromkeys(c.stream for c in chosen)]
    found = []
    for symptom, (_, sign) in SYMPTOMS.items():
        groups = [[c for c in group if symptom in read(c)] for group in streams]
        pairs = [
            tuple(
                np.array([sign * read(c)[symptom] for c in group if c.lost == answer]) for answer in (True, False)
            )
            for group in groups
        ]
        pairs = [(a, b) for a, b in pairs if len(a) and len(b)]
        if pairs:
            losing, keeping = (sign * float(np.concatenate(values).mean()) for values in zip(*pairs, strict=True))
            found.append((symptom, losing, keeping, *area([(a, b) for a, b in pairs])))
    corrected = holm([row[-1] for row in found])
    return [Test(*row, p) for row, p in zip(found, corrected, strict=True)]


def area(groups: Sequence[tuple[Array, Array]]) -> tuple[float, float]:
    """Return the area under the ROC curve within groups, and its exact two-sided p-value.

    Args:
        groups: a pair of values each, ``[m]`` of those that should be larger and ``[k]`` of the others.

    >>> area([(np.array([3.0, 4.0]), np.array([1.0, 2.0]))])
    (1.0, 0.3333333333333333)
    """
    observed, pairs, counts = 0, 0, np.ones(1)
    least = 0
    for more, other in groups:
        ranks = np.rint(2 * rankdata(np.concatenate([more, other]))).astype(int)  # midranks are whole if doubled
        observed += int(ranks[: len(more)].sum())
        least += len(more) * (len(more) + 1)
        pairs += len(more) * len(other)
        counts = np.convolve(counts, sums(ranks, len(more)))
    shares = counts / counts.sum()
    tail = min(float(shares[: observed + 1].sum()), float(shares[observed:].sum()))
    return (observed - least) / (2 * pairs), min(1.0, 2 * tail)


def sums(values: Array, size: int) -> Array:
    """Return in how many ways ``size`` of these whole numbers have each sum.

    >>> sums(np.array([1, 2, 3]), 2)
    array([0., 0., 0., 1., 1., 1., 0.])
    """
    total = int(values.sum())
    ways = np.zeros((size + 1, total + 1))
    ways[0, 0] = 1
    for value in values.tolist():
        for count in range(size, 0, -1):
            ways[count, value:] += ways[count - 1, : total + 1 - value]
    return ways[size]


def holm(p: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p)), key=lambda k: p[k])
    found, most = [0.0] * len(p), 0.0
    for rank, k in enumerate(order):
        most = max(most, min(1.0, (len(p) - rank) * p[k]))
        found[k] = most
    return found
