"""How often and how fast clones part: a table over noise, decay, dropout and batch size, and escape at equal time.

`python -m simulate.escape_table` prints both. One base network with four ReLU units, each cloned once; a run has
escaped when its distance from the cloned manifold is `GOAL` or more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from simulate.clones import (
    Disturbance,
    Problem,
    first_passage,
    measured_distances,
    perturbations,
    random_problem,
)

Array = np.ndarray[Any, Any]

GOAL, STEPS, SEEDS = 0.1, 2000, 24
SIGMAS, DECAYS, DROPOUTS, BATCHES = (1e-3, 1e-2, 1e-1), (1.0, 0.999, 0.99), (0.01, 0.05, 0.1, 0.2), (None, 32, 8)
START = 1e-3  # of the runs that differ in batch size alone: without a perturbation they never part


@dataclass(frozen=True)
class Row:
    """How often and when runs with one disturbance escape.

    Attributes:
        name: The disturbance in words.
        share: Of the seeds that escape within the steps.
        quartiles: Steps until the first, the second and the third quarter has; infinite where it has not.
    """

    name: str
    share: float
    quartiles: tuple[float, float, float]


def problem() -> Problem:
    """Return the base network and its data."""
    return random_problem(4, 5, 60, np.random.default_rng(0), rate=0.05)


def settings() -> Iterator[tuple[str, Disturbance, float]]:
    """Yield a name, a disturbance and the size of the perturbation at the start for each row.

    >>> len(list(settings()))
    20
    """
    for sigma in SIGMAS:
        for decay in DECAYS:
            yield f"noise per vector, σ₀ = {sigma:g}, λ = {decay:g}", Disturbance(sigma=sigma, decay=decay), 0.0
        entry = Disturbance(sigma=sigma, convention="entry")
        yield f"noise per entry, σ₀ = {sigma:g}, λ = 1", entry, 0.0
    for p in DROPOUTS:
        yield f"dropout, p = {p:g}", Disturbance(dropout=p), 0.0
    for batch in BATCHES:
        yield f"perturbed by {START:g}, batch of {batch or 'all 60'}", Disturbance(batch=batch), START
    yield "batch of 8 alone", Disturbance(batch=8), 0.0


def rows(seeds: int = SEEDS, steps: int = STEPS) -> list[Row]:
    """Return the table; about a second a row.

    Args:
        seeds: Runs a row.
        steps: Of each run.
    """
    return [row(name, disturbance, size, seeds, steps) for name, disturbance, size in settings()]


def row(name: str, disturbance: Disturbance, size: float, seeds: int, steps: int) -> Row:
    """Return how often and when runs with that disturbance and that perturbation at the start escape.

    Args:
        name: What the row is called.
        disturbance: Of all steps.
        size: Length of the perturbation at the start.
        seeds, steps: As `rows`.

    >>> row("nothing", Disturbance(), 0.0, 2, 3)
    Row(name='nothing', share=0.0, quartiles=(inf, inf, inf))
    """
    base, rng = problem(), np.random.default_rng(1)
    start = perturbations(base, size, seeds, np.random.default_rng(2))
    times = first_passage(measured_distances(base, *start, steps, disturbance, rng), GOAL)
    known = np.where(times > 0, times, np.inf)
    low, middle, high = (float(np.quantile(known, q, method="inverted_cdf")) for q in (0.25, 0.5, 0.75))
    return Row(name, float((times > 0).mean()), (low, middle, high))


@dataclass(frozen=True)
class Push:
    """A way to leave: how far, when half of the seeds have escaped, and what it costs at once.

    Attributes:
        size: Length of the perturbation.
        steps: Median escape time.
        rise: Median relative change of the loss at the moment of application.
    """

    size: float
    steps: float
    rise: float


def push(kind: str, size: float, seeds: int = SEEDS, steps: int = STEPS) -> Push:
    """Return what a perturbation does: `"split"` moves out-weights alone and keeps the function, `"noise"` all.

    Raises:
        ValueError: Another kind is given.
    """
    if kind not in ("split", "noise"):
        raise ValueError(f"kind is {kind!r}; allowed are 'split' and 'noise'")
    base = problem()
    epsilon, alpha = perturbations(base, size, seeds, np.random.default_rng(3))
    if kind == "split":
        epsilon = epsilon * 0
        alpha = alpha * size / np.linalg.norm(alpha, axis=1, keepdims=True)
    times = first_passage(measured_distances(base, epsilon, alpha, steps), GOAL)
    return Push(size, float(np.median(np.where(times > 0, times, np.inf))), rise(base, epsilon, alpha))


def rise(base: Problem, epsilon: Array, alpha: Array) -> float:
    """Return the median over seeds of `|L(perturbed) − L| / L`.

    Args:
        base: Base network and data.
        epsilon, alpha: As `simulate.clones.perturbations` returns them.

    >>> base = problem()
    >>> f"{rise(base, *perturbations(base, 0.0, 3, np.random.default_rng(0))):.3f}"
    '0.000'
    """
    hidden = [np.maximum((base.W + sign * epsilon / np.sqrt(2)) @ base.x, 0.0) for sign in (1, -1)]
    outs = [base.a / 2 + sign * alpha / np.sqrt(2) for sign in (1, -1)]
    found = sum(np.einsum("sk,skm->sm", a, h) for a, h in zip(outs, hidden, strict=True))
    before = ((base.a @ np.maximum(base.W @ base.x, 0.0) - base.y) ** 2).mean()
    return float(np.median(np.abs(((found - base.y) ** 2).mean(axis=1) / before - 1)))


def equal_time(size: float, seeds: int = SEEDS, steps: int = STEPS) -> tuple[Push, Push]:
    """Return a function-preserving split and the isotropic noise that escapes in the same median time.

    The size of the noise is found by bisection on a logarithmic scale, to 1 %.
    """
    split = push("split", size, seeds, steps)
    low, high = size / 100, GOAL
    while high / low > 1.01:
        middle = float(np.sqrt(low * high))
        low, high = (low, middle) if push("noise", middle, seeds, steps).steps < split.steps else (middle, high)
    return split, push("noise", high, seeds, steps)


def main() -> None:
    """Print the table of disturbances and the comparison at equal time."""
    console = Console(width=100)
    table = Table("disturbance", "escaped", "steps, quartiles", title=f"{SEEDS} seeds, {STEPS:,} steps")
    for one in rows():
        table.add_row(one.name, f"{100 * one.share:.0f} %", ", ".join(f"{q:.0f}" for q in one.quartiles))
    console.print(table)
    pushes = Table("perturbation", "size", "median steps", "change of the loss at once")
    for name, way in zip(("split, function kept", "isotropic noise"), equal_time(1e-2), strict=True):
        pushes.add_row(name, f"{way.size:.2g}", f"{way.steps:.0f}", f"{way.rise:.0e}")
    console.print(pushes)


if __name__ == "__main__":
    main()
