"""Three laws of imports: they point one way, never in a circle, and stand at the top of a file.

Each law is a function of texts by module name, so that its negative controls are planted texts.
"""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BELOW = {  # what a package may import of the others
    "claims": set(),
    "theory": set(),
    "simulate": {"theory"},
    "torch_experiments": {"theory", "simulate"},
    "paper_figures": {"claims", "theory", "simulate", "torch_experiments"},
    "notebooks": {"claims", "theory", "simulate", "torch_experiments", "paper_figures", "lop"},
    "lop": {"claims", "theory", "simulate", "torch_experiments", "paper_figures"},
}
ROOMS = ("support", "units", "cloning", "metrics", "diagnostics", "certificates", "remedies", "lab")  # from below
BANNED = {
    "claims": {"torch", "matplotlib", "numpy", "sympy"},
    "theory": {"torch", "matplotlib"},
    "simulate": {"torch", "matplotlib"},
    "torch_experiments": {"matplotlib"},
}
HEAVY = {
    "lightning",
    "matplotlib",
    "mujoco",
    "pyarrow",
    "ray",
    "sklearn",
    "stable_baselines3",
    "submitit",
    "transformers",
}  # optional, and slow


def texts():
    """Return the texts of all files of ours by module name."""
    found = {}
    for path in sorted(path for package in BELOW for path in (ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return found


OURS = texts()


def imported(node):
    """Return the absolute names that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def all_imports(tree):
    return [name for node in ast.walk(tree) for name in imported(node)]


def running(tree):
    """Return the nodes of a tree without those for type checkers alone."""
    typed = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
    left_out = {id(inner) for node in typed for statement in node.body for inner in ast.walk(statement)}
    return [node for node in ast.walk(tree) if id(node) not in left_out]


# ------------------------------------------------------------------------------------ one way


def against_the_order(module, text):
    """Return the top-level packages and rooms that a module must not import, but does."""
    package, _, rest = module.partition(".")
    allowed = BELOW[package] | {package}
    found = set()
    for name in all_imports(ast.parse(text)):
        top, *inner = name.split(".")
        if top in {*BELOW, "tests"} - allowed or top in BANNED.get(package, ()):
            found.add(top)
        if top == package == "torch_experiments" and above(inner[0], rest.partition(".")[0]):
            found.add(inner[0])
    return found


def above(room, own):
    return own in ROOMS and room in ROOMS[ROOMS.index(own) + 1 :]


@pytest.mark.parametrize("package", BELOW)
def test_imports_point_one_way(package):
    wrong = {module: against_the_order(module, text) for module, text in OURS.items() if module.startswith(package)}
    assert {module: found for module, found in wrong.items() if found} == {}


@pytest.mark.parametrize(
    ("module", "text", "found"),
    [
        ("claims.x", "from theory import network", {"theory"}),
        ("theory.x", "def f():\n    import torch.nn as nn", {"torch"}),
        ("theory.x", "import simulate.flows", {"simulate"}),
        ("simulate.x", "from theory.network import Network\nimport matplotlib.pyplot", {"matplotlib"}),
        ("torch_experiments.lab.x", "import torch, lop", {"lop"}),
        ("torch_experiments.units.x", "from torch_experiments.lab import records", {"lab"}),
        ("torch_experiments.units.x", "def f():\n    import torch_experiments.lab.records", {"lab"}),
        ("torch_experiments.support.x", "from torch_experiments.units.graph import Axis", {"units"}),
        ("torch_experiments.metrics.x", "from torch_experiments.units.graph import Axis", set()),
        ("torch_experiments", "from torch_experiments.lab import records", set()),
        ("paper_figures.x", "from simulate import flows\nimport tests.strategies", {"tests"}),
        ("simulate.x", "from . import flows", set()),
    ],
)
def test_a_wrong_import_is_found(module, text, found):
    assert against_the_order(module, text) == found


# ------------------------------------------------------------------------------------ no circle


def circle(modules):
    """Return the modules, by their texts, that import each other in a circle, empty if there is none.

    What only type checkers read does not count, what is imported inside a function does. A name is that of a
    module, or else lives in the module before its last dot.
    """
    graph = {}
    for module, text in modules.items():
        names = [name for node in running(ast.parse(text)) for name in imported(node)]
        graph[module] = {home for name in names if (home := home_of(name, modules)) not in (None, module)}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return set(error.args[1])
    return set()


def home_of(name, modules):
    return next((home for home in (name, name.rpartition(".")[0]) if home in modules), None)


def test_no_files_import_each_other_in_a_circle():
    assert circle(OURS) == set()


@pytest.mark.parametrize(
    ("modules", "found"),
    [
        ({"a.x": "from a import y", "a.y": "from a.x import f"}, {"a.x", "a.y"}),
        (
            {"a.x": "def f():\n    from a.y import g", "a.y": "import a.z", "a.z": "import a.x"},
            {"a.x", "a.y", "a.z"},
        ),
        ({"a": "from a.x import f", "a.x": "from a import f"}, {"a", "a.x"}),
        ({"a.x": "from a import y", "a.y": "import b"}, set()),
        (
            {
                "a.x": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from a.y import T",
                "a.y": "import a.x",
            },
            set(),
        ),
    ],
)
def test_a_circle_is_found(modules, found):
    assert circle(modules) == found


# ------------------------------------------------------------------------------------ at the top


def inside_functions(text):
    """Return what a file imports inside functions, apart from heavy dependencies that are optional."""
    tree = ast.parse(text)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    names = {name for function in functions for name in all_imports(function)}
    return {name for name in names if name.partition(".")[0] not in HEAVY}


def test_imports_stand_at_the_top():
    wrong = {module: inside_functions(text) for module, text in OURS.items()}
    assert {module: found for module, found in wrong.items() if found} == {}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("def f():\n    from theory import rank", {"theory.rank"}),
        ("class A:\n    def f(self):\n        import numpy as np", {"numpy"}),
        ("async def f():\n    import numpy.linalg", {"numpy.linalg"}),
        ("def f():\n    import ray\n    from sklearn.datasets import load_digits", set()),
        ("import numpy\nif True:\n    import scipy", set()),
    ],
)
def test_an_import_inside_a_function_is_found(text, found):
    assert inside_functions(text) == found
