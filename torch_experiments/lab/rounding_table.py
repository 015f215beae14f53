"""What rounding does to identical clones, measured for every optimizer that torch ships (claim C9).

In exact arithmetic a rule keeps clones or not (`lab.optimizer_table`). Floats can part clones that the mathematics
keeps: two copies are summed in another order, so they differ by a bit, and an unstable manifold lets that grow
(C10). Whether they are depends on dtype, width, layout, kernels and threads, so another machine has another table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa
import torch
from rich.progress import track
from torch import Tensor, nn

from theory.tolerances import GROWN
from torch_experiments.cloning.exact import clone, layout
from torch_experiments.cloning.layouts import Layout, residuals_of
from torch_experiments.lab.models import mlp
from torch_experiments.lab.rules import Rule, descend, optimizers_of, rules, unchanged
from torch_experiments.support.loading import shipped
from torch_experiments.units.axes import Order

INPUTS, OUTPUTS, SAMPLES = 5, 3, 64
STEPS = 500
WIDTHS: Mapping[int, tuple[int, ...]] = {2: (12, 13, 24), 3: (11, 8, 13)}  # each with a seed of its own
EVERY_WIDTH: Mapping[int, tuple[int, ...]] = {2: (8, 11, 12, 13, 16, 24, 32), 3: (8, 11, 16)}
ORDERS: tuple[Order, ...] = ("interleaved", "tiled")
DTYPES: Mapping[str, torch.dtype] = {name: getattr(torch, name) for name in ("float64", "float32", "bfloat16")}
BESIDES = ("SGD, momentum", "Shampoo")
# Rates at which rounding has grown within `STEPS` where it grows at all; the others have those of `lab.rules`.
FASTER: Mapping[str, Mapping[str, Any]] = {name: {"lr": 0.01} for name in ("Adam", "Adamax", "SparseAdam")}
COSTLY: Mapping[str, int] = {"LBFGS": 30}  # steps, with several evaluations each
SOON = (2, 10, 100)  # steps, for rules of other packages
PLACES: tuple[tuple[int, Order, int], ...] = ((2, "interleaved", 12), (2, "tiled", 24), (3, "interleaved", 11))
DEAD = -50.0  # a bias that no input of unit size, times weights below one, can lift above zero


@dataclass(frozen=True)
class Setting:
    """A clone: of a network with two hidden tanh layers of ``width`` units, of which ``seed`` draws the weights."""

    dtype: str
    copies: int
    order: Order
    width: int
    seed: int


@dataclass(frozen=True)
class Parting:
    """When copies parted, and how far.

    Attributes:
        parted: the first step after which some weights that copies share differ in a bit; None if none did.
        first: relative distance from the cloned manifold after the first power of two of steps from then on.
        last: the same at the end; infinite if training diverged.

    >>> Parting(7, 1e-8, 0.5).grows, Parting(None, 0.0, 0.0).grows
    (True, False)
    """

    parted: int | None
    first: float
    last: float

    @property
    def grows(self) -> bool:
        """Whether the distance has become `GROWN` times as large since the copies parted."""
        return self.last >= GROWN * self.first > 0


def chosen_rules() -> list[Rule]:
    """Return every optimizer that torch ships, momentum, and Shampoo.

    >>> len(chosen_rules()) - len(shipped())
    2
    """
    every = {rule.name: rule for rule in rules()}
    found = [every[name] for name in (*(kind.__name__ for kind in shipped()), *BESIDES)]
    return [replace(rule, settings={**rule.settings, **FASTER.get(rule.name, {})}) for rule in found]


def settings(widths: Mapping[int, Sequence[int]] = WIDTHS, seeds: Sequence[int] | None = None) -> Iterator[Setting]:
    """Yield the clones of a table; without ``seeds`` the widths have the seeds 0, 1, ….

    >>> len(list(settings({2: [12, 13]}, seeds=[0])))
    12
    """
    for dtype in DTYPES:
        for copies, sizes in widths.items():
            for order in ORDERS:
                for k, width in enumerate(sizes):
                    yield from (Setting(dtype, copies, order, width, s) for s in ([k] if seeds is None else seeds))


def table(
    chosen: Iterable[Rule] | None = None,
    where: Iterable[Setting] | None = None,
    *,
    steps: int = STEPS,
    progress: bool = False,
) -> pa.Table:
    """Return when clones parted under every rule in every setting, a row each.

    Columns: ``rule``, those of `Setting`, ``steps`` and those of `Parting`. Equal clones are trained on one
    batch of 64 Gaussian samples with Gaussian targets, which takes many steps to learn, so that errors can grow.

    Args:
        chosen: the rules, `chosen_rules` if None.
        where: the settings, `settings` if None.
        steps: of training; fewer where a rule's are costly.
        progress: show a bar.
    """
    every = list(settings() if where is None else where)
    rows = []
    for rule in chosen_rules() if chosen is None else chosen:
        count = min(steps, COSTLY.get(rule.name, steps))
        for setting in track(every, rule.name, disable=not progress):
            found = parting(rule, setting, count)
            rows.append({"rule": rule.name} | vars(setting) | {"steps": count} | vars(found))
    return pa.Table.from_pylist(rows)


def every_width(*, steps: int = STEPS, progress: bool = False) -> pa.Table:
    """Return `table` of Adam for many widths, three seeds each."""
    adam = [rule for rule in chosen_rules() if rule.name == "Adam"]
    return table(adam, settings(EVERY_WIDTH, range(3)), steps=steps, progress=progress)


def parting(rule: Rule, setting: Setting, steps: int = STEPS) -> Parting:
    """Train a clone under ``rule`` and return when its copies parted.

    >>> parting(Rule("still", torch.optim.SGD, {"lr": 0.0}), Setting("float32", 2, "tiled", 4, 0), steps=2)
    Parting(parted=None, first=0.0, last=0.0)
    """
    model, place, x, y = start(setting)
    step = stepping(rule, model, x, y, setting.seed)
    same = _copies_of(model, place)
    parted, first = None, 0.0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(setting.seed)
        for k in range(1, steps + 1):
            step()
            if parted is None and not same():
                parted = k
            if parted and not first and k & (k - 1) == 0:
                first = distance(model, place)
    last = distance(model, place) if parted else 0.0
    return Parting(parted, first or last, last)


def start(setting: Setting) -> tuple[nn.Sequential, Layout, Tensor, Tensor]:
    """Return a clone, where its copies lie, inputs and targets.

    >>> start(Setting("float32", 3, "tiled", 11, 0))[0].linear1.weight.shape
    torch.Size([33, 5])
    """
    dtype = DTYPES[setting.dtype]
    generator = torch.Generator().manual_seed(setting.seed)
    x, y = (torch.randn(SAMPLES, size, generator=generator).to(dtype) for size in (INPUTS, OUTPUTS))
    base = mlp(INPUTS, OUTPUTS, width=setting.width, depth=2, activation="tanh", seed=setting.seed, dtype=dtype)
    place = layout(base, setting.copies, order=setting.order)
    return clone(base, setting.copies, order=setting.order), place, x, y


def stepping(rule: Rule, model: nn.Module, x: Tensor, y: Tensor, seed: int) -> Callable[[], None]:
    """Return a function that takes one step of ``rule`` on the mean squared error of one batch."""
    optimizers, edit = optimizers_of(rule, model), rule.edit() if rule.edit else unchanged
    generator = torch.Generator().manual_seed(seed)
    return lambda: descend(model, optimizers, edit, generator, x, y)


def distance(model: nn.Module, place: Layout) -> float:
    """Return the largest distance of a layer from the cloned manifold, relative to its norm (`Residual.coset`).

    >>> model, place, *_ = start(Setting("float64", 2, "tiled", 4, 0))
    >>> distance(model, place) < 1e-15
    True
    """
    found = max(residual.coset for residual in residuals_of(model, place))
    return found if math.isfinite(found) else math.inf


def _copies_of(model: nn.Module, place: Layout) -> Callable[[], bool]:
    """Return a function that says whether all copies are equal to the bit."""
    known = dict(model.named_parameters())
    copied = []
    for name, where in place.placements.items():
        dims = [(dim, _firsts(p.block)) for dim, p in enumerate(where.profiles) if p.copied]
        if dims:
            copied.append((known[name].detach(), dims))
    return lambda: all(torch.equal(p, _of_first(p, dims)) for p, dims in copied)


def _firsts(block: Tensor) -> Tensor:
    """Return for every unit the first of its block."""
    unset = torch.full((int(block.max()) + 1,), len(block))
    return unset.scatter_reduce(0, block, torch.arange(len(block)), "amin")[block]


def _of_first(p: Tensor, dims: Sequence[tuple[int, Tensor]]) -> Tensor:
    for dim, first in dims:
        p = p.index_select(dim, first)
    return p


def markdown(measured: pa.Table) -> str:
    """Return a table for every dtype in Markdown: rules down; copies and orders across."""
    return "\n\n".join(f"**{dtype}**\n\n{_by_rule(measured, dtype)}" for dtype in DTYPES)


def _by_rule(measured: pa.Table, dtype: str) -> str:
    cells: dict[tuple[str, str], list[Parting]] = {}
    for row in measured.to_pylist():
        if row["dtype"] == dtype:
            head = f"{row['copies']} copies, {row['order']}"
            cells.setdefault((row["rule"], head), []).append(_parting_of(row))
    return _grid("rule", cells)


def by_width(measured: pa.Table) -> str:
    """Return a table in Markdown of one rule: widths down; dtypes and orders across."""
    cells: dict[tuple[str, str], list[Parting]] = {}
    for row in measured.to_pylist():
        units, head = f"{row['width']} × {row['copies']}", f"{row['dtype']}, {row['order']}"
        cells.setdefault((units, head), []).append(_parting_of(row))
    return _grid("units", cells)


def _grid(corner: str, cells: Mapping[tuple[str, str], Sequence[Parting]]) -> str:
    heads = list(dict.fromkeys(head for _, head in cells))
    lines = [f"| {corner} | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for name in dict.fromkeys(name for name, _ in cells):
        lines.append(f"| {name} | {' | '.join(cell(cells[name, head]) for head in heads)} |")
    return "\n".join(lines)


def cell(found: Sequence[Parting]) -> str:
    """Return what became of several clones: ``=`` if all stayed bit-equal, else the farthest of them.

    >>> cell([Parting(None, 0.0, 0.0), Parting(3, 1e-8, 0.5), Parting(2, 1e-8, 2e-8)])
    '2/3 from 2: 1e-08 → 5e-01 ↑'
    """
    apart = [p for p in found if p.parted is not None]
    if not apart:
        return "="
    farthest, soonest = max(apart, key=lambda p: p.last), min(p.parted for p in apart if p.parted)
    size = f"{farthest.first:.0e} → {farthest.last:.0e}{' ↑' if any(p.grows for p in apart) else ''}"
    return f"{len(apart)}/{len(found)} from {soonest}: {size}"


def _parting_of(row: Mapping[str, Any]) -> Parting:
    return Parting(row["parted"], row["first"], row["last"])


def gaps(rule: Rule, setting: Setting) -> list[float]:
    """Return the distances from the cloned manifold after `SOON` steps, as in `parting`.

    >>> gaps(Rule("still", torch.optim.SGD, {"lr": 0.0}), Setting("float64", 2, "tiled", 4, 0))
    [0.0, 0.0, 0.0]
    """
    model, place, x, y = start(setting)
    step, found = stepping(rule, model, x, y, setting.seed), []
    same = _copies_of(model, place)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(setting.seed)
        for k in range(1, SOON[-1] + 1):
            step()
            if k in SOON:
                found.append(0.0 if same() else distance(model, place))
    return found


def of_packages(chosen: Mapping[str, Sequence[Rule]]) -> str:
    """Return a table in Markdown of rules by package: distances of copies, and what rows without gradient do.

    Distances are the largest over 12 × 2 interleaved, 24 × 2 tiled and 11 × 3 interleaved units, each with a seed
    of its own. A rule that raises an error in a dtype does not run there.
    """
    heads = [f"{dtype}: after {', '.join(map(str, SOON))} steps" for dtype in DTYPES]
    lines = [f"| package | rule | {' | '.join(heads)} | rows without gradient, float32 |", "|---" * 6 + "|"]
    for package, several in chosen.items():
        for rule in several:
            apart = [_tried(partial(_largest_gaps, rule, dtype)) for dtype in DTYPES]
            dead = _tried(partial(_largest_move, rule))
            lines.append(f"| {package} | {rule.name} | {' | '.join(apart)} | {dead} |")
    return "\n".join(lines)


def _largest_gaps(rule: Rule, dtype: str) -> str:
    where = [Setting(dtype, *place, seed) for seed, place in enumerate(PLACES)]
    largest = [max(found) for found in zip(*(gaps(rule, setting) for setting in where), strict=True)]
    return ", ".join("=" if gap == 0 else f"{gap:.0e}" for gap in largest)


def _largest_move(rule: Rule) -> str:
    return f"{max(dead_rows(rule, seed=seed) for seed in range(3)):.0%}"


def _tried(measure: Callable[[], str]) -> str:
    try:
        return measure()
    except RuntimeError:
        return "does not run"


def dead_rows(rule: Rule, dtype: str = "float32", *, steps: int = 10, seed: int = 0) -> float:
    """Return how far rows of a weight move whose gradient is exactly zero, relative to the median of the others.

    A third of the units of the second ReLU layer are dead for all data, by a bias of −50, from the first step on.

    >>> dead_rows(Rule("SGD", torch.optim.SGD, {"lr": 0.1}))
    0.0
    """
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(SAMPLES, size, generator=generator).to(DTYPES[dtype]) for size in (INPUTS, OUTPUTS))
    model = mlp(INPUTS, OUTPUTS, width=12, depth=2, activation="relu", seed=seed, dtype=DTYPES[dtype])
    layer = model.get_submodule("linear2")
    assert isinstance(layer, nn.Linear)
    layer.bias.data[::3] = DEAD
    before, step = layer.weight.detach().clone(), stepping(rule, model, x, y, seed)
    for _ in range(steps):
        step()
    moved = (layer.weight.detach() - before).double().norm(dim=1)
    return float(moved[::3].max() / moved[torch.arange(len(moved)) % 3 > 0].median())
