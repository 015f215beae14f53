"""Cost of the coarsest equitable partition against the number of weights, with the slope in log-log."""

from __future__ import annotations

from time import perf_counter

import numpy as np

from theory.network import Network
from theory.partitions import coarsest_equitable_partition

WEIGHTS = (10**3, 10**4, 10**5, 10**6, 10**7)


def layered(weights: int, copies: int, seed: int = 0) -> Network:
    """Return three square layers with that many weights in all, each unit of the hidden ones in so many copies."""
    rng = np.random.default_rng(seed)
    width = copies * round((weights / 3) ** 0.5 / copies)
    first, *rest = (rng.standard_normal((width // copies, width // copies)) for _ in range(3))
    inner = [np.kron(m, np.ones((copies, copies)) / copies) for m in (first, *rest)]
    inner[0] = np.repeat(rng.standard_normal((width // copies, width)), copies, axis=0)
    inner[-1] = np.repeat(rng.standard_normal((width, width // copies)), copies, axis=1) / copies
    return Network.layered(inner, "relu")


def seconds(network: Network, repeats: int = 3) -> float:
    """Return the median time of a run with a tolerance."""
    times = []
    for _ in range(repeats):
        start = perf_counter()
        coarsest_equitable_partition(network, tol=1e-9)
        times.append(perf_counter() - start)
    return float(np.median(times))


def main() -> None:
    """Print a row for each size and the fitted slopes."""
    print(f"{'weights':>10}  {'random':>9}  {'in pairs':>9}")
    rows = []
    for weights in WEIGHTS:
        networks = [layered(weights, copies) for copies in (1, 2)]
        rows.append((len(networks[0].parameters), *(seconds(n, 3 if weights < 10**6 else 1) for n in networks)))
        print(f"{rows[-1][0]:>10,}  {rows[-1][1]:>8.4f}s  {rows[-1][2]:>8.4f}s", flush=True)
    logs = np.log(np.array(rows)[-3:])
    slopes = [np.polyfit(logs[:, 0], logs[:, k], 1)[0] for k in (1, 2)]
    print(f"slope in log-log over the last three sizes: {slopes[0]:.2f} random, {slopes[1]:.2f} in pairs")
