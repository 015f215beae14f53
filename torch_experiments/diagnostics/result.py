"""What `diagnose` returns: a mapping layer → metric → value that prints as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

SHOWN: tuple[str, ...] = (
    "dead_fraction",
    "dormant_fraction",
    "saturated_fraction",
    "linearised_fraction",
    "duplicate_fraction",
)
SHOWN += ("shannon_rank_centred", "sign_entropy")


@dataclass(frozen=True)
class About:
    """What a `Diagnosis` rests on.

    Attributes:
        samples: over which the unit metrics are taken, of all processes.
        gradient_samples: of the backward pass, 0 without one.
        kept: values of a unit that ranks, duplicates and slopes read, by layer.
        values: all values of a unit (samples × positions), by layer.
        notes: what was not as asked for or had to be guessed; empty if nothing was.
        seconds: wall-clock time.

    >>> About(2, 0, {"act": 2}, {"act": 2}, (), 0.1).samples
    2
    """

    samples: int
    gradient_samples: int
    kept: dict[str, int]
    values: dict[str, int]
    notes: tuple[str, ...]
    seconds: float


class Diagnosis(dict[str, dict[str, float]]):
    """Metrics by layer and name; those of the whole network are under the layer ``""``.

    >>> found = Diagnosis({"act": {"dead_fraction": 0.25}}, About(2, 0, {"act": 2}, {"act": 2}, (), 0.1))
    >>> found["act"]["dead_fraction"], found.mean("dead_fraction"), list(found.rows())
    (0.25, 0.25, [{'layer': 'act', 'metric': 'dead_fraction', 'value': 0.25}])
    """

    def __init__(self, found: dict[str, dict[str, float]], about: About) -> None:
        super().__init__(found)
        self.about = about

    def mean(self, metric: str) -> float:
        """Return the mean of a metric over the layers that have it.

        Raises:
            KeyError: when no layer has it.
        """
        found = [values[metric] for name, values in self.items() if name and metric in values]
        if not found:
            raise KeyError(f"metric {metric!r} was measured in no layer")
        return sum(found) / len(found)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield one mapping with layer, metric and value a number."""
        for layer, values in self.items():
            for metric, value in values.items():
                yield {"layer": layer, "metric": metric, "value": value}

    def to_table(self) -> Any:
        """Return a ``pyarrow.Table`` with the columns layer, metric and value."""
        import pyarrow as pa

        schema = pa.schema([("layer", pa.string()), ("metric", pa.string()), ("value", pa.float64())])
        return pa.Table.from_pylist(list(self.rows()), schema=schema)

    def __rich__(self) -> Group:
        columns = [name for name in SHOWN if any(name in values for values in self.values())]
        view = Table(Column("layer", overflow="fold"), box=SIMPLE_HEAD, padding=0, show_edge=False)
        for name in columns:
            view.add_column(name.removesuffix("_fraction").replace("_", "\n"), justify="right", no_wrap=True)
        for layer, values in self.items():
            if any(name in values for name in columns):
                view.add_row(Text(layer), *(_cell(values, name) for name in columns))
        whole = ", ".join(f"{name} {value:.4g}" for name, value in self.get("", {}).items())
        return Group(view, f"network: {whole}", *self._footnotes())

    def _footnotes(self) -> Sequence[str]:
        about = self.about
        return (f"{about.samples} samples, {about.gradient_samples} with gradients", *about.notes)


def _cell(values: dict[str, float], name: str) -> str:
    return f"{values[name]:.3g}" if name in values else ""
