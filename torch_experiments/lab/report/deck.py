"""What the records of experiments 10 and 11 show: what amplifies a loss, and what early phases leave behind.

Every cell is set against fresh networks with the same settings on its last tasks, seed by seed, and so are losses
of two cells against each other; it counts if the 95 % t-interval over seeds leaves zero out. Ids are those of
`claims/ledger.toml`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from torch_experiments.lab.campaign import items
from torch_experiments.lab.experiments import e10_amplifiers, e11_transients
from torch_experiments.lab.experiments.e07_streams import label
from torch_experiments.lab.experiments.e10_amplifiers import FIXED, PLAIN, fresh_of
from torch_experiments.lab.report import lost, series
from torch_experiments.lab.report.findings import Finding
from torch_experiments.lab.report.series import ACCURACY, DEAD, RANK, TEST, Array, Runs
from torch_experiments.lab.report.tables import number, spread, table, with_interval

AMPLIFIERS, TRANSIENTS = "amplifiers", "transients"  # items
LEAKY = "leaky relu"
EQUAL = ("equal betas 0.9", "equal betas 0.95")
NORMS = ("layer norm", "batch norm")
TRAIN, FIT = "train_accuracy", "train_loss"
FEWEST = 5  # seeds


def pair(runs: Runs, cell: str, metric: str = ACCURACY, seeds: Sequence[int] | None = None) -> tuple[Array, Array]:
    """Return a metric of a cell and of the fresh networks beside it, means over their tasks, a number a seed."""
    common = runs.seeds(cell, fresh_of(cell)) if seeds is None else seeds
    fresh = runs.over(fresh_of(cell), metric, common)
    return lost.over_last(runs, cell, metric, common, fresh.shape[1]), fresh.mean(axis=1)


def behind(runs: Runs, cell: str, metric: str = ACCURACY, seeds: Sequence[int] | None = None) -> Array:
    """Return a metric of a cell minus that of the fresh networks beside it, a number a seed."""
    own, fresh = pair(runs, cell, metric, seeds)
    return np.asarray(own - fresh)


# ---------------------------------------------------------------------------------------- claims


def betas(folder: Path) -> Finding:
    """Q34: Adam with its default betas loses more than with equal ones."""
    return _amplified("Q34", "Adam's default betas amplify the loss", [(PLAIN, other) for other in EQUAL], folder)


def dropout(folder: Path) -> Finding:
    """Q35: with dropout more is lost than without."""
    return _amplified("Q35", "dropout amplifies the loss", [("dropout", PLAIN)], folder)


def norms(folder: Path) -> Finding:
    """Q36: with layer norm and with batch norm more is lost than without."""
    about = "layer norm and batch norm amplify the loss under random labels"
    return _amplified("Q36", about, [(norm, PLAIN) for norm in NORMS], folder)


def leaky(folder: Path) -> Finding:
    """Q37: with leaky ReLU no unit dies, and plasticity is lost all the same."""
    about = "leaky ReLU prevents dead units and not the loss"
    runs = series.runs(AMPLIFIERS, folder)
    if lacking := _missing(runs, (LEAKY, PLAIN)):
        return Finding("Q37", about, lacking)
    lag, dead = behind(runs, LEAKY), runs.over(LEAKY, DEAD)
    plain = runs.over(PLAIN, DEAD)[:, -1].mean()
    words = (
        f"largest dead fraction {dead.max():.3f}, with ReLU at the end {plain:.3f}; {_lag(runs, LEAKY)}; with ReLU "
        f"{with_interval(behind(runs, PLAIN), 3)} ({series.counted(len(lag))})"
    )
    low, high = series.limits(lag)
    return Finding("Q37", about, words, high < 0 and float(dead.max()) == 0.0, low > 0, len(lag))


def _amplified(claim: str, about: str, pairs: Sequence[tuple[str, str]], folder: Path) -> Finding:
    """Judge that the first cell of every pair lags its fresh networks by more than the second lags its own."""
    runs = series.runs(AMPLIFIERS, folder)
    cells = list(dict.fromkeys(cell for both in pairs for cell in both))
    if lacking := _missing(runs, cells):
        return Finding(claim, about, lacking)
    texts = [_lag(runs, cell) for cell in cells]
    ends = []
    for more, less in pairs:
        values = _apart(runs, more, less)
        ends.append(series.limits(values))
        texts.append(f"{more} minus {less} {with_interval(values, 3)}")
    seeds = len(runs.seeds(*cells, *map(fresh_of, cells)))
    words = f"accuracy while learning minus that of fresh networks: {'; '.join(texts)} ({series.counted(seeds)})"
    return Finding(claim, about, words, all(high < 0 for _, high in ends), all(low > 0 for low, _ in ends), seeds)


def _apart(runs: Runs, more: str, less: str) -> Array:
    """Return what one cell lags its fresh networks minus what another lags its own, on common seeds."""
    common = runs.seeds(more, less, fresh_of(more), fresh_of(less))
    return np.asarray(behind(runs, more, seeds=common) - behind(runs, less, seeds=common))


def _lag(runs: Runs, cell: str) -> str:
    return f"{cell} {with_interval(behind(runs, cell), 3)}"


def _missing(runs: Runs, cells: Sequence[str]) -> str:
    """Return why these cells say nothing; empty if they do."""
    for cell in cells:
        count = len(runs.seeds(cell, fresh_of(cell)))
        if count < FEWEST:
            return (
                f"{series.counted(count)} of item {runs.name}: {cell}, beside fresh networks; {FEWEST} are needed"
            )
        if not np.isfinite(np.concatenate(pair(runs, cell))).all():
            return f"measurements that are no number: {cell}"
    return ""


FINDINGS: Mapping[str, Callable[[Path], Finding]] = {"Q34": betas, "Q35": dropout, "Q36": norms, "Q37": leaky}


def of(claim: str, folder: Path = items.RESULTS) -> Finding:
    """Return what the records below ``folder`` say of a claim.

    >>> of("Q35", Path("nowhere")).words
    '0 seeds of item amplifiers: dropout, beside fresh networks; 5 are needed'
    """
    return FINDINGS[claim](folder)


# ---------------------------------------------------------------------------------------- tables and sentences


def amplifiers(runs: Runs) -> str:
    """Return how far every arm of experiment 10 lags its fresh networks, most first, and its symptoms."""
    cells = [cell for cell in e10_amplifiers.ARMS if runs.seeds(cell, fresh_of(cell))]
    rows = [
        (
            cell,
            str(len(behind(runs, cell))),
            *(spread(side, 3) for side in pair(runs, cell)),
            with_interval(behind(runs, cell), 3),
            with_interval(behind(runs, cell, TRAIN), 3),
            *(number(float(pair(runs, cell, m)[0].mean()), d) for m, d in ((DEAD, 3), (RANK, 1))),
        )
        for cell in sorted(cells, key=lambda cell: float(behind(runs, cell).mean()))
    ]
    head = (
        "arm",
        "seeds",
        "accuracy while learning",
        "fresh",
        "minus fresh",
        "fitted, minus fresh",
        "dead",
        "rank",
    )
    return table(head, rows)


def answers(folder: Path = items.RESULTS) -> list[str]:
    """Return a sentence a question, as a list in Markdown; questions without a record have none."""
    told_of = series.runs(TRANSIENTS, folder)
    lines = [_answer(told_of, question, *how) for question, how in QUESTIONS.items()]
    lines += [_beside_linear(told_of), targets(series.runs(AMPLIFIERS, folder))]
    return [f"- {line}" for line in lines if line]


QUESTIONS: Mapping[str, tuple[str, str]] = {
    e11_transients.PAIRS: (
        "Pairs of classes, accuracy while learning minus that of fresh networks; the linear network begins with "
        "the weights of the pair before, which it has to unlearn, and the head of the other is set to zero",
        ACCURACY,
    ),
    e11_transients.CLASSES: (
        "Two more classes at every task, the head kept: test accuracy at its end minus that of networks trained "
        "anew on all images of all classes so far, the upper baseline",
        TEST,
    ),
    e11_transients.WARM: ("Warm start on half of the images, test accuracy at the end minus fresh", TEST),
    e11_transients.TRANSIENT: ("Before all is clean, test accuracy at the end minus fresh", TEST),
    e11_transients.CRITICAL: (
        "Critical period, by its length in hundreds of steps: test accuracy after 400 sharp steps minus that of "
        "networks that never saw the blur",
        TEST,
    ),
}  # by the first word of its cases: what is told, and the metric


def _answer(runs: Runs, question: str, about: str, metric: str) -> str:
    cells = [cell for cell in e11_transients.CASES if cell.startswith(question)]
    found = {cell: behind(runs, cell, metric) for cell in cells if runs.seeds(cell, fresh_of(cell))}
    parts = [
        f"{cell.removeprefix(question).removeprefix(': ')} {with_interval(values, 3)}, {told(values)}"
        for cell, values in found.items()
    ]
    return f"{about}: {'; '.join(parts)} ({series.counted(min(map(len, found.values())))})." if parts else ""


def _beside_linear(runs: Runs) -> str:
    """Return how the convolutional network learns later pairs beside the linear one."""
    cells = [label(e11_transients.PAIRS, name) for name in ("conv net", "linear")]
    common = runs.seeds(*cells)
    if not common:
        return ""
    own, linear = (series.second_half(runs.over(cell, ACCURACY, common)) for cell in cells)
    return (
        f"Of later pairs the convolutional network has {own.mean():.3f} right while it learns, the linear one "
        f"{linear.mean():.3f}, a difference of {with_interval(own - linear, 3)}."
    )


def targets(runs: Runs) -> str:
    """Return what fixed and moving labels do to units, and how well later labels are fitted."""
    if not all(runs.seeds(cell, fresh_of(cell)) for cell in (PLAIN, FIXED)):
        return ""
    parts = []
    for name, cell in (("labels that move", PLAIN), ("labels that stay", FIXED)):
        dead, fresh = pair(runs, cell, DEAD)
        parts.append(f"{name}: {dead.mean():.3f}, {with_interval(dead - fresh, 3)} against fresh networks")
    own, fresh = pair(runs, PLAIN, TRAIN)
    return (
        f"Dormant units under {'; under '.join(parts)}. Capacity: of the labels of a later task a plain network "
        f"has fitted {own.mean():.3f} at its end, a fresh one {fresh.mean():.3f}, a difference of "
        f"{with_interval(own - fresh, 3)}."
    )


def transients(runs: Runs) -> str:
    """Return how far every case of experiment 11 lags fresh networks, in what is judged and on training images."""
    rows = []
    for cell in e11_transients.CASES:
        if not runs.seeds(cell, fresh_of(cell)):
            continue
        metric = ACCURACY if cell.startswith(e11_transients.PAIRS) else TEST
        values = behind(runs, cell, metric)
        rows.append(
            (
                cell,
                str(len(values)),
                "while learning" if metric == ACCURACY else "test, at the end",
                *(spread(side, 3) for side in pair(runs, cell, metric)),
                f"{with_interval(values, 3)}, {told(values)}",
                with_interval(behind(runs, cell, TRAIN), 3),
            )
        )
    return table(("case", "seeds", "accuracy", "case", "fresh", "minus fresh", "on training images"), rows)


def told(values: Array) -> str:
    """Return in a word what differences from fresh networks tell.

    >>> told(np.array([-0.1, -0.2, -0.15])), told(np.array([-0.1, 0.1]))
    ('behind', 'open')
    """
    return {-1: "behind", 0: "open", 1: "ahead"}[series.sign(values)]
