"""Gain of the Shannon effective rank of equicorrelated features, against its first order (claim R7, first half)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from paper_figures.support import drawing, style
from paper_figures.support.captions import Check
from paper_figures.support.results import RESULTS, Profile
from paper_figures.support.tables import Array
from theory.shannon import GainExpansion, gain_expansion, shannon_gain

NAME = "shannon"
TITLE = "Shannon rank gained near identical features: published form, corrected form and error bound"

N = 100
DOTS = 6  # of so many points one is drawn
SHOWN = ("relu", "gelu", "tanh")
POINTS: Mapping[Profile, int] = {"quick": 61, "full": 121}


@dataclass(frozen=True)
class Curve:
    """The logarithm of the gain in rank over `ε`, and its expansion."""

    gain: Array
    near: GainExpansion


@dataclass(frozen=True)
class Data:
    """Curves by activation over `eps`."""

    eps: Array
    curves: Mapping[str, Curve]


def compute(profile: Profile, results: Path = RESULTS) -> Data:
    """Return gains and expansions; they take milliseconds and are not recorded."""
    eps = np.geomspace(1e-5, 0.5, POINTS[profile])
    return Data(eps, {name: Curve(shannon_gain(name, eps, N), gain_expansion(name, eps, N)) for name in SHOWN})


def introduction(data: Data) -> str:
    """Return what is shown, and how it was found."""
    return (
        f"Near identical features. The logarithm G of the factor by which a centred activation raises the Shannon "
        f"effective rank of {N} equicorrelated features, correlation 1 − ε. Top: G (dots), and α ε ln(n/ε) as "
        "published (dashed). Bottom: relative error of the published form (dashed) and of the corrected one, "
        "(1 − 1/n) ε (α ln(n/ε) + α − (1 + α) ln(1 + α)) (lines), with its proved bound (shaded)."
    )


def checks(data: Data) -> list[Check]:
    """Return what the caption claims."""
    curves, slack = data.curves.values(), 1e-13 / data.eps  # digits of 1 − K(1 − ε) in float64
    inside = all(
        (c.near.low <= c.gain * (1 + slack)).all() and (c.gain <= c.near.high * (1 + slack)).all() for c in curves
    )
    published = {name: relative_error(c, c.near.published)[0] for name, c in data.curves.items()}
    ours = {name: relative_error(c, c.near.prediction)[0] for name, c in data.curves.items()}
    small = data.eps <= 0.1
    loose = max(((c.near.high - c.near.low) / (c.near.prediction - c.gain))[small].max() for c in curves)
    listed = ", ".join(f"{style.ACTIVATIONS[name]} {100 * published[name]:.1f} %" for name in published)
    return [
        Check(
            "G is positive and within the bounds everywhere.", inside and all((c.gain > 0).all() for c in curves)
        ),
        Check(
            f"The published form is never below G; at ε = {data.eps[0]:.0e} it is too large by {listed}, of "
            f"which the factor 1 − 1/n is {100 / (N - 1):.1f} % and no smaller ε removes it.",
            all((c.near.published >= c.gain).all() for c in curves)
            and all(1 / (N - 1) < error < 0.03 for error in published.values()),
        ),
        Check(
            f"Up to ε = 0.1 the proved bound on the corrected form's error is at most {loose:.2f} times the error.",
            bool(1 <= loose < 1.5),
        ),
        Check(
            f"The corrected form is off by {max(ours.values()):.0e} there at most, and its error falls with ε: "
            "like its root for ReLU, because of the kink, and like ε for the others.",
            max(ours.values()) < 5e-3
            and abs(_order(data, "relu") - 0.5) < 0.1
            and all(abs(_order(data, name) - 1) < 0.1 for name in ("gelu", "tanh")),
        ),
    ]


def relative_error(curve: Curve, form: Array) -> Array:
    """Return `form/G − 1` at every `ε`, `[points]`."""
    return form / curve.gain - 1


def _order(data: Data, name: str) -> float:
    """Return the power of `ε` with which the error of the corrected form falls, from 1e-4 to 1e-3."""
    error = np.interp(np.log([1e-4, 1e-3]), np.log(data.eps), np.log(_corrected(data.curves[name])))
    return float((error[1] - error[0]) / np.log(10))


def _corrected(curve: Curve) -> Array:
    return np.maximum(relative_error(curve, curve.near.prediction), 1e-12)


def draw(data: Data) -> Figure:
    """Return two panels, gains and relative errors."""
    figure = Figure(figsize=(style.WIDTH, 3.4))
    gains, errors = figure.subplots(2, 1, sharex=True)
    for name, curve in data.curves.items():
        colour = style.ACTIVATION_COLOURS[name]
        gains.loglog(data.eps[::DOTS], curve.gain[::DOTS], ".", color=colour, markersize=4)
        gains.loglog(data.eps, curve.near.published, color=colour, linestyle="--", linewidth=0.7)
        _draw_errors(errors, data.eps, curve, colour)
    gains.set(ylabel="$G$")
    names = {name: style.ACTIVATION_COLOURS[name] for name in data.curves}
    colours = [drawing.entry(style.ACTIVATIONS[name], color=colour) for name, colour in names.items()]
    gains.legend(handles=colours, loc="lower right")
    errors.set(xlabel="$\\epsilon$", ylabel="relative error", ylim=(1e-5, 20), xlim=(data.eps[0], data.eps[-1]))
    exact = drawing.entry("$G$", marker=".", markersize=4, linestyle="")
    forms = [drawing.entry("published", linestyle="--", linewidth=0.7), drawing.entry("corrected")]
    bound = Patch(color=style.GREY, alpha=0.3, linewidth=0, label="bound")
    figure.legend(handles=[exact, *forms, bound], loc="outside lower center", ncols=4)
    return figure


def _draw_errors(axis: Axes, eps: Array, curve: Curve, colour: str) -> None:
    bound = (curve.near.high - curve.near.low) / curve.gain
    axis.loglog(eps, relative_error(curve, curve.near.published), color=colour, linestyle="--", linewidth=0.7)
    axis.loglog(eps, _corrected(curve), color=colour)
    axis.fill_between(
        eps, _corrected(curve), np.maximum(bound, _corrected(curve)), color=colour, alpha=0.3, linewidth=0
    )
