"""Update rules to try on clones: every optimizer that torch ships, with its options, and rules that must fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.optim import Optimizer

from torch_experiments.support.loading import shipped
from torch_experiments.support.noise import GradientNoise

Edit = Callable[[nn.Module, torch.Generator], None]


@dataclass(frozen=True)
class Rule:
    """An update rule: an optimizer with its settings, an edit of the gradients before it, and the network's norm.

    ``eps`` is the norm's. ``matrices_only`` leaves one-dimensional parameters to plain SGD with the same rate.
    """

    name: str
    optimizer: type[Optimizer]
    settings: Mapping[str, Any] = field(default_factory=dict)
    edit: Callable[[], Edit] | None = None
    norm: str = "none"
    eps: float = 1e-5
    dropout: float = 0.0
    matrices_only: bool = False


def rules() -> list[Rule]:
    """Return the rows of the table: the optimizers that torch ships, their options, and known negatives.

    A class that torch adds later gets a row with its default settings by itself.
    """
    return [_shipped_rule(kind) for kind in shipped()] + _variants() + _negatives()


SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "ASGD": {"lr": 0.05, "lambd": 0.1},
    "Adafactor": {"lr": 0.01},
    "Adagrad": {"lr": 0.01},
    "AdamW": {"lr": 0.01, "weight_decay": 0.1},
    "LBFGS": {"lr": 0.1, "max_iter": 4, "line_search_fn": "strong_wolfe"},
    "Muon": {"lr": 0.01, "weight_decay": 0.0},
    "NAdam": {"lr": 0.01},
    "RAdam": {"lr": 0.01},
    "Rprop": {"lr": 0.001},
    "SGD": {"lr": 0.05},
}


def _shipped_rule(kind: type[Optimizer]) -> Rule:
    settings = SETTINGS.get(kind.__name__, {})
    return Rule(
        kind.__name__,
        kind,
        settings,
        edit=(lambda: _to_sparse) if kind is torch.optim.SparseAdam else None,
        matrices_only=kind is torch.optim.Muon,
    )


def _variants() -> list[Rule]:
    sgd, adam = torch.optim.SGD, torch.optim.Adam
    plain, decay = {"lr": 0.05}, {"weight_decay": 0.1}
    muon = {"lr": 0.01, "weight_decay": 0.1}
    return [
        Rule("SGD, momentum", sgd, plain | {"momentum": 0.9}),
        Rule("SGD, Nesterov", sgd, plain | {"momentum": 0.9, "nesterov": True}),
        Rule("SGD, weight decay", sgd, plain | decay),
        Rule("SGD, momentum, weight decay", sgd, plain | decay | {"momentum": 0.9}),
        Rule("sign-SGD", sgd, {"lr": 0.005}, edit=lambda: _signs),
        Rule("SGD, clipped by norm", sgd, plain, edit=lambda: _clip_norm),
        Rule("SGD, clipped by value", sgd, plain, edit=lambda: _clip_value),
        Rule("Shampoo", sgd, {"lr": 0.01}, edit=Shampoo),
        Rule("Adam, AMSGrad", adam, {"lr": 0.01, "amsgrad": True}),
        Rule("Adam, coupled L2", adam, {"lr": 0.01} | decay),
        Rule("Muon, weight decay", torch.optim.Muon, muon, matrices_only=True),
        Rule("Muon in float64", sgd, {"lr": 0.01, "momentum": 0.95}, edit=lambda: _orthogonalise),
        Rule("BatchNorm, SGD", sgd, plain, norm="batch"),
        Rule("BatchNorm with eps → 0, SGD", sgd, plain, norm="batch", eps=1e-30),
        Rule("LayerNorm, SGD", sgd, plain, norm="layer"),
    ]


def _negatives() -> list[Rule]:
    sgd, plain = torch.optim.SGD, {"lr": 0.05}
    return [
        Rule("SGD, gradient noise", sgd, plain, edit=lambda: _noise),
        Rule("SGD, dropout on clones", sgd, plain, dropout=0.1),
        Rule("SGD, unequal rates per unit", sgd, plain, edit=lambda: _unequal_rates),
    ]


class Shampoo:
    """Precondition every matrix gradient: ``G ← L^{-1/4} G R^{-1/4}`` with ``L = εI + Σ GGᵀ``, ``R = εI + Σ GᵀG``.

    Vectors are left to the optimizer that follows. Source: Gupta, Koren & Singer (2018), Algorithm 1.
    """

    def __init__(self, eps: float = 1e-4) -> None:
        self.eps = eps
        self.sums: dict[nn.Parameter, tuple[Tensor, Tensor]] = {}

    def __call__(self, model: nn.Module, generator: torch.Generator) -> None:
        """Replace the gradients of ``model``'s matrices and remember their sums."""
        for parameter, gradient in gradients_of(model):
            if gradient.ndim == 2:
                G = gradient.to(torch.promote_types(gradient.dtype, torch.float32))  # no roots in bfloat16
                L, R = self.sums.get(parameter, tuple(self.eps * torch.eye(n).to(G) for n in G.shape))
                self.sums[parameter] = L + G @ G.T, R + G.T @ G
                L, R = self.sums[parameter]
                parameter.grad = (_power(L, -0.25) @ G @ _power(R, -0.25)).to(gradient)


def _power(A: Tensor, exponent: float) -> Tensor:
    eigenvalues, V = torch.linalg.eigh(A)
    return (V * eigenvalues**exponent) @ V.T


def gradients_of(model: nn.Module) -> list[tuple[nn.Parameter, Tensor]]:
    """Return the parameters that have a gradient, with it.

    >>> gradients_of(nn.Linear(1, 1))
    []
    """
    return [(p, p.grad) for p in model.parameters() if p.grad is not None]


def unchanged(model: nn.Module, generator: torch.Generator) -> None:
    """Leave the gradients as they are.

    >>> unchanged(nn.Linear(1, 1), torch.Generator())
    """


def _to_sparse(model: nn.Module, generator: torch.Generator) -> None:
    for parameter, gradient in gradients_of(model):
        parameter.grad = gradient.to_sparse()


def _signs(model: nn.Module, generator: torch.Generator) -> None:
    for _, gradient in gradients_of(model):
        gradient.sign_()


def _clip_norm(model: nn.Module, generator: torch.Generator) -> None:
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)


def _clip_value(model: nn.Module, generator: torch.Generator) -> None:
    nn.utils.clip_grad_value_(model.parameters(), 0.01)


def _orthogonalise(model: nn.Module, generator: torch.Generator) -> None:
    """Do Muon's Newton-Schulz steps in the gradient's own dtype: torch's Muon rounds them to bfloat16."""
    for parameter, G in gradients_of(model):
        if G.ndim == 2:
            X = G / G.norm()
            for _ in range(5):
                A = X @ X.T
                X = 3.4445 * X + (-4.775 * A + 2.0315 * A @ A) @ X
            parameter.grad = X


def _noise(model: nn.Module, generator: torch.Generator) -> None:
    GradientNoise(0.1, generator=generator).perturb(model.parameters())


def _unequal_rates(model: nn.Module, generator: torch.Generator) -> None:
    for _, gradient in gradients_of(model):
        rates = 1 - 0.5 * (torch.arange(len(gradient)) % 2).to(gradient)
        gradient.mul_(rates.reshape(-1, *[1] * (gradient.ndim - 1)))


def optimizers_of(rule: Rule, model: nn.Module) -> list[Optimizer]:
    """Return the optimizer of a rule for all parameters, or for matrices, and SGD for the rest.

    >>> muon = Rule("Muon", torch.optim.Muon, {"lr": 0.1}, matrices_only=True)
    >>> [type(optimizer).__name__ for optimizer in optimizers_of(muon, nn.Linear(1, 1))]
    ['Muon', 'SGD']
    """
    if not rule.matrices_only:
        return [rule.optimizer(model.parameters(), **rule.settings)]
    matrices = [p for p in model.parameters() if p.ndim == 2]
    rest = [p for p in model.parameters() if p.ndim != 2]
    return [rule.optimizer(matrices, **rule.settings), torch.optim.SGD(rest, lr=rule.settings["lr"])]


def descend(
    model: nn.Module, optimizers: Sequence[Optimizer], edit: Edit, generator: torch.Generator, x: Tensor, y: Tensor
) -> None:
    """Take a step of a rule on the mean squared error of a batch, its gradients edited; the first gets a closure.

    >>> model = nn.Linear(1, 1)
    >>> before = model.bias.item()
    >>> sgd = torch.optim.SGD(model.parameters(), 0.1)
    >>> descend(model, [sgd], unchanged, torch.Generator(), torch.ones(1, 1), torch.full((1, 1), 9.0))
    >>> model.bias.item() > before
    True
    """

    def closure() -> float:
        model.zero_grad()
        loss = mse_loss(model(x), y)
        loss.backward()
        edit(model, generator)
        return loss.item()

    first, *rest = optimizers
    first.step(closure)
    for optimizer in rest:
        optimizer.step()
