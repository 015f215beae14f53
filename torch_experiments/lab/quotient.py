"""Quotient dynamics on a trained network (claim C7): a clone under the right rates is its base, step by step."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from torch_experiments.cloning.chains import profiles
from torch_experiments.cloning.exact import clone
from torch_experiments.support.choices import choose

Rates = Literal["quotient", "uniform"]


def loss_curves(
    base: nn.Sequential,
    batches: Sequence[tuple[Tensor, Tensor]],
    *,
    factor: int = 2,
    lr: float = 0.01,
    rates: Rates = "quotient",
) -> tuple[Tensor, Tensor]:
    """Return the losses of ``base`` and of its clone along the same batches of plain SGD.

    The clone trains with rate ``lr`` throughout. On its manifold, gradient descent moves the base weight
    ``w̃_ij = Σ_{u∈S_j} w(u→v)`` by ``n_j / n_i`` times the base's own gradient. So with ``rates="quotient"`` the
    base trains its weights from layer ``j`` to layer ``i`` with ``lr · n_j / n_i``, and biases and norm parameters
    (edges from a constant-one unit, ``n = 1``) with ``lr / n_i``: the curves are equal up to rounding. With
    ``"uniform"`` it uses ``lr`` everywhere, and they part.

    Args:
        base: a network that `cloning.clone` supports, in the dtype to train in; left as it is.
        batches: pairs of inputs and class indices, one a step.
        factor: copies of a hidden unit.
        lr: learning rate.
        rates: of the base.

    Returns:
        Two tensors of shape ``[steps]``, float64: the loss of each batch before its step.

    Source: theory C7, an extension of JL25 Theorem 2.1.

    >>> base = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    >>> batches = [(torch.ones(5, 3, dtype=torch.float64), torch.ones(5, dtype=torch.int64))] * 3
    >>> torch.allclose(*loss_curves(base, batches, lr=0.1))
    True
    """
    choose("rates", rates, {"quotient": 1, "uniform": 1})
    quotient, twin = copy.deepcopy(base), clone(base, factor)
    groups = base_rates(quotient, factor, lr) if rates == "quotient" else quotient.parameters()
    theirs = _train(twin, torch.optim.SGD(twin.parameters(), lr=lr), batches)
    return _train(quotient, torch.optim.SGD(groups, lr=lr), batches), theirs


def base_rates(base: nn.Sequential, factor: int, lr: float) -> list[dict[str, object]]:
    """Return SGD parameter groups that give every tensor of ``base`` its rate in the quotient of the clone.

    >>> base = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> [group["lr"] for group in base_rates(base, 2, lr=1.0)]
    [0.5, 0.5, 2.0, 1.0]
    """
    sizes = [len(p.block) // (int(p.block.max()) + 1) for p in profiles(base, factor)]
    groups: list[dict[str, object]] = []
    axis = 0
    for module in base:
        sources, axis = sizes[axis], axis + isinstance(module, nn.Linear)
        for name, parameter in module.named_parameters():
            edge = sources if isinstance(module, nn.Linear) and name == "weight" else 1
            groups.append({"params": [parameter], "lr": lr * edge / sizes[axis]})
    return groups


def _train(model: nn.Module, optimizer: torch.optim.Optimizer, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    losses = []
    for x, y in batches:
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return torch.tensor(losses, dtype=torch.float64)
