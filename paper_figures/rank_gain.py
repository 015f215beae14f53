"""Rank gain of many activations on random correlation matrices, against the sharp bound (claims R1, R2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.support import style
from paper_figures.support.captions import Check
from paper_figures.support.results import RESULTS, Profile
from paper_figures.support.tables import Array
from simulate.ensembles import unit_gram
from theory.activations import Activation, named, polynomial
from theory.rank import linear_share, rank_gain, rank_gain_bound

NAME = "rank_gain"
TITLE = "what an activation adds to the rank of order 2, and the least that it must"
SHOWN = ("relu", "gelu", "tanh", "sin", "square")
SIZE = 30
COUNTS: Mapping[Profile, int] = {"quick": 60, "full": 1000}
ON_THE_BOUND = 1e-12  # rounding of a ratio of ranks


@dataclass(frozen=True)
class Data:
    """Gains, each a ratio of ranks.

    Attributes:
        gains, bounds: For each activation of `SHOWN`, one entry a random matrix.
        extremal: The worse of the two extremal activations with the linear share of ReLU, one entry a matrix.
        extremal_bounds: The bound that belongs to it.
        shares, at_share, bound_at_share: Linear share of each named activation, its gain on one fixed matrix, and
            the bound there.
        curve_shares, curve: The bound on that matrix against the linear share.
    """

    gains: Mapping[str, Array]
    bounds: Mapping[str, Array]
    extremal: Array
    extremal_bounds: Array
    shares: Mapping[str, float]
    at_share: Mapping[str, float]
    bound_at_share: Mapping[str, float]
    curve_shares: Array
    curve: Array


def compute(profile: Profile, results: Path = RESULTS) -> Data:
    """Return the gains; they take a second and are not recorded."""
    rng = np.random.default_rng(0)
    matrices = [unit_gram(SIZE, int(rank), rng) for rank in rng.integers(2, 2 * SIZE, COUNTS[profile])]
    fixed, share = unit_gram(SIZE, 3, rng), linear_share("relu")
    everything = [name for name in named() if name != "one"]
    curve_shares = np.linspace(0, 1, 101)
    return Data(
        gains={name: np.array([rank_gain(C, name) for C in matrices]) for name in SHOWN},
        bounds={name: np.array([rank_gain_bound(C, name) for C in matrices]) for name in SHOWN},
        extremal=np.array([min(rank_gain(C, phi) for phi in extremal(share)) for C in matrices]),
        extremal_bounds=np.array([rank_gain_bound(C, share) for C in matrices]),
        shares={name: linear_share(name) for name in everything},
        at_share={name: float(rank_gain(fixed, name)) for name in everything},
        bound_at_share={name: float(rank_gain_bound(fixed, name)) for name in everything},
        curve_shares=curve_shares,
        curve=np.array([rank_gain_bound(fixed, float(a)) for a in curve_shares]),
    )


def extremal(share: float) -> tuple[Activation, Activation]:
    """Return `c₁ h₁ + √(1 − c₁²) h_k` for `k = 2, 3`."""
    c, rest = float(np.sqrt(share)), 1 - share
    second, third = float(np.sqrt(rest / 2)), float(np.sqrt(rest / 6))
    return polynomial((-second, c, second)), polynomial((0.0, c - 3 * third, 0.0, third))


def introduction(data: Data) -> str:
    """Return what is shown, and how it was found."""
    return (
        f"(a) Gain er₂(K(C))/er₂(C) of five activations on {len(data.extremal)} random correlation matrices of "
        f"size {SIZE} and ranks from 2 to {SIZE}, against the least gain that any activation with the same linear "
        "share c₁² can have on the same matrix; the line is equality. (b) Gain of every named activation on a "
        "matrix of rank 3; the line is the bound, whose kink is where the worst Hermite degree changes from 2 to 3."
    )


def checks(data: Data) -> list[Check]:
    """Return what the caption claims."""
    ratios = {name: data.gains[name] / data.bounds[name] for name in SHOWN}
    lowest = min(float(ratio.min()) for ratio in ratios.values())
    off = float(np.abs(data.extremal / data.extremal_bounds - 1).max())
    below = [name for name, gain in data.at_share.items() if gain < data.bound_at_share[name] * (1 - ON_THE_BOUND)]
    least = min(float(gain.min()) for gain in data.gains.values())
    lowest_name = min(data.at_share, key=lambda name: data.at_share[name])
    touching = [n for n, gain in data.at_share.items() if gain < data.bound_at_share[n] * (1 + 1e-6)]
    return [
        Check(
            f"No activation loses rank: the least gain is {least:.3f} in (a), and "
            f"{data.at_share[lowest_name]:.3f} in (b), of {lowest_name}.",
            min(least, data.at_share[lowest_name]) >= 1 - ON_THE_BOUND,
        ),
        Check(
            f"Nothing lies below the bound; on it lie, in (b), {', '.join(sorted(touching))}, whose Hermite series "
            "are those of the extremal activations.",
            lowest >= 1 - ON_THE_BOUND and not below and sorted(touching) == ["cube", "linear", "square"],
        ),
        Check(
            f"The extremal activation (second or third Hermite polynomial beside the first) lies on it, to "
            f"{off:.0e}.",
            off <= ON_THE_BOUND,
        ),
    ]


def draw(data: Data) -> Figure:
    """Return the two panels."""
    figure = Figure(figsize=(style.PAGE, 2.5))
    left, right = figure.subplots(1, 2)
    _cloud(left, data)
    _shares(right, data)
    return figure


def _cloud(axis: Axes, data: Data) -> None:
    everything = np.concatenate([*data.gains.values(), *data.bounds.values()]) - 1
    ends = [float(everything.min()) * 0.7, float(everything.max()) * 1.4]
    axis.loglog(ends, ends, color=style.BLACK, linewidth=0.8)
    for name, colour in zip(SHOWN, style.PALETTE, strict=False):
        axis.loglog(
            data.bounds[name] - 1,
            data.gains[name] - 1,
            ".",
            color=colour,
            markersize=3,
            markeredgewidth=0,
            label=name,
        )
    axis.loglog(
        data.extremal_bounds - 1,
        data.extremal - 1,
        "x",
        color=style.BLACK,
        markersize=3,
        markeredgewidth=0.6,
        label="extremal",
    )
    axis.set(xlabel="least gain possible − 1", ylabel="gain − 1", title="(a) random correlation matrices")
    axis.legend(loc="upper left", handletextpad=0.2)


def _shares(axis: Axes, data: Data) -> None:
    axis.plot(data.curve_shares, data.curve, color=style.BLACK, linewidth=0.8, label="bound")
    axis.plot(list(data.shares.values()), list(data.at_share.values()), "o", color=style.BLUE, markersize=2.5)
    places = {
        "relu2": (0.58, 1.93),
        "step": (0.72, 1.72),
        "gelu": (0.8, 1.6),
        "silu": (0.88, 1.45),
        "softplus": (0.95, 1.24),
    }
    places |= {"square": (0.06, 1.52), "cube": (0.47, 1.3), "sin": (0.7, 1.09), "tanh": (0.8, 1.02)}
    for name, place in places.items():
        at = (data.shares[name], data.at_share[name])
        leader = {"arrowstyle": "-", "linewidth": 0.4, "color": style.GREY, "shrinkB": 2}
        axis.annotate(name, at, place, fontsize=6.5, arrowprops=leader, va="center")
    axis.set(xlabel="linear share $c_1^2$", ylabel="gain", title="(b) one matrix, every named activation")
    axis.legend(loc="upper right", bbox_to_anchor=(1.0, 1.05))
