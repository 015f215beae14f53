"""Interval arithmetic on tensors, rounded outwards.

An interval holds the exact value of an expression, and every value that floating-point evaluation in the tensor's
own dtype may return: a sum of ``n`` products is computed as ``Σ t_i (1 + θ_i)``, in any order of summation, with
``|θ_i| ≤ γ_n = n u / (1 − n u)`` (Higham 2002, section 3.1), ``u`` the unit roundoff. Positive and negative terms
are therefore summed apart, ``P`` and ``N``, and ``P (1 + γ) − N (1 − γ)`` bounds the sum from above; a sum without
positive terms stays non-positive. The bounds are float64; ``γ`` has room for their own rounding, and terms that
underflow add the smallest normal number each (a product that is zero in float64 counts as zero). Algorithms that
round otherwise (TF32, Winograd) are not covered.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from theory.tolerances import ULPS

Map = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Interval:
    """All tensors between ``lo`` and ``hi``, float64; an integer or boolean tensor is its own bound if known."""

    lo: Tensor
    hi: Tensor

    @property
    def known(self) -> bool:
        """Whether it is one tensor of integers or truth values."""
        return self.lo is self.hi and not self.lo.is_floating_point()

    def double(self) -> Interval:
        """Return it with float64 bounds."""
        return self if self.lo.is_floating_point() else point(self.lo)


def point(x: Tensor) -> Interval:
    """Return the interval of one tensor."""
    x = x.detach().double()
    return Interval(x, x)


def around(x: Tensor, radius: float) -> Interval:
    """Return ``[x − radius, x + radius]``, rounded outwards.

    >>> ball = around(torch.ones(1), 0.1)
    >>> bool(ball.lo < 0.9), bool(ball.hi > 1.1)
    (True, True)
    """
    x = x.detach().double()
    if not radius:
        return Interval(x, x)
    slack = 4 * torch.finfo(torch.float64).eps * (x.abs() + radius)  # of the two roundings of each end, doubled
    return Interval(x - radius - slack, x + radius + slack)


def everything(like: Tensor) -> Interval:
    """Return ``(−∞, ∞)`` in the shape of a tensor."""
    hi = torch.full(like.shape, math.inf, dtype=torch.float64, device=like.device)
    return Interval(-hi, hi)


def between(low: float, high: float, like: Tensor) -> Interval:
    """Return one interval everywhere, in the shape of a tensor."""
    whole = torch.ones(like.shape, dtype=torch.float64, device=like.device)
    return Interval(whole * low, whole * high)


def sanitised(x: Interval) -> Interval:
    """Return it without NaN: where a bound is none, there is none."""
    if not x.lo.is_floating_point():
        return x
    return Interval(x.lo.nan_to_num(-math.inf, math.inf, -math.inf), x.hi.nan_to_num(math.inf, math.inf, -math.inf))


def outward(up: tuple[Tensor, Tensor], down: tuple[Tensor, Tensor], terms: int, dtype: torch.dtype) -> Interval:
    """Return bounds of a sum from sums ``(P, N)`` of its positive and (negated) negative terms.

    Args:
        up: of the upper bounds of the terms.  down: of their lower bounds.
        terms: number of terms, and of roundings on the way to each.
        dtype: in which the network computes.

    >>> P, N = torch.tensor([3.0]), torch.tensor([1.0])  # the sum is 2
    >>> found = outward((P, N), (P, N), 10, torch.float32)
    >>> bool(found.lo < 2 < found.hi), bool(found.hi - found.lo < 1e-4)
    (True, True)
    """
    info = torch.finfo(dtype)
    share = (2 * terms + 10) * info.eps / 2  # a product and a sum each, and ten roundings of these lines themselves
    if share >= 0.5:  # γ has no meaning from 1 on, and bounds nothing well before
        return everything(up[0])
    gamma, tiny = share / (1 - share), terms * info.tiny
    hi = up[0] * (1 + gamma) - up[1] * (1 - gamma) + tiny
    lo = down[0] * (1 - gamma) - down[1] * (1 + gamma) - tiny
    hi = torch.where(up[0] == 0, hi.clamp_max(0), hi)
    lo = torch.where(down[1] == 0, lo.clamp_min(0), lo)
    return Interval(lo, hi)


def bilinear(
    f: Map, x: Interval, y: Interval, terms: int, dtype: torch.dtype, shift: Interval | None = None
) -> Interval:
    """Return bounds of ``f(x, y) + shift`` for a bilinear ``f`` with coefficients 0 and 1.

    With positive and negative parts ``x = x⁺ − x⁻`` the products ``x⁺y⁺, x⁻y⁻`` are positive and ``x⁺y⁻, x⁻y⁺``
    negative terms; each part is bounded on its own. Exact where one factor has one sign or is a point; where both
    have either sign, the bounds by midpoints are taken where they are better.

    >>> x = Interval(torch.zeros(1, 2).double(), torch.ones(1, 2).double())
    >>> y = bilinear(torch.matmul, x, point(torch.tensor([[1.0], [-2.0]])), 2, torch.float32)
    >>> round(y.lo.item(), 5), round(y.hi.item(), 5)
    (-2.0, 1.0)
    """
    xp, xn, yp, yn = *_parts(x), *_parts(y)
    up = _sum(f, (xp.hi, yp.hi), (xn.hi, yn.hi)), _sum(f, (xp.lo, yn.lo), (xn.lo, yp.lo))
    down = _sum(f, (xp.lo, yp.lo), (xn.lo, yn.lo)), _sum(f, (xp.hi, yn.hi), (xn.hi, yp.hi))
    if shift is not None:
        up = up[0] + shift.hi.clamp_min(0), up[1] + (-shift.hi).clamp_min(0)
        down = down[0] + shift.lo.clamp_min(0), down[1] + (-shift.lo).clamp_min(0)
    found = outward(up, down, terms + 1, dtype)
    if not (_straddles(x) and _straddles(y)):
        return found
    middle = _by_midpoints(f, x, y, terms + 1, dtype, shift)
    return Interval(torch.maximum(found.lo, middle.lo), torch.minimum(found.hi, middle.hi))


def _straddles(x: Interval) -> bool:
    return bool(((x.lo < 0) & (x.hi > 0)).any())


def _by_midpoints(
    f: Map, x: Interval, y: Interval, terms: int, dtype: torch.dtype, shift: Interval | None
) -> Interval:
    """Return ``f(m, n) ± (f(|m|, s) + f(r, |n|) + f(r, s))`` of ``m ± r`` and ``n ± s`` (Rump 1999)."""
    (m, r), (n, s) = _midpoint(x), _midpoint(y)
    radius = f(m.abs(), s) + f(r, n.abs()) + f(r, s)
    share = (2 * terms + 10) * torch.finfo(dtype).eps / 2
    if share >= 0.5 or not bool(radius.isfinite().all()):
        return everything(radius)
    error = 2 * share * (f(m.abs(), n.abs()) + radius) + terms * torch.finfo(dtype).tiny
    centre, b = f(m, n), point(torch.zeros_like(radius)) if shift is None else shift
    error = error + 2 * share * torch.maximum(b.lo.abs(), b.hi.abs())
    return Interval(centre - radius + b.lo - error, centre + radius + b.hi + error)


def _midpoint(x: Interval) -> tuple[Tensor, Tensor]:
    middle = (x.lo + x.hi) / 2
    return middle, torch.maximum(x.hi - middle, middle - x.lo) * (1 + 4 * torch.finfo(torch.float64).eps)


def product(x: Interval, y: Interval, dtype: torch.dtype) -> Interval:
    """Return bounds of ``x y``, elementwise; of a square where both are the same tensor."""
    if x is y:
        size = magnitude(x)
        x = y = size
    return bilinear(torch.mul, x, y, 1, dtype)


def total(parts: list[Interval], terms: int, dtype: torch.dtype) -> Interval:
    """Return bounds of a sum of a few tensors that broadcast."""
    up = [sum(p.hi.clamp_min(0) for p in parts), sum((-p.hi).clamp_min(0) for p in parts)]
    down = [sum(p.lo.clamp_min(0) for p in parts), sum((-p.lo).clamp_min(0) for p in parts)]
    return outward((up[0], up[1]), (down[0], down[1]), terms + len(parts), dtype)  # type: ignore[arg-type]


def average(f: Callable[[Tensor], Tensor], x: Interval, terms: int, dtype: torch.dtype) -> Interval:
    """Return bounds of ``f(x)`` for a linear ``f`` with coefficients that are not negative."""
    up = f(x.hi.clamp_min(0)), f((-x.hi).clamp_min(0))
    down = f(x.lo.clamp_min(0)), f((-x.lo).clamp_min(0))
    return outward(up, down, terms, dtype)


def negative(x: Interval) -> Interval:
    """Return ``−x``."""
    return Interval(-x.hi, -x.lo)


def magnitude(x: Interval) -> Interval:
    """Return ``|x|``."""
    return Interval(torch.maximum(x.lo, -x.hi).clamp_min(0), torch.maximum(-x.lo, x.hi))


def reciprocal(x: Interval, dtype: torch.dtype) -> Interval:
    """Return ``1 / x``, without bounds where ``x`` may be zero."""
    safe = (x.lo > 0) | (x.hi < 0)
    lo, hi = torch.where(safe, 1 / x.hi, -math.inf), torch.where(safe, 1 / x.lo, math.inf)
    return widened(Interval(lo, hi), dtype)


def widened(x: Interval, dtype: torch.dtype, extra: Interval | None = None) -> Interval:
    """Return it widened by a few units in the last place, of itself and of the absolute values of ``extra``.

    A bound at zero stays there: computed functions have the right sign.
    """
    unit = ULPS * torch.finfo(dtype).eps
    slack = Interval(x.lo.abs(), x.hi.abs())
    if extra is not None:
        most = magnitude(extra).hi.clamp_max(64)  # beyond, activations are constant or linear to rounding
        slack = Interval(slack.lo + most, slack.hi + most)
    tiny = torch.finfo(dtype).tiny
    lo = torch.where(x.lo == 0, x.lo, x.lo - unit * slack.lo - tiny) if extra is None else x.lo - unit * slack.lo
    hi = torch.where(x.hi == 0, x.hi, x.hi + unit * slack.hi + tiny) if extra is None else x.hi + unit * slack.hi
    return Interval(lo, hi)


def hull(x: Interval, y: Interval) -> Interval:
    """Return the smallest interval around both."""
    return Interval(torch.minimum(x.lo, y.lo), torch.maximum(x.hi, y.hi))


def _parts(x: Interval) -> tuple[Interval, Interval]:
    """Return bounds of ``max(x, 0)`` and of ``max(−x, 0)``."""
    return Interval(x.lo.clamp_min(0), x.hi.clamp_min(0)), Interval((-x.hi).clamp_min(0), (-x.lo).clamp_min(0))


def _sum(f: Map, one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
    found = [_apart(f, x, y) for x, y in (one, other) if bool(x.any()) and bool(y.any())]
    return sum(found[1:], found[0]) if found else torch.zeros_like(f(*one))


def _apart(f: Map, x: Tensor, y: Tensor) -> Tensor:
    """Return ``f(x, y)`` of non-negative tensors, with ``0 · ∞ = 0``."""
    infinite_x, infinite_y = x.isinf(), y.isinf()
    if not (bool(infinite_x.any()) or bool(infinite_y.any())):
        return f(x, y)
    ends = (infinite_x, y > 0), (x > 0, infinite_y)
    poison = [f(a.float(), b.float()) > 0 for a, b in ends if bool(a.any()) and bool(b.any())]
    finite_x, finite_y = x.masked_fill(infinite_x, 0), y.masked_fill(infinite_y, 0)
    some = bool(finite_x.any()) and bool(finite_y.any())
    found = f(finite_x, finite_y) if some or not poison else torch.zeros_like(poison[0], dtype=x.dtype)
    for infinite in poison:
        found = found.masked_fill(infinite, math.inf)
    return found
