"""Cost of a certificate against the number of parameters, from the weights alone and with all its parts."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch.nn.functional import cross_entropy

from paper_figures import certificate_cost
from paper_figures.support import registry, scaling
from torch_experiments import certify, clone
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
    print(f"\n{'parameters':>12}  {'seconds':>8}  {'steps':>6}  all parts: 32 images of 3×32×32, Adam")
    x, y = torch.randn(32, 3, 32, 32), torch.arange(32) % CLASSES
    for name, base in {"resnet18": resnet18(CLASSES, width=16), "vit": vit(32, CLASSES, width=96, depth=4)}.items():
        wide = clone(base, 2, "equitable", example_inputs=x)
        optimizer = torch.optim.Adam(wide.parameters())
        before = time.perf_counter()
        cross_entropy(wide(x), y).backward()
        start = time.perf_counter()
        found = certify(wide, x, optimizer, targets=y, iterations=ITERATIONS)
        seconds, step = time.perf_counter() - start, start - before
        print(f"{found.parameters:>12,}  {seconds:>8.2f}  {seconds / step:>6.0f}  {name}, every unit twice")
