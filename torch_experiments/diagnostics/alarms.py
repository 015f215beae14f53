"""Alarms: a metric too far from its best value so far or beyond a level, a loss that grows on new data alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from torch_experiments.diagnostics.result import Diagnosis

MEAN = "mean of the layers"
KINDS = {"rank": "rank", "cloning": "duplicate"}
WORDS = {"falls": "its largest was", "rises": "its smallest was"}
LEVELS = ("above", "below")


class Raised(NamedTuple):
    """An alarm that went off: where, the best value before, the value now, and a sentence that says so.

    ``kind`` is the first word of a share (``"dead"``, ``"duplicate"``), ``"rank"`` for ranks, ``"duplicate"`` for
    scores of cloning, else the metric: what `Recovery` chooses remedies by.

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
        words = self.metric.split("_")
        found = [kind for word, kind in KINDS.items() if word in words]
        return found[0] if found else self.metric.removesuffix("_fraction")

    def __str__(self) -> str:
        """Return the sentence."""
        return self.message


@dataclass(frozen=True)
class Alarm:
    """Goes off when a metric falls or rises too far, or is beyond a level.

    ``"falls"``: below ``1 − by`` times its largest value so far. ``"rises"``: above its smallest value so far plus
    ``by``. ``"above"``, ``"below"``: beyond the level ``by``, at the first measurement too. It is raised once, and
    again only after the metric came back more than half of the way to its best value.

    Attributes:
        metric: a name of `registry.METRICS`.
        kind: ``"falls"``, ``"rises"``, ``"above"`` or ``"below"``.
        by: a share of the largest value, in (0, 1), an amount, positive, or the level.
        layer: a name; ``"*"`` for every layer on its own; None for the mean of the layers.
        after: number of measurements that are passed over at first. Learning a first task lowers ranks and aligns
            units on its own, which is no loss of plasticity.
        looks: number of measurements in a row that have to be out of bounds: a value that returns before is no
            alarm.

    Raises:
        ValueError: for another kind, an amount out of range, or no look.

    >>> alarm = Alarm("stable_rank_raw", "falls", by=0.5)
    >>> alarm.threshold(8.0), alarm.too_far(3.0, best=8.0), alarm.recovered(7.0, best=8.0)
    (4.0, True, True)
    >>> Alarm("dead_fraction", "above", by=0.3).too_far(0.4, best=0.4)
    True
    """

    metric: str
    kind: Literal["falls", "rises", "above", "below"]
    by: float
    layer: str | None = None
    after: int = 0
    looks: int = 1

    def __post_init__(self) -> None:
        allowed = (*WORDS, *LEVELS)
        if self.kind not in allowed:
            raise ValueError(f"kind: got {self.kind!r}; allowed are {', '.join(map(repr, allowed))}")
        if not self.is_level and not (self.by > 0 and (self.kind == "rises" or self.by < 1)):
            raise ValueError(f"by: got {self.by}; it has to be positive, and below 1 for a share that is lost")
        if not math.isfinite(self.by):
            raise ValueError(f"by: got {self.by}; a level has to be finite")
        if self.looks < 1:
            raise ValueError(f"looks: got {self.looks}; it has to be at least 1")

    @property
    def is_level(self) -> bool:
        """Whether bounds are a level, not relative to the best value so far."""
        return self.kind in LEVELS

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
        return max(value, best) if self.kind in ("falls", "below") else min(value, best)

    def too_far(self, value: float, best: float) -> bool:
        """Return whether ``value`` is out of bounds."""
        return self._worse(value, self.threshold(best))

    def recovered(self, value: float, best: float) -> bool:
        """Return whether ``value`` is within half of the bounds; within a level that was never kept, within it."""
        bound = self.threshold(best)
        return not self._worse(value, self.better(bound, (best + bound) / 2))

    def threshold(self, best: float) -> float:
        """Return the last value that is within bounds."""
        if self.is_level:
            return self.by
        return (1 - self.by) * best if self.kind == "falls" else best + self.by

    def sentence(self, step: int, layer: str, value: float, best: float) -> str:
        """Return what is said when it goes off."""
        moved = f"is {value:.4g}" if self.is_level else f"{self.kind} to {value:.4g}"
        bound = f"{self.kind} {self.by:.4g}" if self.is_level else f"{WORDS[self.kind]} {best:.4g}"
        lasting = f", for {self.looks} measurements in a row" if self.looks > 1 else ""
        return f"step {step}: {layer}: {self.metric} {moved}{', ' if self.is_level else '; '}{bound}{lasting}"

    def _worse(self, value: float, bound: float) -> bool:
        return value < bound if self.kind in ("falls", "below") else value > bound


@dataclass(frozen=True)
class Overfitting:
    """Goes off where the training loss stands still while the validation loss degrades.

    With ``T`` and ``V`` the losses at the measurements so far: ``T`` has fallen by at most ``still`` times its
    whole range within the last ``looks`` measurements, and at each of them ``V`` was above its smallest value
    before by more than ``by`` times that value, or times the fall ``V₀ − min V`` if that is larger. It is raised
    once, and again only after ``V`` came back below half of that.

    Attributes:
        by: how far the validation loss has to rise, as a share.
        still: of the range of the training loss: less is no fall.
        looks: measurements in a row.

    Raises:
        ValueError: for shares that are not positive, or fewer than two looks.

    >>> alarm = Overfitting(looks=2)
    >>> validation = [2.0, 1.0, 1.3, 1.4]
    >>> alarm.rings([2.0, 0.1, 0.1, 0.1], validation), alarm.rings([2.0, 1.5, 1.0, 0.5], validation)
    (True, False)
    """

    by: float = 0.1
    still: float = 0.02
    looks: int = 5

    def __post_init__(self) -> None:
        if not (self.by > 0 and self.still >= 0):
            raise ValueError(f"by, still: got {self.by} and {self.still}; they are shares of a loss, above 0")
        if self.looks < 2:
            raise ValueError(f"looks: got {self.looks}; it has to be at least 2: one measurement shows no plateau")

    def rings(self, training: Sequence[float], validation: Sequence[float]) -> bool:
        """Return whether it goes off at the last of these losses."""
        if len(validation) <= self.looks or len(training) <= self.looks:
            return False
        before, last = training[: -self.looks], training[-self.looks :]
        fallen, whole = min(before) - min(last), max(training) - min(training)
        degraded = min(validation[-self.looks :]) > self.threshold(validation[: -self.looks])
        return fallen <= self.still * whole and degraded

    def threshold(self, validation: Sequence[float]) -> float:
        """Return the last loss that is within bounds, after these."""
        best = min(validation)
        return best + self.by * max(abs(best), validation[0] - best)


DEFAULT_ALARMS: tuple[Alarm | Overfitting, ...] = (
    Alarm("dead_fraction", "rises", 0.2),
    Alarm("dormant_fraction", "rises", 0.3),
    Alarm("shannon_rank_centred", "falls", 0.5, after=10),
    Alarm("duplicate_fraction", "rises", 0.2, after=10),
    Alarm("dead_fraction", "above", 0.3),
    Alarm("duplicate_fraction", "above", 0.8),
    Alarm("forward_cloning_score", "above", 0.95),
    Alarm("shannon_rank_centred", "falls", 0.7, looks=10),
    Overfitting(),
)
"""Moves, against the best value so far: a mean effective rank below half of it; a fifth more dead or duplicate
units, 0.3 more dormant ones. Levels, from the first measurement on: a dead share above 0.3, a duplicate share above
0.8, copies that explain 0.95 of their layer. A rank without return: below 0.3 of its best, that of a fresh network
included, ten times in a row. And losses that part, where the monitor has ``validation``.

The thresholds are ours. JL25's MLP and ViT without normalisation, which stop learning, cross those of the moves
(figures 3.1 and 3.2: rank 54.7 to 24.9 and 130.6 to 2.3, dead 0.20 to 0.53, duplicates 0.01 to 0.94); its CNN and
ResNet, which go on learning, do not (rank 55.4 to 34.3 and 68.3 to 60.8, dead 0.55 to 0.69 and 0.56 to 0.75).
Where features collapse onto a few easy classes after the first ten measurements, the last two of the moves can go
off in a healthy network.

A level tells what is lost already, not that it is being lost: a third of the units does nothing on any input, or
nearly all of them are copies, as in JL25's ViT. In our own runs with a fresh network beside them (``results/``,
214 seeds) dead shares pass 0.3 in 105 of the 142 that end behind it by 0.05 of accuracy or more, and in 19 of the
72 others, which were wide enough to do without; duplicates pass 0.8 in none. A network that learns its first task
loses more than half of its initial rank and is healthy, so half is no bound there.
"""


class Watchman:
    """Remembers the best values, and which alarms are on.

    Of alarms of one metric and layer only the first is raised at a look.

    >>> from torch_experiments.diagnostics.result import About
    >>> about = About(2, 0, {}, {}, (), 0.0)
    >>> watchman = Watchman((Alarm("dead_fraction", "rises", 0.2),))
    >>> for step, dead in enumerate([0.1, 0.2, 0.5, 0.6]):
    ...     for alarm in watchman.look(step, Diagnosis({"act": {"dead_fraction": dead}}, about)):
    ...         print(alarm)
    step 2: mean of the layers: dead_fraction rises to 0.5; its smallest was 0.1
    """

    def __init__(self, alarms: tuple[Alarm | Overfitting, ...]) -> None:
        self.alarms = alarms
        self.looks = 0
        self.best: dict[str, float] = {}
        self.on: set[str] = set()
        self.streaks: dict[str, int] = {}
        self.losses: tuple[list[float], list[float]] = ([], [])

    def look(self, step: int, found: Diagnosis, losses: tuple[float, float] | None = None) -> list[Raised]:
        """Return the alarms that a new diagnosis, and losses in training and on new data, set off."""
        raised: dict[tuple[str, str], Raised] = {}
        for kept, loss in zip(self.losses, losses or (), strict=False):
            kept.append(loss)
        for k, alarm in enumerate(self.alarms):
            if isinstance(alarm, Alarm):
                values = list(alarm.values(found)) if self.looks >= alarm.after else []
                now = [one for layer, v in values for one in self._judge(f"{k}:{layer}", alarm, step, layer, v)]
            else:
                now = self._judge_losses(str(k), alarm, step) if losses else []
            for one in now:
                raised.setdefault((one.metric, one.layer), one)
        self.looks += 1
        return list(raised.values())

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint has to hold, in plain Python values."""
        own = {"looks": self.looks, "best": dict(self.best), "on": sorted(self.on), "streaks": dict(self.streaks)}
        return own | {"losses": [list(losses) for losses in self.losses]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state_dict()``; states of before know no streaks and no losses."""
        self.looks, self.best, self.on = state["looks"], dict(state["best"]), set(state["on"])
        self.streaks = dict(state.get("streaks", {}))
        training, validation = state.get("losses", ([], []))
        self.losses = list(training), list(validation)

    def _judge(self, key: str, alarm: Alarm, step: int, layer: str, value: float) -> list[Raised]:
        best = self.best[key] = alarm.better(value, self.best.get(key, value))
        if alarm.recovered(value, best):
            self.on.discard(key)
        if not alarm.too_far(value, best):
            self.streaks.pop(key, None)
            return []
        self.streaks[key] = self.streaks.get(key, 0) + 1
        if key in self.on or self.streaks[key] < alarm.looks:
            return []
        self.on.add(key)
        message = alarm.sentence(step, layer, value, best)
        return [Raised(step, layer, alarm.metric, best, value, alarm.threshold(best), message)]

    def _judge_losses(self, key: str, alarm: Overfitting, step: int) -> list[Raised]:
        training, validation = self.losses
        best, value, bound = min(validation), validation[-1], alarm.threshold(validation)
        if value < (best + bound) / 2:
            self.on.discard(key)
        if key in self.on or not alarm.rings(training, validation):
            return []
        self.on.add(key)
        message = (
            f"step {step}: the validation loss is {value:.4g}, its smallest was {best:.4g}, while the training "
            f"loss stands still at {training[-1]:.4g}"
        )
        return [Raised(step, "", "validation_loss", best, value, bound, message)]
