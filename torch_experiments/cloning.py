"""Exact cloning of a network, and how far a network is from a cloned manifold (JL25 Theorem 2.1).

Every feature axis has a `Profile`: the base unit ``i`` that a unit ``v`` copies, and its scale ``s_v``. With the
orthonormal basis ``Q[v, i] = s_v / ‖s_i‖`` for ``v`` in block ``i`` (zero elsewhere), a weight matrix ``W`` from
profile ``j`` to profile ``i`` is

- row-equitable (RE) when ``(I − Q_i Q_iᵀ) W Q_j = 0``,
- column-equitable (CE) when ``(I − Q_j Q_jᵀ) Wᵀ Q_i = 0``,
- on the manifold of ``W₀`` when ``W − W₀ = Q_i Q_iᵀ (W − W₀) Q_j Q_jᵀ``, a multiple of ``s_i s_jᵀ`` on every
  pair of blocks (block-constant when all scales are one).

A bias is one more column, the edge from a constant-one unit, which is a block of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from torch_experiments.models import ACTIVATIONS, choose

Mode = Literal["equal", "equitable"]
Norm = TypeVar("Norm", nn.BatchNorm1d, nn.LayerNorm)
SPREADS: Mapping[str, float] = {"equal": 0.0, "equitable": 1.0}


@dataclass(frozen=True)
class Profile:
    """Which units are copies of which, and with what scale: ``h(v) = scale[v] · h̃(block[v])``.

    Attributes:
        block: index of the base unit, int64, shape ``[units]``.
        scale: ``s_v``, float64, shape ``[units]``, never zero.
    """

    block: Tensor
    scale: Tensor

    def basis(self, like: Tensor | None = None) -> Tensor:
        """Return ``Q``, shape ``[units, blocks]``, with ``QᵀQ = I``, in the dtype and on the device of ``like``."""
        Q = torch.zeros(len(self.block), int(self.block.max()) + 1, dtype=torch.float64)
        Q[torch.arange(len(self.block)), self.block] = self.scale
        Q = Q / Q.norm(dim=0)
        return Q if like is None else Q.to(like)

    def square_norm(self) -> Tensor:
        """Return ``Σ s_u²`` over the block of each unit, shape ``[units]``."""
        square = self.scale.square()
        return torch.zeros_like(square).index_add(0, self.block, square)[self.block]


class Residual(NamedTuple):
    """Relative violation of the cloned manifold's equations in one Linear layer (Frobenius norms)."""

    layer: str
    rows: float
    columns: float
    coset: float


def profile(
    units: int, factor: int = 1, *, scales: str = "one", generator: torch.Generator | None = None
) -> Profile:
    """Return the profile of ``units`` base units cloned ``factor`` times, copies side by side.

    The copies of unit ``i`` are ``factor·i, …, factor·i + factor − 1``, so that flattening a cloned channel
    keeps its copies together. Scales are ``"one"``, ``"positive"`` (uniform on [1/2, 2]) or ``"sign"`` (±1;
    from the second copy on a block has both signs). With ``factor=1`` (inputs, outputs) all scales are one.
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
    return Profile(torch.arange(units).repeat_interleave(factor), scale.flatten())


def profiles(
    model: nn.Module, factor: int = 2, *, scales: str = "one", generator: torch.Generator | None = None
) -> list[Profile]:
    """Return the profile of every feature axis of the base ``model``: inputs, hidden layers, outputs.

    Inputs and outputs are blocks of their own; every hidden unit is cloned ``factor`` times.
    """
    layers = [layer for _, layer in linears(model)]
    hidden = [profile(layer.out_features, factor, scales=scales, generator=generator) for layer in layers[:-1]]
    return [profile(layers[0].in_features), *hidden, profile(layers[-1].out_features)]


def clone(
    model: nn.Module, factor: int = 2, mode: Mode = "equal", generator: torch.Generator | None = None
) -> nn.Sequential:
    """Return a network with every hidden unit of ``model`` copied ``factor`` times that computes its function.

    With block sizes ``n`` (1 for inputs and outputs), ``"equal"`` gives every edge between the copies of ``j``
    and those of ``i`` the weight ``w_ij / n_j``; ``"equitable"`` adds to each pair of blocks a random matrix
    of zero row sums and zero column sums, a point of RE ∩ CE that is not block-constant. Biases, norm
    parameters and running statistics are copied. The result is in ``model``'s dtype, device and mode.

    Raises:
        TypeError: for a model that is no ``nn.Sequential``, or holds a module with no cloning rule.
        ValueError: for a factor below one or an unknown mode.

    Source: JL25 Theorem 2.1 and its appendix on cloning experiments.
    """
    spread = choose("mode", mode, SPREADS)
    return expand(model, profiles(model, factor), spread=spread, generator=generator)


def expand(
    model: nn.Module,
    profiles: Sequence[Profile],
    *,
    spread: float = 0.0,
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    """Return ``model`` with its units copied and scaled as ``profiles`` say.

    Between blocks ``j → i`` the weights are ``w_ij s_i s_jᵀ / ‖s_j‖² + P``. The random ``P`` has ``P s_j = 0`` and
    ``s_iᵀ P = 0``; it is projected Gaussian noise of ``spread`` times the rms of the first term. Biases are
    ``s_v b_i``.
    The function is that of ``model`` when every module between two Linear layers is equivariant under the
    scales: any activation for 1, odd ones for ±1, positively homogeneous ones for ``s > 0``; BatchNorm for all
    of them (up to its ``eps``), LayerNorm for 1 only.

    Raises:
        TypeError: as `clone`.
        ValueError: when the number of profiles is not that of the Linear layers plus one.
    """
    count = len(linears(model)) + 1
    if len(profiles) != count:
        raise ValueError(f"profiles: got {len(profiles)}; the model needs {count}, see `profiles(model)`")
    wide, axis = nn.Sequential(), 0
    for name, module in model.named_children():
        source, axis = axis, axis + isinstance(module, nn.Linear)
        wide.add_module(name, widen(module, profiles[source], profiles[axis], spread, generator))
    return wide.train(model.training)


def residuals(
    model: nn.Module, profiles: Sequence[Profile], start: Mapping[str, Tensor] | None = None
) -> list[Residual]:
    """Return, for every Linear layer, its distance to RE, to CE, and to the coset of ``start``.

    With ``W`` the weights and the bias column, ``W₀`` those of ``start`` (a state dict) and ``D = W − W₀``:

    - ``rows = ‖(I − Q_iQ_iᵀ) W Q_j‖ / ‖W Q_j‖``,
    - ``columns = ‖(I − Q_jQ_jᵀ) WᵀQ_i‖ / ‖WᵀQ_i‖``,
    - ``coset = ‖D − Q_iQ_iᵀ D Q_jQ_jᵀ‖ / max(‖W‖, ‖W₀‖)``.

    Without ``start``, ``W₀ = 0``: the distance to the block-constant weights themselves. All in float64.
    """
    pairs = zip(linears(model), profiles[:-1], profiles[1:], strict=True)
    return [_residual(name, layer, source, target, start) for (name, layer), source, target in pairs]


def cloned_residual(model: nn.Module, factor: int, start: Mapping[str, Tensor] | None = None) -> list[Residual]:
    """Return `residuals` of a network that `clone` made with ``factor`` (all scales one).

    Raises:
        ValueError: when the width of a hidden layer is no multiple of ``factor``.
    """
    layers = [layer for _, layer in linears(model)]
    for layer in layers[:-1]:
        if layer.out_features % factor:
            raise ValueError(f"factor: got {factor}, which does not divide a width of {layer.out_features}")
    hidden = [profile(layer.out_features // factor, factor) for layer in layers[:-1]]
    axes = [profile(layers[0].in_features), *hidden, profile(layers[-1].out_features)]
    return residuals(model, axes, start)


def linears(model: nn.Module) -> list[tuple[str, nn.Linear]]:
    """Return the named Linear layers of a chain of modules, in order; a TypeError for anything else."""
    if not isinstance(model, nn.Sequential):
        raise TypeError(f"model: got {type(model).__name__}; supported is nn.Sequential of {_supported()}")
    found = [(name, layer) for name, layer in model.named_children() if isinstance(layer, nn.Linear)]
    if not found:
        raise TypeError("model: got a chain without nn.Linear; there is no weight to clone")
    return found


@singledispatch
def widen(
    module: nn.Module, source: Profile, target: Profile, spread: float, generator: torch.Generator | None
) -> nn.Module:
    """Return ``module`` for cloned features; a further kind is supported by registering its rule here.

    ``source`` and ``target`` are the profiles of its inputs and outputs, ``spread`` and ``generator`` those of
    `expand`. Raises TypeError for a kind without a rule.
    """
    raise TypeError(f"model: cannot clone {type(module).__name__}; supported are {_supported()}")


@widen.register
def _widen_linear(
    module: nn.Linear, source: Profile, target: Profile, spread: float, generator: torch.Generator | None
) -> nn.Module:
    base = module.weight.detach()
    out_scale, in_scale, square_norm = (t.to(base) for t in (target.scale, source.scale, source.square_norm()))
    W = out_scale[:, None] * base[target.block][:, source.block] * in_scale / square_norm
    if spread:
        W = W + _equitable_noise(W, source, target, spread * float(W.square().mean().sqrt()), generator)
    wide = nn.utils.skip_init(
        nn.Linear, W.shape[1], W.shape[0], bias=module.bias is not None, dtype=W.dtype, device=W.device
    )
    wide.weight.data.copy_(W)
    if module.bias is not None:
        wide.bias.data.copy_(out_scale * module.bias.detach()[target.block])
    return wide


@widen.register
def _widen_batch_norm(
    module: nn.BatchNorm1d, source: Profile, target: Profile, spread: float, generator: torch.Generator | None
) -> nn.Module:
    powers = {"weight": target.scale.abs(), "running_var": target.scale.square()}
    wide = _copied(module, target, powers)
    wide.num_features = len(target.block)
    return wide


@widen.register
def _widen_layer_norm(
    module: nn.LayerNorm, source: Profile, target: Profile, spread: float, generator: torch.Generator | None
) -> nn.Module:
    if len(module.normalized_shape) != 1:
        raise TypeError(
            f"model: LayerNorm over {module.normalized_shape}; supported is LayerNorm over one feature axis"
        )
    wide = _copied(module, target, {"weight": target.scale.abs()})
    wide.normalized_shape = (len(target.block),)
    return wide


def _widen_elementwise(
    module: nn.Module, source: Profile, target: Profile, spread: float, generator: torch.Generator | None
) -> nn.Module:
    return copy.deepcopy(module)


for _kind in (*ACTIVATIONS.values(), nn.Dropout, nn.Flatten):
    widen.register(_kind, _widen_elementwise)


def _copied(module: Norm, target: Profile, scales: Mapping[str, Tensor]) -> Norm:
    """Copy a norm with its per-feature tensors repeated, each times its own scale (else ``s_v``)."""
    wide = copy.deepcopy(module)
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        if value.ndim:
            getattr(wide, name).data = value.detach()[target.block] * scales.get(name, target.scale).to(value)
    return wide


def _equitable_noise(
    W: Tensor, source: Profile, target: Profile, size: float, generator: torch.Generator | None
) -> Tensor:
    E = size * torch.randn(W.shape, generator=generator, dtype=torch.float64)
    Qi, Qj = target.basis(), source.basis()
    E = E - Qi @ (Qi.T @ E)
    return (E - (E @ Qj) @ Qj.T).to(W)


def _residual(
    name: str, layer: nn.Linear, source: Profile, target: Profile, start: Mapping[str, Tensor] | None
) -> Residual:
    W = _with_bias(layer.weight, layer.bias)
    W0 = torch.zeros_like(W) if start is None else _with_bias(*_at(start, name))
    Qi, Qj = target.basis(W), source.basis(W)
    Qj = torch.block_diag(Qj, torch.eye(W.shape[1] - len(Qj)).to(Qj))
    rows, columns, D = W @ Qj, W.T @ Qi, W - W0
    return Residual(
        name,
        _ratio(rows - Qi @ (Qi.T @ rows), rows),
        _ratio(columns - Qj @ (Qj.T @ columns), columns),
        _ratio(D - Qi @ (Qi.T @ D @ Qj) @ Qj.T, max(W, W0, key=Tensor.norm)),
    )


def _at(start: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor | None]:
    return start[f"{name}.weight"], start.get(f"{name}.bias")


def _with_bias(weight: Tensor, bias: Tensor | None) -> Tensor:
    columns = weight.detach().double()
    return columns if bias is None else torch.cat([columns, bias.detach().double()[:, None]], dim=1)


def _ratio(part: Tensor, whole: Tensor) -> float:
    """Return ``‖part‖ / ‖whole‖``, 0 when both vanish."""
    return float(part.norm() / whole.norm().clamp_min(torch.finfo(whole.dtype).tiny))


def _supported() -> str:
    return ", ".join(sorted(kind.__name__ for kind in widen.registry if kind is not object))
