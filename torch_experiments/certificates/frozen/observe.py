"""What activations see and do on given batches, unit by unit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torch_experiments.certificates.frozen.activation_sites import Site
from torch_experiments.certificates.frozen.replay import as_tensors, changes
from torch_experiments.certificates.oracle import DRAWS, draws, left_alone
from torch_experiments.support.torch_private import TorchDispatchMode
from torch_experiments.units.graph import Graph, Step
from torch_experiments.units.inputs import Inputs, call, reference_kernels


@dataclass(frozen=True, eq=False)
class Seen:
    """What the units behind one activation ``f`` did on all positions of all samples, each of shape ``[units]``.

    Attributes:
        low, high: smallest and largest pre-activation.
        slope: largest ``|f'(z)|``, by torch.autograd in the network's own dtype.
        flat: whether every ``z`` lies where ``f`` is constant.
        zero: whether every ``f(z)`` is zero.
        count: number of values of a unit.
    """

    low: Tensor
    high: Tensor
    slope: Tensor
    flat: Tensor
    zero: Tensor
    count: int

    def __add__(self, other: Seen) -> Seen:
        """Return what was seen on both."""
        return Seen(
            torch.minimum(self.low, other.low),
            torch.maximum(self.high, other.high),
            torch.maximum(self.slope, other.slope),
            self.flat & other.flat,
            self.zero & other.zero,
            self.count + other.count,
        )


class Capture(TorchDispatchMode):
    """Keep the arguments of activations, which run in the order of the trace."""

    def __init__(self, graph: Graph, sites: Iterable[Site]) -> None:
        super().__init__()
        self.wanted = {site.step.number: site for site in sites}
        self.coming = [step for step in graph.steps if step.activation is not None]
        self.found: dict[Site, Step] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run ``func``; of an activation, keep what it got."""
        step = Step(0, "", 0, func, args, kwargs or {}, None)
        if step.activation is not None:
            self._keep(step)
        return func(*args, **(kwargs or {}))

    def _keep(self, step: Step) -> None:
        expected = self.coming.pop(0) if self.coming else None
        if expected is None or expected.func is not step.func:
            there = "no activation" if expected is None else f"{expected.name} of {expected.layer!r}"
            raise ValueError(f"batches: {step.name} ran in the place of {there}; give batches that run alike")
        if expected.number in self.wanted:
            kept = (step.args[0].clone(), *step.args[1:]) if changes(step) else step.args
            self.found[self.wanted[expected.number]] = expected._replace(args=kept, kwargs=step.kwargs)


def observe(model: nn.Module, graph: Graph, sites: Sequence[Site], batches: Iterable[Inputs]) -> dict[Site, Seen]:
    """Return what every activation saw over all batches, in the network's mode; ``DRAWS`` passes if it draws."""
    found: dict[Site, Seen] = {}
    with left_alone(model):
        for inputs in batches:
            for _ in range(DRAWS if draws(model) else 1):
                for site, step in _captured(model, graph, sites, inputs).items():
                    new = _seen(site, step)
                    found[site] = found[site] + new if site in found else new
    return found


def _captured(model: nn.Module, graph: Graph, sites: Sequence[Site], inputs: Inputs) -> dict[Site, Step]:
    capture = Capture(graph, sites)
    with ExitStack() as stack:
        for context in (reference_kernels(), torch.no_grad(), capture):
            stack.enter_context(context)
        call(model, inputs)
    return capture.found


def _seen(site: Site, step: Step) -> Seen:
    z = step.args[0]
    value, slope = differentiated(step, z)
    flat = torch.zeros_like(z, dtype=torch.bool)
    for piece in site.activation.flat:
        flat |= (z >= piece.low) & (z <= piece.high)
    return Seen(
        -site.largest(-z).double(),
        site.largest(z).double(),
        site.largest(slope.abs()).double(),
        site.largest((~flat).double()) == 0,
        site.largest(value.abs()) == 0,
        z.numel() // site.units,
    )


def differentiated(step: Step, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``f(z)`` and ``f'(z)``, of the shape of ``z``, as torch.autograd computes it for a step's ``f``."""
    with torch.enable_grad():
        x = z.detach().clone().requires_grad_()
        y = as_tensors(step.func(x.clone() if changes(step) else x, *step.args[1:], **step.kwargs))[0]
        (slope,) = torch.autograd.grad(y, x, torch.ones_like(y))
    return y.detach(), slope


def steepest(step: Step) -> float:
    """Return the largest ``|f'|`` on a grid of step 1/200 over [−20, 20]; 1 where ``f`` has parameters."""
    if any(isinstance(x, Tensor) for x in step.args[1:]):
        return 1.0
    grid = torch.linspace(-20, 20, 8001, dtype=torch.float64)
    return float(differentiated(step, grid)[1].abs().max())
