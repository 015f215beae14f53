"""Which units are dead, dormant, saturated or linear: one answer a unit, from sums over its values.

A *unit* is a feature, and its *values* are its outputs ``h`` at every position of every sample; ``z`` are the
inputs of its activation ``f``. What is asked of a layer is the `share` of its units.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from theory.tolerances import VARIES
from torch_experiments.support.precision import exact

NEARLY_SILENT = 0.05  # share of the values, of JL25's code
FLAT = 1e-2  # share of the largest slope up to which an activation is called saturated
GRID = 101  # an odd number, so that 0 is on the grid, where tanh and sigmoid are steepest
STILL, ALMOST_ALL = 1e-4, 0.99  # thresholds of JL25's saturated units


def share(units: Tensor) -> float:
    """Return the share of units for which the answer is yes, ``units`` boolean ``[C]``.

    >>> share(torch.tensor([True, False, False, True]))
    0.5
    """
    return float(units.double().mean())


def dead(size: Tensor) -> Tensor:
    """Return which units are exactly 0 at all of their values, boolean ``[C]``.

    Args:
        size: of each unit, what is 0 for zeros only: ``Σ|h|``, ``max|h|``, or how many values are not 0.

    >>> dead(torch.tensor([[0.0, 1.0], [0.0, -1.0]]).abs().sum(dim=0))
    tensor([ True, False])
    """
    return size == 0


def nearly_silent(active: Tensor, n: int) -> Tensor:
    """Return which units are not 0 at most at 5 % of ``n`` values: what JL25's code calls dead.

    >>> nearly_silent(torch.tensor([5.0, 6.0]), 100)
    tensor([ True, False])
    """
    return active <= NEARLY_SILENT * n


def dormant(magnitude: Tensor, tau: float = 0.025) -> Tensor:
    """Return which units have ``E|h_u| ≤ τ · mean_v E|h_v|``; all of them if all are 0.

    Args:
        magnitude: ``E|h_u|`` of each unit, or any multiple of it, ``[C]``.
        tau: threshold.

    Source: Sokar et al. (2023), arXiv 2302.12902.

    >>> dormant(torch.tensor([1.0, 1.0, 0.01]))
    tensor([False, False,  True])
    """
    return magnitude <= tau * magnitude.mean()


def flat(apply: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Return at how many of its values a unit has ``|f'(z)| ≤ 0.01 max|f'|``, float64 ``[C]``.

    The largest slope is that on a grid of ``[−10, 10]`` and on the values themselves.

    Args:
        apply: an elementwise activation, or PReLU.
        z: inputs, ``[n, C]``.

    >>> flat(torch.relu, torch.tensor([[-1.0, 1.0], [-2.0, -3.0]]))
    tensor([2., 1.], dtype=torch.float64)
    """
    grid = torch.linspace(-10, 10, GRID, dtype=z.dtype, device=z.device)[:, None].expand(-1, z.shape[1])
    with torch.enable_grad():
        points = torch.cat([z.detach(), grid]).requires_grad_()
        slope = torch.autograd.grad(apply(points).sum(), points)[0].abs()
    return exact((slope[: len(z)] <= FLAT * slope.max()).sum(dim=0))


def saturated(flat: Tensor, n: Tensor) -> Tensor:
    """Return which units have a flat slope, see `flat`, at all of ``n`` values: their weights stand still (F1).

    >>> saturated(torch.tensor([2.0, 1.0]), torch.tensor(2.0))
    tensor([ True, False])
    """
    return flat == n


def still(error: Tensor, magnitude: Tensor) -> Tensor:
    """Return at how many of its values a unit has ``|∂L/∂h| < 10⁻⁴ E|h|``, float64 ``[C]``.

    Args:
        error: ``∂L/∂h``, ``[m, C]``.
        magnitude: ``E|h|``, ``[C]``; at least ``10⁻¹²`` is taken.

    >>> still(torch.tensor([[0.0, 1.0], [1e-6, 1.0]]), torch.ones(2))
    tensor([2., 0.], dtype=torch.float64)
    """
    least = 1e-12  # of JL25's code, so that units without activation and error stand still
    return (error.abs() < STILL * magnitude.clamp_min(least)).sum(dim=0).double()


def jl25_saturated(still: Tensor, m: Tensor) -> Tensor:
    """Return which units stand still, see `still`, at more than 99 % of ``m`` values: JL25's saturated units.

    >>> jl25_saturated(torch.tensor([99.0, 100.0]), torch.tensor(100.0))
    tensor([False,  True])
    """
    return still > ALMOST_ALL * m


def linearity(n: Tensor, h: Tensor, hh: Tensor, z: Tensor, zz: Tensor, zh: Tensor) -> Tensor:
    """Return ``r(z, h)²``, the squared correlation of each unit's input and output, ``[C]``; 0 for constants.

    It is 1 for a ReLU that is active on every sample. For Gaussian ``z``, ``r² = c₁² / Var f``
    (`theory.rank.linear_share`).

    Args:
        n: number of values.
        h, hh, z, zz, zh: sums over the values of ``h``, ``h²``, ``z``, ``z²`` and ``z h``, ``[C]``.

    Source: after Lewandowski et al. (2025), arXiv 2410.20634.

    >>> z = torch.tensor([-1.0, 0.0, 1.0])
    >>> h = z.relu()
    >>> round(float(linearity(torch.tensor(3), h.sum(), h @ h, z.sum(), z @ z, z @ h)), 6)
    0.75
    """
    var_h, var_z = hh - h * h / n, zz - z * z / n
    varies = (var_h > VARIES * hh) & (var_z > VARIES * zz)
    return (zh - z * h / n).square() / torch.where(varies, var_h * var_z, torch.inf)


def sign_entropy(positive: Tensor) -> float:
    """Return the mean over units of ``−p log₂ p − (1−p) log₂(1−p)``, ``p = P(z > 0)``; 0 if none ever switches.

    Args:
        positive: ``p`` of each unit, ``[C]``.

    Source: Lewandowski et al. (2025), arXiv 2410.20634 (unit sign entropy), in bits.

    >>> sign_entropy(torch.tensor([0.5, 1.0]))
    0.5
    """
    p = positive
    return float((torch.special.entr(p) + torch.special.entr(1 - p)).mean() / math.log(2))


def shift(mean: Tensor, square: Tensor) -> float | None:
    """Return the mean of ``|E z| / sd z`` over the units whose input varies; None if there is none.

    Args:
        mean, square: ``E z`` and ``E z²`` of each unit, ``[C]``.

    >>> shift(torch.tensor([3.0, 7.0]), torch.tensor([10.0, 49.0]))
    3.0
    """
    variance = square - mean.square()
    varies = variance > VARIES * square
    return float((mean.abs() / variance.sqrt())[varies].mean()) if bool(varies.any()) else None
