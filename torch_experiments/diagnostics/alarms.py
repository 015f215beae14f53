"""Alarms: a metric that has moved too far from its best value so far."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch_experiments.diagnostics.result import Diagnosis

MEAN = "mean of the layers"


class Raised(NamedTuple):
    """An alarm that went off: where, the best value before, the value now, and a sentence that says so.

    ``kind`` is the first word of a share (``"dead"``, ``"duplicate"``), ``"rank"`` for ranks, else the metric:
    what `Recovery` chooses remedies by.

    >>> Raised(100, "act1", "shannon_rank_centred", 8.0, 3.0, 4.0, "a sentence").kind
    'rank'
    """

    step: int
    layer: str
    metric: str
    best: float
    value: float
    threshold: float
    message: str

    @property
    def kind(self) -> str:
        """What kind of symptom it is."""
        return "rank" if "rank" in self.metric.split("_") else self.metric.removesuffix("_fraction")

    def __str__(self) -> str:
        """Return the sentence."""
        return self.message


@dataclass(frozen=True)
class Alarm:
    """Goes off when a metric falls or rises too far.

    ``"falls"``: below ``1 − by`` times its largest value so far. ``"rises"``: above its smallest value so far plus
    ``by``. It is raised once, and again only after the metric came back more than half of the way.

    Attributes:
        metric: a name of `registry.METRICS`.
        kind: ``"falls"`` or ``"rises"``.
        by: a share of the largest value, in (0, 1), or an amount, positive.
        layer: a name; ``"*"`` for every layer on its own; None for the mean of the layers.
        after: number of measurements that are passed over at first. Learning a first task lowers ranks and aligns
            units on its own, which is no loss of plasticity.

    Raises:
        ValueError: for another kind, or an amount out of range.

    >>> alarm = Alarm("stable_rank_raw", "falls", by=0.5)
    >>> alarm.threshold(8.0), alarm.too_far(3.0, best=8.0), alarm.recovered(7.0, best=8.0)
    (4.0, True, True)
    """

    metric: str
    kind: Literal["falls", "rises"]
    by: float
    layer: str | None = None
    after: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("falls", "rises"):
            raise ValueError(f"kind: got {self.kind!r}; allowed are 'falls' and 'rises'")
        if not (self.by > 0 and (self.kind == "rises" or self.by < 1)):
            raise ValueError(f"by: got {self.by}; it has to be positive, and below 1 for a share that is lost")

    def values(self, found: Diagnosis) -> Iterator[tuple[str, float]]:
        """Yield the values to watch, by layer."""
        layers = {name: v[self.metric] for name, v in found.items() if self.metric in v}
        if self.layer is None and any(layers):
            yield MEAN, found.mean(self.metric)
        elif self.layer == "*":
            yield from layers.items()
        elif self.layer in layers:
            yield self.layer, layers[self.layer]

    def better(self, value: float, best: float) -> float:
        """Return the better of two values."""
        return max(value, best) if self.kind == "falls" else min(value, best)

    def too_far(self, value: float, best: float) -> bool:
        """Return whether ``value`` is out of bounds."""
        return self._worse(value, self.threshold(best))

    def recovered(self, value: float, best: float) -> bool:
        """Return whether ``value`` is within half of the bounds."""
        return not self._worse(value, (best + self.threshold(best)) / 2)

    def threshold(self, best: float) -> float:
        """Return the last value that is within bounds."""
        return (1 - self.by) * best if self.kind == "falls" else best + self.by

    def _worse(self, value: float, bound: float) -> bool:
        return value < bound if self.kind == "falls" else value > bound


DEFAULT_ALARMS = (
    Alarm("dead_fraction", "rises", 0.2),
    Alarm("dormant_fraction", "rises", 0.3),
    Alarm("shannon_rank_centred", "falls", 0.5, after=10),
    Alarm("duplicate_fraction", "rises", 0.2, after=10),
)
"""A mean effective rank below half of its best; a fifth more dead or duplicate units, 0.3 more dormant ones.

The thresholds are ours. JL25's MLP and ViT without normalisation, which stop learning, cross them (figures 3.1 and
3.2: rank 54.7 to 24.9 and 130.6 to 2.3, dead 0.20 to 0.53, duplicates 0.01 to 0.94); its CNN and ResNet, which go
on learning, do not (rank 55.4 to 34.3 and 68.3 to 60.8, dead 0.55 to 0.69 and 0.56 to 0.75). Where features
collapse onto a few easy classes after the first ten measurements, the last two can go off in a healthy network.
"""


class Watchman:
    """Remembers the best values, and which alarms are on.

    >>> from torch_experiments.diagnostics.result import About
    >>> about = About(2, 0, {}, {}, (), 0.0)
    >>> watchman = Watchman((Alarm("dead_fraction", "rises", 0.2),))
    >>> for step, dead in enumerate([0.1, 0.2, 0.5, 0.6]):
    ...     for alarm in watchman.look(step, Diagnosis({"act": {"dead_fraction": dead}}, about)):
    ...         print(alarm)
    step 2: mean of the layers: dead_fraction rises to 0.5; its smallest was 0.1
    """

    def __init__(self, alarms: tuple[Alarm, ...]) -> None:
        self.alarms = alarms
        self.looks = 0
        self.best: dict[str, float] = {}
        self.on: set[str] = set()

    def look(self, step: int, found: Diagnosis) -> list[Raised]:
        """Return the alarms that a new diagnosis sets off."""
        raised: list[Raised] = []
        for k, alarm in enumerate(self.alarms):
            for layer, value in alarm.values(found) if self.looks >= alarm.after else ():
                raised += self._judge(f"{k}:{layer}", alarm, step, layer, value)
        self.looks += 1
        return raised

    def _judge(self, key: str, alarm: Alarm, step: int, layer: str, value: float) -> list[Raised]:
        best = self.best[key] = alarm.better(value, self.best.get(key, value))
        if alarm.recovered(value, best):
            self.on.discard(key)
        if key in self.on or not alarm.too_far(value, best):
            return []
        self.on.add(key)
        word = "largest" if alarm.kind == "falls" else "smallest"
        message = f"step {step}: {layer}: {alarm.metric} {alarm.kind} to {value:.4g}; its {word} was {best:.4g}"
        return [Raised(step, layer, alarm.metric, best, value, alarm.threshold(best), message)]
