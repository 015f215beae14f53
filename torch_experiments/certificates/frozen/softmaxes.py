"""Softmaxes of a network that are saturated on a batch, so that hardly any gradient passes (claim F4).

Policies and attention lose plasticity by it while no unit is dead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from torch_experiments.units.graph import Graph, Step
from torch_experiments.units.softmaxes import Found, Rows, rows_of


@dataclass(frozen=True)
class Softmax:
    """What one softmax did on a batch.

    Attributes:
        layer: that was running.
        rows: distributions over two or more choices that are not masked.
        saturated: those whose largest entry is 1 to rounding, see `units.softmaxes`.
        gap: the median over rows of the largest logit less the second largest.
    """

    layer: str
    rows: int
    saturated: int
    gap: float

    @property
    def share(self) -> float:
        """Share of the rows that are saturated."""
        return self.saturated / max(self.rows, 1)


class Softmaxes:
    """The softmaxes of a trace, and what they do in later passes, which run them in the same order.

    Where weights decide what runs, passes may differ in their order, so that there nothing is noted.
    """

    def __init__(self, graph: Graph) -> None:
        found = Found()
        steps = [step for step in graph.steps if found.logits(step) is not None]
        self.steps: list[Step] = [] if graph.decided else steps
        self.coming: list[Step] = []
        self.rows: dict[int, list[Rows]] = {}
        self._found = Found()

    def begin(self) -> None:
        """Expect the first one again."""
        self.coming, self._found = list(self.steps), Found()

    def note(self, step: Step) -> None:
        """Note the rows of an operation that has run, if it is a softmax and only those of the trace ran before."""
        logits = self._found.logits(step)
        if logits is None:
            return
        expected = self.coming.pop(0) if self.coming else None
        if expected is None or expected.func is not step.func:
            self.coming = []
            return
        self.rows.setdefault(expected.number, []).append(rows_of(logits))

    def found(self) -> tuple[Softmax, ...]:
        """Return what was noted, in the order of the trace."""
        return tuple(_of(step.layer, self.rows[step.number]) for step in self.steps if step.number in self.rows)


def sentences(softmaxes: Sequence[Softmax]) -> list[str]:
    """Return one sentence for each softmax that is saturated on more than half of its rows.

    >>> sentences([Softmax("head", 100, 99, 21.5), Softmax("other", 100, 3, 2.0)])
    ['softmax: head: 99% of 100 rows are saturated (median gap 21.5): what they choose gets hardly a gradient (F4)']
    """
    return [
        f"softmax: {s.layer or 'the network'}: {s.share:.0%} of {s.rows:,} rows are saturated (median gap "
        f"{s.gap:.1f}): what they choose gets hardly a gradient (F4)"
        for s in softmaxes
        if s.share > 0.5
    ]


def _of(layer: str, parts: Sequence[Rows]) -> Softmax:
    saturated, gap = (torch.cat(several) for several in zip(*parts, strict=True))
    return Softmax(layer, len(gap), int(saturated.sum()), float(gap.median()) if len(gap) else 0.0)
