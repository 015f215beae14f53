"""Does training with this very optimizer keep the network on its manifold (claims C3, C8, C9, F2b, F2d)?

Read from the object: its class, the settings of each group, its state, its hooks, and the modules of the model.
Clones lie within one parameter, so groups may have different rates, and a parameter that is not trained stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from theory.tolerances import SUMS
from torch_experiments.certificates.manifold import Masks, Place, check_on, checked_masks, places
from torch_experiments.certificates.mode import DECIDES
from torch_experiments.certificates.optimizer.cloned_modules import module_reasons
from torch_experiments.certificates.optimizer.cloned_weights import clone_reasons
from torch_experiments.certificates.optimizer.held_weights import Weights, frozen_reasons, waiting
from torch_experiments.certificates.optimizer.sentences import Sentence, Subject, Verdict, merged, worst
from torch_experiments.certificates.optimizer.third_party import third_party_reasons
from torch_experiments.certificates.optimizer.update_rules import Facts, Group, facts_of, number
from torch_experiments.cloning.layouts import Layout, project
from torch_experiments.support.noise import GradientNoise
from torch_experiments.support.storages import shared_storages, sharing, told
from torch_experiments.support.torch_private import gradient_hooks, step_hooks

SETTINGS = ("lr", "momentum", "betas", "nesterov", "weight_decay", "decoupled_weight_decay", "amsgrad", "maximize")
SUBJECTS: tuple[Subject, ...] = ("clones", "frozen")


@dataclass(frozen=True)
class OptimizerVerdict:
    """What training keeps.

    Attributes:
        optimizer: class and settings, one group after the other.
        clones: whether copies stay copies: the weights go on satisfying RE and CE (with their scales).
        coset: whether the weights stay on ``w₀`` + the tangent space, the manifold of today; decay may leave it
            for another one while the clones are kept.
        frozen: whether frozen weights keep their values, those that are frozen by sign their sign.
        reasons: of these, the worst first; ``"kept"`` holds for the settings and state as they are now.
    """

    optimizer: str
    clones: Verdict
    coset: Verdict
    frozen: Verdict
    reasons: tuple[Sentence, ...]


@dataclass(frozen=True, eq=False)
class Masked:
    """Frozen entries of a parameter: those that keep their values, and those that only keep their sign."""

    parameter: nn.Parameter
    held: Tensor
    signed: Tensor


@dataclass(frozen=True, eq=False)
class Scene:
    """The parameters with copies, those with frozen entries, and the groups of those that are trained, by name."""

    copied: Mapping[str, Place]
    masked: Mapping[str, Masked]
    groups: Mapping[str, Group]

    def parameter(self, name: str) -> nn.Parameter:
        """Return a parameter that has copies or frozen entries."""
        return self.copied[name].parameter if name in self.copied else self.masked[name].parameter

    def about(self, name: str | None = None) -> list[Subject]:
        """Return what a reason about one parameter, or about all, has to speak of."""
        clones, frozen = (bool(part) if name is None else name in part for part in (self.copied, self.masked))
        return [subject for subject, there in zip(SUBJECTS, (clones, frozen), strict=True) if there]


def optimizer_verdict(
    model: nn.Module,
    optimizer: Optimizer | None,
    layout: Layout | None,
    frozen: Masks | None = None,
    *,
    sign_frozen: Masks | None = None,
    lasting: Masks | None = None,
    gradients: Mapping[str, Tensor] | None = None,
    custom: str = "",
    decided: str = "",
    tolerance: float = SUMS,
) -> OptimizerVerdict:
    """Return whether training ``model`` with ``optimizer`` keeps it on its cloned and frozen manifold.

    Reads every weight and state tensor a few times, and the gradients of the last step where they are at hand;
    nothing is run but activations of scaled units on 64 numbers. ``"kept"`` is meant in exact arithmetic: how fast
    rounding grows is the business of `stability`. Not seen is what a training loop does by itself (clipping by
    value, noise) and the dropout of a fused attention (``dropout_p``), nor, before the first gradient, a gradient
    that is rounding alone (of a bias before BatchNorm), which an odd rule turns into full steps.

    Args:
        model: the network, in the mode in which it is trained.
        optimizer: any ``torch.optim.Optimizer``; None for gradient flow.
        layout: blocks and scales of all copies, from `layout` or `chain_layout`; None for none.
        frozen: by parameter, a bool mask of the entries whose gradient is zero, and stays zero.
        sign_frozen: the same for entries that need only keep their sign (zero: stay ``≤ 0``), since a unit is dead
            for all data by the signs of its in-weights (F2b): ``frozen_units(...).entries_of(Firmness.SIGN)``. That
            holds weights out of dead units too, which could even change sign. An entry in both counts here.
        lasting: the entries among the two whose gradient stays zero while the rest trains; all of them if None.
        gradients: of a real backward pass, by parameter: copies whose gradients differ will part.
        custom: why that pass is not the one of the operations, as in `oracle.Reach`.
        decided: the layers where numbers that weights have made decide what runs, in words.
        tolerance: relative distance that counts as none; 16 ε of the parameter's dtype where that is more.

    Raises:
        ValueError: for masks or a layout that do not fit, a network off its layout's manifold, an
            optimizer without a parameter of the model, or a setting that is no number.

    Source: claims C3, C8, C9 for copies, F1, F2b, F2d for frozen weights.

    >>> from torch_experiments.cloning.exact import clone, layout
    >>> base, x = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)), torch.ones(1, 2)
    >>> wide, place = clone(base, 2, example_inputs=x), layout(base, 2, example_inputs=x)
    >>> optimizer_verdict(wide, torch.optim.Adam(wide.parameters()), place).clones
    'kept'
    """
    if layout is not None:
        check_on(model, layout, tolerance)
    copied = {name: place for name, place in places(model, layout).items() if place.copied}
    scene = Scene(copied, _masked(model, frozen, sign_frozen), _groups(model, optimizer))
    found = list(_of_nothing(scene))
    if copied and layout is not None:
        found += module_reasons(model, layout, tolerance)
    found += _of_ties(model, scene)
    found += _of_backward(scene, gradients or {}, custom, tolerance)
    found += _of_paths(scene, decided) if decided else []
    found += _of_revival(scene, checked_masks(model, lasting, "lasting")) if lasting is not None else []
    found += _of_flow(scene) if optimizer is None else _of_training(optimizer, scene, tolerance)
    clones, coset, still = worst(found, "clones"), worst(found, "clones", "coset"), worst(found, "frozen")
    return OptimizerVerdict(_describe(optimizer), clones, coset, still, merged(found))


def _masked(model: nn.Module, frozen: Masks | None, sign_frozen: Masks | None) -> dict[str, Masked]:
    held, signed = checked_masks(model, frozen, "frozen"), checked_masks(model, sign_frozen, "sign_frozen")
    known, found = dict(model.named_parameters()), {}
    for name in dict.fromkeys([*held, *signed]):
        none = torch.zeros_like(known[name], dtype=torch.bool)
        sign = signed.get(name, none)
        own = Masked(known[name], held.get(name, none) & ~sign, sign)
        if bool((own.held | own.signed).any()):
            found[name] = own
    return found


def _groups(model: nn.Module, optimizer: Optimizer | None) -> dict[str, Group]:
    """Return the group of every parameter of the model that is trained, by name."""
    if optimizer is None:
        return {}
    for group in optimizer.param_groups:
        number(group, "lr")
    owner = {p: group for group in optimizer.param_groups for p in group["params"]}
    held = {name: p for name, p in model.named_parameters() if p in owner}
    if not held:
        raise ValueError(
            f"optimizer: this {type(optimizer).__name__} holds no parameter of the model; build it from "
            "model.parameters() after the model is cloned, converted or loaded"
        )
    return {name: owner[p] for name, p in held.items() if p.requires_grad}


def _of_nothing(scene: Scene) -> Iterator[Sentence]:
    if not scene.copied:
        yield Sentence("clones", "kept", "the layout has no copies")
    if not scene.masked:
        yield Sentence("frozen", "kept", "no frozen weight is given")


def _of_ties(model: nn.Module, scene: Scene) -> Iterator[Sentence]:
    """Yield that another parameter, with a gradient of its own, moves the memory of a copied or frozen one."""
    shared = shared_storages(model)
    for name in sorted(sharing(shared)):
        said = f"lies on the storage of another parameter, which moves it too: {told(shared)}"
        yield from (Sentence(about, "unknown", said, (name,), ("C9",)) for about in scene.about(name))


def _of_backward(
    scene: Scene, gradients: Mapping[str, Tensor], custom: str, tolerance: float
) -> Iterator[Sentence]:
    """Yield the copies whose real gradients are no multiples of ``s_i s_jᵀ``, by more than rounding."""
    copied = {name: gradients[name].double() for name in scene.copied if name in gradients}
    size = max((float(g.norm()) for g in copied.values()), default=0.0)
    apart = {n: float((g - project(g, scene.copied[n].profiles)).norm()) for n, g in copied.items()}
    names = tuple(name for name, gap in apart.items() if gap > tolerance * size)
    if names:
        gap = max(apart[name] for name in names) / size
        why = custom or "the network as it trains gives copies different errors"
        yield Sentence(
            "clones", "left", f"real gradients are off the block structure by {gap:.2g}: {why}", names, ("C2",)
        )


def _of_paths(scene: Scene, decided: str) -> Iterator[Sentence]:
    """Yield that copies and frozen weights are those of one path, where training may take another one."""
    said = f"{DECIDES} in {decided}: on another path it may be otherwise"
    if scene.copied:
        yield Sentence("clones", "unknown", said, tuple(scene.copied), ("C2",))
    if scene.masked:
        yield Sentence("frozen", "unknown", said, tuple(scene.masked), ("F1",))


def _of_revival(scene: Scene, lasting: Masks) -> Iterator[Sentence]:
    """Yield the frozen entries that hang on units which training may revive (F2)."""
    doubtful = {
        name: int(((own.held | own.signed) & ~lasting.get(name, torch.zeros_like(own.held))).sum())
        for name, own in scene.masked.items()
    }
    names = tuple(name for name, count in doubtful.items() if count)
    if names:
        said = (
            f"{sum(doubtful.values()):,} entries are held by units that are frozen on these samples, while weights "
            "that feed them train, so they may revive"
        )
        yield Sentence("frozen", "unknown", said, names, ("F2", "F2a"))


def _of_flow(scene: Scene) -> Iterator[Sentence]:
    if scene.copied:
        yield Sentence("clones", "kept", "gradients are multiples of s_i s_jᵀ", tuple(scene.copied), ("C3", "C8"))
    if scene.masked:
        yield Sentence("frozen", "kept", "gradients of frozen weights are zero", tuple(scene.masked), ("F1",))


def _of_training(optimizer: Optimizer, scene: Scene, tolerance: float) -> Iterator[Sentence]:
    for hook in step_hooks(optimizer):
        yield from _of_noise(hook, scene) if isinstance(hook, GradientNoise) else _of_hook(hook, scene)
    facts = facts_of(optimizer)
    for name in dict.fromkeys([*scene.copied, *scene.masked]):
        if name not in scene.groups:
            yield from _of_untrained(name, scene, optimizer)
        elif _at_rest(optimizer, scene.groups[name]):
            claims = {"clones": ("C3",), "frozen": ("F1",)}
            said = "its learning rate is zero"
            yield from (Sentence(about, "kept", said, (name,), claims[about]) for about in scene.about(name))
        elif facts is None:
            yield from third_party_reasons(name, optimizer, scene.parameter(name), scene.about(name))
        else:
            yield from _of_parameter(name, optimizer, scene, facts, tolerance)


def _at_rest(optimizer: Optimizer, group: Group) -> bool:
    """Return whether a group is at rest: rate zero, no schedule that may raise it, and no rate kept in the state.

    `CyclicLR` leaves no trace in the groups but that it wraps the step.
    """
    own_rate = isinstance(optimizer, torch.optim.ASGD | torch.optim.Rprop)
    scheduled = getattr(vars(optimizer).get("step"), "_wrapped_by_lr_sched", False)
    return not own_rate and not scheduled and number(group, "lr") == 0 == number(group, "initial_lr")


def _of_untrained(name: str, scene: Scene, optimizer: Optimizer) -> Iterator[Sentence]:
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    own = scene.masked.get(name)
    if own is not None and id(own.parameter) in held:
        yield from waiting(name, own.parameter, own.held | own.signed)
    for about in scene.about(name):
        claims = ("C3",) if about == "clones" else ("F1",)
        yield Sentence(about, "kept", "is not trained by this optimizer", (name,), claims)


def _of_parameter(
    name: str, optimizer: Optimizer, scene: Scene, facts: Facts, tolerance: float
) -> Iterator[Sentence]:
    group, parameter = scene.groups[name], None
    if name in scene.copied:
        parameter = scene.copied[name].parameter
        yield from clone_reasons(name, scene.copied[name], optimizer, group, facts, tolerance)
    if name in scene.masked:
        own = scene.masked[name]
        parameter = own.parameter
        yield from frozen_reasons(name, Weights(parameter, own.held, own.signed, optimizer, group, facts))
    if parameter is not None and gradient_hooks(parameter):
        said = "a hook on its gradient runs at every step; what it does is not known"
        yield from (Sentence(about, "unknown", said, (name,)) for about in scene.about(name))


def _of_hook(hook: Any, scene: Scene) -> Iterator[Sentence]:
    said = f"the hook {_name_of(hook)} runs at every step; what it does is not known"
    yield from (Sentence(about, "unknown", said) for about in scene.about())


def _of_noise(noise: GradientNoise, scene: Scene) -> Iterator[Sentence]:
    """Yield what noise does: proportional to a parameter's gradient, it spares those that are frozen as a whole."""
    if not noise.sigma or (not noise.decay and noise.steps):
        return
    said = f"gradient noise (σ = {noise.sigma:g}, decay {noise.decay:g}) is another one for every entry"
    copied = tuple(name for name in scene.copied if name in scene.groups)
    if copied:
        yield Sentence("clones", "left", said, copied, ("C9", "E1"))
    partly = [name for name, m in scene.masked.items() if not bool((m.held | m.signed).all())]
    hit = tuple(name for name in partly if name in scene.groups)
    if hit:
        yield Sentence("frozen", "left", said, hit, ("E1",))


def _name_of(hook: Any) -> str:
    return str(getattr(hook, "__qualname__", type(hook).__qualname__))


def _describe(optimizer: Optimizer | None) -> str:
    if optimizer is None:
        return "gradient flow"
    return f"{type(optimizer).__name__}: " + "; ".join(_settings(group) for group in optimizer.param_groups)


def _settings(group: Group) -> str:
    return ", ".join(f"{key} {group[key]}" for key in SETTINGS if group.get(key))
