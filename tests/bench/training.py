"""CPU-seconds a training step against a plain implementation of the same protocol, and what the runner adds.

The MLP's first layer is timed alone too: its two matrix products are what no implementation can do without.

The plain one is what the protocol looks like with the usual parts: a Dataset of PIL images, each cropped, flipped,
jittered and turned into a tensor on its own, a DataLoader, and a loop around torch.optim.Adam. Both train the same
network on synthetic 64×64 images, batch 128, without metrics, on one thread.
"""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

from torch_experiments.lab.experiments import e02_symptoms
from torch_experiments.lab.images import pixels
from torch_experiments.lab.images.pixels import Pixels
from torch_experiments.lab.training import PARTS, Config, Run, build
from torch_experiments.support.generators import generator

STEPS = {"mlp": (40, 3), "cnn": (3, 3), "vit": (2, 1), "resnet18": (1, 1)}  # steps a round, and rounds
STACK = 16
DIGITS = Config(stream_settings=(("size", 5),), tasks=2, steps=100_000, arch_settings=(("depth", 2), ("width", 64)))


class Images(Dataset[tuple[Tensor, int]]):
    """Images with a chain of transforms for each, as a tutorial would write it."""

    def __init__(self, data: Pixels) -> None:
        self.images = [Image.fromarray(x.permute(1, 2, 0).numpy()) for x in data.train_x]
        self.labels = data.train_y.tolist()
        self.mean, self.scale = data.mean / 255, data.scale / 255

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, k: int) -> tuple[Tensor, int]:
        image = ImageOps.expand(self.images[k], 8)
        left, top = random.randint(0, 16), random.randint(0, 16)
        image = image.crop((left, top, left + 64, top + 64))
        if random.random() < 0.5:
            image = ImageOps.mirror(image)
        for kind in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            image = kind(image).enhance(random.uniform(0.9, 1.1))
        x = torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div(255)
        return (x - self.mean) / self.scale, self.labels[k]


def synthetic(classes: int = 5, images: int = 500) -> Pixels:
    """Return noise images of Tiny ImageNet's shape, as many as one of its tasks has."""
    x = torch.randint(0, 256, (classes * images, 3, 64, 64), generator=generator(0), dtype=torch.uint8)
    y = torch.arange(classes).repeat(images)
    level = torch.full((3, 1, 1), 127.5)
    return Pixels(x, y, x[:50], y[:50], tuple(map(str, range(classes))), "synthetic", level, level / 2)


def plain(config: Config, data: Pixels) -> Iterator[None]:
    """Train step by step with a DataLoader."""
    loader = DataLoader(Images(data), config.batch, shuffle=True)
    model = build(config, data.shape, len(data.classes), 0)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr)
    while True:
        for x, y in loader:
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
            yield


def ours(config: Config, data: Pixels, seeds: int = 1) -> Run:
    """Return a run that has left its first step and measurement behind, its clock at zero."""
    run = Run(config, range(seeds), data)
    run.advance()
    run.clock.spent = dict.fromkeys(PARTS, 0.0)
    return run


def cost(step: Callable[[], object], steps: int, rounds: int = 3) -> float:
    """Return CPU-seconds a step, the best of some rounds; one round goes without a step before it."""

    def once() -> float:
        start = time.process_time()
        for _ in range(steps):
            step()
        return (time.process_time() - start) / steps

    if rounds > 1:
        step()
    return min(once() for _ in range(rounds))


def main() -> None:
    """Print a row an architecture, and the cost of a stack."""
    torch.set_num_threads(1)
    data = synthetic()
    print(f"{'network':>8}  {'plain':>9}  {'ours':>9}  {'ratio':>6}  {'data':>6}  {'runner adds':>11}")
    for arch, (steps, rounds) in STEPS.items():
        setting = e02_symptoms.base("paper", arch, "synthetic")
        config = dataclasses.replace(setting, tasks=1, measure_every=10**6, probe_train=10, probe_test=10)
        slow = cost(plain(config, data).__next__, steps, rounds)
        run = ours(config, data)
        start = time.perf_counter()
        fast = cost(run.advance, steps, rounds)
        total = time.perf_counter() - start
        rest = 1 - sum(run.clock.spent.values()) / total
        share = run.clock.spent["data"] / total
        print(
            f"{arch:>8}  {slow:>7.4f} s  {fast:>7.4f} s  {slow / fast:>6.1f}  {share:>6.1%}  {rest:>11.2%}",
            flush=True,
        )
    first_layer()
    stack(pixels.load("digits"))


def first_layer() -> None:
    """Print the CPU-seconds of the MLP's first layer in a step: its values, and the gradient of its weights."""
    setting = e02_symptoms.base("paper", "mlp", "synthetic")
    weight = next(p for p in build(setting, (3, 64, 64), 5, 0).parameters() if p.ndim == 2).detach()
    x, error = torch.randn(setting.batch, weight.shape[1]), torch.randn(setting.batch, weight.shape[0])
    seconds = cost(lambda: (x @ weight.T, error.T @ x), 40)
    rate = 4 * setting.batch * weight.numel() / seconds / 1e9
    print(f"the two products of the MLP's first layer: {seconds:.4f} s, {rate:.0f} GFLOP/s", flush=True)


def stack(digits: Pixels) -> None:
    """Print the wall-clock time of a step of one small network and of a stack, on one thread and on two."""
    one = wall(digits, 1, 1)
    for threads in (1, 2):
        many = wall(digits, STACK, threads)
        times = f"one {one * 1e3:.2f} ms, {STACK} stacked on {threads} threads {many * 1e3:.2f} ms"
        print(f"digits MLP 64-64-64: {times}, {many / one:.1f} times", flush=True)


def wall(digits: Pixels, seeds: int, threads: int) -> float:
    """Return seconds a step, the best of many short rounds."""
    torch.set_num_threads(threads)
    run = ours(DIGITS, digits, seeds)
    return min(_seconds(run.advance, 25) for _ in range(20))


def _seconds(step: Callable[[], object], steps: int) -> float:
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - start) / steps
