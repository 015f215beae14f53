"""The examples in docstrings run, and every public name has one.

Public are the functions and classes that `lop`, `torch_experiments` and its rooms list in ``__all__``, and those
that the modules of `WHOLE` define without an underscore. A class has an example if its docstring has one or that of
a public method. None of its own needs a class that a function of the same module returns in an example, an
exception, or a protocol.
"""

import doctest
import inspect
import re
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("claims", "theory", "simulate", "torch_experiments", "lop")
LISTED = (
    "lop",
    "torch_experiments",
    "torch_experiments.units",
    "torch_experiments.cloning",
    "torch_experiments.metrics",
    "torch_experiments.diagnostics",
    "torch_experiments.remedies",
    "torch_experiments.certificates",
    "torch_experiments.certificates.frozen",
    "torch_experiments.certificates.optimizer",
)
WHOLE = (
    "theory.network",
    "theory.kernels",
    "theory.rank",
    "theory.activations",
    "theory.activation_facts",
    "theory.catalogue",
    "theory.partitions",
    "theory.manifolds",
    "theory.certificates",
    "theory.closed_forms",
    "theory.hermite",
    "theory.gaussian",
    "theory.saturation",
    "theory.strength",
    "theory.depth",
    "theory.enclosures",
    "simulate.flow",
    "simulate.stability",
    "simulate.escape",
    "simulate.bit_flipping",
    "simulate.optimizers",
    "simulate.quotient",
    "simulate.clones",
    "simulate.drift",
    "simulate.width",
    "simulate.learners",
    "simulate.streams",
    "claims.ledger",
    "claims.evidence",
    "claims.render",
)


def modules_with_examples():
    """Return the names of all modules of ours whose text holds an example; nothing is imported for it."""
    paths = [path for package in PACKAGES for path in ROOT.glob(f"{package}/**/*.py")]
    holding = [path.relative_to(ROOT) for path in paths if ">>> " in path.read_text(encoding="utf-8")]
    return sorted(".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in holding)


def failed(module):
    """Run the examples of a module; print those that fail, and return their number."""
    return doctest.testmod(module).failed


def public(module, whole):
    """Return the public functions and classes of a module: those that it lists, or all that it defines."""
    names = [n for n in vars(module) if not n.startswith("_")] if whole else getattr(module, "__all__", ())
    found = {name: inspect.unwrap(getattr(module, name)) for name in names}
    documented = {n: thing for n, thing in found.items() if inspect.isfunction(thing) or inspect.isclass(thing)}
    return {n: thing for n, thing in documented.items() if not whole or thing.__module__ == module.__name__}


def has_example(thing):
    own = [thing] if inspect.isfunction(thing) else [thing, *(v for n, v in vars(thing).items() if n[0] != "_")]
    return any(">>> " in (getattr(part, "__doc__", None) or "") for part in own)


def needs_none(thing):
    return inspect.isclass(thing) and (issubclass(thing, BaseException) or getattr(thing, "_is_protocol", False))


def made(things):
    """Return all names in the annotations of what functions with an example return."""
    makers = [thing for thing in things.values() if inspect.isfunction(thing) and has_example(thing)]
    return {n for f in makers for n in re.findall(r"\w+", str(inspect.signature(f).return_annotation))}


def without_example(things):
    """Return the names that lack an example and need one."""
    lacking = {name for name, thing in things.items() if not has_example(thing) and not needs_none(thing)}
    return {name for name in lacking if not (inspect.isclass(things[name]) and name in made(things))}


@pytest.mark.parametrize("name", modules_with_examples())
def test_the_examples_of_a_module_run(name):
    assert not failed(import_module(name))


@pytest.mark.parametrize("name", LISTED + WHOLE)
def test_every_public_name_has_an_example(name):
    assert without_example(public(import_module(name), whole=name in WHOLE)) == set()


def planted(text):
    module = ModuleType("planted")
    exec(text, vars(module))
    return module


RESULT = "class Result:\n    pass\n\ndef f() -> Result:\n    {}return Result()\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (RESULT.format(""), {"f", "Result"}),
        (RESULT.format("'>>> f() is None\\nFalse'\n    "), set()),
        ("class A:\n    def f(self):\n        '>>> A()'\n", set()),
        ("class A:\n    def _f(self):\n        '>>> A()'\n", {"A"}),
        ("class A(ValueError):\n    pass\n\ndef _hidden():\n    pass\n", set()),
    ],
)
def test_a_name_without_example_is_found(text, found):
    assert without_example(public(planted(text), whole=True)) == found


def test_a_wrong_example_is_found(capsys):
    right, wrong = (planted(f"def f():\n    '''\n    >>> 1 + 1\n    {n}\n    '''\n") for n in (2, 3))
    assert failed(right) == 0
    assert failed(wrong) == 1
    assert "Expected:\n    3" in capsys.readouterr().out
