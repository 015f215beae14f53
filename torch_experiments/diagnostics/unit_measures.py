"""The metrics of the units of a layer that `diagnose` reports, from the `Statistics` of their values.

Dead units are exact over all values. Everything else reads the kept values: all of them where there are few, else
those at a fixed random choice of positions (`Diagnosis.about` says how many). The formulas are those of `metrics`.
"""

from __future__ import annotations

from functools import partial

from theory.tolerances import PRODUCTS, SINGULAR
from torch_experiments.diagnostics.registry import unit_metric
from torch_experiments.metrics import activity, copies, moments, spectra
from torch_experiments.metrics.activity import share
from torch_experiments.metrics.statistics import Statistics

LINEAR = 0.999  # r² of output and input from which a unit counts as linearised: 3 % of the deviation is left
PUBLISHED = "JL25 (arXiv 2510.00304), its public code"


@unit_metric("JL25 (arXiv 2510.00304), corrected for positions")
def dead_fraction(s: Statistics) -> float:
    """Return the share of units with ``Σ|h| = 0``: exactly 0 on every position of every sample."""
    return share(activity.dead(s.sums["magnitude"]))


@unit_metric(PUBLISHED)
def nearly_silent_fraction(s: Statistics) -> float:
    """Return the share of units that are not 0 on at most 5 % of the kept values: what JL25 calls dead."""
    return moments.nearly_silent_fraction(s.moments)


@unit_metric("Sokar et al. (2023), arXiv 2302.12902")
def dormant_fraction(s: Statistics) -> float:
    """Return the share of units with ``E|h_u| ≤ τ · mean_v E|h_v|``, ``τ = 0.025``; 1 if all are 0."""
    return share(activity.dormant(s.sums["magnitude"]))


@unit_metric("Sokar et al. (2023), arXiv 2302.12902", "dormant_fraction_0.1")
def wider_dormant_fraction(s: Statistics) -> float:
    """Return `dormant_fraction` for ``τ = 0.1``."""
    return share(activity.dormant(s.sums["magnitude"], 0.1))


@unit_metric("Own definition; `theory.saturation.frozen_fraction` with δ relative to the largest slope")
def frozen_fraction(s: Statistics) -> float | None:
    """Return the share of values with ``|f'(z)| ≤ 0.01 max|f'|``, of all units together."""
    return float((s.sums["flat"] / s.sums["n"]).mean()) if "flat" in s.sums else None


@unit_metric("Own definition, by the activation's derivative (F1)")
def saturated_fraction(s: Statistics) -> float | None:
    """Return the share of units with ``|f'(z)| ≤ 0.01 max|f'|`` at every kept value: their weights stand still."""
    return share(activity.saturated(s.sums["flat"], s.sums["n"])) if "flat" in s.sums else None


@unit_metric(PUBLISHED)
def jl25_saturated_fraction(s: Statistics) -> float | None:
    """Return the share of units with ``|∂L/∂h| < 10⁻⁴ E|h|`` at more than 99 % of the values.

    ``L`` is the mean loss of the samples of the backward pass, so the number depends on how many they are, on the
    scale of the loss, and on how well they are fitted. ``E|h|`` is at least ``10⁻¹²``.
    """
    return share(activity.jl25_saturated(s.sums["still"], s.sums["m"])) if "still" in s.sums else None


@unit_metric("Lewandowski et al. (2025), arXiv 2410.20634, for ReLU: active on every sample")
def linearised_fraction(s: Statistics) -> float | None:
    """Return the share of units whose output is affine in their input on the data: ``r(z, h)² ≥ 0.999``.

    A ReLU that is active on every sample has ``r² = 1``. For Gaussian ``z``, ``r² = c₁² / Var φ``
    (`theory.rank.linear_share`). Units whose input or output is constant do not count.
    """
    if "z" not in s.sums:
        return None
    n, h, z, zz, zh = (s.sums[name] for name in ("n", "total", "z", "zz", "zh"))
    return share(activity.linearity(n, h, s.moments.gram.diagonal(), z, zz, zh) >= LINEAR)


@unit_metric("Lewandowski et al. (2025), arXiv 2410.20634 (unit sign entropy), in bits")
def sign_entropy(s: Statistics) -> float | None:
    """Return the mean over units of ``−p log₂ p − (1−p) log₂(1−p)``, ``p = P(z > 0)``; 0 if none ever switches."""
    return activity.sign_entropy(s.sums["positive"] / s.sums["n"]) if "positive" in s.sums else None


@unit_metric("Own definition; after Lyle et al. (2024), arXiv 2402.18762 (shift of pre-activations)")
def preactivation_shift(s: Statistics) -> float | None:
    """Return the mean of ``|E z| / sd z`` over the units whose input varies; None if there is none."""
    return activity.shift(s.sums["z"] / s.sums["n"], s.sums["zz"] / s.sums["n"]) if "z" in s.sums else None


@unit_metric("Own definition: clusters of correlation ≥ 0.95 in absolute value")
def duplicate_fraction(s: Statistics) -> float:
    """Return the share of units with a partner, every member counted, see `moments.duplicate_fraction`."""
    return moments.duplicate_fraction(s.moments)


@unit_metric(PUBLISHED)
def later_duplicate_fraction(s: Statistics) -> float:
    """Return the share of units with an earlier one of uncentred cosine ≥ 0.95."""
    return moments.later_duplicate_fraction(s.moments)


def _rank(s: Statistics, rank: str, *, centred: bool) -> float:
    return spectra.RANKS[rank](s.sigma_centred if centred else s.sigma_raw)


def _srank(s: Statistics, *, centred: bool) -> float:
    return spectra.srank(s.sigma_centred if centred else s.sigma_raw)


def _hard_rank(s: Statistics, *, centred: bool) -> float:
    """Return how many singular values exceed rounding: 8 machine epsilons, or 1e-7, of the largest one, raw."""
    bound = max(SINGULAR * s.precision, PRODUCTS) * s.sigma_raw[0]
    return spectra.hard_rank(s.sigma_centred if centred else s.sigma_raw, bound)


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
    """Return `copies.cloning_score` of the kept values, for layers with a profile."""
    return copies.cloning_score(s.rows, s.profile).value if s.profile and s.rows is not None else None


@unit_metric("Lin (1989); Barnhart et al. (2002): explained variance")
def backward_cloning_score(s: Statistics) -> float | None:
    """Return `copies.cloning_score` of ``∂L/∂h``, for layers with a profile, after a backward pass."""
    return copies.cloning_score(s.errors, s.profile).value if s.profile and s.errors is not None else None


@unit_metric(PUBLISHED)
def jl25_cloning_r2(s: Statistics) -> float | None:
    """Return `copies.jl25_cloning_r2` of the kept values, for layers with a profile of equal blocks."""
    return copies.jl25_cloning_r2(s.rows, s.profile) if s.profile and s.rows is not None else None
