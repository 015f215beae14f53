"""Verify a clone against its base: weights for all inputs at once, activations and outputs on samples.

Two checks complement each other. A linear map takes copies to copies of what the base computes if and only if
its weights, summed over the copies of each input, are the base's (row-equitable, with the base's sums). That is
algebra on weights: it needs no data, so it sees units that are dead on the samples and tokens that do not occur.
Whether the operations between the maps (norms, attention, a layer's own formulas) take copies to copies is a
question of code and sizes, not of entries: that is run, on few samples, module by module and from end to end. What
only rare inputs do, a branch of ``torch.where`` taken by few samples, say, is seen with ``samples="all"`` only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from theory.tolerances import TWINS, of_dtype
from torch_experiments.cloning.layouts import Layout, Placement, identity, rescaled, scaled, widened
from torch_experiments.cloning.widen import SAMPLES, evaluated, gap, outputs
from torch_experiments.support.precision import in_float32
from torch_experiments.units.entry import Callee, calling, prepared, unwrapped
from torch_experiments.units.graph import coarsest
from torch_experiments.units.hooks import hooked, outputs_of
from torch_experiments.units.inputs import Inputs, flatten, same_device, sample_count


@dataclass(frozen=True)
class Verification:
    """How far a clone is from its base; every number is ``max |f − g| / max |f|``, infinite for NaN and shapes.

    Attributes:
        function: of the outputs, on the samples.
        weights: by layer, of the sums over copies of all its parameters and buffers; for all inputs.
        activations: by module in order of execution, of its output, on the samples as `verify` says.
        samples: number of samples that were run; 0 where the inputs have no common batch axis and ran as they are.
        tolerance: rounding of this depth and precision, `theory.tolerances.TWINS`.

    >>> Verification(0.0, {"0": 0.5}, {"act": 0.0}, samples=7, tolerance=1e-11).off
    ['0']
    """

    function: float
    weights: Mapping[str, float]
    activations: Mapping[str, float]
    samples: int
    tolerance: float

    @property
    def kept(self) -> bool:
        """Whether all three are within the tolerance."""
        return self.function <= self.tolerance and not self.off

    @property
    def off(self) -> list[str]:
        """Layers whose weights are not within the tolerance, then modules whose outputs are not, in order."""
        named = [*self.weights.items(), *self.activations.items()]
        return list(dict.fromkeys(name for name, value in named if not value <= self.tolerance))


def verify(
    twin: nn.Module,
    base: nn.Module,
    place: Layout,
    inputs: Inputs,
    *,
    samples: int | Literal["all"] = SAMPLES,
    call: Callee = None,
) -> Verification:
    """Return how far ``twin`` is from being a clone of ``base``, in eval mode: weights, activations, outputs.

    Weights are compared for all inputs at once, see `sum_deviations`. The first ``samples`` of ``inputs`` run
    through both networks; a full pass of a network of doubled width costs four times one of the base. A module's
    output is compared with the base's, copied and times its power of the factor, on the first `SAMPLES` of them
    and wherever outputs differ; one that has samples and units in a single axis is left out when the batch is not
    of the size that was traced.

    Args:
        twin: the network to verify.
        base: the network that it should compute.
        place: where its copies lie, `layout` of the base.
        inputs: as in `clone`.
        samples: how many to run, or ``"all"``.
        call: what is called in the place of the forward, as in `certify`.

    Raises:
        ValueError: for fewer than one sample, or a network without a parameter or module of the layout.
        TraceError: for inputs on another device than a network.

    >>> from torch_experiments.cloning import clone, layout
    >>> base, x = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).double(), torch.eye(2).double()
    >>> verify(clone(base), base, layout(base), x).kept
    True
    """
    twin, base = unwrapped(twin), unwrapped(base)
    with calling(twin, call), calling(base, call), in_float32():
        inputs = prepared(base, inputs)
        for argument, model in (("twin", twin), ("base", base)):
            _fits(argument, model, place)
            same_device(model, inputs)
        weights = sum_deviations(twin, base, place)
        parts, f = evaluated(base, inputs, samples)
        tolerance = of_dtype(TWINS, coarsest([*twin.parameters(), *f]))
        g, activations = _compared(twin, base, place, parts[0])
        for k, part in enumerate(parts[1:], start=1):
            found = outputs(twin, part)
            g += found
            if not gap(f[k * len(found) : len(g)], found) <= tolerance:
                off = _compared(twin, base, place, part)[1]
                activations |= {name: max(off[name], activations.get(name, 0.0)) for name in off}
        return Verification(gap(f, g), weights, activations, sum(map(sample_count, parts)), tolerance)


def _fits(argument: str, model: nn.Module, place: Layout) -> None:
    known = {name for name, _ in (*model.named_parameters(), *model.named_buffers(), *model.named_modules())}
    missing = next((name for name in (*place.placements, *place.outputs) if name not in known), None)
    if missing is not None:
        raise ValueError(
            f"{argument}: has no {missing!r}, which `place` tells the copies of; pass the layout of this base"
        )


def sum_deviations(twin: nn.Module, base: nn.Module, place: Layout) -> dict[str, float]:
    """Return by layer how far its weights, summed over copies of inputs, are from the base's, without data.

    For a linear map ``max |Σ_{u∈S_j} s_u w(u→v) − n_j s_v w̃_ij factor**c|`` over ``v ∈ S_i`` and ``j``, relative to
    the largest second term, with ``w̃`` of the base; for biases, norms and statistics, which are not summed,
    ``max |b_v − s_v b̃_i factor**c|``. The largest of a layer's parameters and buffers. A parameter that is used
    as a linear map and in another way too is compared as a map only.

    >>> from torch_experiments.cloning import clone, layout
    >>> base = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).double()
    >>> max(sum_deviations(clone(base), base, layout(base)).values()) < 1e-12
    True
    """
    mine = dict(twin.named_parameters()) | dict(twin.named_buffers())
    theirs = dict(base.named_parameters()) | dict(base.named_buffers())
    found: dict[str, float] = {}
    for name, where in place.placements.items():
        layer = name.rpartition(".")[0]
        off = max(_sums_off(_number(mine[name]), _number(theirs[name]), where, place.factor))
        found[layer] = max(found.get(layer, 0.0), off)
    return found


def _sums_off(W: Tensor, base: Tensor, place: Placement, factor: int) -> Iterator[float]:
    """Yield the deviation for every input dimension, or that of the entries where there is none."""
    if W.shape != torch.Size(len(profile.block) for profile in place.profiles):
        yield float("inf")
        return
    inputs = {in_dim for _, in_dim in place.matrices}
    for dim in inputs:
        yield gap([_base_sums(base, place, dim, factor)], [place.profiles[dim].sums(W, dim)])
    if not inputs:
        yield gap([widened(base, place, factor)], [W])


def _base_sums(base: Tensor, place: Placement, dim: int, factor: int) -> Tensor:
    """Return what the sums over the copies along ``dim`` have to be: the base's weights, copied elsewhere."""
    profile = place.profiles[dim]
    profiles = (*place.profiles[:dim], identity(base.shape[dim]), *place.profiles[dim + 1 :])
    sums = widened(base, place._replace(profiles=profiles, uneven=place.uneven - {dim}), factor)
    return sums if dim in place.uneven else scaled(sums, profile.block.bincount(), dim)


def _number(parameter: Tensor) -> Tensor:
    """Return the entries, those of counters and masks as float64."""
    x = parameter.detach()
    return x if x.is_floating_point() or x.is_complex() else x.double()


def _compared(
    twin: nn.Module, base: nn.Module, place: Layout, inputs: Inputs
) -> tuple[list[Tensor], dict[str, float]]:
    """Run both networks, and return the outputs of ``twin`` and the deviations of its modules."""
    seen: dict[str, Tensor] = {}
    found: dict[str, float] = {}

    def keep(name: str, h: Tensor) -> None:
        seen[name] = h.clone()

    def compare(name: str, h: Tensor) -> None:
        wanted = _copied(seen[name], place.outputs[name], place.factor) if name in seen else None
        if wanted is not None:
            found[name] = gap([_number(wanted)], [_number(h)])

    names = [name for name in place.outputs if name]
    with _watching(base, names, keep):
        outputs(base, inputs)
    with _watching(twin, names, compare):
        return outputs(twin, inputs), found


def _copied(h: Tensor, place: Placement, factor: int) -> Tensor | None:
    """Return the base's activations as a clone should have them; None where an axis is not as it was traced."""
    wide = rescaled(h, factor, place.exponent)
    for dim, profile in enumerate(place.profiles):
        if profile.copied:
            if dim >= h.ndim or h.shape[dim] != int(profile.block.max()) + 1:
                return None
            wide = scaled(wide.index_select(dim, profile.block.to(h.device)), profile.scale, dim)
    return wide


def _watching(model: nn.Module, names: Iterable[str], look: Callable[[str, Tensor], None]) -> Any:
    """Call ``look(name, output)`` whenever a module returns a tensor."""

    def see(name: str, output: Any) -> None:
        found = next(flatten(output), None)
        if found is not None:
            look(name, found.detach())

    return hooked(outputs_of({name: model.get_submodule(name) for name in names}, see))
