"""Rank of post-activations against scale and shift of the pre-activations, centred and not (claims R1, R3)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.support import drawing, style
from paper_figures.support.captions import Check
from paper_figures.support.results import RESULTS, Profile
from paper_figures.support.tables import Array
from simulate.ensembles import sample_gaussian, unit_gram
from theory.activations import Activation, modulate, moments
from theory.kernels import dual_kernel
from theory.rank import renyi2_rank

NAME = "modulation"
TITLE = "rank after tanh against its scale, and after ReLU against its shift"
SIZE, RANK, SAMPLES = 50, 10, 10_000
SCALES = [Fraction(k, 8) for k in (1, 2, 4, 8, 12, 16, 24, 32, 48, 80)]
SHIFTS = [Fraction(k, 2) for k in range(-5, 6)]


@dataclass(frozen=True)
class Curve:
    """Rank of order 2 after one activation.

    Attributes:
        at: Scale or shift.
        centred, raw: Of correlations, and of second moments that include the mean; predicted.
        sampled, sampled_raw: The same from samples.
    """

    at: Array
    centred: Array
    raw: Array
    sampled: Array
    sampled_raw: Array


@dataclass(frozen=True)
class Data:
    """The rank before, and a curve over scales of tanh and one over shifts of ReLU."""

    before: float
    scales: Curve
    shifts: Curve


def compute(profile: Profile, results: Path = RESULTS) -> Data:
    """Return both curves; they take a few seconds and are not recorded."""
    rng = np.random.default_rng(0)
    C = unit_gram(SIZE, RANK, rng)
    Z = sample_gaussian(C, SAMPLES, rng)
    return Data(
        before=float(renyi2_rank(C)),
        scales=_curve(C, Z, [float(a) for a in SCALES], [modulate("tanh", a) for a in SCALES]),
        shifts=_curve(C, Z, [float(b) for b in SHIFTS], [modulate("relu", 1, b) for b in SHIFTS]),
    )


def _curve(C: Array, Z: Array, at: list[float], activations: list[Activation]) -> Curve:
    rows = [_ranks(C, Z, phi) for phi in activations]
    return Curve(np.array(at), *np.array(rows).T)


def _ranks(C: Array, Z: Array, phi: Activation) -> tuple[float, float, float, float]:
    H = phi.value(Z)
    predicted = dual_kernel(phi, C), dual_kernel(phi, C, standardised=False) / moments(phi).square
    sampled = np.corrcoef(H, rowvar=False), H.T @ H / len(H)
    centred, raw, found, found_raw = (float(renyi2_rank(matrix)) for matrix in (*predicted, *sampled))
    return centred, raw, found, found_raw


def introduction(data: Data) -> str:
    """Return what is shown, and how it was found."""
    return (
        f"Rank of order 2 of {SIZE} features in {RANK} dimensions (grey: before) after (a) tanh(a z) and "
        f"(b) ReLU(z + b), predicted (lines) and from {SAMPLES:,} samples (dots). Centred: of correlations; "
        "raw: of second moments that include the mean, the same for the odd tanh."
    )


def checks(data: Data) -> list[Check]:
    """Return what the caption claims."""
    both = (data.scales, data.shifts)
    least = min(float(curve.centred.min()) for curve in both)
    off = max(
        float(np.abs(found / predicted - 1).max())
        for curve in both
        for found, predicted in ((curve.sampled, curve.centred), (curve.sampled_raw, curve.raw))
    )
    lost = data.shifts.at[data.shifts.raw < data.before]
    return [
        Check(
            f"The centred rank is never below the {data.before:.2f} before, and rises with the scale and with a "
            f"shift to the negative, to {data.scales.centred[-1]:.1f} and {data.shifts.centred[0]:.1f}.",
            least >= data.before * (1 - 1e-12)
            and bool((np.diff(data.scales.centred) > 0).all() and (np.diff(data.shifts.centred) < 0).all()),
        ),
        Check(
            f"The raw one is below it from b = {min(lost, default=float('nan')):g} on, and tends to 1: the mean "
            "takes over, and no theorem speaks of it.",
            bool(lost.size and lost.max() == data.shifts.at[-1] and (data.shifts.raw >= 1).all()),
        ),
        Check(f"Samples agree within {100 * off:.0f} %.", off < 0.25),
    ]


def draw(data: Data) -> Figure:
    """Return the two panels."""
    figure = Figure(figsize=(style.PAGE, 2.3))
    left, right = figure.subplots(1, 2)
    _panel(left, data.scales, data.before)
    _panel(right, data.shifts, data.before)
    left.set(xlabel="scale $a$", ylabel="rank of order 2", title=r"(a) $\tanh(a z)$", xscale="log")
    right.set(xlabel="shift $b$", title="(b) ReLU$(z + b)$")
    samples = drawing.entry("from samples", marker=".", markersize=5, linestyle="")
    right.legend(handles=[*right.get_legend_handles_labels()[0], samples], loc="upper right")
    return figure


def _panel(axis: Axes, curve: Curve, before: float) -> None:
    axis.axhline(before, color=style.GREY, linewidth=0.8, label="before")
    for values, dots, colour, label, width in (
        (curve.centred, curve.sampled, style.SKY, "centred", 3.0),  # a broad line shows below one that lies on it
        (curve.raw, curve.sampled_raw, style.VERMILION, "raw", 0.9),
    ):
        axis.plot(curve.at, values, color=colour, linewidth=width, label=label)
        axis.plot(curve.at, dots, ".", color=colour, markersize=3 + 2 * width)
