"""Frozen units of any network: which, for which reason, for how long, and which weights they hold.

A unit behind an activation ``f`` is frozen when ``f'(z) = 0`` at every position of every sample (F1). The reasons,
from firm to weak, are never mixed up:

- `sign` (F2b): every input of the unit is non-negative, no weight on them and no bias is positive, and ``f`` is
  flat on the negative side; so for all data and weights upstream, for as long as the unit's own keep their signs;
- `interval` (F2c): bounds on ``z`` for all inputs in a box and all weights in a ball lie where ``f`` is flat;
- `observed` (F1): ``f'(z) = 0`` on the given samples.

All are about the network in the mode in which it is handed over. Cost: a few forward passes for `sign` and
`observed`; for `interval` some eight in float64 at each radius tried (seven radii for one unit, all at worst); for
the entries up to eight forward and backward passes. Each is linear in the number of parameters times positions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from itertools import chain, pairwise
from typing import Any

import torch
from torch import Tensor, nn

from theory.firmness import Firmness
from torch_experiments.certificates.frozen.activation_sites import Site, sites
from torch_experiments.certificates.frozen.bounds import Bounds, boxed, parameter_balls
from torch_experiments.certificates.frozen.entries import ChoiceError, OverflowedError, contradicted, zero_entries
from torch_experiments.certificates.frozen.intervals import Interval
from torch_experiments.certificates.frozen.lasting import lasting
from torch_experiments.certificates.frozen.observe import Seen, UnlikeError, observe, steepest
from torch_experiments.certificates.frozen.replay import Replay
from torch_experiments.certificates.frozen.signs import SignDomain, Signs
from torch_experiments.certificates.frozen.softmaxes import Softmax, Softmaxes
from torch_experiments.certificates.mode import DECIDES, Mode, mode_of
from torch_experiments.certificates.oracle import DRAWS, Reach, reach
from torch_experiments.units.graph import Graph
from torch_experiments.units.inputs import Inputs, flatten
from torch_experiments.units.trace import trace

Bound = float | Tensor
FIRMEST_FIRST = tuple(Firmness)
RADII = tuple(10 ** (-8 + 9 * k / 40) for k in range(41))  # 1e-8 … 10, each 1.68 times the one before


class ContradictionError(RuntimeError):
    """A real gradient where a certificate for all data says there is none: an error of this library."""


@dataclass(frozen=True)
class FrozenUnit:
    """A unit whose derivative is zero, and the evidence.

    Attributes:
        layer: its activation: name of the module, or of the running layer and the operation.
        unit: index along the units of the layer.
        reason: kind of evidence, the firmest that applies.
        inequality: what was checked, with its numbers.
        validity: for which inputs and for which movements of the weights it holds.
        radius: every weight upstream and every in-weight may move by as much, all at once, before the certificate
            may end. For `sign` infinite: weights upstream move without bound, the unit's own within their signs.
            For `interval` the largest of the radii tried; the true one may be larger. For `observed` zero.
        exact: whether ``f`` is constant where ``z`` lies; else its derivative is zero, or within the tolerance, in
            the dtype of the network only.
        slope: largest ``|f'(z)|`` on the batches; for the other reasons zero.
        zero: whether the unit's output is zero wherever the certificate holds.

    >>> model = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1))
    >>> nn.utils.vector_to_parameters(torch.tensor([1.0, -3.0, 1.0, 0.0]), model.parameters())
    >>> frozen_units(model, torch.ones(1, 1)).units[0].inequality
    "f'(z) = 0 on all 1 values, z ∈ [-2, -2]"
    """

    layer: str
    unit: int
    reason: Firmness
    inequality: str
    validity: str
    radius: float
    exact: bool
    slope: float
    zero: bool


@dataclass(frozen=True)
class Missing:
    """A layer about which less is known than asked for, and why.

    >>> model = nn.Sequential(nn.Linear(1, 2), nn.BatchNorm1d(2), nn.ReLU(), nn.Linear(2, 1)).train()
    >>> frozen_units(model, torch.ones(2, 1)).missing[0].layer
    '1'
    """

    layer: str
    why: str


@dataclass(frozen=True, eq=False)
class Frozen:
    """The frozen units of a network.

    Attributes:
        units: in order of their layers.
        sizes: number of units of every activation that was judged.
        masks: by reason and parameter, the entries without gradient because of units frozen by this reason or a
            firmer one; bool, in the parameter's shape.
        missing: what could not be judged.
        random: whether the forward pass draws random numbers, so that `observed` is about a few draws.
        softmaxes: how far those of the network are saturated on the batches (F4).
    """

    units: tuple[FrozenUnit, ...]
    sizes: Mapping[str, int]
    masks: Mapping[Firmness, Mapping[str, Tensor]]
    missing: tuple[Missing, ...]
    random: bool = False
    softmaxes: tuple[Softmax, ...] = ()

    @property
    def entries(self) -> Mapping[str, Tensor]:
        """Return by parameter the entries whose gradient is zero on the batches because of frozen units, bool."""
        return self.masks[Firmness.OBSERVED]

    def entries_of(self, reason: Firmness) -> Mapping[str, Tensor]:
        """Return the entries whose gradient is zero because of units frozen by ``reason`` or a firmer one."""
        return self.masks[reason]

    def by_layer(self) -> dict[str, dict[str, int]]:
        """Return for every judged layer the number of its units, and of those frozen by each reason."""
        found = {layer: {"units": size} | {str(r): 0 for r in FIRMEST_FIRST} for layer, size in self.sizes.items()}
        for unit in self.units:
            found[unit.layer][str(unit.reason)] += 1
        return found

    def whole(self) -> tuple[str, ...]:
        """Return the layers of which every unit is frozen."""
        counts = self.by_layer()
        return tuple(layer for layer, n in counts.items() if n["units"] == sum(n.values()) - n["units"])

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and strings; of the entries their number by parameter."""
        return {
            "units": [asdict(u) | {"reason": str(u.reason)} for u in self.units],
            "layers": self.by_layer(),
            "whole": list(self.whole()),
            "entries": {str(r): {n: int(m.sum()) for n, m in found.items()} for r, found in self.masks.items()},
            "missing": [asdict(m) for m in self.missing],
            "softmaxes": [asdict(s) for s in self.softmaxes],
        }


def frozen_units(
    model: nn.Module,
    inputs: Inputs,
    *,
    graph: Graph | None = None,
    batches: Iterable[Inputs] = (),
    gradients: Reach | None = None,
    mode: Mode | None = None,
    box: tuple[Bound, Bound] | None = None,
    nonnegative_inputs: bool = False,
    tolerance: float = 0.0,
    radii: Sequence[float] = RADII,
) -> Frozen:
    """Return the frozen units of ``model`` in its present mode, each by the firmest reason, and their entries.

    Args:
        model: any module that can be traced.
        inputs: as in `trace`; a few samples.
        graph: of `trace(model, inputs)`, to save a run.
        batches: further inputs for `observed`. A network in training mode whose batch norm or dropout makes a
            difference is observed on these alone, if there are any: give the whole batch.
        gradients: what real backward passes reached, from `oracle.reach`, to save them.
        mode: of the model, from `mode.mode_of`, to save a forward pass.
        box: lower and upper bound of the inputs, numbers or tensors that broadcast to them; needed for `interval`.
            It has to contain the inputs. Integer inputs may be any row of their table.
        nonnegative_inputs: whether the data promise ``x ≥ 0``, which `sign` may use.
        tolerance: a unit is also `observed` to be frozen when ``|f'(z)| ≤ tolerance · max |f'|``. Such a unit
            holds no entries.
        radii: movements of the weights that `interval` tries, in increasing order.

    Raises:
        TraceError: as `trace`.
        ContradictionError: where torch computes a gradient that a certificate for all data excludes.
        ValueError: for a negative tolerance, radii that do not increase, a graph of another model, a box that is
            empty, does not fit, or leaves an input out, or negative inputs that were promised not to be.

    Source: claims F1 (``observed``), F2b (``sign``), F2c (``interval``).

    >>> model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> nn.utils.vector_to_parameters(torch.tensor([1.0, 1, -9, 9, 1, 1, 0]), model.parameters())
    >>> frozen_units(model, torch.ones(4, 1), box=(-1, 1)).by_layer()
    {'1': {'units': 2, 'sign': 0, 'interval': 1, 'observed': 0}}
    """
    _check(tolerance, radii)
    graph = graph if graph is not None else trace(model, inputs)
    _check_graph(graph, model)
    data = [inputs, *batches]
    for batch in data:
        _check_inputs(batch, box, nonnegative_inputs)
    found, missing = sites(graph)
    mode = mode_of(model, graph, inputs) if mode is None else mode
    judged = _Judged(graph, model, found, set(mode.restless))
    firm = {} if mode.foreign else judged.sign(nonnegative_inputs)
    bounded = box is not None and not mode.foreign and not mode.random
    firm |= judged.interval(box, radii, set(firm)) if bounded and box is not None else {}
    try:
        units = judged.observed(data[1:] if mode.whole and len(data) > 1 else data, tolerance, bool(mode.random))
    except UnlikeError:
        if not mode.foreign:
            raise
        units, judged.unseen = {}, judged.sites  # its mode runs other activations than those of the trace
    units |= firm  # the firmer reason takes the place of the weaker
    ordered = tuple(units[key] for key in sorted(units))
    masks, refused = _masks(graph, dict(model.named_parameters()), found, ordered)
    # Entries are read off the operations; a backward pass of its own making is seen in torch's gradients alone.
    seen = gradients if gradients is not None else reach(model, data[-1])
    against = contradicted(seen, masks[Firmness.OBSERVED])
    if against:
        _check_firm(seen, masks, mode)
        masks = dict.fromkeys(FIRMEST_FIRST, _none(dict(model.named_parameters())))
        why_not = seen.custom or mode.random or "its backward pass is not that of the traced operations"
        said = f"torch computes a gradient at frozen entries of {against[0]!r}: {why_not}; no entry is claimed"
        refused = [("entries", said)]
    unseen = chain(judged.unbounded(), judged.unobserved())
    why = chain(missing.items(), _mode_reasons(mode, box is not None), unseen, refused)
    sizes = {site.layer: site.units for site in found}
    left_out = tuple(Missing(layer, reason) for layer, reason in why)
    return Frozen(ordered, sizes, masks, left_out, bool(mode.random), judged.softmaxes.found())


Key = tuple[int, int]
Radii = dict[Key, float]
Units = dict[Key, FrozenUnit]


class _Judged:
    """The three kinds of evidence about the units of a trace, by the number of the site and of the unit."""

    def __init__(self, graph: Graph, model: nn.Module, found: list[Site], restless: set[str]) -> None:
        self.graph, self.model, self.sites, self.restless = graph, model, found, restless
        self.parameters = dict(model.named_parameters())
        self.without_rule: dict[str, set[str]] = {}
        self.unseen: list[Site] = []
        self.overflowed: dict[str, int] = {}
        self.softmaxes = Softmaxes(graph)

    def observed(self, data: Sequence[Inputs], tolerance: float, random: bool) -> Units:
        """Return the units whose derivative is zero on the data."""
        units: Units = {}
        found = observe(self.model, self.graph, self.sites, data, self.softmaxes, DRAWS if random else 1)
        self.unseen = [site for site in self.sites if site not in found]
        for k, site in enumerate(self.sites):
            if site not in found:
                continue
            most = steepest(site.step) if tolerance and site.composite is None else 1.0
            seen, bound = found[site], tolerance * most
            if bool(seen.slope.isnan().any()):
                self.overflowed[site.layer] = int(seen.slope.isnan().sum())
            for u in torch.nonzero(seen.slope <= bound).flatten().tolist():
                units[k, u] = _observed(site, u, seen, bound)
        return units

    def interval(self, box: tuple[Bound, Bound], radii: Sequence[float], settled: set[Key]) -> Units:
        """Return the units whose bounds lie where their activation is flat, with the largest radius that holds."""
        start = {key: ends for key, ends in self._enclosed(box, 0.0).items() if key not in settled}
        found = self._radii(box, (0.0, *radii), set(start), 0, len(radii) + 1)
        return {(k, u): _interval(self.sites[k], u, found[k, u], ends) for (k, u), ends in start.items()}

    def sign(self, nonnegative: bool) -> Units:
        """Return the units with ``z ≤ 0`` for all data and weights upstream, and flat there.

        Only entries count that the units found hold at gradient zero: of a parameter that is read elsewhere too, or
        whose pre-activation has a second reader, the others move.
        """
        candidates = {k for k, s in enumerate(self.sites) if any(_dies(p.low, p.high) for p in s.activation.flat)}
        shared = {name for name, p in self.parameters.items() if p.requires_grad}
        units = self._signed(candidates, nonnegative, {})
        while shared and units:
            masks, _ = _masks(self.graph, self.parameters, self.sites, list(units.values()))
            moving = {id(self.parameters[name]): ~masks[Firmness.SIGN][name] for name in shared}
            before, units = units, self._signed(candidates, nonnegative, moving)
            if units.keys() == before.keys():
                break
        return units

    def _signed(self, candidates: set[int], nonnegative: bool, moving: Mapping[int, Tensor]) -> Units:
        if not candidates:
            return {}
        buffers = [b for b in self.model.buffers() if b.is_floating_point()]
        ids = {id(p) for p in chain(self.parameters.values(), buffers)}
        given = {id(x) for x in self.graph.given}
        replay: Replay[Signs] = Replay(self.graph, SignDomain(ids, given, nonnegative, self.restless, moving))
        units: Units = {}
        for k in candidates:
            site = self.sites[k]
            _, high = _range(site, replay.sites[site.step.number].local)
            for u in torch.nonzero(high <= 0).flatten().tolist():
                if site.activation.piece(-torch.inf, float(high[u])):
                    units[k, u] = _sign(site, u, float(high[u]))
        return units

    def unbounded(self) -> Iterable[tuple[str, str]]:
        """Yield the layers whose operations have no rule for bounds, with the reason."""
        for layer, names in self.without_rule.items():
            if layer not in self.restless:
                listed = ", ".join(sorted(names))
                yield layer, f"{listed}: no bounds are known of it, so no certificate by interval behind it"

    def unobserved(self) -> Iterator[tuple[str, str]]:
        """Yield the layers that could not be observed, with the reason."""
        for site in self.unseen:
            yield site.layer, "not observed: in this mode, or batch, its operations do not run as in the trace"
        for layer, units in self.overflowed.items():
            yield layer, f"the slope overflows at {units} of its units, of which nothing is told"

    def _radii(
        self, box: tuple[Bound, Bound], radii: Sequence[float], units: set[Key], low: int, high: int
    ) -> Radii:
        """Return the largest radius that holds, by bisection: ``radii[low]`` holds for all, ``radii[high]`` not."""
        if not units or high - low == 1:
            return dict.fromkeys(units, radii[low])
        middle = (low + high) // 2
        held = units & self._enclosed(box, radii[middle]).keys()
        upper = self._radii(box, radii, held, middle, high)
        return upper | self._radii(box, radii, units - held, low, middle)

    def _enclosed(self, box: tuple[Bound, Bound], radius: float) -> dict[Key, tuple[float, float]]:
        inputs = zip(self.graph.given, boxed(self.graph.given, box), strict=True)
        leaves = parameter_balls(self.parameters, radius) | {id(x): bounds for x, bounds in inputs}
        bounds = Bounds(leaves, self.restless)
        replay: Replay[Interval] = Replay(self.graph, bounds)
        self.without_rule = bounds.unbounded
        found: dict[Key, tuple[float, float]] = {}
        for k, site in enumerate(self.sites):
            if site.activation.flat:
                low, high = _range(site, replay.sites[site.step.number])
                found |= {(k, u): (float(low[u]), float(high[u])) for u in _flat(site, low, high)}
        return found


def _range(site: Site, x: Interval) -> tuple[Tensor, Tensor]:
    return -site.largest(-x.lo), site.largest(x.hi)


def _flat(site: Site, low: Tensor, high: Tensor) -> list[int]:
    inside = torch.zeros(site.units, dtype=torch.bool, device=low.device)
    for piece in site.activation.flat:
        inside |= (low >= piece.low) & (high <= piece.high)
    return torch.nonzero(inside).flatten().tolist()


def _dies(low: float, high: float) -> bool:
    """Return whether a flat piece reaches from ``−∞`` to the last float64 below zero: ReLU's does not hold zero."""
    return low == -torch.inf and high >= -5e-324


def _observed(site: Site, unit: int, seen: Seen, bound: float) -> FrozenUnit:
    slope, low, high = float(seen.slope[unit]), float(seen.low[unit]), float(seen.high[unit])
    claim = "f'(z) = 0" if slope == 0 else f"|f'(z)| ≤ {slope:.3g} ≤ {bound:.3g}"
    return FrozenUnit(
        site.layer,
        unit,
        Firmness.OBSERVED,
        f"{claim} on all {seen.count} values, z ∈ [{low:.6g}, {high:.6g}]",
        "these samples and these weights alone",
        0.0,
        bool(seen.flat[unit]),
        slope,
        bool(seen.zero[unit]),
    )


def _interval(site: Site, unit: int, radius: float, ends: tuple[float, float]) -> FrozenUnit:
    piece = site.activation.piece(*ends)
    return FrozenUnit(
        site.layer,
        unit,
        Firmness.INTERVAL,
        f"z ∈ [{ends[0]:.6g}, {ends[1]:.6g}], where the slope is zero",
        f"inputs in the box; each weight of the network within {radius:.3g} of its value",
        radius,
        True,
        0.0,
        piece is not None and piece.value == 0,
    )


def _sign(site: Site, unit: int, high: float) -> FrozenUnit:
    piece = site.activation.piece(-torch.inf, high)
    return FrozenUnit(
        site.layer,
        unit,
        Firmness.SIGN,
        f"z ≤ {high:.6g} ≤ 0: what feeds it is never negative, and no weight on it is positive",
        "every input and every weight upstream; as long as its own weights, bias and norm keep z ≤ 0",
        float("inf"),
        True,
        0.0,
        piece is not None and piece.value == 0,
    )


def _masks(
    graph: Graph, parameters: Mapping[str, Tensor], found: list[Site], units: Sequence[FrozenUnit]
) -> tuple[dict[Firmness, dict[str, Tensor]], list[tuple[str, str]]]:
    held = {
        reason: [u for u in units if u.reason in FIRMEST_FIRST[: k + 1] and u.slope == 0]
        for k, reason in enumerate(FIRMEST_FIRST)
    }
    sets = {len(chosen): chosen for chosen in held.values() if chosen}
    none = _none(parameters)
    try:
        answers = zero_entries(graph, parameters, [_flags(found, chosen) for chosen in sets.values()])
    except (ChoiceError, OverflowedError) as error:
        return dict.fromkeys(FIRMEST_FIRST, none), [("entries", f"{error}; no entry is claimed")]
    by_count = {0: none} | dict(zip(sets, answers, strict=True))
    return {reason: by_count[len(chosen)] for reason, chosen in held.items()}, []


def lasting_entries(model: nn.Module, graph: Graph, frozen: Frozen, trained: Set[str]) -> Mapping[str, Tensor]:
    """Return the entries that stay without gradient while the parameters ``trained`` move, bool.

    They are those that units frozen by sign hold, and units that nothing feeds which trains (F2a). Where the
    forward pass draws random numbers, units frozen by sign alone count.
    """
    if not any(bool(mask.any()) for mask in frozen.entries.values()):
        return frozen.entries
    found, _ = sites(graph)
    units = [u for u in frozen.units if u.slope == 0]
    firm = _flags(found, [u for u in units if u.reason == Firmness.SIGN])
    rest = _flags(found, [u for u in units if u.reason != Firmness.SIGN and not frozen.random])
    held, _ = lasting(graph, model, firm, rest, trained)
    return {name: held[name] & mask for name, mask in frozen.entries.items()}


def _none(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.zeros_like(p, dtype=torch.bool) for name, p in parameters.items()}


def _flags(found: list[Site], units: Sequence[FrozenUnit]) -> dict[Site, tuple[Tensor, Tensor]]:
    """Return for the units of every site whether their slope and whether their value is zero."""
    by_name = {site.layer: site for site in found}
    flags: dict[Site, tuple[Tensor, Tensor]] = {}
    for unit in units:
        site = by_name[unit.layer]
        slope, zero = flags.setdefault(site, tuple(torch.zeros(site.units, dtype=torch.bool) for _ in range(2)))  # type: ignore[arg-type]
        slope[unit.unit], zero[unit.unit] = True, unit.zero
    return flags


def _mode_reasons(mode: Mode, boxed: bool) -> Iterator[tuple[str, str]]:
    why = "BatchNorm in training mode takes its statistics from the batch, so no bounds hold behind it; call eval()"
    yield from ((layer, why) for layer in sorted(mode.restless))
    if mode.random:
        yield mode.random, f"draws random numbers in this mode, so {DRAWS} passes of the batch are judged"
        if boxed:
            yield mode.random, "scales what it does not drop, so no bounds hold behind it; call eval()"
    if mode.foreign:
        place = "path" if DECIDES in mode.foreign else "training mode"
        yield place, f"{mode.foreign}; nothing is certified by sign or interval"


def _check_firm(seen: Reach, masks: Mapping[Firmness, Mapping[str, Tensor]], mode: Mode) -> None:
    """Raise where a real gradient contradicts what holds for all data, and goes backward as the operations do."""
    against = contradicted(seen, masks[Firmness.INTERVAL])
    if against and not seen.custom and not mode.whole:
        raise ContradictionError(
            f"parameter {against[0]!r}: torch computes a gradient at entries that are certified to have none, for "
            "all data, by sign or by interval. That is an error of this library: please report the network; "
            "parts=('near', 'stability') leaves these certificates out"
        )


def _check(tolerance: float, radii: Sequence[float]) -> None:
    if not tolerance >= 0:
        raise ValueError(f"tolerance: got {tolerance}; it has to be 0 or more")
    if any(not 0 < r < float("inf") for r in radii) or any(a >= b for a, b in pairwise(radii)):
        raise ValueError("radii: they have to be positive, finite and increasing")


def _check_graph(graph: Graph, model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if id(parameter) not in graph.values or not graph.steps:
            raise ValueError(f"graph: parameter {name!r} is not in it; give the graph of trace(model, inputs)")


def _check_inputs(inputs: Inputs, box: tuple[Bound, Bound] | None, nonnegative: bool) -> None:
    reals = [x for x in flatten(inputs) if x.is_floating_point()]
    for x in reals:
        if nonnegative and not bool((x >= 0).all()):
            raise ValueError("nonnegative_inputs: an input is negative or NaN; leave the promise out")
    if box is not None:
        for x, bounds in zip(reals, boxed(reals, box), strict=True):
            if not bool(((x >= bounds.lo) & (x <= bounds.hi)).all()):
                raise ValueError("box: an input lies outside of it or is NaN; widen the box")
