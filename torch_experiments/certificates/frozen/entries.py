"""Which entries of parameters get no gradient because units are frozen, read off the structure of the network.

The trace runs again with random weights and inputs, and with random slopes at every activation; frozen units have
slope zero, and the value zero where theirs is. Gradients of a random combination of the outputs are polynomials in
these random numbers: one that is exactly zero in every draw is the zero polynomial with probability one, so it is
zero for whatever weights, inputs, losses and other units' slopes. Claimed are entries with a zero polynomial whose
gradient is not zero when nothing is frozen. Maxima become means, so that no path hides behind another one. The
numbers have at least 24 bits, also where the network's own have eight, whose sums vanish by chance; where they
overflow, they are doubles, and where these overflow too, that is said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from torch_experiments.certificates.frozen.activation_sites import Site
from torch_experiments.certificates.frozen.composites import composites, hidden_within
from torch_experiments.certificates.frozen.replay import Replay, as_tensors, changes, needed, plain_name
from torch_experiments.certificates.oracle import Reach
from torch_experiments.units.graph import Graph, Step
from torch_experiments.units.inputs import flatten

DRAWS = 2  # a polynomial that is not zero vanishes in one with probability zero; two guard against underflow
# A gradient that is zero on one side of their jumps need not be zero on the other, so nothing can be claimed.
CHOICES = frozenset({
    "gt", "lt", "ge", "le", "eq", "ne", "sign", "sgn", "sort", "topk", "argmax", "argmin", "max", "min", "cummax",
    "cummin", "heaviside", "floor", "ceil", "round", "trunc", "kthvalue", "median", "mode", "isnan", "isinf",
    "searchsorted", "bucketize", "_unique2", "nonzero", "remainder", "fmod", "max_pool3d_with_indices",
    "adaptive_max_pool3d",
})  # fmt: skip
# Where they are defined their slopes are not zero: random ones stand for these, which are defined everywhere.
CURVES = frozenset({
    "exp", "exp2", "expm1", "sinh", "cosh", "log", "log2", "log10", "log1p", "sqrt", "rsqrt",
})  # fmt: skip


class OverflowedError(ValueError):
    """Random numbers that leave the range of float64 in some network, so that nothing is read off them."""


class ChoiceError(ValueError):
    """A network whose path depends on its numbers, so that its structure does not tell which gradients are zero."""


Flat = Mapping[int, tuple[Tensor, Tensor]]


class RandomDomain:
    """The domain of random numbers.

    Args:
        leaves: random values of parameters and inputs, by the ids of their tensors.
        frozen: by the number of a step, for every entry of the activation's argument, whether its slope and whether
            its value is zero.
        generator: of the slopes.
        least: the coarsest floating dtype that is computed in.
    """

    def __init__(
        self, leaves: Mapping[int, Tensor], frozen: Flat, generator: torch.Generator, least: torch.dtype
    ) -> None:
        self.leaves, self.frozen, self.generator, self.least = leaves, frozen, generator, least

    def leaf(self, tensor: Tensor) -> Tensor:
        """Return a random parameter or input, or the tensor itself."""
        found = self.leaves.get(id(tensor), tensor)
        return found.to(finer(found.dtype, self.least))

    def unknown(self, tensor: Tensor) -> Tensor:
        """Refuse: a tensor that was written into through another one has unknown contents."""
        raise ChoiceError(f"a tensor of shape {tuple(tensor.shape)} is changed in place while another one shows it")

    def apply(self, step: Step) -> list[Tensor]:
        """Return random results of an operation."""
        name = plain_name(step)
        if isinstance(kind := step.kwargs.get("dtype"), torch.dtype):
            step = step._replace(kwargs={**step.kwargs, "dtype": finer(kind, self.least)})
        if not any(x.is_floating_point() for x in flatten(step.args)):
            found: Any = _call(step)  # positions, say, which no weight reaches: clamped or in absolute value
        elif step.activation is not None or name in CURVES:
            found = self._activate(step)
        elif name in STAND_INS:
            found = STAND_INS[name](step)
        elif torch.Tag.nondeterministic_seeded in step.func.tags:
            found = _drawn(step)
        elif name in CHOICES and any(isinstance(x, Tensor) and x.requires_grad for x in step.args):
            raise ChoiceError(f"layer {step.layer or '(top level)'!r}: {name} makes the path depend on numbers")
        else:
            found = _call(step)
        return as_tensors(found)

    def _activate(self, step: Step) -> list[Tensor]:
        x = step.args[0]
        return [self.line(step.number, x), *(x.new_zeros(y.shape) for y in as_tensors(step.result)[1:])]

    def line(self, number: int, x: Tensor) -> Tensor:
        """Return ``x`` times random slopes plus random shifts, both zero where units of a step are frozen so."""
        slope, shift = (1 + torch.rand(x.shape, generator=self.generator) for _ in range(2))
        slope, shift = slope.to(x), shift.to(x)
        if number in self.frozen:
            flat, zero = self.frozen[number]
            slope, shift = slope.masked_fill(flat, 0), shift.masked_fill(zero, 0)
        return x * slope + shift


class Probe(Replay[Tensor]):
    """A trace on random numbers: a composite whose path depends on them is a line as any activation.

    Other composites are computed, so that what holds of their parts is used; their frozen units alone are lines.
    """

    def __init__(self, graph: Graph, domain: RandomDomain) -> None:
        found = composites(graph)
        choosing = [f for f in found if any(plain_name(step) in CHOICES for step in f.bends)]
        self.lines = {f.steps[-1].number: f for f in choosing}
        self.others = {f.steps[-1].number: f for f in found if f.steps[-1].number not in self.lines}
        self.passed = hidden_within(graph, choosing)
        self.random = domain
        self.needed = needed(graph)
        super().__init__(graph, domain)

    def _run(self, step: Step) -> None:
        if step.number in self.passed or step.number not in self.needed:
            return
        if step.number in self.lines:
            line = self.random.line(step.number, self.value(self.lines[step.number].argument))
            self._bind(as_tensors(step.result)[0], line)
            return
        super()._run(step)
        if step.number in self.others and step.number in self.random.frozen:
            result = as_tensors(step.result)[0]
            line = self.random.line(step.number, self.value(self.others[step.number].argument))
            flat = self.random.frozen[step.number][0].to(line.device)
            self._bind(result, torch.where(flat, line, self.value(result)))


def finer(kind: torch.dtype, least: torch.dtype) -> torch.dtype:
    """Return a dtype, or ``least`` where it is a coarser floating one."""
    coarser = kind.is_floating_point and torch.finfo(kind).eps > torch.finfo(least).eps
    return least if coarser else kind


def _call(step: Step) -> Any:
    """Call an operation on copies of what it changes in place.

    Raises:
        ChoiceError: where it does not run on numbers of other kinds than those of the trace.
    """
    args = [x.clone() if isinstance(x, Tensor) else x for x in step.args] if changes(step) else step.args
    try:
        return step.func(*args, **step.kwargs)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        first = str(error).partition("\n")[0]
        place = f"layer {step.layer or '(top level)'!r}: {plain_name(step)}"
        raise ChoiceError(f"{place} does not run on random numbers ({first})") from error


def _drawn(step: Step) -> list[Tensor]:
    """Return the random numbers of the trace: what probes put in the place of probabilities may be none."""
    kinds = [x.dtype for x in step.args if isinstance(x, Tensor) and x.is_floating_point()]
    return [y.detach().to(kinds[0]) if kinds and y.is_floating_point() else y for y in as_tensors(step.result)]


def _window_mean(step: Step) -> tuple[Tensor, Tensor]:
    given = step.arguments
    if given["dilation"] not in ([1, 1], [1], 1):
        raise ChoiceError(f"layer {step.layer!r}: a pool with dilation has no stand-in")
    options = (given["kernel_size"], given["stride"] or None, given["padding"], given["ceil_mode"])
    return torch.nn.functional.avg_pool2d(step.args[0], *options), step.result[1]


def _adaptive_mean(step: Step) -> tuple[Tensor, Tensor]:
    return torch.nn.functional.adaptive_avg_pool2d(step.args[0], step.args[1]), step.result[1]


def _real(x: Tensor) -> Tensor:
    """Return a real multiple, of any factor but 0 and ±1: linear, so that gradients stay polynomials."""
    return x.real * 1.5 + x.imag * 0.5 if x.is_complex() else x * 1.5


def _mean(step: Step) -> Tensor:
    return step.args[0].mean(step.arguments["dim"] or None, keepdim=step.arguments["keepdim"])


STAND_INS: Mapping[str, Callable[[Step], Any]] = {
    "max_pool2d_with_indices": _window_mean,
    "adaptive_max_pool2d": _adaptive_mean,
    "amax": _mean,
    "amin": _mean,
    "abs": lambda step: _real(step.args[0]),
    "maximum": lambda step: step.args[0] * 0.4 + step.args[1] * 0.6,
    "minimum": lambda step: step.args[0] * 0.6 + step.args[1] * 0.4,
}


Flags = Mapping[Site, tuple[Tensor, Tensor]]


def zero_entries(
    graph: Graph, parameters: Mapping[str, Tensor], several: Sequence[Flags]
) -> list[dict[str, Tensor]]:
    """Return by name, for every entry of a parameter, whether frozen units keep its gradient at zero; bool.

    Args:
        graph: of the trace.
        parameters: that are trained.
        several: sets of frozen units; of each the units of every site, whether their slope and whether their value
            is zero. One answer each.

    Raises:
        ChoiceError: where the path of the network depends on its numbers.
    """
    masks = [_spread(frozen) for frozen in several]
    claimed = [{name: torch.ones_like(p, dtype=torch.bool) for name, p in parameters.items()} for _ in several]
    for seed in range(DRAWS if any(several) else 0):
        free = _gradients(graph, parameters, {}, seed)
        for found, mask in zip(claimed, masks, strict=True):
            held = _gradients(graph, parameters, mask, seed)
            for name, entries in found.items():
                entries &= (held[name] == 0) & (free[name] != 0)
    return claimed


def contradicted(reach: Reach, claimed: Mapping[str, Tensor]) -> list[str]:
    """Return the parameters whose claimed entries get a gradient in a real backward pass.

    None does, unless some backward pass is not that of its operations, as of a straight-through estimate.
    """
    wanted = [name for name, entries in claimed.items() if bool(entries.any())]
    known = {name: gradient.abs() for name, gradient in reach.gradients_of(wanted).items()}
    noise = max((float(g.max()) * torch.finfo(g.dtype).eps for g in known.values()), default=0.0)
    return [n for n, g in known.items() if float(g[claimed[n]].max()) > noise]


def probe_of(
    graph: Graph, parameters: Mapping[str, Tensor], flags: Flags, seed: int
) -> tuple[Replay[Tensor], dict[str, Tensor], torch.Generator]:
    """Return the trace with random numbers and frozen units, its random parameters by name, and the generator."""
    with torch.enable_grad():
        return _probed(graph, parameters, _spread(flags), seed, torch.float64)


def _spread(flags: Flags) -> dict[int, tuple[Tensor, ...]]:
    return {site.step.number: tuple(site.spread(f, site.argument) for f in own) for site, own in flags.items()}


def _probed(
    graph: Graph, parameters: Mapping[str, Tensor], frozen: Mapping[int, Any], seed: int, least: torch.dtype
) -> tuple[Replay[Tensor], dict[str, Tensor], torch.Generator]:
    generator = torch.Generator().manual_seed(seed)
    leaves = {name: _random(p, generator, _fan_in(p), least) for name, p in parameters.items()}
    inputs = [x for x in graph.given if x.is_floating_point()]
    known = {id(parameters[name]): leaf for name, leaf in leaves.items()}
    probe = RandomDomain(known | {id(x): _random(x, generator, 1, least) for x in inputs}, frozen, generator, least)
    return Probe(graph, probe), leaves, generator


def _gradients(
    graph: Graph, parameters: Mapping[str, Tensor], frozen: Mapping[int, Any], seed: int
) -> dict[str, Tensor]:
    with torch.enable_grad():
        for least in (torch.float32, torch.float64):
            replay, leaves, generator = _probed(graph, parameters, frozen, seed, least)
            outputs = [replay.value(y) for y in graph.returned if y.is_floating_point()]
            loss = sum((y * _random(y, generator, 1, least).detach()).sum() for y in outputs)
            found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)  # type: ignore[arg-type]
            named = {
                name: torch.zeros_like(p) if g is None else g
                for (name, p), g in zip(parameters.items(), found, strict=True)
            }
            beyond = [name for name, g in named.items() if not bool(g.isfinite().all())]
            if not beyond:
                return named
    raise OverflowedError(
        f"random numbers in the place of weights overflow, or have no logarithm, in its gradients at "
        f"{', '.join(beyond)}, so they do not tell which entries have none"
    )


def _fan_in(p: Tensor) -> int:
    return max(p.numel() // max(len(p), 1), 1) if p.ndim > 1 else 1


def _random(x: Tensor, generator: torch.Generator, fan_in: int, least: torch.dtype) -> Tensor:
    values = torch.randn(x.shape, generator=generator, dtype=finer(x.dtype, least)) / fan_in**0.5
    return values.to(x.device).requires_grad_()
