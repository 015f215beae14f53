import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BELOW = {
    "claims": set(),
    "theory": set(),
    "simulate": {"theory"},
    "torch_experiments": {"theory", "simulate"},
    "paper_figures": {"claims", "theory", "simulate", "torch_experiments"},
    "notebooks": {"claims", "theory", "simulate", "torch_experiments", "paper_figures"},
}
OURS = {*BELOW, "lop", "tests"}
BANNED = {
    "claims": {"torch", "matplotlib", "numpy", "sympy"},
    "theory": {"torch", "matplotlib"},
    "simulate": {"torch", "matplotlib"},
    "torch_experiments": {"matplotlib"},
}


def imported(text):
    """Return the top-level names of all absolute imports, also of those inside functions."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.partition(".")[0]


def against_the_rule(package, text):
    return {
        name for name in imported(text) if name in (OURS - BELOW[package] - {package}) | BANNED.get(package, set())
    }


@pytest.mark.parametrize("package", BELOW)
def test_imports_point_one_way(package):
    for path in sorted((ROOT / package).rglob("*.py")):
        assert not against_the_rule(package, path.read_text(encoding="utf-8")), path


@pytest.mark.parametrize(
    ("package", "text", "found"),
    [
        ("claims", "from theory import network", {"theory"}),
        ("theory", "def f():\n    import torch.nn as nn", {"torch"}),
        ("theory", "import simulate.flows", {"simulate"}),
        ("simulate", "from theory.network import Network\nimport matplotlib.pyplot", {"matplotlib"}),
        ("torch_experiments", "import torch, lop", {"lop"}),
        ("paper_figures", "from simulate import flows\nimport tests.strategies", {"tests"}),
        ("simulate", "from . import flows", set()),
    ],
)
def test_a_wrong_import_is_found(package, text, found):
    assert against_the_rule(package, text) == found
