"""Dual kernels: error and speed of every named activation, and beside neural-tangents and plain quadrature."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.integrate import dblquad

from theory import activations, enclosures, kernels
from theory.activations import get, named

PEER = Path(".build/neural-tangents")
PEER_PACKAGES = ("jax==0.5.3", "jaxlib==0.5.3", "numpy<2.3", "scipy", "frozendict", "typing_extensions")
COLUMNS = ("ours", "NT", "dblquad")
COMPARED = ("relu", "gelu", "erf", "tanh", "sin")
MILLION = 10**6
INSIDE = (-0.9, -0.5, -0.1, 0.0, 1e-9, 0.25, 0.5, 0.75, 0.97)
ENDS = tuple(sign * (1 - 10.0**-k) for k in range(1, 13) for sign in (1, -1))
GRID = np.array((-1.0, *INSIDE, *ENDS, 1.0))

PEER_PROGRAM = """
import json, sys, time, types
sys.modules["neural_tangents.experimental"] = types.ModuleType("neural_tangents.experimental")
import jax
jax.config.update("jax_enable_x64", True)
import numpy as np
from jax import numpy as jnp
from neural_tangents import stax

layers = {
    "relu": stax.Relu(), "gelu": stax.Gelu(), "erf": stax.Erf(), "sin": stax.Sin(),
    "tanh": stax.ElementwiseNumerical(jnp.tanh, deg=25),
}
grid, count = np.array(json.loads(sys.argv[1])), int(sys.argv[2])


def inputs(rho):
    return np.sqrt(2) * np.stack([rho, np.sqrt((1 - rho) * (1 + rho))], axis=1)


for name, layer in layers.items():
    kernel = stax.serial(stax.Dense(1), layer)[2]
    evaluate = jax.jit(lambda y: kernel(np.sqrt(2) * np.array([[1.0, 0.0]]), y, "nngp")[0])
    values = np.asarray(evaluate(inputs(grid)))
    n = count if name != "tanh" else 10_000
    rho = inputs(np.random.default_rng(0).uniform(-1, 1, n))
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        evaluate(rho).block_until_ready()
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"name": name, "values": values.tolist(), "rate": n / min(seconds[1:])}), flush=True)
"""


class Measured(NamedTuple):
    """The largest error on a grid of correlations, and correlations a second."""

    error: float
    rate: float


def main() -> None:
    """Print the comparison and the table of the whole catalogue."""
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {MILLION:,} correlations, ours on one thread")
    compare()
    print()
    tabulate()


def compare() -> None:
    """Print errors against 30-digit references, and correlations a second, of three ways."""
    try:
        peer = neural_tangents()
    except (OSError, subprocess.SubprocessError) as error:
        print(f"neural-tangents is left out: {reason(error)}")
        peer = {}
    print(f"{'':12}{'error':^30}  {'correlations a second':^34}  {'faster than':^20}")
    print(f"{'':12}{COLUMNS[0]:>10}{COLUMNS[1]:>10}{COLUMNS[2]:>10}", end="  ")
    print(f"{COLUMNS[0]:>12}{COLUMNS[1]:>12}{COLUMNS[2]:>10}  {COLUMNS[1]:>10}{COLUMNS[2]:>10}")
    for name in COMPARED:
        ours, plain, other = measured(name), quadrature(name), peer.get(name, Measured(math.nan, math.nan))
        print(
            f"{name:12}{ours.error:>10.0e}{other.error:>10.0e}{plain.error:>10.0e}  "
            f"{ours.rate:>12.2e}{other.rate:>12.2e}{plain.rate:>10.1f}  "
            f"{ours.rate / other.rate:>10.3g}{ours.rate / plain.rate:>10.1e}"
        )


def measured(name: str) -> Measured:
    """Return error and speed of `dual_kernel`."""
    rho = np.random.default_rng(0).uniform(-1, 1, MILLION)
    found = kernels.dual_kernel(name, GRID, standardised=False)
    return Measured(
        worst(found, reference(name, GRID)),
        MILLION / best(lambda: kernels.dual_kernel(name, rho, standardised=False)),
    )


def quadrature(name: str, correlations: Sequence[float] = (-0.9, 0.5, 0.97)) -> Measured:
    """Return error and speed of SciPy's `dblquad` on `φ(x) φ(ρx + √(1−ρ²) z)`, with its default tolerances."""
    phi = get(name).value

    def value(rho: float) -> float:
        def integrand(z: float, x: float) -> float:
            both = phi(np.array([x, rho * x + math.sqrt(1 - rho * rho) * z]))
            return float(both[0] * both[1]) * math.exp(-(x * x + z * z) / 2) / (2 * math.pi)

        return float(dblquad(integrand, -9, 9, -9, 9)[0])

    start = time.perf_counter()
    values = np.array([value(rho) for rho in correlations])
    seconds = time.perf_counter() - start
    return Measured(worst(values, reference(name, np.array(correlations))), len(correlations) / seconds)


def neural_tangents() -> dict[str, Measured]:
    """Return error and speed of neural-tangents 0.6.5 on JAX, installed into an environment of its own.

    Raises:
        OSError, subprocess.SubprocessError: It cannot be installed or run.
    """
    python = PEER / "bin" / "python"
    if not (PEER / "installed").exists():
        run(sys.executable, "-m", "venv", "--clear", str(PEER))
        run(str(python), "-m", "pip", "install", "-q", *PEER_PACKAGES)
        run(str(python), "-m", "pip", "install", "-q", "--no-deps", "neural-tangents==0.6.5")
        (PEER / "installed").touch()
    lines = run(
        str(python), "-W", "ignore", "-c", PEER_PROGRAM, json.dumps(GRID.tolist()), str(MILLION)
    ).splitlines()
    rows = [json.loads(line) for line in lines if line.startswith("{")]
    return {
        row["name"]: Measured(worst(np.array(row["values"]), reference(row["name"], GRID)), row["rate"])
        for row in rows
    }


def run(*command: str) -> str:
    """Return what a command prints, without our paths in its environment."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=True)
    return found.stdout


def reason(error: Exception) -> str:
    """Return the last line that a failed command printed."""
    lines = str(getattr(error, "stderr", "") or error).strip().splitlines()
    return lines[-1] if lines else repr(error)


def reference(name: str, correlations: np.ndarray) -> list[Any]:
    """Return 30-digit balls around the raw kernel."""
    balls = [enclosures.dual_kernel_enclosure(name, float(rho), 128, standardised=False) for rho in correlations]
    assert max(float(ball.rad()) for ball in balls) < 1e-29
    return balls


def worst(found: np.ndarray, balls: Sequence[Any]) -> float:
    """Return the largest distance of floats from the far side of balls; NaN if one is NaN."""
    return float(np.max([float(abs(ball - float(x)).upper()) for x, ball in zip(found, balls, strict=True)]))


def best(function: Callable[[], Any], repetitions: int = 7) -> float:
    """Return the least seconds of several calls."""
    seconds = []
    for _ in range(repetitions):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def tabulate() -> None:
    """Print error over the reach grid, setup, a million correlations, enclosure time and radius of every name."""
    rho = np.random.default_rng(0).uniform(-1, 1, MILLION)
    unit = best(lambda: np.arccos(rho))
    for name in ("relu", "sin", "gelu", "gaussian", "cube", "elu"):
        kernels.dual_kernel(name, GRID)  # compiles the loops, or reads them from numba's cache
    print(f"np.arccos of a million: {1e3 * unit:.1f} ms")
    print(f"{'':12}{'error':>8}{'setup':>10}{'a million':>12}{'arccos':>8}{'enclosure':>11}{'radius':>9}")
    for name in named():
        if name != "one":
            row = catalogued(name, rho)
            print(
                f"{name:12}{row['error']:>8.0e}{row['setup']:>8.2f} s{1e3 * row['million']:>9.1f} ms"
                f"{row['million'] / unit:>8.1f}{row['enclosure']:>9.2f} s{row['radius']:>9.0e}",
                flush=True,
            )


def catalogued(name: str, rho: np.ndarray) -> dict[str, float]:
    """Return the numbers of one row; setup and enclosures start with empty caches."""
    forget()
    setup = best(lambda: kernels.dual_kernel(name, 0.5), 1)
    million = best(lambda: kernels.dual_kernel(name, rho))
    seconds, radii = [], []
    for r in (0.5, 1 - 1e-6, -0.3):
        forget()
        seconds.append(best(lambda r=r: radii.append(enclosures.dual_kernel_enclosure(name, r).rad()), 1))  # type: ignore[misc]
    balls = [enclosures.dual_kernel_enclosure(name, float(r)) for r in GRID]
    error = worst(kernels.dual_kernel(name, GRID), balls)
    radius = max(float(radius) for radius in (*radii, *(ball.rad() for ball in balls)))
    return {"error": error, "setup": setup, "million": million, "enclosure": max(seconds), "radius": radius}


def forget() -> None:
    """Empty every cache that kernels and enclosures rest on."""
    for cached in (
        *(kernels.evaluator, kernels.interpolant, activations.moments, activations.resolved),
        *(enclosures._ends, enclosures.surrogate, enclosures.exponential_sum, enclosures.strip_series),
    ):
        cached.cache_clear()


if __name__ == "__main__":
    main()
