"""Cost of a certificate against the number of parameters, from the weights alone and with all its parts."""

from __future__ import annotations

import time
from collections.abc import Callable
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
from torch_experiments.lab.models import resnet18, vit

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
    print("\nin training steps of the same 32 images of 3×32×32, Adam:")
    print(f"{'parameters':>12}  {'oracle':>8}  {'2 steps on a copy':>18}  {'all parts':>10}  {'seconds':>8}")
    x, y = torch.randn(32, 3, 32, 32), torch.arange(32) % CLASSES
    for name, base in {"resnet18": resnet18(CLASSES, width=16), "vit": vit(32, CLASSES, width=96, depth=4)}.items():
        wide = clone(base, 2, "equitable", example_inputs=x)
        optimizer = torch.optim.Adam(wide.parameters())

        def loss(output: torch.Tensor) -> torch.Tensor:
            return cross_entropy(output, y)

        step = seconds(lambda: train(wide, optimizer, x, loss))  # noqa: B023
        oracle = seconds(lambda: reach(wide, x, loss))  # noqa: B023
        copied = seconds(lambda: rounding(wide, x, optimizer, loss))  # noqa: B023
        whole = seconds(lambda: certify(wide, x, optimizer, targets=y, iterations=ITERATIONS), 1)  # noqa: B023
        parameters = sum(p.numel() for p in wide.parameters())
        shares = (oracle / step, copied / step, whole / step)
        print("{:>12,}  {:>8.1f}  {:>18.1f}  {:>10.0f}  {:>8.2f}  {}".format(parameters, *shares, whole, name))


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
