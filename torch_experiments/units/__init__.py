"""Units of any network: a traced graph of feature axes, and rules a module family."""

from torch_experiments.units.graph import Graph, TraceError, Value, plus
from torch_experiments.units.registry import Call, module, operation
from torch_experiments.units.trace import trace

__all__ = [
    "Call",
    "Graph",
    "TraceError",
    "Value",
    "module",
    "operation",
    "plus",
    "trace",
]
