"""Cost of `diagnose` at 500 images in training steps of batch 128, both measured in one run, on one thread.

The full suite is measured once for the networks where it takes less than minutes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from torch_experiments import diagnose
from torch_experiments.lab.models import cnn, mlp, resnet18, vit
from torch_experiments.support.generators import generator

MODELS: dict[str, tuple[Callable[[], nn.Module], int, float]] = {
    "mlp": (lambda: mlp(3 * 64 * 64, 200), 20, 3),
    "cnn": (lambda: cnn(64, 200), 1, 3),
    "resnet18": (lambda: resnet18(200), 1, 1),
    "vit": (lambda: vit(64, 200), 1, 1),
}
IMAGES, BATCH, ROUNDS = 500, 128, 3
FULL = ("mlp", "cnn")


def training_step(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> Callable[[], None]:
    """Return one step of Adam on a batch."""
    optimizer = torch.optim.Adam(model.parameters())

    def step() -> None:
        optimizer.zero_grad()
        cross_entropy(model(x[:BATCH]), y[:BATCH]).backward()
        optimizer.step()

    return step


def seconds(act: Callable[[], object], times: int) -> float:
    """Return CPU-seconds of one call."""
    start = time.process_time()
    for _ in range(times):
        act()
    return (time.process_time() - start) / times


def main() -> None:
    """Print a row a network: seconds of a step and of a diagnosis, their ratio, and the most it may be."""
    torch.set_num_threads(1)
    x = torch.randn(IMAGES, 3, 64, 64, generator=generator(0))
    y = torch.randint(200, (IMAGES,), generator=generator(1))
    print(f"{'network':>9}  {'step':>9}  {'diagnose':>9}  {'ratio':>6}  {'at most':>7}  samples, with gradients")
    for name, (build, times, most) in MODELS.items():
        model = build()
        step = training_step(model, x, y)
        step()
        about = diagnose(model, x, y).about
        measure = partial(diagnose, model, x, y)
        pairs = [(seconds(step, times), seconds(measure, times)) for _ in range(ROUNDS)]
        one, full = (min(column) for column in zip(*pairs, strict=True))
        numbers = f"{one:>7.4f} s  {full:>7.4f} s  {full / one:>6.2f}  {most:>7.0f}"
        print(f"{name:>9}  {numbers}  {about.samples}, {about.gradient_samples}", flush=True)
        if name in FULL:
            suite = seconds(partial(diagnose, model, x, y, metrics="full"), 1)
            print(f"{name:>9}  full suite {suite:.2f} s, {suite / one:.0f} steps", flush=True)
