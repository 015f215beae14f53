import ast
import json

import jupytext
import pytest
from nbclient.exceptions import CellExecutionError

from notebooks import build

SOURCES = build.sources()
named = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


def test_the_notebooks_are_found_in_order():
    assert [path.stem[:2] for path in SOURCES] == sorted(path.stem[:2] for path in SOURCES) != []


@named
def test_a_notebook_is_short_and_has_no_logic_of_its_own(source):
    text = source.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 130
    logic = (ast.FunctionDef, ast.ClassDef, ast.While, ast.Lambda, ast.Try)
    assert not [node for node in ast.walk(ast.parse(text)) if isinstance(node, logic)]


@named
def test_a_notebook_runs_and_is_written(source, tmp_path):
    notebook = build.execute(source, tmp_path)
    paths = build.write(notebook, source.stem, tmp_path / "out")
    assert [path.suffix for path in paths] == [".ipynb", ".html"]
    cells = json.loads(paths[0].read_text(encoding="utf-8"))["cells"]
    assert all(cell["outputs"] for cell in cells[2:] if cell["cell_type"] == "code")
    assert "data:image/png" in paths[1].read_text(encoding="utf-8")


def test_a_failing_cell_is_an_error(tmp_path):
    source = tmp_path / "bad.py"
    jupytext.write(jupytext.reads("1 / 0\n", fmt="py:percent"), source, fmt="py:percent")
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        build.execute(source, tmp_path)
