"""Small networks with the coarsest partition into copies, and whether descent keeps it (claims C2, C3, C6, C11)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from paper_figures.support import graphs, style
from paper_figures.support.captions import Check
from paper_figures.support.graphs import Layout, layered
from paper_figures.support.results import RESULTS, Profile
from simulate.descent import descend
from simulate.optimizers import sgd
from theory.manifolds import is_column_equitable, is_row_equitable
from theory.network import Edge, Network, SquaredError, backward, forward
from theory.partitions import Partition, coarsest_equitable_partition

NAME = "partitions"
TITLE = "small networks, their coarsest partition into copies, and which of them are traps"


@dataclass(frozen=True)
class Example:
    """A network to draw: hidden units are ReLU, weights are rational."""

    title: str
    weights: Mapping[Edge, Fraction]
    layout: Layout

    def network(self) -> Network:
        """Return the network; units without in-edges are its inputs, units without out-edges its outputs."""
        units = list(self.layout.places)
        inputs, outputs = ([u for u in units if all(u != edge[k] for edge in self.weights)] for k in (1, 0))
        kinds = {u: "linear" if u in outputs else "relu" for u in units if u not in inputs}
        return Network.from_edges(self.weights, kinds, inputs, outputs)


@dataclass(frozen=True)
class Finding:
    """What holds for one example, exactly.

    Attributes:
        network, partition: The network and its coarsest partition.
        equal: Whether activations and error signals are equal within blocks.
        even: Whether each pair of blocks is joined by evenly spread edges.
        stays: Whether weights stay equitable after steps of gradient descent.
    """

    network: Network
    partition: Partition
    equal: bool
    even: bool
    stays: bool


def compute(profile: Profile, results: Path = RESULTS) -> tuple[Finding, ...]:
    """Return one finding an example; they take milliseconds and are not recorded."""
    return tuple(find(example.network()) for example in EXAMPLES)


def find(network: Network, steps: int = 2) -> Finding:
    """Return the coarsest partition of the network and what descent does to it, in rational arithmetic."""
    partition = coarsest_equitable_partition(network)
    x = _exact(np.arange(1, 2 * len(network.inputs) + 1).reshape(len(network.inputs), 2))
    goal = SquaredError(_exact(np.arange(5, 5 + 2 * len(network.outputs)).reshape(len(network.outputs), 2)))
    *_, last = descend(network, [(x, goal)] * steps, sgd(Fraction(1, 100)))
    trace = forward(network, x)
    delta = backward(network, trace, goal.gradient(trace.h[list(network.outputs)]))
    return Finding(
        network,
        partition,
        equal=all((v[block] == v[block[0]]).all() for v in (trace.h, delta) for block in partition.blocks()),
        even=coarsest_equitable_partition(network, pattern=True) == partition,
        stays=is_row_equitable(last, partition) and is_column_equitable(last, partition),
    )


def introduction(data: tuple[Finding, ...]) -> str:
    """Return what is shown, and how it was found."""
    return (
        "Networks with ReLU hidden units (circles) and rational weights; inputs and outputs are squares. Units of "
        "one colour form a block of the coarsest partition with equal block sums of incoming and of outgoing "
        "weights; white units stand alone. Wider edges have larger weights, dashed edges negative ones."
    )


def checks(data: tuple[Finding, ...]) -> list[Check]:
    """Return what the caption claims."""
    kept = [finding.stays for finding in data]
    return [
        Check(
            "In every network, units of one colour have equal activations and equal error signals, exactly.",
            all(finding.equal for finding in data),
        ),
        Check(
            f"In {_letters(kept)} gradient descent keeps them copies: every unit of a block has as many edges from "
            "each block, and to each block, as the others.",
            any(kept) and all(finding.even for finding in data if finding.stays),
        ),
        Check(
            f"In {_letters([not k for k in kept])}, marked ✗, it has not, and descent parts them: equal signals "
            "now do not mean equal signals after a step.",
            not all(kept) and not any(finding.even for finding in data if not finding.stays),
        ),
    ]


def draw(data: tuple[Finding, ...]) -> Figure:
    """Return the gallery, two networks a row."""
    figure = Figure(figsize=(style.WIDTH, 4.1))
    axes = figure.subplots(-(-len(data) // 2), 2).flat
    for k, (axis, finding, example) in enumerate(zip(axes, data, EXAMPLES, strict=True)):
        graphs.draw(axis, finding.network, finding.partition, example.layout)
        axis.set(xlim=(-0.3, 3.3), ylim=(-1.2, 1.2))
        verdict = "" if finding.stays else " ✗"
        axis.set_title(f"({_letter(k)}) {example.title}{verdict}", fontsize=7)
    _explain_edges(figure)
    return figure


def _explain_edges(figure: Figure) -> None:
    styles = {"small": ("-", 0.5), "large": ("-", 1.4), "negative": ((0, (3, 1.5)), 0.7)}
    lines = [Line2D([], [], color=style.GREY, linestyle=s, linewidth=w) for s, w in styles.values()]  # type: ignore[arg-type]
    figure.legend(lines, [f"{name} weight" for name in styles], loc="outside lower center", ncols=3)


def _letter(k: int) -> str:
    return "abcdefghij"[k]


def _letters(chosen: list[bool]) -> str:
    return ", ".join(f"({_letter(k)})" for k, yes in enumerate(chosen) if yes)


def _exact(values: np.ndarray) -> np.ndarray:
    return np.vectorize(Fraction, otypes=[object])(values)


def _weights(text: str) -> dict[Edge, Fraction]:
    """Read weights written as `x>a 1/2`, separated by commas."""
    pairs = (entry.split() for entry in text.split(","))
    return {(edge.split(">")[0], edge.split(">")[1]): Fraction(weight) for edge, weight in pairs}


EXAMPLES = (
    Example(
        "blocks of two and three",
        _weights(
            "x>a 1, x>b 1, a>c 1, a>d 1, a>e 1, b>c 1, b>d 1, b>e 1, c>y 1, d>y 1, e>y 1",
        ),
        Layout(layered("x", "a b", "c d e", "y")),
    ),
    Example(
        "equitable, not constant",
        _weights("x>a 1, x>b 1, a>c 3, a>d 1, b>c 1, b>d 3, c>y 2, d>y 2"),
        Layout(layered("x", "a b", "c d", "y")),
    ),
    Example(
        "skip connections",
        _weights("x>a 1, x>b 1, a>c 2, a>d 1, b>c 1, b>d 2, x>c 2, x>d 2, a>y 1, b>y 1, c>y 2, d>y 2"),
        Layout(
            layered("x", "a b", "c d", "y"),
            {("x", "c"): -0.75, ("x", "d"): 0.75, ("a", "y"): -0.75, ("b", "y"): 0.75},
        ),
    ),
    Example(
        "two pairs, interleaved",
        _weights(
            "x>a 1, x>b 3, x>c 1, x>d 3, z>a 2, z>b 1, z>c 2, z>d 1, a>y 2, b>y 1, c>y 2, d>y 1",
        ),
        Layout(layered("x z", "a b c d", "y", step=1.5)),
    ),
    Example(
        "a block across depths",
        _weights(
            "x>a 1, x>b 1, x>c 1, x>d 1, x>e 1, a>c 1, a>d -1, b>c -1, b>d 1, a>y 2, b>y 2, c>y 1, d>y 1, e>y 1",
        ),
        Layout(
            layered("x", "a b", "c d", "y") | {"e": (1.5, -0.95)},
            {("x", "c"): -0.6, ("x", "d"): 0.45, ("a", "y"): -0.6, ("b", "y"): 0.45},
        ),
    ),
    Example(
        "uneven edges between blocks",
        _weights(
            "x>a 1, x>b 1, x>c 1, a>d 1, b>d 2, a>e 2, b>e -1, c>e 2, b>f 2, c>f 1, d>y 1, e>y 1, f>y 1",
        ),
        Layout(layered("x", "a b c", "d e f", "y")),
    ),
)
