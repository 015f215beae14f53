"""Full rank out of ten dimensions, and how far polynomials get (claim R4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.support import drawing, style
from paper_figures.support.captions import Check
from paper_figures.support.results import RESULTS, Profile
from paper_figures.support.tables import Array
from simulate.ensembles import sample_gaussian, unit_gram
from theory.activations import polynomial, standardise
from theory.full_rank import monomials, polynomial_rank_limit
from theory.kernels import dual_kernel
from theory.rank import hard_rank

NAME = "recovery"
TITLE = "full rank out of ten dimensions, and how far polynomials get"
SHOWN = ("relu", "tanh", "gelu", "sigmoid", "elu")
SIZE, RANK, SAMPLES = 50, 10, 10_000
LOW = 3  # rank in panel (b), small enough for five degrees to show


@dataclass(frozen=True)
class Data:
    """Eigenvalues, descending, and ranks.

    Attributes:
        before: Of the pre-activations.
        predicted, sampled: Of the post-activations for each of `SHOWN`: of the kernel, and of samples.
        degrees, ranks, limits, sums: Of a polynomial with all Hermite terms, on a matrix of rank `LOW`.
    """

    before: Array
    predicted: Mapping[str, Array]
    sampled: Mapping[str, Array]
    degrees: Array
    ranks: Array
    limits: Array
    sums: Array


def compute(profile: Profile, results: Path = RESULTS) -> Data:
    """Return the spectra; they take a second and are not recorded."""
    rng = np.random.default_rng(0)
    C, low = unit_gram(SIZE, RANK, rng), unit_gram(SIZE, LOW, rng)
    Z = sample_gaussian(C, SAMPLES, rng)
    degrees = np.arange(1, 6)
    return Data(
        before=spectrum(C),
        predicted={name: spectrum(dual_kernel(name, C)) for name in SHOWN},
        sampled={name: spectrum(np.cov(standardise(name).value(Z), rowvar=False)) for name in SHOWN},
        degrees=degrees,
        ranks=np.array([int(hard_rank(dual_kernel(polynomial((1,) * (d + 1)), low))) for d in degrees]),
        limits=np.array([min(SIZE, polynomial_rank_limit(LOW, int(d))) for d in degrees]),
        sums=np.array([min(SIZE, sum(monomials(LOW, k) for k in range(1, d + 1))) for d in degrees]),
    )


def spectrum(C: Array) -> Array:
    """Return the eigenvalues of `C [features, features]` in descending order, `[features]`."""
    return np.linalg.eigvalsh(C)[::-1]


def introduction(data: Data) -> str:
    """Return what is shown, and how it was found."""
    return (
        f"(a) Eigenvalues of the correlations of {SIZE} features: pre-activations confined to {RANK} dimensions "
        f"(grey), and what five activations make of them, predicted by the dual kernel (lines) and from "
        f"{SAMPLES:,} samples (dots). (b) Rank of what a polynomial makes of {SIZE} features in {LOW} "
        "dimensions; the step line is the limit of claim R4, dashed the sum over all degrees, which unit "
        "diagonals do not allow."
    )


def checks(data: Data) -> list[Check]:
    """Return what the caption claims."""
    before = int((data.before > 1e-10).sum())
    least = {name: float(values[-1]) for name, values in data.predicted.items()}
    gaps = {name: float(np.abs(data.sampled[name] / data.predicted[name] - 1).max()) for name in SHOWN}
    return [
        Check(
            f"The rank rises from {before} to {SIZE} for each of them, but the least eigenvalue is "
            f"{max(least.values()):.2f} for {max(least, key=lambda k: least[k])} and only "
            f"{min(least.values()):.1e} for {min(least, key=lambda k: least[k])}.",
            before == RANK and min(least.values()) > 1e-9,
        ),
        Check(
            f"Samples agree with the prediction to {100 * max(gaps.values()):.0f} % in every eigenvalue.",
            max(gaps.values()) < 0.25,
        ),
        Check(
            f"Polynomials reach their limit: ranks {', '.join(map(str, data.ranks))} for degrees 1 to "
            f"{data.degrees[-1]}.",
            bool((data.ranks == data.limits).all()),
        ),
    ]


def draw(data: Data) -> Figure:
    """Return the two panels."""
    figure = Figure(figsize=(style.PAGE, 2.4))
    left, right = figure.subplots(1, 2, width_ratios=[1.6, 1])
    _spectra(left, data)
    _polynomials(right, data)
    return figure


def _spectra(axis: Axes, data: Data) -> None:
    index = np.arange(1, SIZE + 1)
    axis.semilogy(index[:RANK], data.before[:RANK], "s", color=style.GREY, markersize=2.5, label="before")
    for name in SHOWN:
        colour, label = style.ACTIVATION_COLOURS[name], style.ACTIVATIONS[name]
        axis.semilogy(index, data.predicted[name], color=colour, linewidth=0.9, label=label)
        axis.semilogy(index[::2], data.sampled[name][::2], ".", color=colour, markersize=2.5)
    axis.set(xlabel="index", ylabel="eigenvalue", title=f"(a) from rank {RANK} to rank {SIZE}")
    samples = drawing.entry("from samples", marker=".", markersize=2.5, linestyle="")
    axis.legend(handles=[*axis.get_legend_handles_labels()[0], samples], loc="upper right", ncols=2)


def _polynomials(axis: Axes, data: Data) -> None:
    axis.step(data.degrees, data.limits, where="mid", color=style.GREY, linewidth=0.8, label="limit")
    axis.step(data.degrees, data.sums, "--", where="mid", color=style.GREY, linewidth=0.6, label="sum of degrees")
    axis.plot(data.degrees, data.ranks, "o", color=style.VERMILION, markersize=3.5, label="rank")
    axis.axhline(SIZE, color=style.GREY, linewidth=0.8, linestyle=":", label=f"all {SIZE} features")
    axis.set(xlabel="degree of the polynomial", ylabel="rank", title=f"(b) from rank {LOW}", xticks=data.degrees)
    axis.set_ylim(top=1.06 * SIZE)
    axis.legend(loc="upper left", bbox_to_anchor=(0, 0.93))
