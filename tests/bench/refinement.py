"""Cost of the coarsest equitable partition against the number of weights, with the slope in log-log."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from paper_figures import refinement


def main() -> None:
    """Measure the networks of the figure `refinement`, up to ten million weights, and print a row for each."""
    with TemporaryDirectory() as fresh:
        data = refinement.measure(refinement.CONFIGS["full"], Path(fresh))
    refinement.check(data)
    print(f"{'weights':>12}  {'seconds':>8}  {'blocks':>7}  network")
    for row in data.table.sort_by([("kind", "ascending"), ("weights", "ascending")]).to_pylist():
        label = refinement.KINDS[row["kind"]]
        print(f"{row['weights']:>12,}  {row['seconds']:>8.4f}  {row['blocks']:>7,}  {label}")
    for kind, label in refinement.KINDS.items():
        print(f"slope in log-log: {refinement.slope(data, kind):.2f}, {label}")
