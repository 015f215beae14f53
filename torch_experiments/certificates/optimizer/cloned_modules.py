"""Modules that part copies whatever the optimizer does (claims M2, C8, C9): dropout, norms, activations."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.modules import activation

from theory.tolerances import EQUIVARIANT
from torch_experiments.certificates.optimizer.cloned_weights import Likeness, scales_of
from torch_experiments.certificates.optimizer.sentences import Sentence
from torch_experiments.cloning.layouts import Layout, Profile
from torch_experiments.support.torch_private import DropoutNd, NormBase

CENTRED = (nn.LayerNorm, nn.GroupNorm)
POINTS = 64  # Gaussian numbers a unit: some on either side of every kink
# Attention and softmax mix units, GLU halves them, RReLU draws slopes: scales are judged elsewhere, or by dropout.
NOT_ELEMENTWISE = (nn.MultiheadAttention, nn.Softmax, nn.Softmax2d, nn.LogSoftmax, nn.Softmin, nn.GLU, nn.RReLU)


def module_reasons(model: nn.Module, layout: Layout, tolerance: float) -> Iterator[Sentence]:
    """Yield what the modules of a clone do to its copies, by the profiles of their outputs.

    Dropout that is on draws another mask for every copy. Where copies have scales, LayerNorm and GroupNorm break
    them, BatchNorm keeps signs and, up to its ``eps``, magnitudes; an activation has to be equivariant, which is
    tested on a few numbers. Functional dropout may be on copies or not, so it is unknown; that of a fused attention
    (``dropout_p``) and functional activations are not seen.
    """
    scales = scales_of(tuple(p for place in layout.placements.values() for p in place.profiles))
    yield from _of_functions(model, layout)
    for name, module in model.named_modules():
        outputs = layout.outputs[name].profiles if name in layout.outputs else None
        if outputs is None or any(p.copied for p in outputs):
            yield from _of_dropout(name, module, outputs)
        own = scales if outputs is None else scales_of(outputs)
        if own != "identical":
            yield from _of_norm(name, module, own, outputs is not None, tolerance)
            yield from _of_activation(name, module, outputs)


def _of_dropout(name: str, module: nn.Module, outputs: tuple[Profile, ...] | None) -> Iterator[Sentence]:
    share = _dropped(module)
    if not module.training or not 0 < share < 1:
        return
    said = f"{type(module).__name__} is on, with p = {share:g}"
    if outputs is None:
        yield Sentence(
            "clones",
            "unknown",
            f"{said}, and draws another mask for every copy, if it acts on copies",
            (name,),
            ("M2",),
        )
    else:
        yield Sentence("clones", "left", f"{said}, and draws another mask for every copy", (name,), ("M2", "C9"))


def _of_functions(model: nn.Module, layout: Layout) -> Iterator[Sentence]:
    for name, share in layout.dropped.items():
        module = model.get_submodule(name)
        if module.training and 0 < share < 1 and not isinstance(module, DropoutNd):
            said = f"a function drops with p = {share:g} here, perhaps on copies"
            yield Sentence("clones", "unknown", said, (name or "(top level)",), ("M2",))


def _dropped(module: nn.Module) -> float:
    if isinstance(module, DropoutNd):
        return module.p
    if isinstance(module, nn.MultiheadAttention):
        return module.dropout
    return 0.5 if isinstance(module, nn.RReLU) and module.lower < module.upper else 0.0


def _of_norm(name: str, module: nn.Module, scales: Likeness, traced: bool, tolerance: float) -> Iterator[Sentence]:
    if not isinstance(module, (*CENTRED, nn.RMSNorm, NormBase)):
        return
    kind = type(module).__name__
    if not traced:
        yield Sentence(
            "clones", "unknown", f"{kind}: whether it acts on {scales} copies is not known", (name,), ("C9",)
        )
    elif isinstance(module, CENTRED):
        said = f"{kind} subtracts one mean from all features, which {scales} copies do not follow"
        yield Sentence("clones", "left", said, (name,), ("C9",))
    elif isinstance(module, nn.RMSNorm):
        yield Sentence("clones", "unknown", f"{kind}: no claim covers {scales} clones", (name,), ())
    elif scales == "scaled" and not _negligible(module, tolerance):
        said = f"{kind} adds eps = {module.eps:g} to variances of unequal copies"
        yield Sentence("clones", "left", said, (name,), ("C9",))


def _negligible(module: nn.Module, tolerance: float) -> bool:
    variance = module.running_var
    lowest = 1.0 if variance is None else float(variance.min())  # type: ignore[operator]
    return bool(module.eps <= tolerance * lowest)  # type: ignore[operator]


def _of_activation(name: str, module: nn.Module, outputs: tuple[Profile, ...] | None) -> Iterator[Sentence]:
    if outputs is None or type(module).__module__ != activation.__name__ or isinstance(module, NOT_ELEMENTWISE):
        return
    for profile in outputs:
        gap = _gap(module, profile) if profile.copied else 0.0
        if gap > EQUIVARIANT:
            said = f"{type(module).__name__} has f(s z) off s f(z) by {gap:.2g} for the copies' scales"
            yield Sentence("clones", "left", said, (name,), ("C8",))


def _gap(module: nn.Module, profile: Profile) -> float:
    """Return ``max |f(s z) − s f(z)| / max |s f(z)|`` over Gaussian ``z``, each ``s`` over that of its block."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(POINTS, int(profile.block.max()) + 1, generator=generator, dtype=torch.float64)[
        :, profile.block
    ]
    f = copy.deepcopy(module).to("cpu", torch.float64)
    first = torch.zeros(int(profile.block.max()) + 1, dtype=torch.float64)
    s = profile.scale / first.index_copy(0, profile.block, profile.scale)[profile.block]
    with torch.no_grad():
        wanted = s * f(z.clone())
        return float((f(s * z) - wanted).abs().max() / wanted.abs().max())
