"""What activations see and do on given batches, unit by unit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torch_experiments.certificates.frozen.activation_sites import Site
from torch_experiments.certificates.frozen.replay import as_tensors, changes
from torch_experiments.certificates.frozen.softmaxes import Softmaxes
from torch_experiments.certificates.oracle import left_alone
from torch_experiments.support.torch_private import TorchDispatchMode
from torch_experiments.units.graph import Graph, Step
from torch_experiments.units.inputs import Inputs, call, flatten, reference_kernels, settled


class UnlikeError(ValueError):
    """A batch, or the mode of the network, in which other activations run than in the trace."""


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
    """Keep the arguments of activations, which run in the order of the trace.

    Of composites every operation is kept. These are of kinds that occur elsewhere too, so all operations of these
    kinds have to run in the order of the trace (``aligned``); products with what dropout draws are passed over.
    """

    def __init__(self, graph: Graph, sites: Iterable[Site], softmaxes: Softmaxes) -> None:
        super().__init__()
        self.softmaxes = softmaxes
        self.wanted = {site.step.number: site for site in sites if site.composite is None}
        self.spelled = [site for site in sites if site.composite is not None]
        parts = {step.number for site in self.spelled if site.composite for step in site.composite.steps}
        kinds = {step.func for step in graph.steps if step.number in parts}
        self.coming = [step for step in graph.steps if step.activation is not None]
        self.parts, self.kinds, self.ran = parts, kinds, dict[int, Step]()
        self.following = [step for step in graph.steps if step.func in kinds]
        self.aligned = True
        self.drawn: list[Tensor] = []  # kept alive, so that their identities stay theirs
        self.found: dict[Site, Step] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run ``func``; of an activation, keep what it got."""
        step = Step(0, "", 0, func, args, kwargs or {}, None)
        if step.activation is not None:
            self._keep(step)
        result = func(*args, **(kwargs or {}))
        self.softmaxes.note(step._replace(result=result))
        if self.kinds:
            self._follow(step._replace(result=result))
        return result

    def _keep(self, step: Step) -> None:
        expected = self.coming.pop(0) if self.coming else None
        if expected is None or expected.func is not step.func:
            there = "no activation" if expected is None else f"{expected.name} of {expected.layer!r}"
            raise UnlikeError(f"batches: {step.name} ran in the place of {there}; give batches that run alike")
        if expected.number in self.wanted:
            kept = (step.args[0].clone(), *step.args[1:]) if changes(step) else step.args
            self.found[self.wanted[expected.number]] = expected._replace(args=kept, kwargs=step.kwargs)

    def _follow(self, step: Step) -> None:
        if torch.Tag.nondeterministic_seeded in step.func.tags:
            self.drawn += flatten([step.result])
        if step.func not in self.kinds or any(x is t for x in flatten([step.args]) for t in self.drawn):
            return
        expected = self.following.pop(0) if self.following else None
        self.aligned &= expected is not None and expected.func is step.func
        if self.aligned and expected is not None and expected.number in self.parts:
            self.ran[expected.number] = step


def observe(
    model: nn.Module,
    graph: Graph,
    sites: Sequence[Site],
    batches: Iterable[Inputs],
    softmaxes: Softmaxes,
    passes: int = 1,
) -> dict[Site, Seen]:
    """Return what every activation saw over all batches, in the network's mode, in so many passes of each.

    What softmaxes did is noted in ``softmaxes``.

    Composites are left out where the network's mode, or a batch, runs other operations than the trace.
    """
    found: dict[Site, Seen] = {}
    lost: set[Site] = set()
    with left_alone(model):
        for inputs in batches:
            for _ in range(passes):
                capture = _captured(model, graph, sites, inputs, softmaxes)
                aligned = capture.aligned and not capture.following
                lost |= set() if aligned else set(capture.spelled)
                seen = {site: _seen(site, *_of_one(step)) for site, step in capture.found.items()}
                if aligned:
                    seen |= {site: _seen(site, *_of_several(site, capture.ran)) for site in capture.spelled}
                for site, new in seen.items():
                    found[site] = found[site] + new if site in found else new
    return {site: found[site] for site in sites if site in found and site not in lost}


def _captured(
    model: nn.Module, graph: Graph, sites: Sequence[Site], inputs: Inputs, softmaxes: Softmaxes
) -> Capture:
    capture = Capture(graph, sites, softmaxes)
    softmaxes.begin()
    with ExitStack() as stack:
        for context in (reference_kernels(), settled(model), torch.no_grad(), capture):
            stack.enter_context(context)
        call(model, inputs)
    return capture


def _of_one(step: Step) -> tuple[Tensor, Tensor, Tensor]:
    z = step.args[0]
    return (z, *differentiated(step, z))


def _of_several(site: Site, ran: Mapping[int, Step]) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``z``, ``f(z)`` and ``f'(z)`` of a composite; a slope where torch knows none is zero."""
    assert site.composite is not None
    z = site.composite.found(ran)
    with torch.enable_grad():
        x = z.detach().clone().requires_grad_()
        y = site.composite.value(ran, x)
        slope = torch.autograd.grad(y, x, torch.ones_like(y))[0] if y.requires_grad else torch.zeros_like(x)
    return z, y.detach(), slope


def _seen(site: Site, z: Tensor, value: Tensor, slope: Tensor) -> Seen:
    flat = torch.zeros_like(z, dtype=torch.bool)
    for piece in site.activation.flat:
        flat |= (z >= piece.low) & (z <= piece.high)
    if site.composite is not None and site.composite.straight:
        flat = slope == 0
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
