"""How firmly a network is held on its manifold: the ends of the normal Hessian, and the escape they predict.

Near the manifold the normal part of the weights follows ``δ' = −H δ`` with the Hessian ``H`` restricted to the
normal space (claims D2, C10). Descent with rate ``η`` and momentum ``μ`` multiplies the part along an eigenvalue
``h < 0`` by the larger root of

    r² − (1 + μ − ηh) r + μ = 0            (Nesterov: r² − (1 + μ)(1 − ηh) r + μ (1 − ηh) = 0)

in each step, ``1 + η|h|`` without momentum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from simulate.inertia import Kind, kind_of
from theory.tolerances import IDENTITY, NEAR_MANIFOLD
from torch_experiments.certificates.manifold import Masks, Place, check_on, places
from torch_experiments.certificates.optimizer.update_rules import Group, facts_of, inertia, number
from torch_experiments.certificates.oracle import left_alone
from torch_experiments.cloning.layouts import Layout
from torch_experiments.support.hessian import flat, hessian
from torch_experiments.support.lanczos import ends
from torch_experiments.units.inputs import reference_kernels

GOAL = 0.01  # of the weights: a distance from the manifold at which copies count as parted
PROBES = 2  # Gaussian vectors that estimate ‖H‖_F² = E ‖Hv‖²: its size is wanted, not its digits


@dataclass(frozen=True)
class Stability:
    """The type of the manifold at the present weights, and how fast training leaves it.

    Attributes:
        kind: ``"stable"``, ``"unstable"``, ``"saddle"`` or ``"degenerate"``, from the ends of the spectrum.
        certified: whether it is settled: a saddle needs two directions, ``lowest < −noise`` and ``highest >
            noise``; anything else would need all eigenvalues.
        lowest, highest: eigenvalues at the ends of the normal Hessian, Rayleigh quotients of two unit vectors: the
            true ends lie at these or farther out.
        residuals: ``‖Hv − qv‖`` of the two: within that distance there is an eigenvalue.
        noise: what rounding may do to a Rayleigh quotient; smaller values count as zero.
        codimension: number of normal directions.
        products: Hessian-vector products that were used.
        rate: escape under gradient flow, per unit of time (rate × steps): ``max(−lowest, 0)``, 0 below the noise.
        growth: factor by which descent multiplies the normal part in a step; None where no eigenvalue tells.
        start: size of the perturbation that is assumed, relative to the weights.
        time, steps: until the distance from the manifold is 1 % of the weights, all of the perturbation growing at
            the full rate: not earlier, while the Hessian is as it is; None where nothing grows.
        reason: why ``growth`` or ``steps`` is None, else empty.

    >>> from torch_experiments import certify
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    >>> nn.utils.vector_to_parameters(torch.ones(13), model.parameters())
    >>> certify(model, torch.eye(2), targets=torch.zeros(2, 1)).stability.reason
    'no optimizer is given'
    """

    kind: Kind
    certified: bool
    lowest: float
    highest: float
    residuals: tuple[float, float]
    noise: float
    codimension: int
    products: int
    rate: float
    growth: float | None
    start: float
    time: float | None
    steps: float | None
    reason: str


def stability(
    model: nn.Module,
    layout: Layout | None,
    loss: Callable[[], Tensor],
    *,
    frozen: Masks | None = None,
    optimizer: Optimizer | None = None,
    iterations: int = 40,
    start: float | None = None,
    generator: torch.Generator | None = None,
    tolerance: float = NEAR_MANIFOLD,
) -> Stability:
    """Return the type of the manifold that ``model`` is on, with the predicted escape from it.

    Normal are all changes of cloned parameters that are orthogonal to multiples of ``s_i s_jᵀ`` on pairs of blocks,
    and all changes of frozen entries (with the cells that they pin down). Parameters that need no gradient are not
    trained and count as neither. The loss is evaluated once, in the model's present mode, and the graph of its
    gradient is kept; buffers and the CPU's random state are restored. One product costs a backward pass through
    that graph, about four forward passes (a ResNet-18 on a CPU: up to 13); time is O(products × parameters), memory
    ``iterations`` vectors of the size of the cloned parameters and the graph.

    Args:
        model: the network, on its manifold.
        layout: blocks and scales of its copies; None for frozen weights alone.
        loss: without arguments, the scalar loss of ``model`` on data of your choice.
        frozen: by parameter, a bool mask of frozen entries.
        optimizer: whose rate of escape is predicted; SGD with one setting for all cloned parameters.
        iterations: of Lanczos' method, at most.
        start: perturbation relative to the weights, below 1 %; rounding ``ε`` of the dtype if None.
        generator: of the start vector, on the CPU.
        tolerance: how far, relatively, the weights may be off the equations.

    Raises:
        ValueError: for a model off the manifold or without normal directions, a loss that is no finite scalar or
            does not depend on the parameters, ``iterations`` below 2, or ``start`` outside (0, 0.01).

    Source: claims D2 and C10; Lanczos with full reorthogonalisation (Paige 1972; Parlett 1980).

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    >>> nn.utils.vector_to_parameters(torch.ones(13), model.parameters())
    >>> from torch_experiments.cloning.partition import coarsest_blocks
    >>> x = torch.eye(2)
    >>> found = stability(model, coarsest_blocks(model, x).layout(), lambda: model(x).square().mean())
    >>> found.codimension, found.kind
    (8, 'saddle')
    """
    _check_numbers(iterations, start)
    if layout is not None:
        check_on(model, layout, tolerance)
    found = normal_places(model, layout, frozen)
    begin = start or max(torch.finfo(p.parameter.dtype).eps for p in found.values())
    codimension = sum(place.codimension for place in found.values())
    with left_alone(model):
        H = NormalHessian(found, loss)
        both = ends(H.product, H.random(generator), min(iterations, codimension))
        noise = H.noise(generator)  # after the start vector, which keeps its numbers whatever the probes draw
    kind, certified = _kind(both[0].value, both[1].value, noise)
    return Stability(
        kind=kind,
        certified=certified,
        lowest=both[0].value,
        highest=both[1].value,
        residuals=(both[0].residual, both[1].residual),
        noise=noise,
        codimension=codimension,
        products=H.whole.products,
        **_escape(H.whole.parameters, optimizer, both[0].value, both[1].value, noise, begin),
    )


class NormalHessian:
    """The Hessian of a loss over the parameters that have normal directions, and the projection on these.

    Args:
        places: of the parameters, by name.
        loss: evaluated once, with attention as matrix products: fused kernels have no second derivative.

    Raises:
        ValueError: for a loss that is no finite scalar or does not depend on the parameters, or a gradient that is
            not finite.
    """

    def __init__(self, places: Mapping[str, Place], loss: Callable[[], Tensor]) -> None:
        self.places = list(places.values())
        with reference_kernels(), torch.enable_grad():
            self.whole = hessian(_scalar(loss()), [place.parameter for place in self.places])
        _check_slopes(self.whole.slopes)

    def product(self, v: Tensor) -> Tensor:
        """Return ``N H N v``, with ``N`` the projection on the normal space."""
        return self.normal(self.whole.product(self.normal(v)))

    def normal(self, v: Tensor) -> Tensor:
        """Return the normal part of ``v``."""
        return flat([p.normal(part) for p, part in zip(self.places, self.whole.split(v), strict=True)], v)

    def random(self, generator: torch.Generator | None) -> Tensor:
        """Return a random normal unit vector."""
        v = self.normal(self._gaussian(generator))
        return v / v.norm()

    def noise(self, generator: torch.Generator | None) -> float:
        """Return ``64 ε ‖H‖_F``, the norm over tangent directions too, estimated from two Gaussian vectors."""
        vectors = [self.whole.product(self._gaussian(generator)) for _ in range(PROBES)]
        squares = [float(v.double().square().sum()) for v in vectors]
        eps = max(torch.finfo(p.dtype).eps for p in self.whole.parameters)
        return IDENTITY * eps * math.sqrt(sum(squares) / PROBES)

    def _gaussian(self, generator: torch.Generator | None) -> Tensor:
        """Return standard normal numbers, drawn on the CPU: the same ones on every device."""
        source = generator or torch.Generator().manual_seed(0)
        first = self.whole.parameters[0]
        return torch.randn(self.whole.size, generator=source, dtype=torch.float64).to(first)


def growth_factor(h: float, rate: float, momentum: float = 0.0, nesterov: bool = False) -> float:
    """Return by what a step of descent multiplies, in the end, a deviation along an eigenvalue ``h < 0``.

    The larger root ``(T + √(T² − 4D))/2``: ``T = 1 + μ − ηh``, ``D = μ``; under Nesterov momentum
    ``T = (1 + μ)(1 − ηh)``, ``D = μ (1 − ηh)``. It is that of the step's matrix on (deviation, buffer).

    Args:
        h: eigenvalue of the normal Hessian, with coupled decay added.
        rate: ``η``.
        momentum: ``μ``.
        nesterov: whether the step looks ahead.

    >>> round(growth_factor(-0.5, 0.1), 6), round(growth_factor(-0.5, 0.1, momentum=0.9), 6)
    (1.05, 1.2)
    """
    shrink = 1 - rate * h
    trace = (1 + momentum) * shrink if nesterov else momentum + shrink
    determinant = momentum * shrink if nesterov else momentum
    return (trace + math.sqrt(max(trace**2 - 4 * determinant, 0.0))) / 2


def _escape(
    parameters: Sequence[Tensor],
    optimizer: Optimizer | None,
    lowest: float,
    highest: float,
    noise: float,
    start: float,
) -> dict[str, Any]:
    """Return the fields of `Stability` from ``rate`` on."""
    rate = -lowest if lowest < -noise else 0.0
    growth, reason = _growth(optimizer, parameters, lowest, highest, noise)
    distance = math.log(GOAL / start)
    return {
        "rate": rate,
        "growth": growth,
        "start": start,
        "time": distance / rate if rate else None,
        "steps": None if growth is None else distance / math.log(growth),
        "reason": reason,
    }


def _growth(
    optimizer: Optimizer | None, parameters: Sequence[Tensor], lowest: float, highest: float, noise: float
) -> tuple[float | None, str]:
    """Return the growth in a step and "", or None and the reason why there is none."""
    if optimizer is None:
        return None, "no optimizer is given"
    linear, reason = setting_of(optimizer, parameters)
    if linear is None:
        return None, reason
    if linear.dampening and linear.momentum:
        return None, "dampened momentum has no formula here"
    h = -highest if linear.maximize else lowest
    if h >= -noise or h + linear.decay >= 0 or not linear.rate:
        return None, "no normal direction grows"
    return growth_factor(h + linear.decay, linear.rate, linear.momentum, bool(linear.nesterov)), ""


class Setting(NamedTuple):
    """One setting of SGD: its step is linear in gradients and weights.

    >>> Setting(0.1, 0.9, 0.0, 0.0, 0.0, 0.0).momentum
    0.9
    """

    rate: float
    momentum: float
    nesterov: float
    dampening: float
    decay: float
    maximize: float


def setting_of(optimizer: Optimizer, parameters: Sequence[Tensor]) -> tuple[Setting | None, str]:
    """Return the one setting with which SGD trains all these parameters and "", or None and the reason why not.

    >>> model = nn.Linear(1, 1)
    >>> setting_of(SGD(model.parameters(), lr=0.5), list(model.parameters()))[0].rate
    0.5
    """
    kind = type(optimizer).__name__
    if facts_of(optimizer) is None or not isinstance(optimizer, SGD):
        return None, f"{kind} rescales gradients or is unknown, so no eigenvalue of the Hessian tells its rate"
    owner = {p: group for group in optimizer.param_groups for p in group["params"]}
    groups = {_rule(owner[p]) if p in owner else None for p in parameters}
    if None in groups:
        return None, "some cloned or frozen parameters that need a gradient are not in the optimizer"
    if len(groups) != 1:
        return None, f"these parameters are trained with {len(groups)} settings; the rate needs one for all"
    return _rule(owner[parameters[0]]), ""


def _rule(group: Group) -> Setting:
    names = ("nesterov", "dampening", "weight_decay", "maximize")
    return Setting(number(group, "lr"), inertia(group), *(number(group, name) for name in names))


def _kind(lowest: float, highest: float, noise: float) -> tuple[Kind, bool]:
    up, down = highest > noise, lowest < -noise
    flat = not (up and down) and lowest <= noise and highest >= -noise
    return kind_of((int(up), int(down), int(flat))), up and down


def normal_places(model: nn.Module, layout: Layout | None, frozen: Masks | None) -> dict[str, Place]:
    """Return the places of trained parameters with normal directions, as `manifold.places`.

    Raises:
        ValueError: There are none.

    >>> frozen = {"weight": torch.tensor([[True, False]])}
    >>> list(normal_places(nn.Linear(2, 1), None, frozen))
    ['weight']
    """
    found = places(model, layout, frozen)
    if not found:
        raise ValueError(
            "layout: it has no copies and no weight is frozen, so the manifold is the whole space and no direction "
            "is normal to it; pass the layout of a clone, or masks of frozen weights"
        )
    trained = {name: place for name, place in found.items() if place.parameter.requires_grad}
    if not trained:
        raise ValueError("model: no cloned or frozen parameter needs a gradient; call requires_grad_() on them")
    return trained


def _scalar(value: object) -> Tensor:
    if not isinstance(value, Tensor) or value.numel() != 1:
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"loss: it returned {shape}; it has to return a scalar tensor")
    if not bool(torch.isfinite(value)):
        raise ValueError(f"loss: it is {value.item()}; curvature needs a finite loss, see weights and data")
    return value


def _check_slopes(slopes: Sequence[Tensor | None]) -> None:
    found = [slope for slope in slopes if slope is not None]
    if not found:
        raise ValueError(
            "loss: it does not depend on the cloned or frozen parameters; compute it from this very model, without "
            "torch.no_grad"
        )
    if not all(bool(torch.isfinite(slope).all()) for slope in found):
        raise ValueError("loss: its gradient is not finite; curvature needs a smooth point")


def _check_numbers(iterations: int, start: float | None) -> None:
    if iterations < 2:
        raise ValueError(f"iterations: got {iterations}; Lanczos' method needs 2 or more")
    if start is not None and not 0 < start < GOAL:
        raise ValueError(f"start: got {start}; it is a perturbation relative to the weights, between 0 and {GOAL}")
