"""How much the units that are said to be copies are alike."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from theory.tolerances import EQUAL
from torch_experiments.cloning.layouts import Profile


class CloningScore(NamedTuple):
    """Explained-variance score with the number of blocks counted and of dead blocks left out."""

    value: float
    blocks: int
    dead: int


def cloning_score(values: Tensor, profile: Profile) -> CloningScore:
    """Return how much of the units' variance is shared by the copies: 0 for independent units, 1 for exact copies.

    With ``a_k = values[:, k] / s_k`` for the ``n`` units of a block, means ``m_k`` and block average ``ā``:

    ``score = 1 − Σ W / Σ T``, sums over blocks, where
    ``W = E_x Σ_k (a_k − ā)² / (n − 1)`` is the variance within the block, and
    ``T = (1/n) Σ_k Var a_k + Σ_k (m_k − m̄)² / (n − 1)`` the total one, shifts between copies included.

    ``T − W`` is the mean covariance of two copies, so independent units score 0 in expectation whatever their
    means and variances (``W = n/(n−1)`` × the biased within-block variance), sign-flipped ones less (at least
    ``−1/(n−1)``), and a shift between copies costs. For one pair it is Lin's concordance correlation coefficient.

    Blocks of one unit have no copies and are not counted; blocks whose units are all constant over the samples
    to rounding are dead, counted, and left out. The value is nan when no block is left.

    Args:
        values: activations or gradients, shape ``[samples, units]``, two samples or more.
        profile: of the units; ``s_k`` are its scales, so flipped or scaled clones are clones.

    Raises:
        ValueError: when ``values`` does not have the profile's units, or fewer than two samples.

    Source: Lin (1989), Biometrics 45; Barnhart et al. (2002), Biometrics 58 (more than two copies).

    >>> from torch_experiments.cloning import profile
    >>> cloning_score(torch.tensor([[1.0, 1.0], [2.0, 2.0]]), profile(1, 2))
    CloningScore(value=1.0, blocks=1, dead=0)
    """
    if values.ndim != 2 or values.shape[1] != len(profile.block) or len(values) < 2:
        raise ValueError(
            f"values: got shape {tuple(values.shape)}; expected [samples ≥ 2, {len(profile.block)} units]"
        )
    a = values.detach().double() / profile.scale.to(values.device)
    block = profile.block.to(a.device)
    n = block.bincount()
    mean, variance = a.mean(dim=0), a.var(dim=0, unbiased=False)
    within = (a - _spread(a, block, n)).square().mean(dim=0)
    shift = (mean - _spread(mean[None], block, n)[0]).square()
    W, S, V = (_block_sum(x, block, n) for x in (within, shift, variance))
    copied = n > 1
    alive = copied & (_block_sum(_living(a, variance), block, n) > 0)
    pairs = (n - 1).clamp_min(1)
    total = (V / n + S / pairs)[alive].sum()
    dead = int((copied & ~alive).sum())
    return CloningScore(float(1 - (W / pairs)[alive].sum() / total), int(alive.sum()), dead)


def jl25_cloning_r2(values: Tensor, profile: Profile) -> float | None:
    """Return ``1 − E[sd_k h_k / (sd_u h_u + 10⁻¹⁰)]``; None for blocks of several sizes, or without copies.

    At each value, ``sd_k`` runs over the copies of a block and ``sd_u`` over all units of the layer, both with
    ``n − 1``; the mean is over values and blocks. It is a ratio of deviations, not of variances: two independent
    standard Gaussian copies score about 0.2, and where most units are dead it is near 1. The published code then
    adds the layers up and divides by another number of layers, which is left out here.

    Args:
        values, profile: as for `cloning_score`.

    Source: JL25 (arXiv 2510.00304), its public code.

    >>> from torch_experiments.cloning import profile
    >>> jl25_cloning_r2(torch.tensor([[1.0, 1.0, 2.0, 2.0]]), profile(2, 2))
    1.0
    """
    sizes = profile.block.bincount()
    if not profile.copied or len(sizes.unique()) > 1:
        return None
    order = profile.block.argsort(stable=True).to(values.device)
    copies = values[:, order].unflatten(1, (len(sizes), -1))
    # 1e-10 is of the published code: where all units are equal, nothing is left of the ratio
    return float(1 - (copies.std(dim=2) / (values.std(dim=1, keepdim=True) + 1e-10)).mean())


def _block_sum(per_unit: Tensor, block: Tensor, n: Tensor) -> Tensor:
    return torch.zeros(len(n), dtype=per_unit.dtype, device=per_unit.device).index_add(0, block, per_unit)


def _spread(a: Tensor, block: Tensor, n: Tensor) -> Tensor:
    """Return the mean of its block for every unit and sample."""
    sums = torch.zeros(len(a), len(n), dtype=a.dtype, device=a.device).index_add(1, block, a)
    return (sums / n)[:, block]


def _living(a: Tensor, variance: Tensor) -> Tensor:
    """Return 1 for units that vary over the samples by more than rounding, else 0."""
    rounding = (EQUAL * torch.finfo(a.dtype).eps * a.abs().amax(dim=0)).square()
    return (variance > rounding).to(a)
