"""How cloned, how low in rank and how dead the units of a network are.

All scores are measured in eval mode and computed in float64; every function returns plain Python numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

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


def rows(h: Tensor) -> Tensor:
    """Return a layer's output as ``[samples × positions, units]``.

    Of ``[n, C, height, width]`` the units are the channels, of ``[n, C]`` and ``[n, tokens, C]`` the last axis.
    """
    return (h.movedim(1, -1) if h.ndim == 4 else h).flatten(0, -2)


def spectrum(a: Tensor, *, centred: bool = True) -> Tensor:
    """Return the singular values of activations ``a [samples, units]``, float64, largest first.

    With ``centred`` the mean over the samples is removed first, so the squares are the eigenvalues of the
    covariance times the number of samples.
    """
    a = a.detach().double()
    return torch.linalg.svdvals(a - a.mean(dim=0) if centred else a)


def shannon_rank(sigma: Tensor) -> float:
    """Return ``exp(−Σ p ln p)`` with ``p ∝ σ²``: the Rényi rank of order 1 of the covariance; 0 for ``σ = 0``."""
    return _exp_entropy(sigma.square())


def roy_vetterli_rank(sigma: Tensor) -> float:
    """Return ``exp(−Σ p ln p)``, ``p ∝ σ``, never below `shannon_rank` (Roy & Vetterli 2007); 0 for ``σ = 0``."""
    return _exp_entropy(sigma)


def renyi2_rank(sigma: Tensor) -> float:
    """Return ``(Σ σ²)² / Σ σ⁴ = (tr C)² / ‖C‖_F²``, the participation ratio; 0 for ``σ = 0``."""
    weight = sigma.square()
    return _quotient(weight.sum().square(), weight.square().sum())


def stable_rank(sigma: Tensor) -> float:
    """Return ``Σ σ² / max σ² = tr C / λ_max``, the Rényi rank of order ∞; 0 for ``σ = 0``."""
    weight = sigma.square()
    return _quotient(weight.sum(), weight.max())


RANKS = {
    "shannon_rank": shannon_rank,
    "roy_vetterli_rank": roy_vetterli_rank,
    "renyi2_rank": renyi2_rank,
    "stable_rank": stable_rank,
}


def dead_fraction(a: Tensor) -> float:
    """Return the share of units (columns of ``a [samples, units]``) that are exactly 0 on every sample."""
    return float((a == 0).all(dim=0).double().mean())


def _block_sum(per_unit: Tensor, block: Tensor, n: Tensor) -> Tensor:
    return torch.zeros(len(n), dtype=per_unit.dtype, device=per_unit.device).index_add(0, block, per_unit)


def _spread(a: Tensor, block: Tensor, n: Tensor) -> Tensor:
    """Return the mean of its block for every unit and sample."""
    sums = torch.zeros(len(a), len(n), dtype=a.dtype, device=a.device).index_add(1, block, a)
    return (sums / n)[:, block]


def _living(a: Tensor, variance: Tensor) -> Tensor:
    """Return 1 for units that vary over the samples by more than rounding, else 0."""
    rounding = (16 * torch.finfo(a.dtype).eps * a.abs().amax(dim=0)).square()
    return (variance > rounding).to(a)


def _exp_entropy(weight: Tensor) -> float:
    total = weight.sum()
    return float(torch.exp(-torch.special.xlogy(weight / total, weight / total).sum())) if total > 0 else 0.0


def _quotient(numerator: Tensor, denominator: Tensor) -> float:
    return float(numerator / denominator) if denominator > 0 else 0.0
