"""The metrics by name: what each one reads, what it costs, and where it comes from.

A metric is one function. `unit_metric` takes a layer's `metrics.Statistics`, `parameter_metric` a
`parameter_measures.Parameters`, `attention_metric` the `metrics.attention.Heads` of a layer, `network_metric` a
`probe.Probe`; each returns a number, or None where it is not
defined:

    @unit_metric("Own definition.")
    def largest_mean(s: Statistics) -> float:
        return float((s.moments.total / s.moments.n).max())

From then on `diagnose` reports it under its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["units", "parameters", "attention", "network"]
Function = Callable[[Any], float | None]


@dataclass(frozen=True)
class Metric:
    """A diagnostic.

    Attributes:
        name: under which it is reported.
        function: of the statistics of its level; None where the metric is not defined.
        level: ``"units"`` of a layer, ``"parameters"`` of a module, heads of an ``"attention"``, or the whole
            ``"network"``.
        source: the paper that defines it.

    >>> Metric("zero", lambda s: 0.0, "units", "Own definition.").fast
    True
    """

    name: str
    function: Function
    level: Level
    source: str

    @property
    def fast(self) -> bool:
        """Return whether a forward and a backward pass are enough, and one more of some samples for attention."""
        return self.level != "network"


METRICS: dict[str, Metric] = {}


def unit_metric(source: str, name: str = "") -> Callable[[Function], Function]:
    """Register a metric of the units of a layer, under ``name`` or the function's own name.

    >>> _ = unit_metric("Own definition.", "largest_mean")(lambda s: float((s.moments.total / s.moments.n).max()))
    >>> METRICS.pop("largest_mean").level
    'units'
    """
    return _registering("units", source, name)


def parameter_metric(source: str, name: str = "") -> Callable[[Function], Function]:
    """Register a metric of the parameters of a module, and of all of them together.

    >>> _ = parameter_metric("Own definition.", "tensors")(lambda p: float(len(p.values)))
    >>> METRICS.pop("tensors").fast
    True
    """
    return _registering("parameters", source, name)


def attention_metric(source: str, name: str = "") -> Callable[[Function], Function]:
    """Register a metric of the heads of an attention.

    >>> _ = attention_metric("Own definition.", "heads")(lambda heads: float(len(heads.entropy)))
    >>> METRICS.pop("heads").fast
    True
    """
    return _registering("attention", source, name)


def network_metric(source: str, name: str = "") -> Callable[[Function], Function]:
    """Register a metric of the network; those are computed on request only, as they need many passes.

    >>> _ = network_metric("Own definition.", "trained")(lambda p: float(p.size))
    >>> METRICS.pop("trained").fast
    False
    """
    return _registering("network", source, name)


def chosen(metrics: str | Iterable[str]) -> Mapping[str, Metric]:
    """Return the metrics of ``"fast"``, ``"full"``, or those with the given names.

    Raises:
        ValueError: for a name that is not registered; the message lists those that are.

    >>> from torch_experiments import diagnostics  # registers them
    >>> list(chosen(["dead_fraction"]))
    ['dead_fraction']
    """
    if metrics == "full":
        return dict(METRICS)
    if metrics == "fast":
        return {name: metric for name, metric in METRICS.items() if metric.fast}
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    for name in names:
        if name not in METRICS:
            raise ValueError(f"metrics: got {name!r}; allowed are 'fast', 'full', or some of {', '.join(METRICS)}")
    return {name: METRICS[name] for name in names}


def _registering(level: Level, source: str, name: str) -> Callable[[Function], Function]:
    def register(function: Function) -> Function:
        own = name or getattr(function, "__name__", "")
        METRICS[own] = Metric(own, function, level, source)
        return function

    return register
