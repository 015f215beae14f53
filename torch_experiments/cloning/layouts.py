"""Where copies lie: profiles of axes, placements of parameters, projections and residuals.

With the orthonormal basis ``Q[v, i] = s_v / ‖s_i‖`` for ``v`` in block ``i`` (zero elsewhere), a weight ``W`` from
profile ``j`` to profile ``i`` is

- row-equitable (RE) when ``(I − Q_i Q_iᵀ) W Q_j = 0``,
- column-equitable (CE) when ``(I − Q_j Q_jᵀ) Wᵀ Q_i = 0``,
- on the manifold of ``W₀`` when ``W − W₀ = Q_i Q_iᵀ (W − W₀) Q_j Q_jᵀ``, a multiple of ``s_i s_jᵀ`` on every
  pair of blocks (block-constant when all scales are one).

A bias is one more column, the edge from a constant-one unit, which is a block of its own; a kernel is one such
matrix at each offset. ``Q Qᵀ`` is applied by adding up blocks, never as a matrix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from torch_experiments.support.choices import choose
from torch_experiments.units.axes import Order, copied


@dataclass(frozen=True, eq=False)
class Profile:
    """Which units are copies of which, and with what scale: ``h(v) = scale[v] · h̃(block[v])``.

    Attributes:
        block: index of the base unit, int64, shape ``[units]``.
        scale: ``s_v``, float64, shape ``[units]``, never zero.

    >>> flipped = Profile(torch.tensor([0, 0, 1]), torch.tensor([1.0, -1.0, 1.0]).double())
    >>> flipped.sums(torch.tensor([5.0, 3.0, 2.0]), 0), flipped.copied
    (tensor([2., 2.]), True)
    """

    block: Tensor
    scale: Tensor

    def square_norm(self) -> Tensor:
        """Return ``Σ s_u²`` over the block of each unit, shape ``[units]``."""
        square = self.scale.square()
        return torch.zeros_like(square).index_add(0, self.block, square)[self.block]

    def block_norm(self) -> Tensor:
        """Return ``‖s_i‖`` of each block, shape ``[blocks]``."""
        return self.scale.new_zeros(self.blocks).index_add(0, self.block, self.scale.square()).sqrt()

    def sums(self, x: Tensor, dim: int) -> Tensor:
        """Return ``Σ_{u∈S_j} s_u x_u`` along a dimension, of size ``blocks`` there."""
        size = list(x.shape)
        size[dim] = self.blocks
        return x.new_zeros(size).index_add_(dim, self.block.to(x.device), self._scaled(x, dim))

    def coordinates(self, x: Tensor, dim: int) -> Tensor:
        """Return ``Qᵀ x`` along a dimension, of size ``blocks`` there."""
        return scaled(self.sums(x, dim), self._inverse_norm, dim) if self._moves else x

    def project(self, x: Tensor, dim: int) -> Tensor:
        """Return ``Q Qᵀ x`` along a dimension."""
        return self.spread(self.means(x, dim), dim) if self.copied else x

    def means(self, x: Tensor, dim: int) -> Tensor:
        """Return ``Σ_{u∈S_j} s_u x_u / ‖s_j‖²`` along a dimension, of size ``blocks`` there."""
        return scaled(self.sums(x, dim), self._inverse_square, dim)

    def spread(self, means: Tensor, dim: int) -> Tensor:
        """Return ``s_v y_j`` for every unit ``v`` of block ``j`` along a dimension, of size ``units`` there."""
        return self._scaled(self._repeated(means, dim), dim)

    @cached_property
    def blocks(self) -> int:
        """How many blocks there are."""
        return int(self.block.max()) + 1 if len(self.block) else 0

    @cached_property
    def copied(self) -> bool:
        """Whether some unit has a copy."""
        return len(self.block) > self.blocks

    @cached_property
    def _moves(self) -> bool:
        """Whether ``Qᵀ`` is another map than the identity."""
        return not self._ones or not torch.equal(self.block, torch.arange(len(self.block)).to(self.block))

    @cached_property
    def _ones(self) -> bool:
        return bool((self.scale == 1).all())

    @cached_property
    def _inverse_norm(self) -> Tensor:
        return 1 / self.block_norm()

    @cached_property
    def _inverse_square(self) -> Tensor:
        return self.block_norm() ** -2

    @cached_property
    def _copies(self) -> int:
        """How many copies every block has, one after the other; 0 where they lie otherwise."""
        copies = len(self.block) // self.blocks
        even = copied(self.blocks, copies).to(self.block)
        return copies if torch.equal(self.block, even) else 0

    def _repeated(self, x: Tensor, dim: int) -> Tensor:
        if not self._copies:
            return x.index_select(dim, self.block.to(x.device))
        sizes = [*x.shape[: dim + 1], self._copies, *x.shape[dim + 1 :]]
        return x.unsqueeze(dim + 1).expand(sizes).flatten(dim, dim + 1)  # half the time of `index_select`

    def _scaled(self, x: Tensor, dim: int) -> Tensor:
        return x if self._ones else scaled(x, self.scale, dim)


class Placement(NamedTuple):
    """How a parameter lies in the clone.

    Attributes:
        profiles: one a dimension.
        matrices: its ``(output, input)`` dimensions, none for biases and norms.
        power: how it follows the scales of units, ``""`` as ``s``, ``"abs"`` as ``|s|``, ``"square"`` as ``s²``.
        exponent: it is multiplied by ``factor ** exponent``.
        uneven: input dimensions whose indices differ in the number of copies; each index divides by its own.

    >>> weight = Placement((profile(2, 2), identity(3)), frozenset({(0, 1)}))
    >>> [len(p.block) for p in weight.profiles]
    [4, 3]
    """

    profiles: tuple[Profile, ...]
    matrices: frozenset[tuple[int, int]] = frozenset()
    power: str = ""
    exponent: Fraction = Fraction(0)
    uneven: frozenset[int] = frozenset()

    @property
    def tangent(self) -> tuple[Profile, ...]:
        """Profiles along which it moves: a norm's weight has scales ``|s|``, its running variance ``s²``."""
        if not self.power:
            return self.profiles
        powers = {"abs": torch.abs, "square": torch.square}
        return tuple(Profile(p.block, powers[self.power](p.scale)) for p in self.profiles)


@dataclass(frozen=True)
class Layout:
    """Placements of parameters and buffers, and of the modules' outputs, by name, with the factor of the copies.

    ``dropped`` is the share that functions drop in training, by layer (`units.graph.Graph`).

    >>> Layout(2, {"0.bias": Placement((profile(3, 2),))}).placements["0.bias"].profiles[0].copied
    True
    """

    factor: int
    placements: Mapping[str, Placement]
    outputs: Mapping[str, Placement] = field(default_factory=dict)
    dropped: Mapping[str, float] = field(default_factory=dict)


class Residual(NamedTuple):
    """Relative violation of the cloned manifold's equations in one layer (Frobenius norms), see `residuals_of`.

    >>> max(Residual("0", rows=0.0, columns=1e-16, coset=0.5)[1:])
    0.5
    """

    layer: str
    rows: float
    columns: float
    coset: float


def project(x: Tensor, profiles: Sequence[Profile]) -> Tensor:
    """Return the multiple of ``s_i s_jᵀ`` nearest to ``x`` on every pair of blocks.

    >>> project(torch.tensor([[1.0, 3.0]]), [identity(1), profile(1, 2)])
    tensor([[2., 2.]])
    """
    moved = [(dim, profile) for dim, profile in enumerate(profiles) if profile.copied]
    for dim, profile in moved:
        x = profile.means(x, dim)
    for dim, profile in moved:
        x = profile.spread(x, dim)
    return x


def identity(units: int) -> Profile:
    """Return the profile of an axis that is not copied.

    >>> identity(3).block
    tensor([0, 1, 2])
    """
    return Profile(torch.arange(units), torch.ones(units, dtype=torch.float64))


def profile(
    units: int,
    factor: int = 1,
    *,
    scales: str = "one",
    order: Order = "interleaved",
    generator: torch.Generator | None = None,
) -> Profile:
    """Return the profile of ``units`` base units cloned ``factor`` times.

    The copies of unit ``i`` are ``factor·i, …, factor·i + factor − 1``, so that flattening a cloned channel
    keeps its copies together; ``"tiled"`` they are ``i, i + units, …``. Scales are ``"one"``,
    ``"positive"`` (uniform on [1/2, 2]) or ``"sign"`` (±1; from the second copy on a block has both signs). With
    ``factor=1`` (inputs, outputs) all scales are one.

    Raises:
        ValueError: for a factor below 1, or unknown scales or order.

    >>> profile(2, 2).block, profile(1, 2, scales="sign").scale
    (tensor([0, 0, 1, 1]), tensor([ 1., -1.], dtype=torch.float64))
    """
    if factor < 1:
        raise ValueError(f"factor: got {factor}; it has to be at least 1")
    choose("scales", scales, {"one": 1, "positive": 1, "sign": 1})
    scale = torch.ones(units, factor, dtype=torch.float64)
    if factor > 1 and scales == "positive":
        scale.uniform_(0.5, 2, generator=generator)
    if factor > 1 and scales == "sign":
        scale[:, 2:] = torch.randint(2, (units, factor - 2), generator=generator).double() * 2 - 1
        scale[:, 1] = -1
    return Profile(copied(units, factor, order), (scale.T if order == "tiled" else scale).flatten())


def scaled(x: Tensor, weight: Tensor, dim: int) -> Tensor:
    """Return ``x`` times a vector along a dimension; ``x`` itself where all weights are one."""
    if bool((weight == 1).all()):
        return x
    shape = [1] * x.ndim
    shape[dim] = -1
    return x * weight.to(x).reshape(shape)


def widened(base: Tensor, place: Placement, factor: int) -> Tensor:
    """Return a parameter of the clone: ``W[block_i, block_j] · s_i s_j n_j / ‖s_j‖² · factor**c``, equal blocks.

    The result is a new tensor. Dimensions are widened from the last to the first, which moves the longest rows.

    >>> widened(torch.tensor([[6.0]]), Placement((identity(1), profile(1, 2)), frozenset({(0, 1)}), exponent=-1), 2)
    tensor([[3., 3.]])
    """
    wide = rescaled(base, factor, place.exponent)
    inputs = {in_dim for _, in_dim in place.matrices}
    for dim, profile in reversed(list(enumerate(place.profiles))):
        if not torch.equal(profile.block, torch.arange(base.shape[dim])):
            wide = wide.index_select(dim, profile.block.to(base.device))
        wide = scaled(wide, _weight(profile, place, dim, dim in inputs), dim)
    return wide.clone() if wide is base else wide


def rescaled(x: Tensor, factor: int, exponent: Fraction) -> Tensor:
    """Return ``x · factor ** exponent``, divided where that is exact."""
    if not exponent:
        return x
    if exponent.denominator == 1 and exponent < 0:
        return x / factor ** int(-exponent)
    return x * factor ** (int(exponent) if exponent.denominator == 1 else float(exponent))


def _weight(profile: Profile, place: Placement, dim: int, is_input: bool) -> Tensor:
    count = profile.block.bincount()[profile.block].double()
    if dim in place.uneven:
        return profile.scale / profile.square_norm()
    if is_input:
        return profile.scale * count / profile.square_norm()
    powers = {"": profile.scale, "abs": profile.scale.abs(), "square": profile.scale.square()}
    return powers[place.power]


def noise(
    wide: Tensor, place: Placement, spread: float, sides: tuple[bool, bool], generator: torch.Generator | None
) -> Tensor:
    """Return random weights of ``spread`` times the rms of ``wide``.

    With ``sides = (rows, columns)`` they have zero (scaled) sums over the copies of every input, so rows stay
    equitable, and over the copies of every output, so columns do. Parameters that are no matrices get none.
    """
    if not place.matrices or not spread:
        return torch.zeros_like(wide)
    size = spread * float(wide.square().mean().sqrt())
    E = size * torch.randn(wide.shape, generator=generator, dtype=torch.float64).to(wide.device)
    for out_dim, in_dim in place.matrices:
        for dim, wanted in ((in_dim, sides[0]), (out_dim, sides[1])):
            E = E - place.profiles[dim].project(E, dim) if wanted else E
    return E.to(wide)


def residuals_of(model: nn.Module, layout: Layout, start: Mapping[str, Tensor] | None = None) -> list[Residual]:
    """Return, for every layer with copies, its distance to RE, to CE, and to the coset of ``start``.

    With ``W`` all weights and biases of the layer, ``W₀`` those of ``start`` (a state dict) and ``D = W − W₀``:

    - ``rows = ‖(I − Q_iQ_iᵀ) W Q_j‖ / ‖W Q_j‖``,
    - ``columns = ‖(I − Q_jQ_jᵀ) WᵀQ_i‖ / ‖WᵀQ_i‖``,
    - ``coset = ‖D − Q_iQ_iᵀ D Q_jQ_jᵀ‖ / max(‖W‖, ‖W₀‖)``.

    Without ``start``, ``W₀ = 0``: the distance to the block-constant weights themselves. All in float64.

    Source: JL25 Theorem 2.2.

    >>> model = nn.Linear(2, 1, bias=False)
    >>> _ = model.weight.data.copy_(torch.tensor([[1.0, 3.0]]))  # mean 2 of two copies, 1 off each
    >>> where = Layout(1, {"weight": Placement((identity(1), profile(1, 2)), frozenset({(0, 1)}))})
    >>> [round(r.coset**2, 6) for r in residuals_of(model, where)]
    [0.2]
    """
    return residuals_in(dict(model.named_parameters()), layout, start)


def residuals_in(
    known: Mapping[str, Tensor], layout: Layout, start: Mapping[str, Tensor] | None = None
) -> list[Residual]:
    """Return `residuals_of` parameters that are given by name.

    >>> where = Layout(1, {"weight": Placement((identity(1), profile(1, 2)), frozenset({(0, 1)}))})
    >>> residuals_in({"weight": torch.tensor([[2.0, 2.0]])}, where)[0].coset < 1e-15
    True
    """
    layers: dict[str, list[str]] = {}
    for name in layout.placements:
        if name in known:
            layers.setdefault(name.rpartition(".")[0], []).append(name)
    return [_residual(layer, names, known, layout, start) for layer, names in layers.items()]


def _residual(
    layer: str,
    names: list[str],
    known: Mapping[str, Tensor],
    layout: Layout,
    start: Mapping[str, Tensor] | None,
) -> Residual:
    parts = []
    for name in names:
        W = known[name].detach().double()
        W0 = None if start is None else start[name].detach()
        parts.append(violations(W, W0, layout.placements[name]))
    rows, all_rows, columns, all_columns, off, size, size0 = (sum(p) ** 0.5 for p in zip(*parts, strict=True))
    tiny = torch.finfo(torch.float64).tiny
    return Residual(
        layer,
        rows / max(all_rows, tiny),
        columns / max(all_columns, tiny),
        off / max(size, size0, tiny),
    )


def violations(W: Tensor, W0: Tensor | None, place: Placement) -> tuple[float, ...]:
    """Return squared norms: off rows, rows, off columns, columns, off the coset, ``W``, ``W₀`` (zero if None).

    ``W`` and ``W₀`` have the shape of ``place``; the formulas are those of `residuals_of`.
    """
    D = W if W0 is None else W - W0
    on = project(D, place.tangent)
    rows = columns = (0.0, 0.0)
    for out_dim, in_dim in place.matrices:
        rows = _larger(rows, _side(W, place, in_dim, out_dim))
        columns = _larger(columns, _side(W, place, out_dim, in_dim))
    if not place.matrices:
        rows, columns = _vector(W, place)
    return (*rows, *columns, _square(D - on), _square(W), 0.0 if W0 is None else _square(W0))


def _side(W: Tensor, place: Placement, summed: int, kept: int) -> tuple[float, float]:
    sums, profile = place.profiles[summed].coordinates(W, summed), place.profiles[kept]
    return _square(sums - profile.project(sums, kept)) if profile.copied else 0.0, _square(sums)


def _vector(W: Tensor, place: Placement) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return rows and columns of a bias, an edge from a constant unit: its columns are always equitable."""
    on = sums = W
    for dim, profile in enumerate(place.tangent):
        on, sums = profile.project(on, dim), profile.coordinates(sums, dim)
    return (_square(W - on), _square(W)), (0.0, _square(sums))


def _larger(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    return max(one, other, key=lambda pair: pair[0])


def _square(x: Tensor) -> float:
    flat = x.reshape(-1)
    return float(flat @ flat)
