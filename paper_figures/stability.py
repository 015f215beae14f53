"""Types of cloned manifolds over activations, depths and training (claims D2, C10)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise, repeat
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.support import style
from paper_figures.support.captions import Check
from paper_figures.support.results import RESULTS, Profile
from paper_figures.support.tables import Array
from simulate.descent import descend
from simulate.optimizers import sgd
from simulate.stability import Stability, classify
from theory.manifolds import cloned_manifold
from theory.network import Network, SquaredError, loss, outputs
from theory.partitions import coarsest_equitable_partition

NAME = "stability"
TITLE = "types of cloned manifolds over activations, depths and training: saddles, and ever flatter ones"
ACTIVATIONS = ("relu", "tanh", "gelu", "softplus")
DEPTHS = (1, 2, 3)
WIDTH, COPIES, INPUTS, SAMPLES = 3, 2, 3, 24
CHECKPOINTS = (0, 10, 30, 100, 300)
RATE = 0.05
SEEDS: Mapping[Profile, int] = {"quick": 5, "full": 50}


@dataclass(frozen=True)
class Point:
    """The type at one moment of training.

    Attributes:
        activation, depth, seed, step: Which network, and when.
        loss: Half the mean squared error.
        found: Type and spectrum, of the mean loss.
    """

    activation: str
    depth: int
    seed: int
    step: int
    loss: float
    found: Stability


@dataclass(frozen=True)
class Data:
    """Every point, and the types of networks whose targets they fit exactly."""

    points: tuple[Point, ...]
    solved: tuple[Stability, ...]


def compute(profile: Profile, results: Path = RESULTS) -> Data:
    """Return the types; they take some ten seconds and are not recorded."""
    return measure(SEEDS[profile], CHECKPOINTS, DEPTHS)


def measure(seeds: int, checkpoints: tuple[int, ...], depths: tuple[int, ...]) -> Data:
    """Return the types of random cloned networks at these steps of training."""
    cases = [(a, d, s) for a in ACTIVATIONS for d in depths for s in range(seeds)]
    points = tuple(point for case in cases for point in _course(*case, checkpoints))
    return Data(points, tuple(_solved(activation) for activation in ACTIVATIONS))


def random_clone(activation: str, depth: int, rng: np.random.Generator) -> Network:
    """Return a random network with `COPIES` equal copies of each hidden unit."""
    widths = [INPUTS, *[WIDTH] * depth, 1]
    gain = np.sqrt(2.0)
    base = [rng.standard_normal((n, m)) * gain / np.sqrt(m) for m, n in pairwise(widths)]
    copies = [1, *[COPIES] * depth, 1]
    matrices = [np.kron(W, np.ones((n, m)) / m) for W, (m, n) in zip(base, pairwise(copies), strict=True)]
    return Network.layered(matrices, activation)


def _course(activation: str, depth: int, seed: int, checkpoints: tuple[int, ...]) -> list[Point]:
    rng = np.random.default_rng(seed)
    network = random_clone(activation, depth, rng)
    scale = 1 / np.sqrt(SAMPLES)  # the loss is a sum; this makes it a mean
    x = rng.standard_normal((INPUTS, SAMPLES))
    goal = SquaredError(np.sin(2 * x[:1]) + x[1:2] * x[2:])
    course = descend(network, list(repeat((x, goal), max(checkpoints))), sgd(RATE * scale**2))
    kept = {step: now for step, now in enumerate(course) if step in checkpoints}
    return [
        Point(activation, depth, seed, step, float(loss(now, x, goal)) * scale**2, _type(now, x, goal))
        for step, now in kept.items()
    ]


def _type(network: Network, x: Array, goal: SquaredError) -> Stability:
    tol = 1e-9 * float(np.abs(network.parameters).max())
    manifold = cloned_manifold(network, coarsest_equitable_partition(network, tol), tol)
    return classify(network, manifold, x, goal)


def _solved(activation: str) -> Stability:
    """Return the type where the targets are the network's own outputs."""
    rng = np.random.default_rng(0)
    network = random_clone(activation, 1, rng)
    x = rng.standard_normal((INPUTS, SAMPLES))
    return _type(network, x, SquaredError(np.nextafter(outputs(network, x), np.inf)))


def introduction(data: Data) -> str:
    """Return what is shown, and how it was found."""
    seeds = len({point.seed for point in data.points})
    return (
        f"Random networks with {COPIES} copies of each of {WIDTH} hidden units a layer, trained on the manifold; "
        f"{seeds} seeds. (a) Rate of escape, minus the lowest eigenvalue of the Hessian across the manifold, "
        "against the loss, one hidden layer, along training. (b) Its median over activations and seeds, with "
        "quartiles, by the number of hidden layers."
    )


def checks(data: Data) -> list[Check]:
    """Return what the caption claims."""
    kinds = [point.found.kind for point in data.points]
    dead = [point for point in data.points if point.found.kind != "saddle"]
    certified = sum(point.found.certified for point in data.points)
    first = np.array([-p.found.lowest for p in data.points if p.step == 0])
    last = np.array([-p.found.lowest for p in data.points if p.step == max(q.step for q in data.points)])
    relu = [p.found for p in data.points if p.activation == "relu" and p.depth == 1]
    lopsided = max(abs(s.lowest + s.highest) / s.highest for s in relu)
    return [
        Check(
            f"{kinds.count('saddle')} of {len(kinds)} are saddles, {certified} of them certified; in the others, "
            f"all ReLU, a sample lies on a kink. The other {len(dead)} are degenerate: ReLU networks that have "
            "died altogether. None is stable, none unstable.",
            set(kinds) <= {"saddle", "degenerate"}
            and all(p.found.certified or p.activation == "relu" for p in data.points if p.found.kind == "saddle")
            and all(p.activation == "relu" and p.found.lowest == p.found.highest == 0 for p in dead),
        ),
        Check(
            f"Training flattens them: the median rate falls from {np.median(first):.2g} to {np.median(last):.2g}: "
            "clones that have not parted early part late.",
            float(np.median(last)) < 0.7 * float(np.median(first)),
        ),
        Check(
            "Where the base network fits its targets exactly, every normal direction is flat: degenerate.",
            {found.kind for found in data.solved} == {"degenerate"},
        ),
        Check(f"For ReLU with one hidden layer the spectrum is symmetric, to {lopsided:.0e}.", lopsided < 1e-6),
    ]


def draw(data: Data) -> Figure:
    """Return the two panels."""
    figure = Figure(figsize=(style.PAGE, 2.5))
    left, right = figure.subplots(1, 2)
    _cloud(left, data)
    _depths(right, data)
    return figure


def _cloud(axis: Axes, data: Data) -> None:
    for activation, colour in zip(ACTIVATIONS, style.PALETTE, strict=False):
        chosen = [p for p in data.points if p.activation == activation and p.depth == min(DEPTHS)]
        x, y = [p.loss for p in chosen], [-p.found.lowest for p in chosen]
        axis.loglog(x, y, ".", color=colour, markersize=4, label=style.ACTIVATIONS.get(activation, activation))
    axis.set(xlabel="loss", ylabel="rate of escape", title="(a) one hidden layer")
    axis.legend(loc="lower right", handletextpad=0.2)


def _depths(axis: Axes, data: Data) -> None:
    steps = sorted({p.step for p in data.points})
    for depth, line in zip(sorted({p.depth for p in data.points}), ("-", "--", ":"), strict=False):
        low, middle, high = np.array([_quartiles(data, depth, step) for step in steps]).T
        look: dict[str, Any] = {"color": style.BLACK, "linestyle": line, "linewidth": 1, "elinewidth": 0.6}
        beside = np.arange(len(steps)) + 0.08 * (depth - 2)
        label = f"{depth} hidden layer{'s' * (depth > 1)}"
        axis.errorbar(beside, middle, (middle - low, high - middle), marker=".", label=label, **look)
    axis.set_xticks(np.arange(len(steps)), [str(step) for step in steps])
    axis.set(xlabel="step of training", title="(b) over depths", yscale="log")
    axis.legend(loc="upper right", handlelength=2.8)


def _quartiles(data: Data, depth: int, step: int) -> Array:
    """Return quartiles of the rate over activations and seeds, `[3]`."""
    rates = [-p.found.lowest for p in data.points if (p.depth, p.step) == (depth, step)]
    return np.asarray(np.quantile(rates, (0.25, 0.5, 0.75)))
