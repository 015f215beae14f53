"""Cost of a certificate against the number of parameters, from the weights alone and with all its parts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from paper_figures import certificate_cost
from paper_figures.support import registry, scaling
from torch_experiments import certify, clone
from torch_experiments.certificates.oracle import reach
from torch_experiments.certificates.rounding import rounding
from torch_experiments.cloning.exact import layout
from torch_experiments.cloning.layouts import Layout
from torch_experiments.lab.models import mlp, resnet18, vit

CLASSES, ITERATIONS = 10, 10


def main() -> None:
    """Measure the networks of the figure `certificate_cost`, and whole certificates of two clones."""
    with TemporaryDirectory() as fresh:
        data = certificate_cost.measure(certificate_cost.CONFIGS["quick"], Path(fresh))
    registry.check(certificate_cost, data)
    print(f"{'parameters':>12}  {'seconds':>8}  from the weights alone")
    for row in data.table.sort_by([("line", "ascending"), ("size", "ascending")]).to_pylist():
        print(f"{row['size']:>12,}  {row['seconds']:>8.4f}  {certificate_cost.LINES[row['line']].label}")
    for label, slope in scaling.slopes(data, certificate_cost.LINES).items():
        print(f"slope in log-log: {slope:.2f}, {label}")
    print("\nin training steps of the same batch, Adam; of the oracle and two steps on a copy together:")
    print(f"{'parameters':>12}  {'oracle':>8}  {'2 steps':>8}  {'together':>8}  {'all parts':>10}  {'seconds':>8}")
    for name, wide, place, x in clones():
        shown = "{:>12,}  {:>8.1f}  {:>8.1f}  {:>8.1f}  {:>10.0f}  {:>8.2f}  {}"
        print(shown.format(*costs(wide, place, x), name))


def clones() -> Iterator[tuple[str, nn.Module, Layout, torch.Tensor]]:
    """Yield clones with names, layouts and inputs: two large ones of 32 images, and MLPs whose steps take 10 ms."""
    images = torch.randn(32, 3, 32, 32)
    networks = {"resnet18": resnet18(CLASSES, width=16), "vit": vit(32, CLASSES, width=96, depth=4)}
    for name, base in networks.items():
        wide = clone(base, 2, "equitable", example_inputs=images)
        yield name, wide, layout(base, 2, example_inputs=images), images
    for pixels in (64, 784):
        rows, base = torch.randn(500, pixels), mlp(pixels, CLASSES, seed=0)
        for kind in ("equal", "equitable"):
            wide = clone(base, 2, kind, example_inputs=rows)
            yield f"mlp, {pixels} pixels, {kind}", wide, layout(base, 2, example_inputs=rows), rows


def costs(wide: nn.Module, place: Layout, x: torch.Tensor) -> tuple[float, ...]:
    """Return parameters, the costs of oracle, steps, both and a whole certificate in steps, and seconds."""
    y = torch.arange(len(x)) % CLASSES
    optimizer = torch.optim.Adam(wide.parameters())

    def loss(output: torch.Tensor) -> torch.Tensor:
        return cross_entropy(output, y)

    def rehearse() -> None:
        rounding(wide, x, optimizer, loss, layout=place, gradients=known)

    known = reach(wide, x, loss).gradients
    step = seconds(lambda: train(wide, optimizer, x, loss), 5)
    oracle, steps = seconds(lambda: reach(wide, x, loss), 5) / step, seconds(rehearse, 5) / step
    whole = seconds(lambda: certify(wide, x, optimizer, targets=y, iterations=ITERATIONS), 1)
    return sum(p.numel() for p in wide.parameters()), oracle, steps, oracle + steps, whole / step, whole


def seconds(work: Callable[[], object], times: int = 3) -> float:
    """Return the least wall time of some runs."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, loss: Callable[..., Any]) -> None:
    """Take one step, and put the weights back."""
    kept = [p.detach().clone() for p in model.parameters()]
    optimizer.zero_grad()
    loss(model(x)).backward()
    optimizer.step()
    with torch.no_grad():
        for p, before in zip(model.parameters(), kept, strict=True):
            p.copy_(before)
