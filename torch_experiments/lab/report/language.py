"""Language: what the records of experiment 8 say of the paper's story (claims Q1 to Q9).

Every case is set against fresh networks on the same tasks, seed by seed, at the end of those tasks but the first;
of such differences the 95 % t-interval over seeds counts. Losses are held out, in nats a character.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from torch_experiments.lab.campaign import items
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
from torch_experiments.lab.report import series
from torch_experiments.lab.report.findings import Finding
from torch_experiments.lab.report.series import DEAD, FREE, RANK, Array, Runs
from torch_experiments.lab.report.tables import with_interval

NAME = "language"
LOSS = "test_loss"
SHRINK, RESET = "shrink-perturb", "optimizer-reset"
MARGIN = 0.05  # nats a character: less is nothing that is lost
FEW = 0.2  # of the units
FEWEST = 5  # seeds


def behind(runs: Runs, cell: str, metric: str = LOSS) -> Array:
    """Return a metric minus that of fresh networks, mean over their tasks but the first, ``[seeds]``."""
    own, fresh = pair(runs, cell, metric)
    return np.asarray((own - fresh).mean(axis=1))


def pair(runs: Runs, cell: str, metric: str = LOSS) -> tuple[Array, Array]:
    """Return a metric of a case and of the fresh networks beside it, ``[seeds, tasks of these but the first]``."""
    common = runs.seeds(cell, fresh_of(cell))
    return paired(*(runs.over(one, metric, common) for one in (cell, fresh_of(cell))))


def paired(own: Array, fresh: Array) -> tuple[Array, Array]:
    """Return two ``[seeds, tasks]``, the second of every fifth task, on the tasks of the second but the first.

    >>> [side.tolist() for side in paired(np.arange(11.0)[None], np.zeros((1, 3)))]
    [[[5.0, 10.0]], [[0.0, 0.0]]]
    """
    step = EVERY if own.shape[1] > fresh.shape[1] else 1  # what is certified is so on these tasks alone
    return own[:, step::step], fresh[:, 1:]


def lost(folder: Path) -> Finding:
    """Q1: with layer norm at a high rate plasticity is lost on new alphabets, in our GPT and in GPT-2's class."""
    about = "with layer norm at a rate of 0.01 plasticity is lost on new alphabets, in our GPT and in GPT-2's class"
    if missing := _missing(folder, (PLAIN, GPT2), (LOSS,)):
        return Finding("Q1", about, missing)
    runs = series.runs(NAME, folder)
    found = {cell: behind(runs, cell) for cell in (PLAIN, GPT2)}
    ends = [series.limits(values) for values in found.values()]
    shown, contrary = all(low > 0 for low, _ in ends), all(high < 0 for _, high in ends)
    gradual = ""
    if not _missing(folder, (GRADUAL,), (LOSS,)):
        gradual = f"; where four pairs of characters change places {with_interval(behind(runs, GRADUAL), 2)}"
    words = f"{_losses(runs, PLAIN)}; {_losses(runs, GPT2)}{gradual} ({_fewest(found)})"
    return Finding("Q1", about, words, shown, contrary, len(found[PLAIN]))


def bare(folder: Path) -> Finding:
    """Q2: at one rate no norm ends better than a fresh network, and layer norm worse than both."""
    about = (
        "at a rate of 0.003 no norm ends better than a fresh network, layer norm worse than a fresh one and no norm"
    )
    if missing := _missing(folder, (BARE, SLOW), (LOSS,)):
        return Finding("Q2", about, missing)
    runs = series.runs(NAME, folder)
    found = {cell: behind(runs, cell) for cell in (BARE, SLOW)}
    apart = _apart(runs, SLOW, BARE)
    better, worse, ahead = (series.limits(values) for values in (found[BARE], found[SLOW], apart))
    words = f"{_losses(runs, BARE)}; {_losses(runs, SLOW)}; with layer norm minus without {with_interval(apart, 2)}"
    shown = better[1] < 0 and worse[0] > 0 and ahead[0] > 0
    contrary = better[0] > 0 and worse[1] < 0
    return Finding("Q2", about, f"{words} ({_fewest(found)})", shown, contrary, len(found[BARE]))


def _apart(runs: Runs, one: str, other: str) -> Array:
    """Return the loss of a case minus that of another, on the tasks of `behind`, ``[seeds]``."""
    common = runs.seeds(one, other)
    first, second = (runs.over(cell, LOSS, common)[:, EVERY::EVERY] for cell in (one, other))
    return np.asarray((first - second).mean(axis=1))


def labels(folder: Path) -> Finding:
    """Q3: with new labels alone nothing is lost."""
    about = "where the labels alone are new nothing is lost, at the rate of Q1"
    return _sided("Q3", about, LABELS, lambda low, high: high < MARGIN, lambda low, high: low > MARGIN, folder)


def domains(folder: Path) -> Finding:
    """Q4: from one domain of natural text to the next nothing is lost."""
    about = "from one domain of natural text to the next nothing is lost, at the rate of Q1"
    return _sided("Q4", about, DOMAINS, lambda low, high: high < 0, lambda low, high: low > 0, folder)


def rank(folder: Path) -> Finding:
    """Q5: the rank is below that of fresh networks where plasticity is lost, and above it where it is kept."""
    about = "effective rank: below that of fresh networks in Q1, above it in Q2 and Q4"
    cells = (PLAIN, BARE, DOMAINS)
    if missing := _missing(folder, cells, (RANK,)):
        return Finding("Q5", about, missing)
    runs = series.runs(NAME, folder)
    found = {cell: behind(runs, cell, RANK) for cell in cells}
    above = [series.limits(found[cell])[0] > 0 for cell in (BARE, DOMAINS)]
    words = _told(found, 1)
    if not _missing(folder, (RESET,), (RANK,)):
        words += (
            f"; where the optimizer is reset, and plasticity lost, {with_interval(behind(runs, RESET, RANK), 1)}"
        )
    shown = series.limits(found[PLAIN])[1] < 0 and all(above)
    return Finding("Q5", about, words, shown, series.limits(found[PLAIN])[0] > 0, len(found[PLAIN]))


def alive(folder: Path) -> Finding:
    """Q6: dead units do not tell what is lost."""
    about = "dead units: fewer than a fifth in Q1, more than a fifth in Q9, in every seed"
    if missing := _missing(folder, (PLAIN, SHRINK), (DEAD,)):
        return Finding("Q6", about, missing)
    runs = series.runs(NAME, folder)
    shares = {cell: pair(runs, cell, DEAD)[0].mean(axis=1) for cell in (PLAIN, SHRINK)}
    texts = (f"{cell} {' '.join(f'{v:.2f}' for v in values)}" for cell, values in shares.items())
    words = f"dead units, a share a seed: {'; '.join(texts)}"
    few, many = bool((shares[PLAIN] < FEW).all()), bool((shares[SHRINK] > FEW).all())
    contrary = bool((shares[PLAIN] >= FEW).all() and (shares[SHRINK] <= FEW).all())
    return Finding("Q6", about, words, few and many, contrary, len(shares[PLAIN]))


def saturated(folder: Path) -> Finding:
    """Q7: attention saturates where nothing is lost."""
    about = "entropy of attention: below that of fresh networks in Q3 and Q4, where nothing is lost"
    if missing := _missing(folder, (PLAIN, LABELS, DOMAINS), (ENTROPY,)):
        return Finding("Q7", about, missing)
    runs = series.runs(NAME, folder)
    found = {cell: behind(runs, cell, ENTROPY) for cell in (PLAIN, LABELS, DOMAINS)}
    ends = [series.limits(found[cell]) for cell in (LABELS, DOMAINS)]
    shown = all(high < 0 for _, high in ends)
    return Finding("Q7", about, _told(found, 3), shown, all(low > 0 for low, _ in ends), len(found[LABELS]))


def free(folder: Path) -> Finding:
    """Q8: the certificate's free share falls where nothing is lost."""
    about = "free share of the certificate: below that of fresh networks in Q2, where nothing is lost"
    if missing := _missing(folder, (PLAIN, BARE), (FREE,)):
        return Finding("Q8", about, missing)
    runs = series.runs(NAME, folder)
    found = {cell: behind(runs, cell, FREE) for cell in (PLAIN, BARE)}
    low, high = series.limits(found[BARE])
    return Finding("Q8", about, _told(found, 3), high < 0, low > 0, len(found[BARE]))


def mitigations(folder: Path) -> Finding:
    """Q9: shrink-and-perturb leaves nothing lost; what the others leave is told."""
    about = "shrink-and-perturb leaves nothing of the loss of Q1"
    if missing := _missing(folder, (PLAIN, *REMEDIES), (LOSS,)):
        return Finding("Q9", about, missing)
    runs = series.runs(NAME, folder)
    found = {cell: behind(runs, cell) for cell in (PLAIN, *REMEDIES)}
    low, high = series.limits(found[SHRINK])
    return Finding("Q9", about, _told(found, 2), high < MARGIN, low > MARGIN, len(found[SHRINK]))


Sided = Callable[[float, float], bool]


def _sided(claim: str, about: str, cell: str, holds: Sided, fails: Sided, folder: Path) -> Finding:
    if missing := _missing(folder, (cell,), (LOSS,)):
        return Finding(claim, about, missing)
    runs = series.runs(NAME, folder)
    values = behind(runs, cell)
    words = f"{_losses(runs, cell)} ({series.counted(len(values))})"
    return Finding(claim, about, words, holds(*series.limits(values)), fails(*series.limits(values)), len(values))


def _losses(runs: Runs, cell: str) -> str:
    """Return the losses of a case and of the fresh networks beside it, and their difference."""
    own, fresh = (side.mean() for side in pair(runs, cell))
    return f"{cell}: held-out loss {own:.2f}, fresh {fresh:.2f}, difference {with_interval(behind(runs, cell), 3)}"


def _fewest(found: Mapping[str, Array]) -> str:
    return series.counted(min(map(len, found.values())))


def _missing(folder: Path, cells: Sequence[str], metrics: Sequence[str]) -> str:
    """Return why these cases say nothing; empty if they do."""
    runs = series.runs(NAME, folder)
    for cell in cells:
        if len(runs.seeds(cell, fresh_of(cell))) < FEWEST:
            return f"fewer than {FEWEST} seeds have a record of {cell!r} and of the fresh networks beside it"
        for metric in metrics:
            whole = runs.has(cell, metric) and runs.has(fresh_of(cell), metric)
            if not whole or not np.isfinite(np.concatenate([v.ravel() for v in pair(runs, cell, metric)])).all():
                return f"measurements that are missing or no number: {metric} ({cell})"
    return ""


def _told(found: Mapping[str, Array], digits: int) -> str:
    parts = (f"{cell} {with_interval(values, digits)}" for cell, values in found.items())
    return f"difference from fresh networks: {'; '.join(parts)} ({_fewest(found)})"


FINDINGS: Mapping[str, Callable[[Path], Finding]] = {
    "Q1": lost,
    "Q2": bare,
    "Q3": labels,
    "Q4": domains,
    "Q5": rank,
    "Q6": alive,
    "Q7": saturated,
    "Q8": free,
    "Q9": mitigations,
}


def of(claim: str, folder: Path = items.RESULTS) -> Finding:
    """Return what the records below ``folder`` say of a claim.

    >>> of("Q1", Path("nowhere")).words
    "fewer than 5 seeds have a record of 'layer norm' and of the fresh networks beside it"
    """
    return FINDINGS[claim](folder)
