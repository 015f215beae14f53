"""What the explorers are given is what Python has."""

import json
import math
import re
from importlib.metadata import version

import numpy as np
import pyarrow as pa
import pytest
from numpy.polynomial import chebyshev

from lop.site import data
from paper_figures import optimizers as figure
from tests.docs.pages import read
from theory.catalogue import get, named
from torch_experiments.lab import optimizer_table, records
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


@pytest.fixture
def table(monkeypatch):
    """The committed table of optimizers: nothing is measured here."""
    (file,) = data.COMMITTED.glob("*.parquet")
    if records.load(file).config["torch"] != version("torch"):
        pytest.skip("the committed table of optimizers is that of another torch")
    monkeypatch.setattr(figure, "compute", lambda profile: pytest.fail(STALE))
    return data.table_of_optimizers()


STALE = "rules changed: `lop figures optimizers`, and its record goes from results/local to results/optimizers"


def test_the_cells_of_the_table_are_those_that_were_measured(table):
    found, rows = data.optimizers(), optimizer_table.cells(table)
    assert len(found["cells"]) == len(rows) == len(found["rules"]) * len(found["manifolds"]) > 100
    for (rule, kind), measured in rows.items():
        cell = found["cells"][f"{rule}|{kind}"]
        assert cell["verdict"]["coset"] == optimizer_table.verdict(measured, "coset")
        assert cell["coset"] == pytest.approx([row["coset"] for row in measured], rel=1e-7)


def test_the_table_is_that_of_the_documentation(table):
    rows = blocks(optimizer_table.markdown(table))
    said = blocks(between("optimizers", read("docs/optimizers.md")))
    assert rows.keys() == said.keys()
    for rule, cells in rows.items():
        signs = [re.findall("[✓✗⚠]", cell) for cell in cells]
        assert signs == [re.findall("[✓✗⚠]", cell) for cell in said[rule]] or rule in OF_ONE_MACHINE


def test_another_table_is_measured_by_the_figure(monkeypatch, tmp_path):
    monkeypatch.setattr(figure, "compute", lambda profile: "measured")
    assert data.table_of_optimizers(tmp_path) == "measured"


def blocks(table):
    rows = [line.strip("|").split("|") for line in table.strip().splitlines()[2:]]
    return {row[0].strip(): row[1:] for row in rows}


def between(name, text):
    return text.partition(f"<!-- {name}:begin -->")[2].partition(f"<!-- {name}:end -->")[0]


OF_ONE_MACHINE = ("Muon in float64", "LBFGS")  # docs/optimizers.md says so


def test_runs_are_those_of_the_records():
    found, item = series.runs("mlp"), items.found("mlp")
    cells = data.cells(item.table)
    assert set(cells) == {cell for cell in found.item.runs("") if found.seeds(cell)}
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
