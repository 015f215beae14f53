"""What optimizers do to one entry of a weight, as a few properties from which verdicts follow: torch's, and Lion.

- A *linear* step is a linear combination of past gradients with coefficients that are equal for all entries.
- An *odd* step is an odd function of the entry's own past gradients (Adafactor: of its row's and column's too).
- A *spectral* step is a polynomial in the gradient matrix and its transpose; torch rounds it to bfloat16.
- A *quasi-newton* step is a linear combination with inner products of whole gradients as coefficients.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from theory.tolerances import EPS
from torch_experiments.certificates.optimizer.third_party import elementwise, is_lion

RuleKind = Literal["linear", "odd", "spectral", "quasi-newton"]
Group = Mapping[str, Any]
State = dict[str, list[Tensor]]


@dataclass(frozen=True)
class Facts:
    """How an optimizer moves weights.

    Attributes:
        step: as above.
        odd: names of state tensors that are odd in gradients, so they have to lie along ``s_i s_jᵀ``.
        even: names of those that do not depend on their signs, so they have to be constant on blocks.
        carries: names of those that go on moving a weight whose gradient is zero.
        decoupled: whether decay shrinks the weights beside the step; else it is added to the gradient.

    >>> FACTS[optim.SGD].carries
    ('momentum_buffer',)
    """

    step: RuleKind
    odd: tuple[str, ...] = ()
    even: tuple[str, ...] = ()
    carries: tuple[str, ...] = ()
    decoupled: bool = False


MOMENTS = Facts("odd", ("exp_avg",), ("exp_avg_sq", "max_exp_avg_sq"), ("exp_avg",))
# LBFGS holds one flat vector for all parameters; ASGD's average is no part of its steps.
HISTORY = ("d", "old_dirs", "old_stps", "prev_flat_grad")
optim = torch.optim
FACTS: Mapping[type[Optimizer], Facts] = {
    optim.SGD: Facts("linear", ("momentum_buffer",), (), ("momentum_buffer",)),
    optim.ASGD: Facts("linear"),
    optim.Adam: MOMENTS,
    optim.AdamW: MOMENTS,
    optim.NAdam: MOMENTS,
    optim.RAdam: MOMENTS,
    optim.SparseAdam: MOMENTS,
    optim.Adamax: Facts("odd", ("exp_avg",), ("exp_inf",), ("exp_avg",)),
    optim.RMSprop: Facts("odd", ("momentum_buffer", "grad_avg"), ("square_avg",), ("momentum_buffer",)),
    optim.Adagrad: Facts("odd", (), ("sum",)),
    optim.Adadelta: Facts("odd", (), ("square_avg", "acc_delta")),
    optim.Rprop: Facts("odd", ("prev",), ("step_size",)),
    optim.Adafactor: Facts("odd", (), ("row_var", "col_var", "variance"), decoupled=True),
    optim.Muon: Facts("spectral", ("momentum_buffer",), (), ("momentum_buffer",), decoupled=True),
    optim.LBFGS: Facts("quasi-newton", HISTORY, (), HISTORY),
}

# The sign of β₁ m + (1 − β₁) g, with m an average by β₂: without gradient it takes full steps until m underflows.
LION = Facts("odd", ("exp_avg",), (), ("exp_avg",), decoupled=True)


def facts_of(optimizer: Optimizer) -> Facts | None:
    """Return the facts of an optimizer, those of its base if a subclass changes no step; None if unknown.

    >>> facts_of(optim.AdamW([torch.zeros(1)])).step
    'odd'
    """
    kind = type(optimizer)
    for base in kind.__mro__:
        facts = LION if is_lion(base) and elementwise(optimizer) else FACTS.get(base)
        if facts is not None:
            same = all(_same(kind, base, name) for name in ("step", "_init_group") if hasattr(base, name))
            return facts if same and not _replaced_step(optimizer) else None
    return None


def state_of(optimizer: Optimizer, parameter: Tensor) -> State:
    """Return the state tensors of a parameter by name, each each a list: LBFGS has several directions."""
    if isinstance(optimizer, optim.LBFGS):
        return _history(optimizer, parameter)
    state = optimizer.state.get(parameter, {})
    return {name: [value] for name, value in state.items() if isinstance(value, Tensor) and value.ndim}


def coupled_decay(group: Group, facts: Facts) -> float:
    """Return ``λ`` of a decay that is added to the gradient, ``g + λ w``."""
    return 0.0 if _is_decoupled(group, facts) else number(group, "weight_decay")


def decoupled_decay(group: Group, facts: Facts) -> float:
    """Return ``λ`` of a decay beside the step, ``w ← (1 − η λ) w``; ASGD's ``lambd`` is one."""
    own = number(group, "weight_decay") if _is_decoupled(group, facts) else 0.0
    return own + number(group, "lambd")


def inertia(group: Group) -> float:
    """Return the coefficient ``μ`` or ``β₁`` by which the first moment is kept, 0 for none."""
    if "betas" in group:
        return float(group["betas"][0])
    return number(group, "momentum")


def in_use(name: str, group: Group, facts: Facts) -> bool:
    """Return whether the settings of a group let the state tensor ``name`` take part in steps."""
    if name == "grad_avg":
        return bool(group.get("centered"))
    if name == "max_exp_avg_sq":
        return bool(group.get("amsgrad"))
    return name not in facts.carries or facts.step == "quasi-newton" or inertia(group) > 0


def number(group: Group, name: str) -> float:
    """Return a setting of a group as a float, 0 if it has none.

    Raises:
        ValueError: for a tensor with several entries: torch has one number a group.
    """
    value = group.get(name, 0.0)
    if isinstance(value, Tensor) and value.numel() != 1:
        raise ValueError(f"optimizer: {name} is a tensor of shape {tuple(value.shape)}; it has to be one number")
    return float(value or 0.0)


def drift(optimizer: Optimizer, group: Group, parameter: Tensor) -> Tensor | None:
    """Return for each entry how far its first moment still carries it if all its gradients are zero from now on.

    SGD, RMSprop without decay: ``η |m| μ/(1 − μ)`` exactly (Nesterov: ``η |m| μ²/(1 − μ)``). Adam's kind after
    ``t`` steps: at most the smaller of

        |m|/√v · Σ_k η rᵏ √(1 − β₂ᵗ⁺ᵏ)/(1 − β₁ᵗ⁺ᵏ)      and      |m|/ε · Σ_k η β₁ᵏ/(1 − β₁ᵗ⁺ᵏ),

    with ``r = β₁/√β₂`` (AMSGrad: ``β₁``; Adamax: ``β₁/β₂``), since the denominator is at least ``√(β₂ᵏ v)`` and at
    least ``ε`` after ``k`` more steps. None where no bound is known (RAdam, Muon, LBFGS, Lion).

    Returns:
        The distances, of the parameter's shape.

    Source: claim F2d.

    >>> w = torch.zeros(1, requires_grad=True)
    >>> rule = optim.SGD([w], lr=0.1, momentum=0.9)
    >>> w.grad = torch.ones(1)
    >>> rule.step()
    >>> drift(rule, rule.param_groups[0], w)
    tensor([0.9000])
    """
    state = optimizer.state.get(parameter, {})
    if isinstance(optimizer, optim.SGD | optim.RMSprop):
        beta, rate = inertia(group), number(group, "lr")
        kept = beta**2 if group.get("nesterov") else beta
        return rate * state["momentum_buffer"].abs() * kept / (1 - beta)
    divided = "exp_avg_sq" in state or "exp_inf" in state
    if isinstance(optimizer, optim.RAdam) or "exp_avg" not in state or not divided:
        return None
    root, ratio = _denominator(group, state)
    m, eps = state["exp_avg"].abs(), number(group, "eps")
    by_size, by_eps = _travels(group, ratio, float(state["step"]), "exp_inf" in state)
    return torch.where(m > 0, torch.minimum(m / root * by_size, m * (by_eps / eps if eps else math.inf)), 0.0)


def _travels(group: Group, ratio: float, step: float, uncorrected: bool) -> tuple[float, float]:
    """Return the two sums over ``k``, to where their terms are below ``eps`` of the first."""
    first, second = (float(beta) for beta in group["betas"])
    slowest = max(ratio, first) if ratio < 1 else first
    k = torch.arange(1, math.ceil(math.log(EPS) / math.log(slowest)) + 2, dtype=torch.float64)
    rates = number(group, "lr") / (1 - first ** (step + k))
    corrected = 1.0 if uncorrected else (1 - second ** (step + k)).sqrt()
    by_size = float((rates * ratio**k * corrected).sum()) if ratio < 1 else math.inf
    return by_size, float((rates * first**k).sum())


def _denominator(group: Group, state: Mapping[str, Tensor]) -> tuple[Tensor, float]:
    """Return the root of the second moment, and by what ``m / √v`` shrinks in a step without gradient."""
    first, second = (float(beta) for beta in group["betas"])
    if "exp_inf" in state:
        return state["exp_inf"], first / second
    if group.get("amsgrad"):
        return state["max_exp_avg_sq"].sqrt(), first
    return state["exp_avg_sq"].sqrt(), first / second**0.5


def _is_decoupled(group: Group, facts: Facts) -> bool:
    if "weight_decouple" in group:  # so pytorch_optimizer calls it
        return bool(group["weight_decouple"])
    return facts.decoupled or bool(group.get("decoupled_weight_decay", False))


PROFILED = Optimizer.profile_hook_step(lambda *_: None).__code__  # of the wrapper that torch puts around each step


def _same(kind: type, base: type, name: str) -> bool:
    return _unprofiled(getattr(kind, name)) is _unprofiled(getattr(base, name))


def _unprofiled(function: Any) -> Any:
    """Return what torch's own profiling wrapper calls; any other wrapper may do more, so it is left on."""
    while getattr(function, "__code__", None) is PROFILED:
        function = function.__wrapped__
    return function


def _replaced_step(optimizer: Optimizer) -> bool:
    """Return whether ``step`` was replaced on the object, other than by a scheduler that wraps its class's own."""
    own = vars(optimizer).get("step")
    if own is None:
        return False
    inner = getattr(own, "__wrapped__", None) if getattr(own, "_wrapped_by_lr_sched", False) else None
    return _unprofiled(inner) is not _unprofiled(type(optimizer).step)


def _history(optimizer: optim.LBFGS, parameter: Tensor) -> State:
    """Return the parts of LBFGS's flat vectors that belong to a parameter."""
    parameters = optimizer.param_groups[0]["params"]
    sizes = [p.numel() for p in parameters]
    place = next(k for k, p in enumerate(parameters) if p is parameter)
    state = optimizer.state.get(parameters[0], {})
    found: State = {}
    for name in HISTORY:
        vectors = state.get(name)
        listed = [] if vectors is None else vectors if isinstance(vectors, list) else [vectors]
        found[name] = [v.split(sizes)[place].reshape(parameter.shape) for v in listed]
    return found
