"""Units of any network: a traced graph of feature axes, rules a module family, and cloning on top of them."""

from torch_experiments.units.graph import Graph, TraceError, Value, plus
from torch_experiments.cloning.layouts import Layout, Placement, Profile, Residual, residuals_of
from torch_experiments.cloning.plan import Plan, make_plan
from torch_experiments.units.registry import Call, module, operation
from torch_experiments.units.trace import trace

__all__ = [
    "Call",
    "Graph",
    "Layout",
    "Placement",
    "Plan",
    "Profile",
    "Residual",
    "TraceError",
    "Value",
    "make_plan",
    "module",
    "operation",
    "plus",
    "residuals_of",
    "trace",
]
