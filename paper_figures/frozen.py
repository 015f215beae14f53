"""A dead ReLU unit that training upstream revives (claim F2), and one that stays dead by its signs (F2b)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from paper_figures.support import style
from paper_figures.support.captions import Check
from paper_figures.support.results import RESULTS, Profile
from paper_figures.support.tables import Array
from simulate.descent import descend
from simulate.optimizers import sgd
from theory.certificates import Firmness, FrozenCertificate, certify_frozen
from theory.network import Edge, Network, SquaredError, Unit, forward

NAME = "frozen"
TITLE = "a dead unit revived by training upstream, and one that its signs keep dead"

KINDS: Mapping[Unit, str] = {"a": "relu", "v": "relu", "y": "linear", "one": "one"}
EDGES: Mapping[Edge, float] = {
    ("x", "a"): 1.0,
    ("a", "v"): 1.0,
    ("one", "v"): -1.2,
    ("v", "y"): 1.0,
    ("a", "y"): 0.5,
}
X = np.array([[0.25, 0.5, 0.75, 1.0]])
Y = 3 * np.maximum(X - 0.4, 0)
RATE = 0.01
ACTIVE: Mapping[str, Any] = {"color": style.YELLOW, "alpha": 0.25, "linewidth": 0}
STEPS: Mapping[Profile, int] = {"quick": 150, "full": 150}


@dataclass(frozen=True)
class Run:
    """Descent from a dead unit `v`.

    Attributes:
        z: Pre-activation of `v`, shape (steps + 1, samples).
        upstream: Weight of `x→a`, shape (steps + 1,).
        incoming: Weights of `a→v` and of the bias of `v`, shape (steps + 1, 2).
        certificate: Of `v` at the start, the firmest to be had.
    """

    z: Array
    upstream: Array
    incoming: Array
    certificate: FrozenCertificate

    @property
    def revival(self) -> int | None:
        """The first step before which `v` is active on some sample."""
        active = np.flatnonzero((self.z > 0).any(axis=1))
        return int(active[0]) if active.size else None

    @property
    def first_move(self) -> int | None:
        """The first step after which a weight into `v` has another value than at the start."""
        moved = np.flatnonzero((self.incoming != self.incoming[0]).any(axis=1))
        return int(moved[0]) if moved.size else None


@dataclass(frozen=True)
class Data:
    """Two runs that differ in the sign of one weight, that of `a→v`."""

    revived: Run
    persistent: Run


def compute(profile: Profile, results: Path = RESULTS) -> Data:
    """Return both runs; they take milliseconds and are not recorded."""
    return measure(STEPS[profile])


def measure(steps: int) -> Data:
    """Return both runs over that many steps."""
    return Data(run(1.0, steps), run(-1.0, steps))


def run(weight: float, steps: int) -> Run:
    """Return the descent from the network whose edge `a→v` has that weight."""
    start = Network.from_edges({**EDGES, ("a", "v"): weight}, KINDS, ["x"], ["y"])
    path = list(descend(start, [(X, SquaredError(Y))] * steps, sgd(RATE)))
    v = start.index["v"]
    certificate = next(c for c in certify_frozen(start, samples=X) if c.unit == "v")
    return Run(
        z=np.array([forward(network, X).z[v] for network in path]),
        upstream=np.array([network.weights[start.target == start.index["a"]][0] for network in path]),
        incoming=np.array([network.weights[start.target == v] for network in path]),
        certificate=certificate,
    )


def introduction(data: Data) -> str:
    """Return what is shown, and how it was found."""
    return (
        "Frozen units. In x→a→v→y with the skip connection a→y, hidden units are ReLU, and v is dead on all "
        f"{data.revived.z.shape[1]} samples at the start. Top: pre-activation of v, one line a sample, shaded "
        "where v is active. Bottom: movement of weights under gradient descent. The two columns differ in the "
        "sign of one weight, a→v."
    )


def checks(data: Data) -> list[Check]:
    """Return what the caption claims."""
    revived, persistent = data.revived, data.persistent
    drift = abs(persistent.upstream[-1] - persistent.upstream[0])
    return [
        Check(
            "Both are dead at the start, and so no gradient reaches the weights into v.",
            bool((revived.z[0] <= 0).all() and (persistent.z[0] <= 0).all()),
        ),
        Check(
            f"Left, a goes on learning through the skip connection and revives v before step {revived.revival}; "
            f"the weights into v rest exactly until then and first move in step {revived.first_move}.",
            revived.revival is not None and revived.first_move == revived.revival + 1,
        ),
        Check(
            f"Its certificate holds for these samples and weights alone ('{revived.certificate.reason}').",
            revived.certificate.reason is Firmness.OBSERVED,
        ),
        Check(
            "Right, all weights into v are negative and a is never negative, a certificate for all data "
            f"('{persistent.certificate.reason}'): v stays dead and its weights rest exactly, though x→a moves by "
            f"{drift:.2f}.",
            persistent.certificate.reason is Firmness.SIGN
            and persistent.revival is None
            and persistent.first_move is None
            and drift > 0.1,
        ),
    ]


def draw(data: Data) -> Figure:
    """Return two columns, revived and persistent; rows: pre-activations and weights."""
    figure = Figure(figsize=(style.WIDTH, 2.9))
    axes = figure.subplots(2, 2, sharex=True, sharey="row")
    titles = ("revived: $w(a→v) > 0$", "dead for ever: $w(a→v) < 0$")
    for column, one, title in zip(axes.T, (data.revived, data.persistent), titles, strict=True):
        column[0].set_title(title)
        _draw_preactivations(column[0], one)
        _draw_weights(column[1], one)
        column[1].set_xlabel("step")
    axes[0, 0].set_ylabel("pre-activation of $v$")
    axes[1, 0].set_ylabel("movement of weights")
    low, high = axes[0, 0].get_ylim()
    for axis in axes[0]:
        axis.axhspan(0, high, **ACTIVE)
        axis.set_ylim(low, high)
    handles = axes[1, 0].get_legend_handles_labels()[0]
    axes[1, 1].legend(handles=[*handles, Patch(label="$v$ active", **ACTIVE)], loc="center right")
    return figure


def _draw_preactivations(axis: Axes, one: Run) -> None:
    axis.plot(one.z, color=style.BLUE)
    axis.axhline(0, color=style.GREY, linewidth=0.6)
    _mark(axis, one)


def _draw_weights(axis: Axes, one: Run) -> None:
    axis.plot(one.upstream - one.upstream[0], color=style.GREY, linestyle="--", label="$x→a$")
    axis.plot(one.incoming[:, 0] - one.incoming[0, 0], color=style.VERMILION, linewidth=2.6, label="$a→v$")
    axis.plot(one.incoming[:, 1] - one.incoming[0, 1], color=style.GREEN, label="bias of $v$")
    _mark(axis, one)


def _mark(axis: Axes, one: Run) -> None:
    if one.revival is not None:
        axis.axvline(one.revival, color=style.BLACK, linewidth=0.6, linestyle=":", label="$v$ revives")
