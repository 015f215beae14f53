"""Cost of the coarsest equitable partition against the number of weights, with the slope in log-log."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from paper_figures import refinement
from paper_figures.support import registry, scaling


def main() -> None:
    """Measure the networks of the figure `refinement`, up to ten million weights, and print a row for each."""
    with TemporaryDirectory() as fresh:
        data = refinement.measure(refinement.CONFIGS["full"], Path(fresh))
    registry.check(refinement, data)
    print(f"{'weights':>12}  {'seconds':>8}  {'blocks':>7}  network")
    for row in data.table.sort_by([("line", "ascending"), ("size", "ascending")]).to_pylist():
        label = refinement.LINES[row["line"]].label
        print(f"{row['size']:>12,}  {row['seconds']:>8.4f}  {row['found']:>7,}  {label}")
    for label, slope in scaling.slopes(data, refinement.LINES).items():
        print(f"slope in log-log: {slope:.2f}, {label}")
