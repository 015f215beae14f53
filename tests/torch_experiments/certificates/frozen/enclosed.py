"""Networks as DAGs of the theory, and bounds on what they return."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from theory.network import Network
from torch_experiments.certificates.frozen.bounds import Bounds, boxed, parameter_balls
from torch_experiments.certificates.frozen.intervals import Interval
from torch_experiments.certificates.frozen.replay import Replay
from torch_experiments.units import trace

DOUBLE = torch.float64


def bounds_of(model: nn.Module, x: Tensor, box: tuple[float, float], radius: float = 0.0) -> Interval:
    """Return bounds of the output."""
    graph = trace(model, x)
    inputs = {id(t): b for t, b in zip(graph.given, boxed(graph.given, box), strict=True)}
    leaves = parameter_balls(dict(model.named_parameters()), radius) | inputs
    replay: Replay[Interval] = Replay(graph, Bounds(leaves))
    return replay.value(graph.returned[0])


def as_network(model: nn.Module) -> Network:
    """Return an MLP with ReLU as a DAG of units: inputs, a constant, hidden units, outputs."""
    layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
    weights = [m.weight.detach().numpy() for m in layers]
    return Network.layered(weights, "relu", biases=[m.bias.detach().numpy() for m in layers])
