import ast
import json

import jupytext
import nbformat
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


RESET = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("%reset -f")])


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A kernel for all notebooks, so that torch and the rest are imported once."""
    client = build.client_of(nbformat.v4.new_notebook(), tmp_path_factory.mktemp("kernel"))
    with client.setup_kernel():
        yield client


@pytest.fixture
def emptied(shared, tmp_path):
    """The shared kernel without the names of the notebook before."""
    build.client_of(RESET, tmp_path, shared).execute()
    return shared


def test_a_notebook_sees_no_names_of_the_one_before(shared, tmp_path):
    for name, text in {"first": "early = 1\n", "second": "print(early)\n"}.items():
        jupytext.write(jupytext.reads(text, fmt="py:percent"), tmp_path / f"{name}.py", fmt="py:percent")
    for name in ("first", "second"):
        build.execute(tmp_path / f"{name}.py", tmp_path, shared)
    build.client_of(RESET, tmp_path, shared).execute()
    with pytest.raises(CellExecutionError, match="NameError"):
        build.execute(tmp_path / "second.py", tmp_path, shared)


@named
def test_a_notebook_runs_and_is_written(source, tmp_path, emptied):
    notebook = build.execute(source, tmp_path, emptied)
    paths = build.write(notebook, source.stem, tmp_path / "out")
    assert [path.suffix for path in paths] == [".ipynb", ".html"]
    cells = json.loads(paths[0].read_text(encoding="utf-8"))["cells"]
    assert all(cell["outputs"] for cell in cells[2:] if cell["cell_type"] == "code")
    assert "data:image/png" in paths[1].read_text(encoding="utf-8")


def test_a_failing_cell_is_an_error(tmp_path, emptied):
    source = tmp_path / "bad.py"
    jupytext.write(jupytext.reads("1 / 0\n", fmt="py:percent"), source, fmt="py:percent")
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        build.execute(source, tmp_path, emptied)
