"""CPU-seconds to clone a network and to verify the clone, on one thread, beside plain passes over the same images.

``clone`` verifies as it does by default: the sums of all weights over copies, for all inputs, and the outputs on a
few samples. ``verify`` does the same once more, module by module; ``all images`` runs every image through both
networks in parts. ``plain`` is a check as a script would write it: one forward pass of the base and one of the
clone over all images, here on a clone that is there already. The published one is that of JL25's public code, which
cloned and compared outputs on as many 64×64 images; it was measured once on another day, on one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from torch_experiments import clone, layout, residuals, verify
from torch_experiments.lab.models import cnn, mlp, resnet18, vit
from torch_experiments.units.inputs import evaluating

SIZE, CLASSES = 64, 200
T = TypeVar("T")


class Case(NamedTuple):
    """A network, the images to compare it on, and the CPU-seconds of the public code."""

    build: Callable[[], nn.Module]
    images: int
    published: float


CASES = {
    "mlp": Case(lambda: mlp(3 * SIZE**2, CLASSES), 500, 0.34),
    "cnn": Case(lambda: cnn(SIZE, CLASSES), 500, 66.0),
    "resnet18": Case(lambda: resnet18(CLASSES, norm="batch"), 100, 23.0),
    "vit": Case(lambda: vit(SIZE, CLASSES), 100, 6.0),
}


def timed(act: Callable[[], T]) -> tuple[float, T]:
    """Return CPU-seconds of a call and its result."""
    start = time.process_time()
    result = act()
    return time.process_time() - start, result


def plain(base: nn.Module, twin: nn.Module, x: Tensor) -> float:
    """Return the relative difference of outputs on all images at once."""
    with evaluating(base), evaluating(twin), torch.no_grad():
        f, g = base(x), twin(x)
    return float((f - g).abs().max() / f.abs().max())


def row(case: Case) -> list[float]:
    """Return CPU-seconds of the plain check, of `clone`, `verify` on samples and on all images, and `residuals`.

    Raises:
        SystemExit: when a check fails.
    """
    base, x = case.build(), torch.randn(case.images, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    place = layout(base, example_inputs=x)
    cloning, twin = timed(lambda: clone(base, example_inputs=x))
    few, found = timed(lambda: verify(twin, base, place, x))
    every, full = timed(lambda: verify(twin, base, place, x, samples="all"))
    passes, gap = timed(lambda: plain(base, twin, x))
    rest, _ = timed(lambda: residuals(twin, place))
    if not (found.kept and full.kept and full.samples == case.images and gap <= found.tolerance):
        raise SystemExit("a clone does not compute the function of its base")
    return [passes, cloning, few, every, rest]


def main() -> None:
    """Print a row an architecture."""
    torch.set_num_threads(1)
    titles = ("images", "published", "plain", "clone", "verify", "all images", "residuals")
    print(f"{'network':>9}" + "".join(f"  {title:>10}" for title in titles))
    for arch, case in CASES.items():
        numbers = (case.published, *row(case))
        print(f"{arch:>9}  {case.images:>10}" + "".join(f"  {x:>8.2f} s" for x in numbers), flush=True)
