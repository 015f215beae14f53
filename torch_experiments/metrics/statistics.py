"""Sums over the values of a layer's units, from which the metrics are computed: they add up over batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from torch_experiments.cloning.layouts import Profile
from torch_experiments.metrics.activity import flat
from torch_experiments.metrics.moments import Moments, moments
from torch_experiments.metrics.spectra import singular_values
from torch_experiments.support.precision import exact

Apply = Callable[[Tensor], Tensor]
Sums = Mapping[str, Tensor]


@dataclass(frozen=True)
class Statistics:
    """What is kept of a layer with ``C`` units.

    A *value* of a unit is its output at one position of one sample. ``h`` and ``z`` are the outputs and inputs
    of the activation. Sums are float64.

    Attributes:
        sums: by name. ``values``: number of all values of a unit; ``magnitude``: their ``Σ|h|``, ``[C]``.
            Over the *kept* values: ``n``, ``total``, ``gram``, ``active`` as in `moments.Moments`, and for
            activations ``z``, ``zz``, ``zh`` (sums of the products), ``positive`` (how many ``z > 0``), ``flat``
            (how many ``|f'(z)| ≤ 0.01 max|f'|``), all ``[C]``. After a backward pass ``m`` and ``still``: see
            `activity.jl25_saturated`.
        rows: the kept values themselves ``[n, C]``, while they are fewer than ``C`` or a profile needs them.
        errors: ``∂L/∂h`` at the values of the backward pass ``[m, C]``, if a profile needs them.
        profile: which units are said to be copies.
        precision: machine epsilon of the activations.

    >>> h = torch.tensor([[1.0, 0.0], [2.0, 0.0]])
    >>> gathered(h[:, None], h, None, None, None).sums["magnitude"]
    tensor([3., 0.], dtype=torch.float64)
    """

    sums: Sums
    rows: Tensor | None = None
    errors: Tensor | None = None
    profile: Profile | None = None
    precision: float = field(default=torch.finfo(torch.float32).eps)

    def __add__(self, other: Statistics) -> Statistics:
        """Return the statistics of both sets of values together."""
        sums = {name: value + other.sums[name] for name, value in self.sums.items()}
        rows = None
        if self.rows is not None and other.rows is not None:
            rows = torch.cat([self.rows, other.rows])
        return replace(self, sums=sums, rows=rows if self.profile or wide(rows) else None)

    @cached_property
    def moments(self) -> Moments:
        """Sums over the kept values."""
        return Moments(int(self.sums["n"]), *(self.sums[name] for name in ("total", "gram", "active")))

    @cached_property
    def sigma_raw(self) -> Tensor:
        """Singular values of the kept values, float64, largest first."""
        return self._sigma(centred=False)

    @cached_property
    def sigma_centred(self) -> Tensor:
        """Singular values of the kept values less their mean, float64, largest first."""
        return self._sigma(centred=True)

    def _sigma(self, *, centred: bool) -> Tensor:
        """Return singular values, from the smaller one of the two matrices of products."""
        if not wide(self.rows):
            return self.moments.spectrum(centred=centred)
        assert self.rows is not None
        a = self.rows - self.rows.mean(dim=0) if centred else self.rows
        return singular_values(a @ a.T)


def wide(rows: Tensor | None) -> bool:
    """Return whether there are fewer values than units."""
    return rows is not None and len(rows) < rows.shape[1]


def gathered(
    all_rows: Tensor, kept: Tensor, z: Tensor | None, apply: Apply | None, profile: Profile | None
) -> Statistics:
    """Return the statistics of one batch.

    Args:
        all_rows: ``[samples, positions, C]``.
        kept: values among them ``[n, C]``.
        z: inputs of the activation at the kept values, None for other layers.
        apply: the activation.
        profile: of the units, None where they are not said to be copies.
    """
    a = exact(kept)
    m = moments(a)
    size = all_rows.shape[0] * all_rows.shape[1]
    magnitude = torch.linalg.vector_norm(
        all_rows, 1, dim=(0, 1), dtype=torch.promote_types(kept.dtype, torch.float32)
    )
    sums = {"values": _number(size, a), "magnitude": exact(magnitude), "n": _number(m.n, a)}
    sums |= {"total": m.total, "gram": m.gram, "active": m.active}
    if z is not None and apply is not None:
        sums |= _pairs(a, exact(z)) | {"flat": flat(apply, z)}
    rows = a if profile or wide(a) else None
    return Statistics(sums, rows, profile=profile, precision=torch.finfo(kept.dtype).eps)


def _pairs(h: Tensor, z: Tensor) -> dict[str, Tensor]:
    found = {"z": z.sum(dim=0), "zz": z.square().sum(dim=0), "zh": (z * h).sum(dim=0)}
    return found | {"positive": (z > 0).sum(dim=0).double()}


def _number(value: int, like: Tensor) -> Tensor:
    return torch.tensor(value, dtype=torch.float64, device=like.device)
