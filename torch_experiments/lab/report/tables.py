"""Sections of the results page about continual training: what was run, how it went, beside what was published."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.signal import detrend
from scipy.stats import gmean, spearmanr

from torch_experiments.lab.campaign import items
from torch_experiments.lab.experiments import e04_remedies, e05_generalisation, e07_streams
from torch_experiments.lab.report import published, series
from torch_experiments.lab.report.series import (
    ACCURACY,
    DEAD,
    DUPLICATE,
    FREE,
    LATER,
    RANK,
    SATURATED,
    SILENT,
    TEST,
    THEIR_SATURATED,
    UNMASKED,
    Array,
    Runs,
)

LEARNT: Mapping[str, tuple[str, int]] = {
    "accuracy while learning": (ACCURACY, 3),
    "over all outputs": (UNMASKED, 3),
    "test accuracy": (TEST, 3),
    "effective rank": (RANK, 1),
}
UNITS: Mapping[str, tuple[str, int]] = {
    "dead": (DEAD, 3),
    "dead, JL25": (SILENT, 3),
    "duplicate": (DUPLICATE, 3),
    "duplicate, JL25": (LATER, 3),
    "saturated": (SATURATED, 3),
    "saturated, JL25": (THEIR_SATURATED, 3),
    "free": (FREE, 3),
}
NONE, FRESH, RESNET, TRAPPED, LOSS = "none", "fresh", "resnet18", "trapped", "train_loss"
THEIRS: Mapping[str, tuple[str, int]] = {
    "accuracy": (UNMASKED, 3),
    "dead": (SILENT, 3),
    "duplicate": (LATER, 3),
    "rank": (RANK, 1),
    "saturated": (THEIR_SATURATED, 3),
}  # JL25's quantities, as its code measures them
STILL = 0.02  # changes that count as none, of a share; of a rank relative to it
ARROWS = {1: "up", 0: "as it was", -1: "down"}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown, the first column to the left, the others to the right.

    >>> print(table(("cell", "rank"), [("none", "3.1")]))
    | cell | rank |
    | --- | ---: |
    | none | 3.1 |
    """
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float, digits: int) -> str:
    """Return a number with fixed digits and a proper minus.

    >>> number(-0.126, 2)
    '−0.13'
    """
    return f"{value:.{digits}f}".replace("-", "−")


def spread(values: Array, digits: int, mean: Callable[[Array], Any] = np.mean) -> str:
    """Return the mean over seeds, with least and largest where there are several.

    >>> spread(np.array([1.0, 2.0]), 1)
    '1.5 (1.0–2.0)'
    """
    text = number(float(mean(values)), digits)
    if len(values) == 1:
        return text
    return f"{text} ({number(float(values.min()), digits)}–{number(float(values.max()), digits)})"


def course(values: Array, digits: int) -> str:
    """Return ``start → end`` of ``values [seeds, tasks]``, each with its range over the seeds."""
    return f"{spread(series.start(values), digits)} → {spread(series.end(values), digits)}"


def with_interval(values: Array, digits: int) -> str:
    """Return the mean over seeds and its 95 % confidence interval.

    >>> with_interval(np.array([1.0, 2.0, 3.0]), 1)
    '+2.0 [−0.5, 4.5]'
    """
    limits = series.interval(values)
    mean = f"{values.mean():+.{digits}f}".replace("-", "−")
    return mean if limits is None else f"{mean} [{number(limits[0], digits)}, {number(limits[1], digits)}]"


# ---------------------------------------------------------------------------------------- start and end of a run


def overview(runs: Runs) -> str:
    """Return two tables of start and end: what is learnt, and the units."""
    cells = [cell for cell in runs.cells if runs.seeds(cell)]
    return "\n\n".join(_courses(runs, cells, columns) for columns in (LEARNT, UNITS))


def _courses(runs: Runs, cells: Sequence[str], columns: Mapping[str, tuple[str, int]]) -> str:
    chosen = {k: v for k, v in columns.items() if any(runs.has(cell, v[0]) for cell in cells)}
    rows = (
        (cell, str(len(runs.seeds(cell))), *(_course(runs, cell, *spec) for spec in chosen.values()))
        for cell in cells
    )
    return table(("cell", "seeds", *chosen), rows)


def _course(runs: Runs, cell: str, metric: str, digits: int) -> str:
    return course(runs.over(cell, metric), digits) if runs.has(cell, metric) else "–"


# ---------------------------------------------------------------------------------------- beside the paper


def beside_the_paper(runs: Mapping[str, Runs]) -> str:
    """Return the published curves with ours, and whether the directions agree."""
    rows = [
        row
        for name, one in runs.items()
        if (arch := _arch(name)) and (name in items.ITEMS or one.environments)
        for row in _compared(arch, one)
    ]
    if not any(_arch(name) == RESNET and one.environments for name, one in runs.items()):
        rows += [_not_run(RESNET, RESNET, *place) for place in _curves(RESNET)]
    return table(("item: cell", "quantity", "published", "here", "same direction"), rows)


def _arch(item: str) -> str:
    """Return the architecture of an item that repeats a figure of JL25; empty for others."""
    name = item.removeprefix("gpu-").partition("-")[0]
    return name if name in {arch for arch, _, _ in published.streams()} else ""


def _curves(arch: str) -> dict[tuple[str, str], published.Curve]:
    return {(cell, quantity): c for (a, cell, quantity), c in published.streams().items() if a == arch}


def _compared(arch: str, runs: Runs) -> Iterator[tuple[str, ...]]:
    for (cell, quantity), curve in _curves(arch).items():
        if cell not in runs.cells:
            continue
        own = _own(runs, cell)
        if own is None:
            yield _not_run(runs.name, arch, cell, quantity)
            continue
        metric, digits = THEIRS[quantity]
        if not runs.has(own, metric):
            continue
        values = runs.over(own, metric)
        place, what = f"{runs.name}: {cell}", quantity
        if curve.start is not None and curve.end is not None:
            theirs = f"{number(curve.start, digits)} → {number(curve.end, digits)}"
            verdict = agreement(direction(curve.start, curve.end), moved(values))
            yield place, what, theirs, course(values, digits), verdict
        elif curve.mean is not None and cell != NONE:
            yield place, f"{what}, mean", *_means(runs, cell, quantity, curve.mean)


def _own(runs: Runs, cell: str) -> str | None:
    """Return the finished cell that comes nearest to the published one."""
    wanted = (items.PUBLISHED, NONE) if cell == NONE else (cell,)
    return next((c for c in wanted if c in runs.cells and runs.seeds(c)), None)


def _means(runs: Runs, cell: str, quantity: str, mean: float) -> tuple[str, str, str]:
    """Compare the mean over tasks with that without normalisation, there and, over common seeds, here."""
    metric, digits = THEIRS[quantity]
    bare = _curves(_arch(runs.name))[NONE, quantity].mean or 0.0
    theirs = f"{number(mean, digits)} (none {number(bare, digits)})"
    common = runs.seeds(cell, NONE) if NONE in runs.cells else ()
    if not common:
        return theirs, spread(runs.over(cell, metric).mean(axis=1), digits), "no record of none"
    own, own_bare = (runs.over(c, metric, common).mean(axis=1) for c in (cell, NONE))
    here = f"{spread(own, digits)} (none {number(float(own_bare.mean()), digits)})"
    found = direction(float(own_bare.mean()), float(own.mean()))
    return theirs, here, agreement(direction(bare, mean), found)


def _not_run(name: str, arch: str, cell: str, quantity: str) -> tuple[str, ...]:
    curve = _curves(arch)[cell, quantity]
    digits = THEIRS[quantity][1]
    if curve.start is None or curve.end is None:
        return f"{name}: {cell}", f"{quantity}, mean", number(curve.mean or 0.0, digits), "not run", "–"
    theirs = f"{number(curve.start, digits)} → {number(curve.end, digits)}"
    return f"{name}: {cell}", quantity, theirs, "not run", "–"


def direction(first: float, last: float) -> int:
    """Return 1, 0 or −1: up, as it was, or down; shares differ by `STILL`, ranks by that share of the larger.

    >>> direction(0.5, 0.51), direction(0.5, 0.4), direction(50, 52)
    (0, -1, 1)
    """
    scale = max(abs(first), abs(last), 1.0)
    change = last - first
    return 0 if abs(change) < STILL * scale else int(math.copysign(1, change))


def agreement(theirs: int, ours: int) -> str:
    """Return whether two directions agree; that nothing moves in either says little."""
    if theirs == ours:
        return "yes" if ours else "both as they were"
    return f"no: {ARROWS[ours]}"


def moved(values: Array) -> int:
    """Return the direction of the mean over seeds."""
    return direction(float(series.start(values).mean()), float(series.end(values).mean()))


# ---------------------------------------------------------------------------------------- what the code changes


COUNTS: Mapping[str, tuple[str, str, int]] = {
    "accuracy over all 200 outputs instead of the 5 of the task": (UNMASKED, ACCURACY, 3),
    "dead: silent at 95 % of the values instead of all": (SILENT, DEAD, 3),
    "duplicate: uncentred cosine with an earlier unit instead of correlation with any": (LATER, DUPLICATE, 3),
    "saturated: by gradient over activation instead of the activation's slope": (THEIR_SATURATED, SATURATED, 3),
}  # their metric and ours, of the same run
TRAINED: Mapping[str, tuple[str, str, int]] = {
    "Adam's moments of the head kept when it is set to zero (accuracy over all outputs)": (UNMASKED, UNMASKED, 3),
    "metrics on one class (effective rank)": (RANK, RANK, 1),
    "metrics on one class (dead units)": (DEAD, DEAD, 3),
    "all of it together (accuracy)": (UNMASKED, ACCURACY, 3),
}  # a metric of the run as published, and one of the corrected run
OF_DEFECTS = ("as published", "corrected", "apart at the end", "direction over the tasks")


def defects(runs: Sequence[Runs]) -> str:
    """Return what the public code's choices change: of its metrics in one run, and of training as it does."""
    return "\n\n".join(filter(None, (_counted_otherwise(runs), _trained_otherwise(runs))))


def _counted_otherwise(runs: Sequence[Runs]) -> str:
    rows = [
        (
            f"{r.name}, {series.counted(len(r.seeds(NONE)))}",
            what,
            *_apart(r.over(NONE, one), r.over(NONE, two), digits),
        )
        for r in runs
        if _arch(r.name) and NONE in r.cells and r.seeds(NONE)
        for what, (one, two, digits) in COUNTS.items()
        if r.has(NONE, one) and r.has(NONE, two)
    ]
    return f"One run, measured both ways:\n\n{table(('item', 'choice', *OF_DEFECTS), rows)}" if rows else ""


def _trained_otherwise(runs: Sequence[Runs]) -> str:
    theirs = items.PUBLISHED
    rows = []
    for r in (r for r in runs if theirs in r.cells):
        common = r.seeds(NONE, theirs)
        for what, (one, two, digits) in TRAINED.items():
            if common and r.has(theirs, one) and r.has(NONE, two):
                found = _apart(r.over(theirs, one, common), r.over(NONE, two, common), digits)
                rows.append((f"{r.name}, {series.counted(len(common))}", what, *found))
    if not rows:
        lost = ", ".join(r.name for r in runs if theirs in r.cells)
        return f"No pair of runs yet, as published and corrected, of: {lost}."
    return f"Two runs, trained and measured both ways:\n\n{table(('item', 'choice', *OF_DEFECTS), rows)}"


def _apart(theirs: Array, ours: Array, digits: int) -> tuple[str, str, str, str]:
    there, here = moved(theirs), moved(ours)
    verdict = (
        f"the same: {ARROWS[here]}"
        if there == here
        else f"**changes**: {ARROWS[there]} as published, {ARROWS[here]}"
    )
    apart = with_interval(series.end(theirs) - series.end(ours), digits)
    return course(theirs, digits), course(ours, digits), apart, verdict


# ---------------------------------------------------------------------------------------- remedies


def ranking(runs: Runs) -> str:
    """Return remedies in the order of the accuracy while learning over the second half of the tasks."""
    cells = [cell for cell in runs.cells if runs.seeds(cell)]
    learning = {cell: series.second_half(runs.over(cell, ACCURACY)) for cell in cells}
    ordered = sorted(cells, key=lambda cell: -float(learning[cell].mean()))
    rows = [
        (
            cell,
            str(len(learning[cell])),
            spread(learning[cell], 3),
            *(_difference(runs, cell, reference) for reference in (NONE, e04_remedies.fresh_of(cell))),
            *(number(float(series.second_half(runs.over(cell, m)).mean()), d) for m, d in ((RANK, 1), (DEAD, 3))),
            number(float(series.second_half(runs.over(cell, TEST)).mean()), 3),
        )
        for cell in ordered
    ]
    head = (
        "remedy",
        "seeds",
        "accuracy while learning",
        "minus none",
        "minus fresh",
        "rank",
        "dead",
        "test accuracy",
    )
    return table(head, rows)


def _difference(runs: Runs, cell: str, reference: str) -> str:
    if cell == reference or reference not in runs.cells:
        return "–"
    common = runs.seeds(cell, reference)
    if not common:
        return "–"
    own, other = (series.second_half(runs.over(c, ACCURACY, common)) for c in (cell, reference))
    return with_interval(own - other, 3)


# ---------------------------------------------------------------------------------------- generalisation

GRID = tuple(
    (width, decay, noise)
    for width in e05_generalisation.SMALL["mlp"]
    for decay in e05_generalisation.DECAYS
    for noise in e05_generalisation.NOISES
)
HELD = ("rank bonus", "layer norm")


def generalisation(runs: Runs) -> str:
    """Return rank correlations with the learning of the next task, and what a rank held up does."""
    cells = [e05_generalisation.grid(*place) for place in GRID]
    freshes = [e05_generalisation.fresh(width, noise) for width, _, noise in GRID]
    common = runs.seeds(*cells, *freshes)
    parts = [_correlations(runs, common) if common else "No seed of the whole grid is finished."]
    arms = [(name, noise) for name in HELD for noise in e05_generalisation.NOISES]
    rows = [row for name, noise in arms if (row := _arm(runs, name, noise))]
    head = ("intervention", "seeds", "rank", "rank without", "accuracy while learning", "minus without")
    return "\n\n".join([*parts, table(head, rows) if rows else "No intervention is finished."])


def _correlations(runs: Runs, seeds: Sequence[int]) -> str:
    columns = [
        np.stack([runs.over(e05_generalisation.grid(*p), m, seeds) for p in GRID]) for m in (RANK, TEST, ACCURACY)
    ]
    reference = np.stack([runs.over(e05_generalisation.fresh(w, noise), ACCURACY, seeds) for w, _, noise in GRID])
    rank, test = (column[..., :-1] for column in columns[:2])
    lag = (columns[2] - reference)[..., 1:]
    rows = [
        (name, *(with_interval(_by_seed(column, lag, change), 2) for change in WITHIN.values()))
        for name, column in (("effective rank after a task", rank), ("test accuracy after a task", test))
    ]
    head = ("against learning of the next task, minus a fresh network's", *WITHIN)
    about = f"Spearman's correlation, {lag[:, 0].size} points a seed, {series.counted(len(seeds))}:"
    return f"{about}\n\n{table(head, rows)}"


def _by_seed(a: Array, b: Array, change: Callable[[Array], Array]) -> Array:
    """Return Spearman's correlation of ``[cells, seeds, tasks]`` for every seed."""
    pairs = ((change(a[:, s]).ravel(), change(b[:, s]).ravel()) for s in range(a.shape[1]))
    return np.array([float(spearmanr(x, y)[0]) for x, y in pairs])


def _as_is(values: Array) -> Array:
    return values


def _centred(values: Array) -> Array:
    return values - values.mean(axis=-1, keepdims=True)


WITHIN: Mapping[str, Callable[[Array], Array]] = {
    "over all settings": _as_is,
    "within a setting": _centred,
    "within a setting, without its trend over the tasks": detrend,
}


def _arm(runs: Runs, name: str, noise: float) -> tuple[str, ...]:
    cell, bare = f"{name}, noise {noise}", e05_generalisation.grid(GRID[-1][0], 0.0, noise)
    common = runs.seeds(cell, bare)
    if not common:
        return ()
    rank, plain, own, other = (
        series.second_half(runs.over(c, m, common)) for m in (RANK, ACCURACY) for c in (cell, bare)
    )
    return cell, str(len(common)), spread(rank, 1), spread(plain, 1), spread(own, 3), with_interval(own - other, 3)


# ---------------------------------------------------------------------------------------- after an escape; streams


def after_escape(runs: Runs) -> str:
    """Return loss, accuracy and rank at the end of every arm, and what the split makes good."""
    cells = [cell for cell in runs.cells if runs.seeds(cell)]
    columns = {"test accuracy": (TEST, 3), "effective rank": (RANK, 1)}
    rows = [
        (
            cell,
            str(len(runs.seeds(cell))),
            f"{gmean(runs.over(cell, LOSS)[:, -1]):.1e}",
            _relative_loss(runs, cell),
            *(spread(runs.over(cell, m)[:, -1], d) for m, d in columns.values()),
        )
        for cell in cells
    ]
    found = table(("arm, at the end", "seeds", "training loss", "times that of trapped", *columns), rows)
    arms = ("split", TRAPPED, "scratch")
    if not runs.seeds(*arms):
        return found
    split, trapped, scratch = (runs.over(c, TEST, runs.seeds(*arms))[:, -1] for c in arms)
    gained, lacking = split - trapped, scratch - trapped
    return (
        f"{found}\n\nOf the test accuracy that trapped lacks against scratch, {with_interval(lacking, 3)}, the "
        f"split makes good {with_interval(gained, 3)}."
    )


def _relative_loss(runs: Runs, cell: str) -> str:
    """Return the training loss over that of the trapped clone, geometric mean and interval over seeds."""
    common = runs.seeds(cell, TRAPPED)
    if cell == TRAPPED or not common:
        return "–"
    own, trapped = (np.log(runs.over(c, LOSS, common)[:, -1]) for c in (cell, TRAPPED))
    limits = series.interval(own - trapped)
    mean = number(math.exp((own - trapped).mean()), 2)
    return mean if limits is None else f"{mean} [{math.exp(limits[0]):.2f}, {math.exp(limits[1]):.2f}]"


def streams(runs: Runs) -> str:
    """Return how far every arm lags a fresh network in every stream."""
    rows = [
        row
        for stream in e07_streams.STREAMS
        for arm in e07_streams.ARMS
        if arm != FRESH and (row := _lag(runs, stream, arm))
    ]
    head = ("stream: arm", "seeds", "measure", "arm", "fresh", "minus fresh")
    return table(head, rows) if rows else "No arm is finished together with its fresh network."


def _lag(runs: Runs, stream: str, arm: str) -> tuple[str, ...]:
    warm = stream == e07_streams.WARM
    cells = [e07_streams.label(stream, name) for name in (arm, e07_streams.fresh_of(arm))]
    common = runs.seeds(*cells)
    if not common:
        return ()
    metric, view = (TEST, _last) if warm else (ACCURACY, series.second_half)
    own, fresh = (view(runs.over(cell, metric, common)) for cell in cells)
    what = "test accuracy at the end" if warm else "accuracy while learning, second half"
    return cells[0], str(len(common)), what, spread(own, 3), spread(fresh, 3), with_interval(own - fresh, 3)


def _last(values: Array) -> Array:
    return values[:, -1]
