"""Names of modules, functions and files that pages and ledger mention are there."""

import re
from importlib import import_module
from importlib.util import find_spec

import pytest

from tests.docs.pages import PACKAGES, PAGES, ROOT, code, read
from torch_experiments.remedies import REMEDIES

NAMED = [*PAGES, "claims/ledger.toml"]
DOTTED = re.compile(rf"(?<![\w./])(?:{'|'.join(PACKAGES)})(?:\.[A-Za-z_]\w*)+(?![\w/])")
PATH = re.compile(rf"(?<![\w./])(?:{'|'.join(PACKAGES)}|docs|results)/[\w./-]*[\w/]")
MADE = ("paper_figures/out", "notebooks/out", "results/local")  # by commands


def resolves(name):
    """Whether a dotted name is a module of ours, or something in one."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        if _found(".".join(parts[:cut])):
            return _has(import_module(".".join(parts[:cut])), parts[cut:])
    return False


def _found(module):
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _has(thing, names):
    for name in names:
        if not hasattr(thing, name):
            return name == names[-1] and name in getattr(thing, "__annotations__", {})
        thing = getattr(thing, name)
    return True


def dotted(text):
    names = (name for line in code(text) for name in DOTTED.findall(line))
    return sorted({name for name in names if not name.endswith((".py", ".toml", ".json", ".md"))})


def paths(text):
    found = {path for line in code(text) for path in PATH.findall(line) if not path.startswith(MADE)}
    return sorted(path for path in found if not re.search(r"\b[A-Z]+\b", path))  # NAME stands for any


@pytest.mark.parametrize("page", NAMED)
def test_every_dotted_name_of_ours_is_there(page):
    assert [name for name in dotted(read(page)) if not resolves(name)] == []


@pytest.mark.parametrize("page", NAMED)
def test_every_path_of_ours_is_there(page):
    assert [path for path in paths(read(page)) if not (ROOT / path).exists()] == []


def test_a_wrong_name_or_path_is_found():
    text = "`theory.kernels.none` `theory.none` `theory.kernels.dual_kernel` `theory/none.py` `theory/kernels.py`"
    assert [name for name in dotted(text) if not resolves(name)] == ["theory.kernels.none", "theory.none"]
    assert [path for path in paths(text) if not (ROOT / path).exists()] == ["theory/none.py"]


def notation():
    """Return the rows of the table of symbols: symbol, names in code, shape, files."""
    lines = [line for line in read("NOTATION.md").splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


@pytest.mark.parametrize("row", notation(), ids=lambda row: row[0])
def test_every_name_in_the_table_of_symbols_is_in_the_file_beside_it(row):
    _, names, _, files = row
    places = [ROOT / path for path in re.findall(r"`([^`]+)`", files)]
    texts = [p.read_text() for place in places for p in (place.rglob("*.py") if place.is_dir() else [place])]
    words = {word for text in texts for word in re.findall(r"\w+", text)}
    said = {word for name in re.findall(r"`([^`]+)`", names) for word in re.findall(r"[A-Za-z]\w*", name)}
    assert said <= words


def test_the_table_of_remedies_has_all_of_them():
    rows = re.findall(r"^\| (`[^|]*) \| ", read("docs/your-network.md"), flags=re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`([^`]+)`", row)} == {*REMEDIES} - {"none"}
