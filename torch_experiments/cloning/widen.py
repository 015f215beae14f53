"""Build the clone: a copy of the module with widened parameters and the sizes that its layers remember."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from theory.tolerances import TWINS, of_dtype
from torch_experiments.cloning.layouts import Layout, Placement, Profile, noise, widened
from torch_experiments.cloning.plan import Plan, make_plan
from torch_experiments.cloning.sizes import WRONG_SIZES, apply, named_sizes, settings, stopped
from torch_experiments.support.draws import seeded
from torch_experiments.support.duplicates import duplicate
from torch_experiments.support.storages import shared_storages, told
from torch_experiments.units.axes import Axis, Order, exponent, find
from torch_experiments.units.graph import Graph, TraceError, Value, unknown_operations
from torch_experiments.units.groups import Attention
from torch_experiments.units.inputs import (
    Inputs,
    call,
    finite,
    flatten,
    inspecting,
    not_finite,
    same_device,
    sample_count,
    samples_between,
)
from torch_experiments.units.trace import trace
from torch_experiments.units.unread import unread_like

Model = TypeVar("Model", bound=nn.Module)
LISTED = 5  # names that a message lists before it counts the others
SAMPLES = 7  # few, and a size that layers rarely have, so that no layer's own size is taken for it


def layout_of(plan: Plan, profiles: Mapping[Axis, Profile] | None = None) -> Layout:
    """Return the placements of a plan; ``profiles`` replace those of single axes (scaled units)."""
    own = {find(axis): profile for axis, profile in (profiles or {}).items()}
    found: dict[Axis, Profile] = {}

    def profile(axis: Axis) -> Profile:
        axis = find(axis)
        if axis not in found:
            index = plan.block(axis)
            found[axis] = own.get(axis) or Profile(index, torch.ones(len(index), dtype=torch.float64))
        return found[axis]

    placements = {}
    for name, value in plan.graph.parameters.items():
        if name in plan.graph.used:
            placements[name] = _placement(plan, name, value, tuple(profile(axis) for axis in value.axes))
    placements |= {name: placements[other] for name, other in repeated(plan.graph).items()}
    outputs = {
        name: Placement(tuple(profile(a) for a in value.axes), exponent=plan.power(value.gauge))
        for name, value in plan.graph.outputs.items()
    }
    return Layout(plan.factor, placements, outputs, plan.graph.dropped)


def _placement(plan: Plan, name: str, value: Value, profiles: tuple[Profile, ...]) -> Placement:
    uses = plan.graph.matrices.get(name, set())
    uneven = frozenset(i for _, i in uses if exponent(value.axes[i], plan.chosen) is None)
    power, c = plan.graph.powers.get(name, ""), plan.exponents.get(name, Fraction(0))
    return Placement(profiles, frozenset(uses), power, c, uneven)


def tied_as_objects(model: nn.Module) -> None:
    """Raise a `TraceError` where two parameters share memory: a clone would give each its own."""
    said = told(shared_storages(model))
    if said:
        raise TraceError(f"model: {said}")


def widen(model: Model, plan: Plan, layout: Layout) -> Model:
    """Return a copy of ``model`` with the plan's sizes and equal blocks."""
    wide = duplicate(model)
    set_known(wide, plan.graph, plan.size)
    return filled(model, wide, layout)


def filled(
    model: nn.Module,
    wide: Model,
    layout: Layout,
    spread: float = 0.0,
    sides: tuple[bool, bool] = (True, True),
    generator: torch.Generator | None = None,
) -> Model:
    """Set the parameters and buffers of ``wide`` from those of ``model``, plus a random part as in `noise`."""
    base = dict(model.named_parameters()) | dict(model.named_buffers())
    mine = dict(wide.named_parameters()) | dict(wide.named_buffers())
    for name, place in layout.placements.items():
        equal = widened(base[name].detach(), place, layout.factor)
        mine[name].data = equal + noise(equal, place, spread, sides, generator) if spread else equal
        mine[name].grad = None
    return wide


def set_known(wide: nn.Module, graph: Graph, size: Callable[[Axis], int]) -> None:
    """Set the sizes that known modules keep beside their parameters."""
    for name, attributes in graph.attributes.items():
        module = wide.get_submodule(name)
        for attribute, axis in attributes.items():
            if hasattr(module, attribute):
                sizes = tuple(size(a) for a in axis) if isinstance(axis, tuple) else size(axis)
                setattr(module, attribute, sizes)


def outputs(model: nn.Module, inputs: Inputs) -> list[Tensor]:
    """Return the output tensors in eval mode, with the same random numbers each time."""
    with inspecting(model), seeded(model, 0):
        return list(flatten(call(model, inputs)))


def evaluated(model: nn.Module, inputs: Inputs, samples: int | Literal["all"]) -> tuple[list[Inputs], list[Tensor]]:
    """Return the first samples in parts of at most `SAMPLES`, and the outputs for all of them.

    Where the network does not run on a part, or tensors share no batch axis, the inputs stay whole. Parts keep
    memory small, which is also faster.
    """
    if samples != "all" and samples < 1:
        raise ValueError(f"samples: got {samples}; give at least 1, or 'all'")
    given = sample_count(inputs)
    count = given if samples == "all" else min(samples, given)
    pieces = max(-(-count // SAMPLES), 1)
    edges = [count * k // pieces for k in range(pieces + 1)]
    if count == given and pieces == 1:
        return [inputs], outputs(model, inputs)
    parts = [samples_between(inputs, *ends) for ends in itertools.pairwise(edges)]
    try:
        return parts, [f for part in parts for f in outputs(model, part)]
    except WRONG_SIZES:
        return [inputs], outputs(model, inputs)


def gap(base: list[Tensor], other: list[Tensor]) -> float:
    """Return ``max |f − g| / max |f|`` over all outputs; infinite where shapes differ or values are not finite."""
    if [f.shape for f in base] != [g.shape for g in other]:
        return math.inf
    size = max(_largest(f.detach()) for f in base)
    off = max(_largest((f - g).detach()) for f, g in zip(base, other, strict=True))
    if not (math.isfinite(size) and math.isfinite(off)):
        return math.inf
    return off / size if size > 0 else (math.inf if off > 0 else 0.0)


def _largest(x: Tensor) -> float:
    """Return ``max |x|``, infinite for NaN, without a copy of ``x`` where it is real."""
    if not x.numel():
        return 0.0
    found = float(x.abs().max() if x.is_complex() else torch.stack(x.aminmax()).abs().max())
    return math.inf if math.isnan(found) else found


def _misfit(wide: nn.Module, plan: Plan, inputs: Inputs, error: Exception | None, off: float) -> TraceError:
    changed = [
        (layer, old) for layer, sizes in named_sizes(plan).items() for old, new in sizes.items() if new != [old]
    ]
    named = ", ".join(f"{old} in {layer!r}" for layer, old in changed) or "none"
    if off < math.inf or error is None:
        return TraceError(
            f"model: the clone runs but computes something else (off by {off:.0e}); a layer uses a size in a "
            f"formula (sizes named: {named}). Compute it from shapes, or register a rule, see CONTRIBUTING"
        )
    stop = stopped(wide, lambda: outputs(wide, inputs))
    layer = stop.running[-1] if stop is not None and stop.running else ""
    kind = type(wide.get_submodule(layer)).__name__
    return TraceError(
        f"layer {layer!r} ({kind}): does not run at its new size: {error}; sizes named: {named}; let a forward "
        "read sizes from tensors (x.shape, -1) or from integer attributes of the module"
    )


def planned(
    model: Model,
    factor: int,
    inputs: Inputs,
    attention: Attention = "heads",
    samples: int | Literal["all"] = SAMPLES,
    order: Order = "interleaved",
) -> tuple[Plan, Layout, Model]:
    """Return plan, layout and the equal clone of ``model``, fitted, and verified on the first ``samples``.

    The trace takes at most `SAMPLES`. Where layers compute a number from their new sizes (attention's ``1/√d``),
    the clone is traced again and the parameters are rescaled for it.

    Raises:
        ValueError: for fewer than one sample.
        TraceError: when no choice of sizes computes the function of the base, or parameters that may have to be
            widened are read by no example.
    """
    same_device(model, inputs)
    tied_as_objects(model)
    parts, base = evaluated(model, inputs, samples)
    _finite(model, base, parts)
    few = parts[0]
    graph = trace(model, few)
    plan = make_plan(graph, factor, attention, order=order)
    if not plan.chosen:
        raise TraceError(_nothing(plan))
    _all_read(plan)
    if graph.unknown:
        warnings.warn(
            f"model: {'; '.join(unknown_operations(graph))}; units that they read are not copied", stacklevel=4
        )
    wide, tolerance = widen(model, plan, layout_of(plan)), of_dtype(TWINS, graph.precision())
    error, closest = None, math.inf
    for setting in settings(wide, plan, lambda: outputs(wide, few)):
        apply(wide, setting)
        try:
            for found in _attempts(model, wide, plan, few, attention):
                off = gap(base, [g for part in parts for g in outputs(wide, part)])
                if off <= tolerance:
                    return found, layout_of(found), wide
                closest = min(closest, off)
        except WRONG_SIZES as problem:
            error = error or problem
    raise _misfit(wide, plan, few, error, closest)


def _attempts(
    model: nn.Module, wide: nn.Module, plan: Plan, inputs: Inputs, attention: Attention
) -> Iterator[Plan]:
    """Yield the plan, then one that rescales parameters for numbers that changed, each with ``wide`` set to it."""
    yield plan
    other = _rescaled(wide, plan, inputs, attention)
    filled(model, wide, layout_of(other))
    yield other
    filled(model, wide, layout_of(plan))


def _rescaled(wide: nn.Module, plan: Plan, inputs: Inputs, attention: Attention) -> Plan:
    """Return the plan that makes up for numbers in the clone's forward that differ from the base's."""
    found = {}
    for k, (old, new) in enumerate(zip(plan.graph.scalars, trace(wide, inputs).scalars, strict=False)):
        if old != new and old * new > 0:
            found[k] = Fraction(math.log(new / old) / math.log(plan.factor)).limit_denominator(64)
    return make_plan(plan.graph, plan.factor, attention, found, plan.order)


def _all_read(plan: Plan) -> None:
    """Check that nothing was left unread that may have to be widened, too."""
    axes = [axis for name in plan.graph.used for axis in plan.graph.parameters[name].axes]
    like, twins = unread_like(plan.graph, {axis.size for axis in axes if plan.copied(axis)}), repeated(plan.graph)
    names = [name for name in like if name not in twins]
    if names:
        listed = ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")
        raise TraceError(
            f"example_inputs: no operation reads {listed}, which may belong to units that are copied (an axis "
            "has as many entries), so the clone could not be run where they are read. Give a list of examples that "
            "reads them, such as [(x, 0), (x, 1)] for two heads; take them out of the model where nothing does in "
            "eval mode"
        )


def repeated(graph: Graph) -> dict[str, str]:
    """Return the buffers that nothing reads and that equal one of their module which is read, with that one.

    So are values kept as they were at first; they are copied like the other one.
    """
    buffers = dict(graph.modules[""].named_buffers())
    found = {}
    for name in (name for name in buffers if name in graph.parameters and name not in graph.used):
        for other in (other for other in buffers if other in graph.used):
            if name.rpartition(".")[0] == other.rpartition(".")[0] and torch.equal(buffers[name], buffers[other]):
                found[name] = other
    return found


def _finite(model: nn.Module, base: list[Tensor], parts: list[Inputs]) -> None:
    if not finite(base):
        layer = next(filter(None, (not_finite(model, part) for part in parts)), "")
        raise TraceError(
            f"layer {layer!r}: its activations are not finite on the example inputs; "
            "clone a network whose outputs are"
        )


def _nothing(plan: Plan) -> str:
    reasons = sorted({reason for said in plan.kept().values() for reason in said.split("; ")})
    return f"model: it has no unit that could be copied: {'; '.join(reasons) or 'it has no parameters'}"
