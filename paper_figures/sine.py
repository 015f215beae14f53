"""Strong and not frozen: `sin(s z)` against members of the two classes (claim R7, the counterexample)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy import optimize

from paper_figures.support import style
from paper_figures.support.captions import Check
from paper_figures.support.results import RESULTS, Profile
from paper_figures.support.tables import Array
from theory.saturation import maps, sine_frozen, sine_frozen_bound, sine_strength

NAME = "sine"
TITLE = "the sine grows strong without freezing; tanh and ReLU cannot"

DELTA, SHOWN = 0.1, 8.0
POINTS: Mapping[Profile, int] = {"quick": 80, "full": 200}


@dataclass(frozen=True)
class Family:
    """Strength and frozen fraction along a family."""

    strength: Array
    frozen: Array


@dataclass(frozen=True)
class Data:
    """Families of growing strength, the sine's bound, and the gain at which tanh is as strong as `sin(SHOWN z)`."""

    sine: Family
    bound: Array
    tanh: Family
    relu: Family
    gain: float


def compute(profile: Profile, results: Path = RESULTS) -> Data:
    """Return the families; they take a moment and are not recorded."""
    return measure(POINTS[profile])


def measure(points: int) -> Data:
    """Return the families with that many members each."""
    s, a, t = np.geomspace(0.7, 40, points), np.geomspace(0.6, 3000, points), np.linspace(0.5, -7.0, points)
    sine = Family(sine_strength(s), np.array([sine_frozen(x, DELTA) for x in s]))
    tanh, relu = maps("tanh", a, 0.0, DELTA), maps("relu", 1.0, t, DELTA)
    return Data(
        sine,
        np.array([sine_frozen_bound(x, DELTA) for x in s]),
        Family(tanh.strength, tanh.frozen),
        Family(relu.strength, relu.frozen),
        matching_gain(sine_strength(SHOWN)),
    )


def matching_gain(strength: float) -> float:
    """Return the gain `a` at which `tanh(a z)` has that strength."""

    def miss(log_gain: float) -> float:
        return float(np.log(maps("tanh", np.exp(log_gain), 0.0, DELTA).strength / strength))

    return float(np.exp(optimize.brentq(miss, 0.0, 12.0)))


def introduction(data: Data) -> str:
    """Return what is shown, and how it was found."""
    return (
        f"Strength without saturation. Top: sin({SHOWN:g} z) and tanh(a z) of equal strength α = "
        f"{sine_strength(SHOWN):.0f} (a = {data.gain:.0f}). Bottom: frozen fraction, the probability of a slope "
        f"below {DELTA}, against α along sin(s z), tanh(a z) and ReLU(z + b)."
    )


def checks(data: Data) -> list[Check]:
    """Return what the caption claims."""
    sine, tanh, relu = data.sine, data.tanh, data.relu
    strong = sine.strength > 1
    ends = f"{sine.frozen[-1]:.4f} at α = {sine.strength[-1]:.0f}"
    return [
        Check(
            f"Beyond α = 1 the sine freezes less and less, to {ends}, below its bound (2/π) arcsin(δ/s) "
            "(1 + √(2π)/s), dotted.",
            bool((np.diff(sine.frozen[strong]) < 0).all() and sine.frozen[-1] < 0.01)
            and bool((sine.frozen <= data.bound).all()),
        ),
        Check(
            f"Tanh and ReLU freeze: at their strongest they have frozen fractions of {tanh.frozen[-1]:.3f} and "
            f"{relu.frozen[-1]:.6f}.",
            bool((np.diff(tanh.frozen[tanh.strength > 1]) > 0).all() and (np.diff(relu.frozen) > 0).all())
            and min(tanh.frozen[-1], relu.frozen[-1]) > 0.99,
        ),
        Check(
            f"At equal strength, α = {sine_strength(SHOWN):.0f}, the frozen fractions are "
            f"{_at(sine, sine_strength(SHOWN)):.3f} and {_at(tanh, sine_strength(SHOWN)):.3f}.",
            _at(sine, sine_strength(SHOWN)) < 0.02 < 0.9 < _at(tanh, sine_strength(SHOWN)),
        ),
    ]


def _at(family: Family, strength: float) -> float:
    return float(np.interp(np.log(strength), np.log(family.strength), family.frozen))


def draw(data: Data) -> Figure:
    """Return two panels, the functions and the frozen fractions."""
    figure = Figure(figsize=(style.WIDTH, 3.2))
    functions, fractions = figure.subplots(2, 1, height_ratios=(1, 1.6))
    z = np.linspace(-3, 3, 1201)
    functions.plot(z, np.sin(SHOWN * z), color=style.VERMILION, linewidth=0.8)
    functions.plot(z, np.tanh(data.gain * z), color=style.BLUE)
    functions.set(xlabel="$z$", ylabel="$f(z)$", xlim=(-3, 3))
    for family, colour, label in (
        (data.sine, style.VERMILION, "$\\sin(s z)$"),
        (data.tanh, style.BLUE, "$\\tanh(a z)$"),
        (data.relu, style.GREEN, "ReLU$(z + b)$"),
    ):
        fractions.semilogx(family.strength, family.frozen, color=colour, label=label)
    shown = data.bound < 1
    fractions.semilogx(
        data.sine.strength[shown],
        data.bound[shown],
        color=style.VERMILION,
        linestyle=":",
        linewidth=0.8,
        label="bound",
    )
    fractions.set(xlabel=r"strength $\alpha$", ylabel="frozen fraction", ylim=(-0.03, 1.03), xlim=(0.1, 1600))
    fractions.legend(loc="center right")
    return figure
