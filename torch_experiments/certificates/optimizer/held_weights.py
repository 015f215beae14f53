"""Whether an update rule moves weights whose gradient is zero (claims F2b, F2d).

With gradient zero a weight moves by decay and by what the optimizer remembers of earlier gradients. A unit that
is dead because all its in-weights are ``≤ 0`` and its inputs ``≥ 0`` stays dead as long as they stay ``≤ 0``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import ASGD, SGD, Adam, Optimizer, RMSprop

from torch_experiments.certificates.optimizer.sentences import Sentence, Verdict
from torch_experiments.certificates.optimizer.update_rules import (
    Facts,
    Group,
    coupled_decay,
    decoupled_decay,
    drift,
    in_use,
    inertia,
    number,
    state_of,
)

Claims = tuple[str, ...]
Said = tuple[Verdict, str, Claims]
NAMED = (SGD, Adam)  # the rules that claim F2d is about; of others only the gradient is zero (F1)


@dataclass(frozen=True, eq=False)
class Weights:
    """Frozen entries of one parameter and the rule that trains it.

    Attributes:
        parameter: of the model.
        held: entries that must keep their values, bool.
        signed: entries that need only keep their sign (zero: stay ``≤ 0``), bool, apart from ``held``.
        optimizer, group, facts: of the parameter.
    """

    parameter: nn.Parameter
    held: Tensor
    signed: Tensor
    optimizer: Optimizer
    group: Group
    facts: Facts

    @property
    def decay(self) -> float:
        """``λ``, coupled and decoupled together."""
        return coupled_decay(self.group, self.facts) + decoupled_decay(self.group, self.facts)

    def moment(self) -> Tensor:
        """Return what carries entries without gradient: the largest such state tensor of each, zero if none."""
        found = torch.zeros_like(self.parameter)
        for name, tensors in state_of(self.optimizer, self.parameter).items():
            if name in self.facts.carries and in_use(name, self.group, self.facts):
                for x in tensors:
                    found = torch.where(x.abs() > found.abs(), x.to(found), found)
        return found

    def drift(self) -> Tensor | None:
        """Return `update_rules.drift`, zero where nothing is remembered."""
        if not bool(self.moment().any()):
            return torch.zeros_like(self.parameter)
        return drift(self.optimizer, self.group, self.parameter)


def frozen_reasons(name: str, weights: Weights) -> Iterator[Sentence]:
    """Yield what training does to the frozen entries of one parameter."""
    kind = type(weights.optimizer).__name__
    yield from waiting(name, weights.parameter, weights.held | weights.signed)
    undefined = _undefined(weights)
    if undefined:
        said = f"{kind}: eps counts as 0 in {weights.parameter.dtype}, so the next step is 0/0 = NaN"
        said = f"{said} at {undefined:,} frozen entries; give a larger eps"
        yield Sentence("frozen", "left", said, (name,), ("F2d",))
        return
    if weights.facts.step == "spectral" and not _in_lines(weights.held | weights.signed):
        said = f"{kind}: its step mixes the entries of a matrix, and the frozen ones are no whole rows or columns"
        yield Sentence("frozen", "left", said, (name,), ("C9",))
        return
    if bool(weights.held.any()):
        for verdict, said, claims in _held(weights):
            yield Sentence("frozen", verdict, f"{kind}: {said}", (name,), claims)
    if bool(weights.signed.any()):
        verdict, said, claims = _signed(weights)
        yield Sentence("frozen", verdict, f"{kind}: {said}", (name,), claims)


def waiting(name: str, parameter: nn.Parameter, frozen: Tensor) -> Iterator[Sentence]:
    """Yield that gradients wait at frozen entries in ``.grad``, from another batch or from before the units froze.

    torch steps on them, also where ``requires_grad`` has been switched off since.
    """
    if parameter.grad is None:
        return
    gradient = parameter.grad.to_dense() if parameter.grad.is_sparse else parameter.grad
    noise = torch.finfo(gradient.dtype).eps * float(gradient.abs().max()) if gradient.numel() else 0.0
    count = int((gradient[frozen].abs() > noise).sum())
    if count:
        said = f"a gradient waits in .grad at {count:,} frozen entries, the next step takes it; call zero_grad()"
        yield Sentence("frozen", "left", said, (name,), ("F1",))


def _undefined(weights: Weights) -> int:
    """Return at how many frozen entries a rule that divides by ``√v + ε`` divides zero by zero."""
    group, frozen, p = weights.group, weights.held | weights.signed, weights.parameter
    given = group.get("eps")
    floor = given[0] if isinstance(given, tuple | list) else given
    if weights.facts.step != "odd" or floor is None:
        return 0
    wide = group.get("fused") and p.element_size() < torch.float32.itemsize  # whose kernels compute in float32
    squared = float(floor) ** 2 if isinstance(given, tuple | list) else float(floor)  # Adafactor
    if float(torch.tensor(squared, dtype=torch.float32 if wide else p.dtype)):
        return 0
    zero = frozen
    state = state_of(weights.optimizer, p)
    for v in (v for name in weights.facts.even for v in state.get(name, [])):
        zero = zero & (v.expand_as(p) == 0)
    return int(zero.sum())


def _held(weights: Weights) -> Iterator[Said]:
    """Yield what carries entries off their values."""
    m = weights.moment()[weights.held]
    moves = 0
    if bool(m.any()):
        far = weights.drift()
        size = "" if far is None else f"; they drift by at most {float(far[weights.held].max()):.2g}"
        count = int(m.count_nonzero())
        said = f"{count:,} frozen weights have momentum left (up to {float(m.abs().max()):.2g}){size}"
        yield "left", said, ("F2d",)
        moves += 1
    if weights.decay and bool(weights.parameter.detach()[weights.held].any()):
        rate = number(weights.group, "lr") * weights.decay
        yield "left", f"decay moves weights without gradient, by a share of {rate:.2g} in the next step", ("F2d",)
        moves += 1
    if not moves:
        claims = ("F2d",) if isinstance(weights.optimizer, NAMED) else ("F1",)
        yield "kept", "no decay and no buffer moves weights whose gradient is zero", claims


def _signed(weights: Weights) -> Said:
    """Return whether entries keep their sign; positive ones are judged as their mirror images below zero."""
    w, m = weights.parameter.detach()[weights.signed].double(), weights.moment()[weights.signed].double()
    m, w = torch.where(w > 0, -m, m), -w.abs()
    if not bool(w.any()) and not bool(m.any()):
        return "kept", "weights and buffers are zero, and stay zero", ("F2b",)
    if weights.facts.step == "spectral" and bool(m.any()):
        return (
            "unknown",
            "its step mixes the rows of the buffer, whose own signs do not tell where weights go",
            ("C9",),
        )
    if isinstance(weights.optimizer, SGD | ASGD):
        return _linear_cone(weights, w, m)
    if coupled_decay(weights.group, weights.facts):
        return _coupled_cone(weights, w, m)
    return _decoupled_cone(weights, w, m)


def _linear_cone(weights: Weights, w: Tensor, m: Tensor) -> Said:
    """Follow ``w_{t+1} = (1 + μ − ηλ) w_t − μ w_{t−1}``: with real roots ``r₁ ≥ r₂ > 0`` the sign stays iff

    ``w₁ = (1 − ηλ) w₀ − ημ m`` is at most ``r₂ w₀``; with complex ones it changes.
    """
    mu, c = inertia(weights.group), number(weights.group, "lr") * weights.decay
    if mu and c and (weights.group.get("nesterov") or number(weights.group, "dampening")):
        return "unknown", "decay under Nesterov momentum or dampening is covered by no claim", ()
    if weights.group.get("nesterov"):
        return _reached(w, m, weights.drift(), weights.signed, exact=True)
    if c > (1 - mu**0.5) ** 2:
        return "left", f"ηλ = {c:.2g} is above (1 − √μ)² = {(1 - mu**0.5) ** 2:.2g}: weights pass zero", ("F2b",)
    trace = 1 + mu - c
    root = (trace - max(trace**2 - 4 * mu, 0.0) ** 0.5) / 2
    first = (1 - c) * w - number(weights.group, "lr") * mu * m
    passing = int((first > root * w).sum())
    if passing:
        return "left", f"buffers carry {passing} weights past zero", ("F2b", "F2d")
    return "kept", f"weights keep their sign, with ηλ = {c:.2g} and μ = {mu:g}", ("F2b",)


def _coupled_cone(weights: Weights, w: Tensor, m: Tensor) -> Said:
    """Apply F2b (iii): Adam's first step with coupled decay passes zero iff ``|w| < η − ε/λ``."""
    rate, eps, decay = (number(weights.group, key) for key in ("lr", "eps", "weight_decay"))
    reach = rate - eps / decay
    if isinstance(weights.optimizer, Adam) and _is_fresh(weights):
        passing = int(((w != 0) & (w.abs() < reach)).sum())
        if passing:
            said = f"coupled decay moves {passing} weights past zero in the first step: |w| < η − ε/λ = {reach:.2g}"
            return "left", said, ("F2b",)
        return "unknown", f"every |w| is above η − ε/λ = {reach:.2g}, but later steps are not covered", ("F2b",)
    return "unknown", "coupled decay moves weights by normalised steps, which may pass zero", ("F2b",)


def _decoupled_cone(weights: Weights, w: Tensor, m: Tensor) -> Said:
    """Without upward buffers a weight is multiplied by ``1 − ηλ``; with them it has to outlast the drift."""
    c = number(weights.group, "lr") * weights.decay
    if c > 1:
        return "left", f"ηλ = {c:.2g} is above 1: decay changes the sign of weights", ("F2b",)
    if bool((m < 0).any()) and c:
        return "unknown", "buffers push weights towards zero while decay shrinks them", ("F2b", "F2d")
    exact = isinstance(weights.optimizer, RMSprop)
    return _reached(w, m, weights.drift(), weights.signed, exact)


def _reached(w: Tensor, m: Tensor, far: Tensor | None, signed: Tensor, exact: bool) -> Said:
    """Compare how far buffers push weights up with how far these are below zero."""
    up = m < 0
    if not bool(up.any()):
        return "kept", "weights keep their sign: no buffer pushes them to zero", ("F2b",)
    if far is None:
        return "unknown", f"buffers push {int(up.sum())} weights to zero, by an unknown amount", ("F2d",)
    passing = int((w + far[signed].double() * up > 0).sum())
    if not passing:
        return "kept", "weights keep their sign: buffers push them by less than their size", ("F2b", "F2d")
    return ("left" if exact else "unknown"), f"buffers may carry {passing} weights past zero", ("F2d",)


def _is_fresh(weights: Weights) -> bool:
    state = weights.optimizer.state.get(weights.parameter, {})
    return not state or float(state["step"]) == 0


def _in_lines(mask: Tensor) -> bool:
    """Return whether a mask of a matrix is a union of whole rows and columns."""
    return bool((mask.all(1)[:, None] | mask.all(0) == mask).all())
