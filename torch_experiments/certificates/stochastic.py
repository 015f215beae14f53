"""Do small batches part near-copies of a real network? From one state as far as it tells, else along training.

What a state shows of the units of a layer between two linear maps is `simulate.near_clones`. Where that does not
decide, `long_run` trains a copy of the network on its manifold and multiplies a normal vector by the linearised
steps,

    v ← v − η N H_t v            (with momentum and decay as the optimizer has them),

so that its growth is the largest Lyapunov exponent (claims C14, S2, S3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from simulate.near_clones import Forecast, forecast
from theory.tolerances import NEAR_MANIFOLD
from torch_experiments.certificates.manifold import Place, check_on
from torch_experiments.certificates.oracle import left_alone
from torch_experiments.certificates.stability import NormalHessian, normal_places, setting_of
from torch_experiments.certificates.training_copy import copied
from torch_experiments.cloning.layouts import Layout, Profile
from torch_experiments.units.hidden import HiddenLayer
from torch_experiments.units.hooks import hooked
from torch_experiments.units.inputs import Inputs, call, reference_kernels

KEEP = 16  # steps between two projections on the manifold: what rounding does in so few is small
PIECES = 10  # of a trajectory, whose spread gives the error
SETS = 8  # of copies a layer that are looked at, the first ones
LARGEST = 512  # weights of a unit, in and out: half a second for eight sets
SURE = 3  # standard errors beyond which a sign counts


@dataclass(frozen=True)
class UnitForecast:
    """What one state tells about a set of copies: layer, units, and the forecast of one of them.

    >>> UnitForecast("0", (0, 1), Forecast(0.1, 0.1, 0.0, 0.01, "hessian")).forecast.parts
    True
    """

    layer: str
    units: tuple[int, ...]
    forecast: Forecast


@dataclass(frozen=True)
class Minibatches:
    """What one state tells about near-copies under small batches.

    Attributes:
        rate: learning rate, with momentum `η/(1 − μ)`.
        batch: samples a step.
        units: a forecast a set of copies; sets that are not looked at are left out.

    >>> str(Minibatches(0.1, 8, ()))
    'at rate 0.1 and batches of 8 one state does not tell: follow training with long_run'
    """

    rate: float
    batch: int
    units: tuple[UnitForecast, ...]

    def __str__(self) -> str:
        here = f"at rate {self.rate:g} and batches of {self.batch}"
        found = [unit.forecast for unit in self.units]
        if not found:
            return f"{here} one state does not tell: follow training with long_run"
        parted = [f for f in found if f.parts]
        held = [f for f in found if f.decides == "hessian" and not f.parts]
        noisy = [f for f in found if f.decides == "noise"]
        open_ = [f for f in found if f.decides == "trajectory"]
        says = []
        if parted:
            fast = max(f.rest for f in parted)
            says.append(
                f"{len(parted)} part by the Hessian, by up to {fast:.3g} a step as long as errors stay: more than "
                "noise and the gradient of their base account for"
            )
        if held:
            says.append(f"{len(held)} are held by it")
        if noisy:
            says.append(
                f"{len(noisy)} have nothing but noise, which makes them proportional and does not part them"
            )
        if open_:
            now, noise = max(f.now for f in open_), max(f.noise for f in open_)
            says.append(
                f"of {len(open_)} one state does not tell the long run (now up to {now:.3g} a step, noise up to "
                f"{noise:.3g}): follow training with long_run"
            )
        return f"{here}, of {len(found)} sets of copies: {'; '.join(says)}"


@dataclass(frozen=True)
class LongRun:
    """The rate at which near-copies part or come together along training.

    Attributes:
        exponent: logarithm of growth a step of the normal vector that grows most.
        error: standard error, from ten pieces of the trajectory.
        steps: on which it rests.

    >>> LongRun(-1e-4, 1e-5, 1000).says, LongRun(1e-5, 1e-5, 1000).says
    ('come together', 'cannot be told')
    """

    exponent: float
    error: float
    steps: int

    @property
    def says(self) -> str:
        """``"part"`` or ``"come together"`` beyond three errors, else ``"cannot be told"``."""
        if abs(self.exponent) <= SURE * self.error:
            return "cannot be told"
        return "part" if self.exponent > 0 else "come together"


def long_run(
    model: nn.Module,
    layout: Layout,
    optimizer: Optimizer,
    loss: Callable[[Any, Any], Tensor],
    batches: Iterable[tuple[Inputs, Any]],
    *,
    steps: int,
    warmup: int | None = None,
    generator: torch.Generator | None = None,
    tolerance: float = NEAR_MANIFOLD,
) -> LongRun:
    """Train a copy of ``model`` on its manifold and return the exponent of near-copies.

    Each step costs one forward and three backward passes. What drives a network off the manifold by itself, such as
    rounding or dropout, is projected away: the exponent is of the linearised steps.

    Args:
        model: on its manifold; left as it is.
        layout: of its copies.
        optimizer: plain SGD, with one setting for all copied parameters; momentum and coupled decay are followed.
        loss: of the model's output and targets, a scalar, such as `torch.nn.functional.mse_loss`.
        batches: inputs and targets, one a step, as many as ``warmup + steps``.
        steps: that are measured.
        warmup: steps before, which align the vector with the direction that grows most; a quarter of ``steps`` if
            None. Too few, and the exponent comes out too low.
        generator: of the vector at the start.
        tolerance: how far, relatively, the weights may be off the equations.

    Raises:
        ValueError: for a model off its manifold, an optimizer without a linear rule, ``steps`` below 20, or batches
            that end too early.
        ArithmeticError: training diverged.

    Source: claims C14, S2, S3; exponents from one vector (Benettin et al. 1980).

    >>> from itertools import repeat
    >>> from torch_experiments import clone, layout
    >>> torch.manual_seed(0)  # doctest: +ELLIPSIS
    <torch...>
    >>> base = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1)).double()
    >>> wide, batch = clone(base, 2), (torch.eye(2).double(), torch.ones(2, 1).double())
    >>> rule = torch.optim.SGD(wide.parameters(), lr=0.1)
    >>> long_run(wide, layout(base, 2), rule, nn.functional.mse_loss, repeat(batch), steps=40).steps
    40
    """
    warmup = steps // 4 if warmup is None else warmup
    if steps < 2 * PIECES or warmup < 0:
        raise ValueError(f"steps: got {steps} and warmup {warmup}; it takes {2 * PIECES} steps or more")
    check_on(model, layout, tolerance)
    twin, rule, _, _ = copied(model, optimizer)
    with torch.random.fork_rng(devices=[]):  # a copy that draws leaves the caller's numbers as they are
        return _followed(twin, rule, layout, _values(twin, loss, batches, warmup + steps), steps, generator)


def _followed(
    twin: nn.Module,
    rule: Optimizer,
    layout: Layout,
    values: Iterator[Tensor],
    steps: int,
    generator: torch.Generator | None,
) -> LongRun:
    places = normal_places(twin, layout, None)
    own = [place.parameter for place in places.values()]
    linear, why = setting_of(rule, own)
    if linear is None or linear.dampening or linear.maximize:
        raise ValueError(f"optimizer: {why or 'dampening and ascent are not followed'}; give plain torch.optim.SGD")
    start = [p.detach().clone() for p in own]
    v, buffer, logarithms = None, None, []
    for t, value in enumerate(values):
        if not bool(torch.isfinite(value)):
            raise ArithmeticError(f"training diverged after {t} steps; lower the rate, now {linear.rate:g}")
        H = NormalHessian(places, lambda value=value: value)  # type: ignore[misc]
        v = H.random(generator) if v is None else v
        slope = H.product(v) + linear.decay * v
        buffer = slope if buffer is None else linear.momentum * buffer + slope
        v = v - linear.rate * (slope + linear.momentum * buffer if linear.nesterov else buffer)
        size = float(v.norm())
        v, buffer = v / size, buffer / size
        logarithms.append(math.log(size))
        rule.zero_grad()
        value.backward()
        rule.step()
        if t % KEEP == 0:
            _project(places, start)
    length = steps // PIECES
    pieces = np.reshape(logarithms[-PIECES * length :], (PIECES, length)).mean(axis=1)
    return LongRun(float(pieces.mean()), float(pieces.std(ddof=1) / math.sqrt(PIECES)), PIECES * length)


def _project(places: Mapping[str, Place], start: list[Tensor]) -> None:
    """Take off what has come between copies since the start."""
    with torch.no_grad():
        for place, old in zip(places.values(), start, strict=True):
            place.parameter.sub_(place.normal(place.parameter - old))


def _values(
    model: nn.Module, loss: Callable[[Any, Any], Tensor], batches: Iterable[tuple[Inputs, Any]], count: int
) -> Iterator[Tensor]:
    """Yield the loss on one batch after the other, each of the model as it is then."""
    source = iter(batches)
    for t in range(count):
        try:
            inputs, targets = next(source)
        except StopIteration:
            raise ValueError(f"batches: they ended after {t} of {count} steps; give one a step") from None
        with reference_kernels(), torch.enable_grad():
            yield loss(call(model, inputs), targets)


def unit_forecasts(
    model: nn.Module,
    layers: Iterable[HiddenLayer],
    layout: Layout,
    inputs: Inputs,
    loss: Callable[[Any], Tensor],
    *,
    rate: float,
    batch: int,
) -> tuple[UnitForecast, ...]:
    """Return the forecasts of sets of copies in layers that lie between two `nn.Linear` and act unit by unit.

    Others (convolutions, norms between, scaled copies, units of more than 512 weights, maps of which a part does
    not train) are left out; the first eight sets of each layer are looked at. Costs one pass forward and some back.

    Args:
        model: on its manifold.
        layers: of its survey.
        layout: of its copies.
        inputs: a batch of samples.
        loss: of the output, a mean over samples.
        rate: learning rate; with momentum `η/(1 − μ)`.
        batch: samples a step of training.

    Source: `simulate.near_clones.forecast`.

    >>> from torch_experiments import certify
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> nn.utils.vector_to_parameters(torch.ones(13), model.parameters())
    >>> rule = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> certify(model, torch.eye(2), rule, targets=torch.zeros(2, 1)).minibatches.units[0].units
    (0, 1, 2)
    """
    chosen = [(layer, copies) for layer in layers if (copies := _sets(model, layer, layout))]
    if not chosen:
        return ()
    found = []
    with left_alone(model):
        seen, value = _seen(model, chosen, inputs, loss)
        for layer, copies in chosen:
            samples = _samples(model, layer, seen, value)
            for units in copies if samples is not None else ():
                found.append(UnitForecast(layer.name, units, _forecast(model, layer, units, samples, rate, batch)))
    return tuple(found)


def _sets(model: nn.Module, layer: HiddenLayer, layout: Layout) -> list[tuple[int, ...]]:
    """Return the sets of copies without scales, where the layer lies between two linear maps and nothing else."""
    writer, reader = (dict(model.named_modules()).get(name) for name in (layer.name, layer.reader))
    around = {edge.parameter for edge in (*layer.group.incoming, *layer.group.own, *layer.group.outgoing)}
    plain = {f"{layer.name}.weight", f"{layer.name}.bias", f"{layer.reader}.weight"}
    weight = f"{layer.name}.weight"
    if not isinstance(writer, nn.Linear) or not isinstance(reader, nn.Linear) or layer.coupled or layer.others:
        return []
    if not around <= plain or weight not in layout.placements or reader.in_features != writer.out_features:
        return []
    if writer.in_features + 1 + reader.out_features > LARGEST:
        return []
    if not all(p.requires_grad for p in (*writer.parameters(recurse=False), reader.weight)):
        return []
    return _copies(layout.placements[weight].profiles[0])


def _copies(profile: Profile) -> list[tuple[int, ...]]:
    counts = profile.block.bincount()
    sets = [(profile.block == b).nonzero().flatten() for b in (counts > 1).nonzero().flatten().tolist()]
    return [tuple(s.tolist()) for s in sets if bool((profile.scale[s] == profile.scale[s[0]]).all())][:SETS]


def _seen(
    model: nn.Module, chosen: list[tuple[HiddenLayer, Any]], inputs: Inputs, loss: Callable[[Any], Tensor]
) -> tuple[Mapping[str, list[tuple[Tensor, Tensor]]], Tensor]:
    """Return what the linear maps read and wrote, and the loss, with their graph."""
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {}
    modules = dict(model.named_modules())

    def hook(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def keep(module: nn.Module, given: Any, output: Tensor) -> None:
            seen.setdefault(name, []).append((given[0], output))

        return keep

    names = {name for layer, _ in chosen for name in (layer.name, layer.reader)}
    with (
        reference_kernels(),
        torch.enable_grad(),
        hooked([modules[n].register_forward_hook(hook(n)) for n in names]),
    ):
        value = loss(call(model, inputs))
    return seen, value


def _samples(
    model: nn.Module, layer: HiddenLayer, seen: Mapping[str, list[tuple[Tensor, Tensor]]], value: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
    """Return inputs, errors, slopes and bends of a layer, `None` where it does not act unit by unit on a matrix."""
    wrote, read = seen.get(layer.name, []), seen.get(layer.reader, [])
    if len(wrote) != 1 or len(read) != 1 or wrote[0][0].ndim != 2 or read[0][0].ndim != 2:
        return None
    (x, z), (h, f) = wrote[0], read[0]
    if h.shape != z.shape or not h.requires_grad:
        return None
    signs = torch.randn(z.shape, generator=torch.Generator().manual_seed(0)).sign().to(z)
    slope, mixed = (
        torch.autograd.grad((h * s).sum(), z, create_graph=True, allow_unused=True, materialize_grads=True)[0]
        for s in (torch.ones_like(h), signs)
    )
    if not torch.equal(mixed.detach(), (signs * slope).detach()):
        return None
    bend = torch.zeros_like(z)
    if slope.requires_grad:
        bend = torch.autograd.grad(slope.sum(), z, retain_graph=True, allow_unused=True, materialize_grads=True)[0]
    (error,) = torch.autograd.grad(value, f, retain_graph=True, allow_unused=True, materialize_grads=True)
    return x.detach(), error * len(x), slope.detach(), bend


def _forecast(
    model: nn.Module, layer: HiddenLayer, units: tuple[int, ...], samples: Any, rate: float, batch: int
) -> Forecast:
    x, error, slope, bend = (t.double().cpu().numpy() for t in samples)
    modules = dict(model.named_modules())
    writer, reader = modules[layer.name], modules[layer.reader]
    w, c = (p.detach().double().cpu().numpy() for p in (writer.weight, reader.weight))
    first, bias = units[0], getattr(writer, "bias", None)
    own = w[first]
    if bias is not None:
        x, own = np.hstack([x, np.ones((len(x), 1))]), np.append(own, float(bias[first].detach()))
    out = c[:, list(units)].mean(axis=1)
    return forecast(x, error, slope[:, first], bend[:, first], own, out, rate=rate, batch=batch)


def effective_rate(optimizer: Optimizer | None, parameters: Iterable[Tensor]) -> float | None:
    """Return `η/(1 − μ)` of SGD with one setting for all parameters; `None` for any other rule.

    >>> model = nn.Linear(1, 1)
    >>> rule = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    >>> effective_rate(rule, model.parameters())
    0.2
    """
    if not isinstance(optimizer, SGD):
        return None
    linear, _ = setting_of(optimizer, list(parameters))
    if linear is None or linear.maximize or not linear.rate:
        return None
    return linear.rate / (1 - linear.momentum * (1 - linear.dampening)) if linear.momentum < 1 else None
