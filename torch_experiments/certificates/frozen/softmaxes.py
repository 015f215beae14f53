"""Softmaxes that are saturated on a batch: one entry is 1 to rounding, and hardly any gradient passes (claim F4).

Policies and attention lose plasticity by it while no unit is dead. What counts is the gap ``g`` of the largest
logit against the second largest: ``1 − π_m ≤ (n − 1) e^{−g}``, for two choices below half an ulp of 1 from
``g = −ln(ε/2)`` on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from torch_experiments.units.graph import Graph, Step
from torch_experiments.units.softmaxes import gaps, logits_of, saturating


@dataclass(frozen=True)
class Softmax:
    """What one softmax did on a batch.

    Attributes:
        layer: that was running.
        rows: distributions over two or more choices that are not masked.
        saturated: those whose largest entry is 1 to rounding.
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
    """The softmaxes of a trace, and the gaps of their logits in later passes, which run them in the same order."""

    def __init__(self, graph: Graph) -> None:
        self.steps = [step for step in graph.steps if logits_of(step) is not None]
        self.coming: list[Step] = []
        self.gaps: dict[int, list[Tensor]] = {}
        self.least: dict[int, float] = {}

    def begin(self) -> None:
        """Expect the first one again."""
        self.coming = list(self.steps)

    def note(self, step: Step) -> None:
        """Note the gaps of an operation, if it is a softmax and none but those of the trace ran before it."""
        logits = logits_of(step)
        if logits is None:
            return
        expected = self.coming.pop(0) if self.coming else None
        if expected is None or expected.func is not step.func:
            self.coming = []
            return
        self.gaps.setdefault(expected.number, []).append(gaps(logits))
        self.least[expected.number] = saturating(logits.dtype)

    def found(self) -> tuple[Softmax, ...]:
        """Return what was noted, in the order of the trace."""
        layers = {step.number: step.layer for step in self.steps}
        return tuple(_of(layers[n], torch.cat(self.gaps[n]), self.least[n]) for n in layers if n in self.gaps)


def sentences(softmaxes: Sequence[Softmax]) -> list[str]:
    """Return one sentence for each softmax that is saturated on more than half of its rows.

    >>> sentences([Softmax("head", 100, 99, 21.5), Softmax("other", 100, 3, 2.0)])
    ['softmax: head: 99% of 100 rows are saturated (median gap 21.5): what chose gets next to no gradient (F4)']
    """
    return [
        f"softmax: {s.layer or 'the network'}: {s.share:.0%} of {s.rows:,} rows are saturated (median gap "
        f"{s.gap:.1f}): what chose gets next to no gradient (F4)"
        for s in softmaxes
        if s.share > 0.5
    ]


def _of(layer: str, gaps: Tensor, least: float) -> Softmax:
    median = float(gaps.median()) if len(gaps) else 0.0
    return Softmax(layer, len(gaps), int((gaps >= least).sum()), median)
