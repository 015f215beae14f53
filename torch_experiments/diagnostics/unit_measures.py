"""Metrics of the units of a layer, from the sums over their values.

Dead units are exact over all values. Everything else reads the kept values: all of them where there are few, else
those at a fixed random choice of positions (`Diagnosis.positions` says how many).
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from torch_experiments.diagnostics.registry import unit_metric
from torch_experiments.diagnostics.statistics import Statistics
from torch_experiments.metrics import moments as unit_metrics
from torch_experiments.metrics import scores

LINEAR = 0.999  # r² of output and input from which a unit counts as linearised
RESOLVED = 1e-7  # share of the largest singular value below which those from products are rounding
STILL, ALMOST_ALL = 1e-4, 0.99  # thresholds of JL25's saturated units
PUBLISHED = "JL25 (arXiv 2510.00304), its public code"


@unit_metric("JL25 (arXiv 2510.00304), corrected for positions")
def dead_fraction(s: Statistics) -> float:
    """Return the share of units with ``Σ|h| = 0``: exactly 0 on every position of every sample."""
    return float((s.sums["magnitude"] == 0).double().mean())


@unit_metric(PUBLISHED)
def nearly_silent_fraction(s: Statistics) -> float:
    """Return the share of units that are not 0 on at most 5 % of the kept values: what JL25 calls dead."""
    return unit_metrics.nearly_silent_fraction(s.moments)


@unit_metric("Sokar et al. (2023), arXiv 2302.12902")
def dormant_fraction(s: Statistics) -> float:
    """Return the share of units with ``E|h_u| ≤ τ · mean_v E|h_v|``, ``τ = 0.025``; 1 if all are 0."""
    return _dormant(s, 0.025)


@unit_metric("Sokar et al. (2023), arXiv 2302.12902", "dormant_fraction_0.1")
def wider_dormant_fraction(s: Statistics) -> float:
    """Return `dormant_fraction` for ``τ = 0.1``."""
    return _dormant(s, 0.1)


@unit_metric("Own definition; `theory.saturation.frozen_fraction` with δ relative to the largest slope")
def frozen_fraction(s: Statistics) -> float | None:
    """Return the share of values with ``|f'(z)| ≤ 0.01 max|f'|``, of all units together."""
    return float((s.sums["flat"] / s.sums["n"]).mean()) if "flat" in s.sums else None


@unit_metric("Own definition, by the activation's derivative (F1)")
def saturated_fraction(s: Statistics) -> float | None:
    """Return the share of units with ``|f'(z)| ≤ 0.01 max|f'|`` at every kept value: their weights stand still."""
    return float((s.sums["flat"] == s.sums["n"]).double().mean()) if "flat" in s.sums else None


@unit_metric(PUBLISHED)
def jl25_saturated_fraction(s: Statistics) -> float | None:
    """Return the share of units with ``|∂L/∂h| < 10⁻⁴ E|h|`` at more than 99 % of the values.

    ``L`` is the mean loss of the samples of the backward pass, so the number depends on how many they are, on the
    scale of the loss, and on how well they are fitted. ``E|h|`` is at least ``10⁻¹²``.
    """
    return float((s.sums["still"] > ALMOST_ALL * s.sums["m"]).double().mean()) if "still" in s.sums else None


@unit_metric("Lewandowski et al. (2025), arXiv 2410.20634, for ReLU: active on every sample")
def linearised_fraction(s: Statistics) -> float | None:
    """Return the share of units whose output is affine in their input on the data: ``r(z, h)² ≥ 0.999``.

    A ReLU that is active on every sample has ``r² = 1``. For Gaussian ``z``, ``r² = c₁² / Var φ``
    (`theory.rank.linear_share`). Units whose input or output is constant do not count.
    """
    if "z" not in s.sums:
        return None
    n, h, z = s.sums["n"], s.sums["total"], s.sums["z"]
    gram = s.moments.gram.diagonal()
    var_h, var_z = gram - h * h / n, s.sums["zz"] - z * z / n
    varies = (var_h > 1e-12 * gram) & (var_z > 1e-12 * s.sums["zz"])
    r2 = (s.sums["zh"] - z * h / n).square() / torch.where(varies, var_h * var_z, torch.inf)
    return float((r2 >= LINEAR).double().mean())


@unit_metric("Lewandowski et al. (2025), arXiv 2410.20634 (unit sign entropy), in bits")
def sign_entropy(s: Statistics) -> float | None:
    """Return the mean over units of ``−p log₂ p − (1−p) log₂(1−p)``, ``p = P(z > 0)``; 0 if none ever switches."""
    if "positive" not in s.sums:
        return None
    p = s.sums["positive"] / s.sums["n"]
    return float((torch.special.entr(p) + torch.special.entr(1 - p)).mean() / math.log(2))


@unit_metric("Own definition; after Lyle et al. (2024), arXiv 2402.18762 (shift of pre-activations)")
def preactivation_shift(s: Statistics) -> float | None:
    """Return the mean of ``|E z| / sd z`` over the units whose input varies; None if there is none."""
    if "z" not in s.sums:
        return None
    mean, square = s.sums["z"] / s.sums["n"], s.sums["zz"] / s.sums["n"]
    variance = square - mean.square()
    varies = variance > 1e-12 * square
    return float((mean.abs() / variance.sqrt())[varies].mean()) if bool(varies.any()) else None


@unit_metric("Own definition: clusters of correlation ≥ 0.95 in absolute value")
def duplicate_fraction(s: Statistics) -> float:
    """Return the share of units with a partner, every member counted, see `unit_metrics.duplicate_fraction`."""
    return unit_metrics.duplicate_fraction(s.moments)


@unit_metric(PUBLISHED)
def later_duplicate_fraction(s: Statistics) -> float:
    """Return the share of units with an earlier one of uncentred cosine ≥ 0.95."""
    return unit_metrics.later_duplicate_fraction(s.moments)


def _dormant(s: Statistics, tau: float) -> float:
    return float((s.sums["magnitude"] <= tau * s.sums["magnitude"].mean()).double().mean())


def srank(sigma: Tensor, delta: float = 0.01) -> float:
    """Return ``srank_δ``, the least ``k`` with ``Σ_{i≤k} σ_i ≥ (1 − δ) Σ σ_i``; 0 for ``σ = 0``.

    Source: Kumar et al. (2021), arXiv 2010.14498.
    """
    total = sigma.sum()
    return float((sigma.cumsum(0) < (1 - delta) * total).sum() + 1) if total > 0 else 0.0


def _rank(s: Statistics, rank: str, *, centred: bool) -> float:
    return scores.RANKS[rank](s.sigma_centred if centred else s.sigma_raw)


def _srank(s: Statistics, *, centred: bool) -> float:
    return srank(s.sigma_centred if centred else s.sigma_raw)


def _hard_rank(s: Statistics, *, centred: bool) -> float:
    """Return how many singular values exceed rounding: 8 machine epsilons, or 1e-7, of the largest one, raw."""
    sigma = s.sigma_centred if centred else s.sigma_raw
    return float((sigma > max(8 * s.precision, RESOLVED) * s.sigma_raw[0]).sum())


RANK_SOURCES = {
    "shannon_rank": "R8, Rényi order 1 of σ²",
    "roy_vetterli_rank": "Roy & Vetterli (2007), Rényi order 1 of σ; JL25 reports the raw one",
    "renyi2_rank": "R8, Rényi order 2 of σ²",
    "stable_rank": "R8, Rényi order ∞ of σ²",
}
for _kind in ("raw", "centred"):
    for _name, _source in RANK_SOURCES.items():
        unit_metric(_source, f"{_name}_{_kind}")(partial(_rank, rank=_name, centred=_kind == "centred"))
    unit_metric("Kumar et al. (2021), arXiv 2010.14498, δ = 0.01", f"srank_{_kind}")(
        partial(_srank, centred=_kind == "centred")
    )
    unit_metric("R8, order 0", f"hard_rank_{_kind}")(partial(_hard_rank, centred=_kind == "centred"))


@unit_metric("Lin (1989); Barnhart et al. (2002): explained variance")
def forward_cloning_score(s: Statistics) -> float | None:
    """Return `scores.cloning_score` of the kept values, for layers with a profile."""
    return scores.cloning_score(s.rows, s.profile).value if s.profile and s.rows is not None else None


@unit_metric("Lin (1989); Barnhart et al. (2002): explained variance")
def backward_cloning_score(s: Statistics) -> float | None:
    """Return `scores.cloning_score` of ``∂L/∂h``, for layers with a profile, after a backward pass."""
    return scores.cloning_score(s.errors, s.profile).value if s.profile and s.errors is not None else None


@unit_metric(PUBLISHED)
def jl25_cloning_r2(s: Statistics) -> float | None:
    """Return ``1 − E[sd_k h_k / (sd_u h_u + 10⁻¹⁰)]``, for layers with a profile of equal blocks.

    At each value, ``sd_k`` runs over the copies of a block and ``sd_u`` over all units of the layer, both with
    ``n − 1``; the mean is over values and blocks. It is a ratio of deviations, not of variances: two independent
    standard Gaussian copies score about 0.2, and where most units are dead it is near 1. The published code then
    adds the layers up and divides by another number of layers, which is left out here.
    """
    if s.profile is None or s.rows is None or not s.profile.copied:
        return None
    sizes = s.profile.block.bincount()
    if len(sizes.unique()) > 1:
        return None
    order = s.profile.block.argsort(stable=True).to(s.rows.device)
    copies = s.rows[:, order].unflatten(1, (len(sizes), -1))
    return float(1 - (copies.std(dim=2) / (s.rows.std(dim=1, keepdim=True) + 1e-10)).mean())
