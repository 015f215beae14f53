"""Dead, duplicate and rank statistics of hidden units, gathered over batches: any number of samples and positions.

A *unit* is a feature: a column of a Linear layer's output, a channel of a convolution, a feature of the tokens. Its
*values* are those at every position (pixel, token) of every sample. Of a layer with ``C`` units only `Moments` are
kept, of size ``C²``, so memory does not grow with samples and pixels. All sums are float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from theory.tolerances import CANCELLED, EPS
from torch_experiments.metrics.activity import dead, nearly_silent, share
from torch_experiments.metrics.spectra import RANKS, singular_values

ALIKE = 0.95  # correlation or cosine from which two units count as duplicates (JL25, appendix)


@dataclass(frozen=True)
class Moments:
    """Sums over the ``n`` values of the units of a layer.

    Attributes:
        n: values of a unit: samples × positions.
        total: ``Σ h_u``, float64 ``[C]``.
        gram: ``Σ h_u h_v``, float64 ``[C, C]``.
        active: how many values are not exactly 0, float64 ``[C]``.

    >>> m = moments(torch.tensor([[1.0, 0.0]])) + moments(torch.tensor([[3.0, 0.0]]))
    >>> m.n, m.total.tolist(), m.active.tolist()
    (2, [4.0, 0.0], [2.0, 0.0])
    """

    n: int
    total: Tensor
    gram: Tensor
    active: Tensor

    def __add__(self, other: Moments) -> Moments:
        """Return the moments of both sets of values together."""
        sums = (self.total + other.total, self.gram + other.gram, self.active + other.active)
        return Moments(self.n + other.n, *sums)

    def covariance(self) -> Tensor:
        """Return ``n`` times the covariance: ``Σ (h_u − h̄_u)(h_v − h̄_v)``."""
        return self.gram - torch.outer(self.total, self.total) / self.n

    def spectrum(self, *, centred: bool) -> Tensor:
        """Return the singular values of the values ``[n, C]``, less their mean if ``centred``, largest first."""
        return singular_values(self.covariance() if centred else self.gram)


def rows(h: Tensor) -> Tensor:
    """Return a layer's output as ``[samples × positions, units]``.

    Of ``[n, C, height, width]`` the units are the channels, of ``[n, C]`` and ``[n, tokens, C]`` the last axis.

    >>> rows(torch.zeros(2, 3, 4, 4)).shape
    torch.Size([32, 3])
    """
    return (h.movedim(1, -1) if h.ndim == 4 else h).flatten(0, -2)


def moments(h: Tensor) -> Moments:
    """Return the moments of a layer's output ``[n, C]``, ``[n, tokens, C]`` or ``[n, C, height, width]``.

    >>> moments(torch.ones(2, 3, 4, 4)).n  # two images of three channels
    32
    """
    values = rows(h).detach().double()
    return Moments(len(values), values.sum(dim=0), values.T @ values, (values != 0).sum(dim=0).double())


def dead_fraction(m: Moments) -> float:
    """Return the share of units that are exactly 0 on every position of every sample, `activity.dead`.

    >>> dead_fraction(moments(torch.tensor([[1.0, 0.0], [0.0, 0.0]])))
    0.5
    """
    return share(dead(m.active))


def nearly_silent_fraction(m: Moments) -> float:
    """Return the share of units that are not 0 on at most 5 % of positions × samples, `activity.nearly_silent`.

    A channel that is active on a few pixels of every image counts.

    >>> nearly_silent_fraction(moments(torch.eye(20, 2)))
    1.0
    """
    return share(nearly_silent(m.active, m.n))


def duplicate_fraction(m: Moments) -> float:
    """Return the share of units with a partner whose values correlate by at least 0.95 in absolute value.

    Every member of a cluster counts, and so do sign-flipped copies; units that are constant are in no cluster.
    Independent units of any mean score 0, exact copies 1.

    >>> a = torch.tensor([[1.0, -2.0, 7.0], [2.0, -4.0, 7.0], [4.0, -8.0, 7.0]])
    >>> round(3 * duplicate_fraction(moments(a)))
    2
    """
    alike = _cosines(m.covariance(), m).abs().fill_diagonal_(0) >= ALIKE
    return share(alike.any(dim=1))


def later_duplicate_fraction(m: Moments) -> float:
    """Return the share of units that have an *earlier* unit of uncentred cosine at least 0.95: JL25's code.

    Every unit twice scores 0.5, and independent units with a mean much larger than their deviation score almost 1.

    Source: JL25 (arXiv 2510.00304), its public code.

    >>> later_duplicate_fraction(moments(torch.tensor([[1.0, 1.0], [2.0, 2.0]])))
    0.5
    """
    alike = _cosines(m.gram, m) >= ALIKE
    return share(alike.tril(-1).any(dim=1))


def _cosines(products: Tensor, m: Moments) -> Tensor:
    """Return ``A_uv / √(A_uu A_vv)``, 0 for units whose ``A_uu`` is rounding."""
    square = products.diagonal()
    rounding = m.gram.diagonal() * CANCELLED * EPS
    norm = torch.where(square > rounding, square, torch.inf).sqrt()
    return products / torch.outer(norm, norm)


UNIT_METRICS: Mapping[str, Callable[[Moments], float]] = {
    "dead_fraction": dead_fraction,
    "nearly_silent_fraction": nearly_silent_fraction,
    "duplicate_fraction": duplicate_fraction,
    "later_duplicate_fraction": later_duplicate_fraction,
}


def measure(m: Moments) -> dict[str, float]:
    """Return all metrics of a layer: `UNIT_METRICS`, and every rank of `spectra.RANKS`, raw and centred.

    Ranks are NaN where a value is not finite.

    >>> measure(moments(torch.tensor([[2.0, 0.0], [-2.0, 0.0]])))["stable_rank_centred"]
    1.0
    """
    found = {name: metric(m) for name, metric in UNIT_METRICS.items()}
    for kind, centred in (("raw", False), ("centred", True)):
        sigma = m.spectrum(centred=centred)
        known = bool(sigma.isfinite().all())
        found |= {f"{name}_{kind}": rank(sigma) if known else math.nan for name, rank in RANKS.items()}
    return found
