"""Time to tell the type of a cloned manifold against the number of weights: Lanczos, twelve layers, 32 samples."""

from __future__ import annotations

import time

import numpy as np

from simulate.stability import classify
from theory.manifolds import cloned_manifold
from theory.network import Network, SquaredError
from theory.partitions import coarsest_equitable_partition

WIDTHS = (15, 50, 150)


def main() -> None:
    """Print a row for each size: weights, seconds for partition and manifold, for the type, and the type."""
    print(f"{'weights':>10}  {'partition, s':>12}  {'type, s':>8}  type")
    for width in WIDTHS:
        network, x, goal = problem(width)
        start = time.perf_counter()
        manifold = cloned_manifold(network, coarsest_equitable_partition(network), 1e-12)
        middle = time.perf_counter()
        found = classify(network, manifold, x, goal)
        end = time.perf_counter()
        print(
            f"{len(network.parameters):>10,}  {middle - start:>12.2f}  {end - middle:>8.2f}  {found.kind}",
            flush=True,
        )


def problem(width: int) -> tuple[Network, np.ndarray, SquaredError]:
    """Return a tanh network with two copies of each hidden unit, inputs and a loss."""
    rng = np.random.default_rng(0)
    inner = [rng.standard_normal((width, width)) * 1.4 / np.sqrt(width) for _ in range(10)]
    matrices = [np.kron(rng.standard_normal((width, 10)) / 3, np.ones((2, 1)))]
    matrices += [np.kron(W, np.ones((2, 2)) / 2) for W in inner]
    matrices += [np.kron(rng.standard_normal((1, width)) / np.sqrt(width), np.ones((1, 2)) / 2)]
    return (
        Network.layered(matrices, "tanh"),
        rng.standard_normal((10, 32)),
        SquaredError(rng.standard_normal((1, 32))),
    )


if __name__ == "__main__":
    main()
