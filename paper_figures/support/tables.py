"""Rows of tables of measurements: those with given values of columns, and curves with a row a seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Array = np.ndarray[Any, Any]


class Curves(NamedTuple):
    """A quantity along an axis: `x [points]` and `values [seeds, points]`."""

    x: Array
    values: Array


def where(table: pa.Table, place: Mapping[str, Any]) -> pa.Table:
    """Return the rows with these values of columns."""
    for column, value in place.items():
        table = table.filter(pc.equal(table[column], value))
    return table


def curves(table: pa.Table, place: Mapping[str, Any], x: str = "epoch", value: str = "value") -> Curves:
    """Return the column `value` of the rows with these values of columns over the column `x`, a row a seed."""
    rows = where(table, place).sort_by([("seed", "ascending"), (x, "ascending")])
    along = np.unique(rows[x].to_numpy())
    return Curves(along, rows[value].to_numpy().reshape(-1, len(along)))
