"""How many of a layer's units are dead, copies of each other, or of use: measures of activations (samples, units).

Names and formulas are those of `torch_experiments.metrics`, apart from it because `simulate` may not import torch;
every function returns a plain number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from theory.tolerances import SILENT, SMALLEST

Array = np.ndarray[Any, Any]
ALIKE = 0.95  # as in public code for JL25


def spectrum(a: Array, *, centred: bool = True) -> Array:
    """Return the singular values, largest first, of activations with (centred) or without their means removed.

    Args:
        a: Activations, shape (samples, units); of all functions here.
        centred: Whether each unit's mean is removed first.

    Returns:
        float64 of shape (min(samples, units),).

    >>> spectrum(np.diag([3.0, 4.0]), centred=False).round(9).tolist()
    [4.0, 3.0]
    """
    return np.linalg.svd(a - a.mean(axis=0) if centred else a, compute_uv=False)


def roy_vetterli_rank(sigma: Array) -> float:
    """Return `exp(−Σ p ln p)`, `p ∝ σ` (Roy & Vetterli 2007); 0 for `σ = 0`.

    >>> f"{roy_vetterli_rank(np.array([2.0, 2.0, 0.0])):.4f}"
    '2.0000'
    """
    return _exp_entropy(sigma)


def shannon_rank(sigma: Array) -> float:
    """Return `exp(−Σ p ln p)`, `p ∝ σ²`, of singular values; 0 for `σ = 0`.

    >>> f"{shannon_rank(np.array([2.0, 2.0, 0.0])):.4f}"
    '2.0000'
    """
    return _exp_entropy(sigma**2)


def renyi2_rank(sigma: Array) -> float:
    """Return the participation ratio `(Σ σ²)² / Σ σ⁴`; 0 for `σ = 0`.

    >>> renyi2_rank(np.array([2.0, 1.0, 1.0])), renyi2_rank(np.zeros(2))
    (2.0, 0.0)
    """
    return _ratio(np.sum(sigma**2) ** 2, np.sum(sigma**4))


def stable_rank(sigma: Array) -> float:
    """Return `Σ σ² / max σ²`; 0 for `σ = 0`.

    >>> stable_rank(np.array([2.0, 1.0, 1.0]))
    1.5
    """
    return _ratio(np.sum(sigma**2), np.max(sigma**2))


def srank(sigma: Array, delta: float = 0.01) -> float:
    """Return the least `k` with `σ_1 + … + σ_k ≥ (1 − δ) Σ σ` (Kumar et al. 2021); 0 for `σ = 0`.

    >>> srank(np.array([90.0, 9.5, 0.5]))
    2.0
    """
    reached = np.cumsum(sigma) >= (1 - delta) * np.sum(sigma)
    return float(np.argmax(reached) + 1) if sigma.sum() > 0 else 0.0


RANKS: Mapping[str, Callable[[Array], float]] = {
    "roy_vetterli_rank": roy_vetterli_rank,
    "shannon_rank": shannon_rank,
    "renyi2_rank": renyi2_rank,
    "stable_rank": stable_rank,
    "srank": srank,
}


def dead_fraction(a: Array) -> float:
    """Return the share of units that are exactly 0 on every sample.

    >>> dead_fraction(np.array([[0.0, 1.0], [0.0, 0.0]]))
    0.5
    """
    return float(np.all(a == 0, axis=0).mean())


def duplicate_fraction(a: Array, alike: float = ALIKE) -> float:
    """Return the share of units that have another with `|correlation| > alike`; every member of a pair counts.

    Units that are constant over the samples have no correlation and are not counted as copies.

    >>> duplicate_fraction(np.array([[0.0, 1.0, 5.0], [1.0, 3.0, 0.0], [2.0, 5.0, 1.0]]))  # 2 h + 1 is a copy of h
    0.6666666666666666
    """
    return float(np.any(np.abs(_cosines(a - a.mean(axis=0))) > alike, axis=0).mean())


def published_duplicate_fraction(a: Array, alike: float = ALIKE) -> float:
    """Return the share of units with an *earlier* one of `cosine > alike`, means not removed, dead units apart.

    So it is defined in public code for JL25: one of two copies counts, and what all units share makes them alike.

    >>> published_duplicate_fraction(np.array([[1.0, 2.0, 1.0], [1.0, 2.0, -1.0]]))
    0.3333333333333333
    """
    return float(np.any(np.triu(_cosines(a), 1) > alike, axis=0).mean())


def unit_metrics(a: Array) -> dict[str, float]:
    """Return all measures of activations by name; `raw_roy_vetterli_rank` keeps the means; nan if not finite.

    >>> unit_metrics(np.array([[0.0, 1.0], [0.0, 2.0]]))["dead_fraction"]
    0.5
    """
    if not np.all(np.isfinite(a)):
        return dict.fromkeys(unit_metrics(np.zeros((1, 1))), np.nan)
    sigma = spectrum(a)
    return {
        "dead_fraction": dead_fraction(a),
        "duplicate_fraction": duplicate_fraction(a),
        "published_duplicate_fraction": published_duplicate_fraction(a),
        "raw_roy_vetterli_rank": roy_vetterli_rank(spectrum(a, centred=False)),
    } | {name: rank(sigma) for name, rank in RANKS.items()}


def _cosines(a: Array) -> Array:
    """Return the cosines (units, units) between columns; 0 with itself, and with columns that are 0 to rounding."""
    size = np.linalg.norm(a, axis=0)
    alive = size > SILENT * max(float(size.max()), SMALLEST)
    unit = np.divide(a, size, out=np.zeros_like(a), where=alive)
    cosines = unit.T @ unit
    np.fill_diagonal(cosines, 0.0)
    return cosines


def _exp_entropy(weight: Array) -> float:
    if weight.sum() == 0:
        return 0.0
    p = weight / weight.sum()
    return float(np.exp(-np.sum(p[p > 0] * np.log(p[p > 0]))))


def _ratio(numerator: float, denominator: float) -> float:
    return float(numerator / denominator) if denominator > 0 else 0.0
