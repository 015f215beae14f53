"""Whether an update rule keeps the copies in one cloned parameter (claims C3, C8, C9).

Gradients are multiples of ``s_i s_jᵀ`` on every pair of blocks. What a rule does to such multiples, to decay of
weights that are none, and to state that is none, decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from theory.tolerances import BATCH, PROPORTION
from torch_experiments.certificates.manifold import Place, rounding
from torch_experiments.certificates.optimizer.sentences import Sentence, Verdict
from torch_experiments.certificates.optimizer.update_rules import (
    Facts,
    Group,
    RuleKind,
    coupled_decay,
    decoupled_decay,
    in_use,
    inertia,
    number,
    state_of,
)
from torch_experiments.cloning.layouts import Placement, Profile, identity, project, violations

Likeness = Literal["identical", "signed", "scaled"]
LIKENESSES: tuple[Likeness, ...] = ("identical", "signed", "scaled")  # each holds the ones before
WITHOUT_FLOOR = ("grad_avg", "exp_inf", "acc_delta")  # no ε beside them: steps feel them however small they are

STEPS: Mapping[RuleKind, str] = {
    "linear": "its step is a linear combination of gradients",
    "odd": "its step is an odd function of each entry's gradients",
    "spectral": "its step is a polynomial matrix map of gradients, rounded to bfloat16",
    "quasi-newton": "its step combines gradients with inner products as coefficients",
}
OUTCOMES: Mapping[tuple[RuleKind, Likeness], tuple[Verdict, str]] = {
    ("odd", "scaled"): ("left", "which does not keep proportions other than ±1"),
    ("spectral", "identical"): (
        "kept",
        "which keeps identical clones in exact arithmetic, while rounding may grow",
    ),
    ("spectral", "signed"): ("kept", "which keeps signed clones in exact arithmetic, while rounding may grow"),
    ("spectral", "scaled"): ("left", "which keeps proportions in exact arithmetic only"),
    **dict.fromkeys(
        (("quasi-newton", scales) for scales in LIKENESSES),
        ("unknown", "which keeps copies in exact arithmetic, but rounding was seen to grow to order one"),
    ),
}


def scales_of(profiles: tuple[Profile, ...]) -> Likeness:
    """Return how copies differ: not at all, by signs, or by other factors.

    >>> scales_of((Profile(torch.tensor([0, 0]), torch.tensor([1.0, -1.0], dtype=torch.float64)),))
    'signed'
    """
    return max((_scales(p) for p in profiles), key=LIKENESSES.index, default="identical")


def clone_reasons(
    name: str, place: Place, optimizer: Optimizer, group: Group, facts: Facts, tolerance: float
) -> Iterator[Sentence]:
    """Yield what training one cloned parameter does to its copies.

    Args:
        name: of the parameter.
        place: its blocks and scales.
        optimizer: that trains it.
        group: of the parameter.
        facts: of the optimizer.
        tolerance: relative distance that counts as none.
    """
    kind = type(optimizer).__name__
    tolerance = max(tolerance, rounding(place.parameter.dtype))
    spread = off_tangent(place.parameter.detach(), place.placement)
    flat = spread <= tolerance
    verdict, sentence, rests = _of_step(facts.step, scales_of(place.profiles), flat)
    yield Sentence("clones", verdict, f"{kind}: {sentence}", (name,), rests)
    if not flat:
        yield from _of_decay(name, place, group, facts, spread)
    yield from _of_state(name, place, optimizer, group, facts, tolerance)


def off_tangent(x: Tensor, place: Placement) -> float:
    """Return ``‖x − Px‖ / ‖x‖``: how far ``x`` is from multiples of ``s_i s_jᵀ`` on every pair of blocks.

    >>> pair = Placement((Profile(torch.tensor([0, 0]), torch.ones(2, dtype=torch.float64)),))
    >>> [round(off_tangent(torch.tensor([1.0, x]), pair), 6) for x in (1.0, -1.0)]
    [0.0, 1.0]
    """
    x = x.double()
    return float((x - project(x, place.tangent)).norm()) / (float(x.norm()) or 1.0)


def off_equations(x: Tensor, place: Placement) -> float:
    """Return how far ``x`` is from RE and CE, relative to ``‖x‖``."""
    x = x.double()
    rows, _, columns, _, _, size, _ = violations(x, torch.zeros_like(x), place)
    return (max(rows, columns) / (size or 1.0)) ** 0.5


def _of_step(step: RuleKind, scales: Likeness, flat: bool) -> tuple[Verdict, str, tuple[str, ...]]:
    if step == "spectral" and scales != "scaled" and not flat:
        known: tuple[Verdict, str] = ("unknown", "which keeps RE ∩ CE in exact arithmetic, but rounding may grow")
    else:
        known = OUTCOMES.get((step, scales), ("kept", f"which keeps {scales} clones"))
    proof = ("C3" if scales == "identical" else "C8",) if step == "linear" else ()
    return known[0], f"{STEPS[step]}, {known[1]}", (*proof, "C9")


def _of_decay(name: str, place: Place, group: Group, facts: Facts, spread: float) -> Iterator[Sentence]:
    coupled, decoupled = coupled_decay(group, facts), decoupled_decay(group, facts)
    if not coupled and not decoupled:
        return
    share = f"the weights have a part off the tangent space ({spread:.2g} of their norm)"
    if coupled and facts.step == "odd" and not _in_pairs(place):
        said = f"{share}, which decay {coupled:g} adds to gradients, so that odd steps part the copies"
        yield Sentence("clones", "left", said, (name,), ("C9",))
    else:
        said = f"{share}, which decay {coupled + decoupled:g} shrinks: the equations are kept, the coset is left"
        yield Sentence("coset", "left", said, (name,), ("C9",))


def _of_state(
    name: str, place: Place, optimizer: Optimizer, group: Group, facts: Facts, tolerance: float
) -> Iterator[Sentence]:
    """Yield what is off the block structure by so much that steps feel it: the last gradient, and the state."""
    tolerance = max(tolerance, BATCH * torch.finfo(place.parameter.dtype).eps)
    for key, x in _memories(place.parameter, optimizer, group, facts):
        even = key in facts.even
        own = _fitted(place.placement, x, even)
        tangent, weight = off_tangent(x, own), _felt(key, x, place.parameter, group, facts)
        if not tangent * weight <= tolerance:
            breaks = not off_equations(x, own) * weight <= tolerance
            verdict = _with_state(breaks, place, facts, even)
            said = f"its {key} is off the block structure by {tangent:.2g} of its norm"
            yield Sentence("coset", "left", f"{said}, and moves the weights off the coset", (name,), ("C9",))
            if verdict != "kept":
                yield Sentence("clones", verdict, f"{said}, so copies get different steps", (name,), ("C9",))


def _memories(parameter: Tensor, optimizer: Optimizer, group: Group, facts: Facts) -> Iterator[tuple[str, Tensor]]:
    """Yield the last gradient if there is one, and the state that takes part in steps, by name."""
    if parameter.grad is not None:
        yield "gradient", parameter.grad.to_dense() if parameter.grad.is_sparse else parameter.grad
    for key, tensors in state_of(optimizer, parameter).items():
        if key in (*facts.odd, *facts.even) and in_use(key, group, facts):
            yield from ((key, x) for x in tensors)


def _with_state(breaks: bool, place: Place, facts: Facts, even: bool) -> Verdict:
    """Return what becomes of the copies under state that is off the tangent space."""
    if breaks:
        return "left"
    if facts.step == "linear" or (facts.step == "odd" and _in_pairs(place)):
        return "kept"
    return "left" if even else "unknown"


def _felt(key: str, x: Tensor, parameter: Tensor, group: Group, facts: Facts) -> float:
    """Return the share, at most 1, in which steps feel ``x``: rounding in what moves nothing does not count.

    A linear rule carries weights by ``η ‖x‖/(1 − β)`` at most, one that divides by ``√v + ε`` by that over ``ε``;
    both relative to the weights. A second moment counts as ``√v/ε``. Other rules turn any ``x`` into full steps.
    """
    eps = {"linear": 1.0, "odd": group.get("eps")}.get(facts.step)
    if not isinstance(eps, float) or not eps or key in WITHOUT_FLOOR:
        return 1.0
    if key in facts.even:
        return min(1.0, float(x.max().clamp_min(0).sqrt()) / eps)
    rate = max(number(group, "lr"), number(group, "initial_lr")) / (1.0 if key == "momentum_buffer" else eps)
    lever = rate / (1 - min(inertia(group), 1 - 1e-9))  # with β = 1 it would be infinite
    return min(1.0, lever * float(x.double().norm()) / (float(parameter.detach().double().norm()) or 1.0))


def _in_pairs(place: Place) -> bool:
    """Return whether no block has more than two copies: then elementwise maps keep RE ∩ CE as a whole."""
    return all(int(profile.block.bincount().max()) <= 2 for profile in place.profiles)


def _fitted(place: Placement, x: Tensor, even: bool) -> Placement:
    """Return the placement of a state tensor: without signs if even, and with summed dimensions of size one."""
    profiles = tuple(
        identity(size) if size != len(p.block) else Profile(p.block, p.scale.abs() if even else p.scale)
        for size, p in zip(x.shape, place.profiles, strict=True)
    )
    return place._replace(profiles=profiles)


def _scales(profile: Profile) -> Likeness:
    size = profile.scale.abs()
    highest = torch.zeros_like(size).scatter_reduce(0, profile.block, size, "amax")[profile.block]
    if bool((size < highest * (1 - PROPORTION)).any()):
        return "scaled"
    positive = torch.zeros_like(size).index_add(0, profile.block, (profile.scale > 0).double())[profile.block]
    count = profile.block.bincount()[profile.block]
    return "signed" if bool(((positive > 0) & (positive < count)).any()) else "identical"
