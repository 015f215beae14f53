"""What the explorers are given is what Python has."""

import json
import math

import numpy as np
import pyarrow as pa
import pytest
from numpy.polynomial import chebyshev

from lop.site import data
from paper_figures import optimizers as figure
from theory.catalogue import get, named
from torch_experiments.lab import optimizer_table
from torch_experiments.lab.campaign import items
from torch_experiments.lab.report import series
from torch_experiments.lab.training import WHOLE

NAMES = sorted(set(named()) - {"one"})


def at(ends, coefficients, z):
    """Evaluate pieces one by one, as no two share a series."""
    k = min(np.searchsorted(ends, z, side="right") - 1, len(coefficients) - 1)
    low, high = ends[k], ends[k + 1]
    return chebyshev.chebval((2 * z - low - high) / (high - low), coefficients[k])


@pytest.mark.parametrize("name", NAMES)
def test_pieces_are_the_activation(name):
    phi, found = get(name), data.pieces(get(name))
    for z in np.random.default_rng(0).uniform(-20, 20, 60):
        for part, function in (("value", phi.value), ("slope", phi.slope)):
            exact = float(function(np.array([z]))[0])
            assert at(found["ends"], found[part], z) == pytest.approx(exact, rel=1e-8, abs=1e-8)


def test_the_cells_of_the_table_are_those_that_were_measured():
    found = data.optimizers()
    rows = optimizer_table.cells(figure.compute("quick", items.RESULTS / "optimizers"))
    assert len(found["cells"]) == len(rows) == len(found["rules"]) * len(found["manifolds"])
    for (rule, kind), measured in rows.items():
        cell = found["cells"][f"{rule}|{kind}"]
        assert cell["verdict"]["coset"] == optimizer_table.verdict(measured, "coset")
        assert cell["coset"] == pytest.approx([row["coset"] for row in measured], rel=1e-7)


def test_the_table_of_optimizers_is_committed_and_not_measured_here(monkeypatch):
    monkeypatch.setattr(optimizer_table, "table", None)
    assert len(data.optimizers()["rules"]) > 30


def test_runs_are_those_of_the_records():
    found, item = series.runs("mlp"), items.found("mlp")
    cells = data.cells(item.table)
    assert set(cells) == {cell for cell in found.cells if found.seeds(cell)}
    for cell, metrics in cells.items():
        seeds = metrics["online_accuracy"]
        assert tuple(map(int, seeds)) == found.seeds(cell)
        for row, values in zip(seeds.values(), found.over(cell, "online_accuracy"), strict=True):
            assert row == pytest.approx(values, rel=1e-7)


def test_a_missing_number_is_none():
    columns = {"cell": ["a"], "metric": ["m"], "layer": [WHOLE], "seed": [3], "task": [0], "step": [1]}
    table = pa.table(columns | {"value": [math.inf]})
    assert data.cells(table) == {"a": {"m": {"3": [None]}}}


def test_a_file_hands_its_value_to_the_page(tmp_path):
    data._file(tmp_path / "x.js", "a-b", {"ρ": [1, None]})
    text = (tmp_path / "x.js").read_text(encoding="utf-8")
    assert text.startswith('lop.data["a-b"]=')
    assert json.loads(text.partition("=")[2].rstrip(";\n")) == {"ρ": [1, None]}
