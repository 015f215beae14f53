"""Which update rules keep which cloned manifold (claim C9), measured for every optimizer that torch ships.

Gradients on a cloned manifold are multiples of ``s_i s_jᵀ`` on every pair of blocks. Linear rules keep that for
all scales, odd elementwise rules for ``s = ±1``; a rule that looks at the weights (decay) also scales the part
of ``w₀`` outside the tangent space. `simulate.optimizer_table` has such a table too, apart on purpose: there the
rules are written out in NumPy as the theory has them, here they are what torch ships.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch
from rich.progress import track
from torch import Tensor, nn
from torch.optim import Optimizer

from simulate.optimizer_table import EARLY
from theory.tolerances import KEPT, LEFT
from torch_experiments.cloning.chains import expand, profiles
from torch_experiments.cloning.exact import residuals
from torch_experiments.cloning.layouts import Profile
from torch_experiments.lab import rounding_table
from torch_experiments.lab.models import mlp
from torch_experiments.lab.rules import Edit, Rule, descend, optimizers_of, rules, unchanged

INPUTS, WIDTH, OUTPUTS, SAMPLES = 5, 4, 3, 16  # all different, so that no shape fits by chance


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
    optimizers = optimizers_of(rule, model)
    edit = rule.edit() if rule.edit else unchanged
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


def _step(model: nn.Module, optimizers: Sequence[Optimizer], edit: Edit, generator: torch.Generator) -> None:
    x = torch.randn(SAMPLES, INPUTS, dtype=torch.float64, generator=generator)
    y = torch.sin(x[:, :OUTPUTS] + 2 * x[:, -OUTPUTS:])
    descend(model, optimizers, edit, generator, x, y)


def _worst(model: nn.Module, axes: Sequence[Profile], start: Mapping[str, Tensor]) -> dict[str, float]:
    found = residuals(model, axes, start)
    return {"equations": max(max(r.rows, r.columns) for r in found), "coset": max(r.coset for r in found)}


if __name__ == "__main__":
    print(markdown(table(progress=True)))
    print(f"\n{rounding_table.markdown(rounding_table.table(progress=True))}")
    print(f"\n{rounding_table.by_width(rounding_table.every_width(progress=True))}")
