"""Which update rules keep which cloned manifold (claim C9), measured for every optimizer that torch ships.

Gradients on a cloned manifold are multiples of ``s_i s_jᵀ`` on every pair of blocks. Linear rules keep that for
all scales, odd elementwise rules for ``s = ±1``; a rule that looks at the weights (decay) also scales the part
of ``w₀`` outside the tangent space. `simulate.optimizer_table` has such a table too, apart on purpose: there the
rules are written out in NumPy as the theory has them, here they are what torch ships.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.optim import Optimizer

from simulate.optimizer_table import EARLY
from theory.tolerances import KEPT, LEFT
from torch_experiments.cloning.chains import expand, profiles
from torch_experiments.cloning.exact import residuals
from torch_experiments.cloning.layouts import Profile
from torch_experiments.lab.models import mlp
from torch_experiments.support.loading import shipped
from torch_experiments.support.noise import GradientNoise

INPUTS, WIDTH, OUTPUTS, SAMPLES = 5, 4, 3, 16  # all different, so that no shape fits by chance

Edit = Callable[[nn.Module, torch.Generator], None]


@dataclass(frozen=True)
class Manifold:
    """A kind of cloned manifold: the scales of the copies, the spread of ``w₀``, and a fitting activation."""

    scales: str = "one"
    spread: float = 0.0
    activation: str = "relu"


MANIFOLDS: Mapping[str, Manifold] = {
    "identical clones": Manifold(),
    "RE ∩ CE, not constant": Manifold(spread=1.0),
    "scaled (ReLU)": Manifold(scales="positive"),
    "signed (tanh)": Manifold(scales="sign", activation="tanh"),
}


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


def table(
    chosen: Iterable[Rule] | None = None,
    *,
    factor: int = 3,
    steps: int = 300,
    seed: int = 0,
    progress: bool = False,
) -> pa.Table:
    """Return the residuals of every rule on every kind of manifold, one row a rule, manifold and step.

    The network has two hidden layers of ``4 × factor`` units, in float64; every step has fresh Gaussian inputs
    and fixed smooth targets, and the mean squared error. Columns: ``rule``, ``manifold``, ``step`` (powers of two,
    30, and ``steps``), ``equations`` (largest relative violation of RE and CE over the layers) and ``coset``
    (largest relative distance to ``w₀`` + the tangent space), both as in `cloning.residuals`.

    Args:
        chosen: the rules, all of `rules` if none.
        factor: copies of a unit; two would hide the failure of Adam with coupled L2.
        steps: of training.
        seed: of weights, data and noise.
        progress: show a bar.
    """
    every = list(rules() if chosen is None else chosen)
    rows: list[dict[str, Any]] = []
    for rule in track(every, "optimizers", disable=not progress):
        for name, manifold in MANIFOLDS.items():
            found = follow(rule, manifold, factor=factor, steps=steps, seed=seed)
            rows += [{"rule": rule.name, "manifold": name} | row for row in found]
    return pa.Table.from_pylist(rows)


def follow(
    rule: Rule, manifold: Manifold, *, factor: int = 3, steps: int = 300, seed: int = 0
) -> list[dict[str, float]]:
    """Train a clone under ``rule`` and return its residuals after 1, 2, 4, … and ``steps`` steps."""
    generator = torch.Generator().manual_seed(seed)
    model, axes = start_on(manifold, rule, factor, generator)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    optimizers = _optimizers(rule, model)
    edit = rule.edit() if rule.edit else _unchanged
    rows = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for step in range(1, steps + 1):
            _step(model, optimizers, edit, generator)
            if step & (step - 1) == 0 or step in (EARLY, steps):
                rows.append({"step": step} | _worst(model, axes, start))
    return rows


def start_on(
    manifold: Manifold, rule: Rule, factor: int, generator: torch.Generator
) -> tuple[nn.Sequential, list[Profile]]:
    """Return a network on ``manifold``, with the norm and dropout of ``rule``, and its profiles."""
    seed = int(torch.randint(2**31, (1,), generator=generator))
    base = mlp(
        INPUTS,
        OUTPUTS,
        width=WIDTH,
        depth=2,
        norm=rule.norm,
        activation=manifold.activation,
        dropout=rule.dropout,
        seed=seed,
        dtype=torch.float64,
    )
    for module in base.modules():
        if isinstance(module, nn.BatchNorm1d | nn.LayerNorm):
            module.eps = rule.eps
    axes = profiles(base, factor, scales=manifold.scales, generator=generator)
    return expand(base, axes, spread=manifold.spread, generator=generator), axes


def verdict(rows: Sequence[Mapping[str, Any]], which: str) -> str:
    """Return ✓, ✗ or ⚠ for the residual ``which`` (``"equations"`` or ``"coset"``) of one rule on one manifold.

    ✓: at most 1e-12 at the end; ✗: at least 1e-3 within 30 steps; ⚠: neither, so rounding that grows, or a slow
    departure. A residual that is not finite is ✗.

    >>> [verdict([{"step": 30, "coset": r}, {"step": 300, "coset": r}], "coset") for r in (1e-14, 1e-8, 0.1)]
    ['✓', '⚠', '✗']
    """
    early = max(row[which] for row in rows if row["step"] <= EARLY)
    end = rows[-1][which]
    if not end < float("inf") or early >= LEFT:
        return "✗"
    return "✓" if end <= KEPT else "⚠"


def cells(measured: pa.Table) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Return the rows of `table` by rule and manifold, in order of the steps."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in measured.to_pylist():
        found.setdefault((row["rule"], row["manifold"]), []).append(row)
    return found


def markdown(measured: pa.Table) -> str:
    """Return the table in Markdown: rules down, manifolds across, each cell a verdict with its numbers."""
    found = cells(measured)
    lines = ["| rule | " + " | ".join(MANIFOLDS) + " |", "|---" * (len(MANIFOLDS) + 1) + "|"]
    for rule in dict.fromkeys(rule for rule, _ in found):
        lines.append("| " + " | ".join([rule, *(_cell(found[rule, manifold]) for manifold in MANIFOLDS)]) + " |")
    return "\n".join(lines)


def _cell(rows: Sequence[Mapping[str, Any]]) -> str:
    signs = {which: verdict(rows, which) for which in ("equations", "coset")}
    if signs["equations"] == "✓" and signs["coset"] != "✓":
        return f"equations ✓, coset {signs['coset']} {rows[-1]['coset']:.0e}"
    first, last, most = rows[0]["coset"], rows[-1]["coset"], max(row["coset"] for row in rows)
    numbers = {"✓": f"{last:.0e}", "⚠": f"{first:.0e} → {last:.0e}", "✗": f"{most:.0e}"}
    return f"{signs['coset']} {numbers[signs['coset']]}"


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
        for parameter, G in _gradients(model):
            if G.ndim == 2:
                L, R = self.sums.get(parameter, tuple(self.eps * torch.eye(n).to(G) for n in G.shape))
                self.sums[parameter] = L + G @ G.T, R + G.T @ G
                L, R = self.sums[parameter]
                parameter.grad = _power(L, -0.25) @ G @ _power(R, -0.25)


def _power(A: Tensor, exponent: float) -> Tensor:
    eigenvalues, V = torch.linalg.eigh(A)
    return (V * eigenvalues**exponent) @ V.T


def _gradients(model: nn.Module) -> list[tuple[nn.Parameter, Tensor]]:
    return [(p, p.grad) for p in model.parameters() if p.grad is not None]


def _unchanged(model: nn.Module, generator: torch.Generator) -> None:
    pass


def _to_sparse(model: nn.Module, generator: torch.Generator) -> None:
    for parameter, gradient in _gradients(model):
        parameter.grad = gradient.to_sparse()


def _signs(model: nn.Module, generator: torch.Generator) -> None:
    for _, gradient in _gradients(model):
        gradient.sign_()


def _clip_norm(model: nn.Module, generator: torch.Generator) -> None:
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)


def _clip_value(model: nn.Module, generator: torch.Generator) -> None:
    nn.utils.clip_grad_value_(model.parameters(), 0.01)


def _orthogonalise(model: nn.Module, generator: torch.Generator) -> None:
    """Do Muon's Newton-Schulz steps in the gradient's own dtype: torch's Muon rounds them to bfloat16."""
    for parameter, G in _gradients(model):
        if G.ndim == 2:
            X = G / G.norm()
            for _ in range(5):
                A = X @ X.T
                X = 3.4445 * X + (-4.775 * A + 2.0315 * A @ A) @ X
            parameter.grad = X


def _noise(model: nn.Module, generator: torch.Generator) -> None:
    GradientNoise(0.1, generator=generator).perturb(model.parameters())


def _unequal_rates(model: nn.Module, generator: torch.Generator) -> None:
    for _, gradient in _gradients(model):
        rates = 1 - 0.5 * (torch.arange(len(gradient)) % 2).to(gradient)
        gradient.mul_(rates.reshape(-1, *[1] * (gradient.ndim - 1)))


def _optimizers(rule: Rule, model: nn.Module) -> list[Optimizer]:
    if not rule.matrices_only:
        return [rule.optimizer(model.parameters(), **rule.settings)]
    matrices = [p for p in model.parameters() if p.ndim == 2]
    rest = [p for p in model.parameters() if p.ndim != 2]
    return [rule.optimizer(matrices, **rule.settings), torch.optim.SGD(rest, lr=rule.settings["lr"])]


def _step(model: nn.Module, optimizers: Sequence[Optimizer], edit: Edit, generator: torch.Generator) -> None:
    x = torch.randn(SAMPLES, INPUTS, dtype=torch.float64, generator=generator)
    y = torch.sin(x[:, :OUTPUTS] + 2 * x[:, -OUTPUTS:])

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


def _worst(model: nn.Module, axes: Sequence[Profile], start: Mapping[str, Tensor]) -> dict[str, float]:
    found = residuals(model, axes, start)
    return {"equations": max(max(r.rows, r.columns) for r in found), "coset": max(r.coset for r in found)}


if __name__ == "__main__":
    print(markdown(table(progress=True)))
