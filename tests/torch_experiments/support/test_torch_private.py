"""Private names of torch: each is there and does what we take it for, and only one file of ours uses any."""

import ast
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from torch_experiments.support import torch_private

ROOT = Path(__file__).parents[3]
HOME = ROOT / "torch_experiments/support/torch_private.py"
PACKAGES = ("lop", "claims", "theory", "simulate", "torch_experiments", "paper_figures", "notebooks", "tests")
NAMES = [  # (module, object in it, if any, private name)
    ("torch.nn.modules.batchnorm", "", "_BatchNorm"),
    ("torch.nn.modules.batchnorm", "", "_NormBase"),
    ("torch.nn.modules.batchnorm", "BatchNorm1d", "_check_input_dim"),
    ("torch.nn.modules.conv", "", "_ConvNd"),
    ("torch.nn.modules.dropout", "", "_DropoutNd"),
    ("torch.nn.utils.parametrizations", "", "_SpectralNorm"),
    ("torch.optim.optimizer", "", "_global_optimizer_pre_hooks"),
    ("torch.optim.optimizer", "", "_global_optimizer_post_hooks"),
    ("torch", "Tensor", "_backward_hooks"),
    ("torch", "Tensor", "_post_accumulate_grad_hooks"),
    ("torch", "", "_dynamo"),
    ("torch._C", "", "_nn"),
    ("torch.utils", "", "_python_dispatch"),
    ("torch.utils._python_dispatch", "", "TorchDispatchMode"),
    ("torch.utils", "", "_pytree"),
    ("torch.utils._pytree", "", "tree_map_only"),
]
NAMED_TUPLES = {"_replace", "_fields", "_make", "_asdict"}  # public methods of these, in spite of their names
REPLICATE = "_replicate_for_data_parallel"
OTHERS = {
    "_core",
    "_reconstruct",  # of NumPy, in `images.formats`, which reads old pickles
    "_exit",  # of os
    "_n_updates",  # of stable-baselines3, in a test, which has no other count of gradient steps
}
HOOKS = {  # in tests, that none is left behind
    "_forward_hooks",
    "_forward_pre_hooks",
    "_optimizer_step_pre_hooks",
    "_optimizer_step_post_hooks",
}
ASSERTION = "_assert_async"  # in tests, that it computes nothing
KNOWN = {name for *_, name in NAMES if name[0] == "_"} | {*torch_private.STEP_HOOKS, *torch_private.MODULE_HOOKS}


@pytest.mark.parametrize(("module", "owner", "name"), NAMES)
def test_torch_still_has_what_we_use(module, owner, name):
    home = getattr(import_module(module), owner) if owner else import_module(module)
    if name == "_dynamo":
        import_module("torch._dynamo")
    assert hasattr(home, name), f"torch {torch.__version__} has no {module}.{owner}.{name}: mend torch_private.py"


def test_the_bases_are_those_of_the_modules_that_we_mean():
    assert issubclass(nn.BatchNorm2d, torch_private.BatchNorm)
    assert not issubclass(nn.InstanceNorm2d, torch_private.BatchNorm)
    assert issubclass(nn.InstanceNorm2d, torch_private.NormBase)
    assert issubclass(nn.Conv1d, torch_private.ConvNd)
    assert issubclass(nn.ConvTranspose2d, torch_private.ConvNd)
    assert issubclass(nn.Dropout2d, torch_private.DropoutNd)
    assert torch_private.FUNCTIONS.gelu is torch.nn.functional.gelu


def test_hooks_of_modules_and_optimizers_lie_where_we_look():
    layer = nn.Linear(1, 1)
    assert all(not getattr(layer, name) for name in torch_private.MODULE_HOOKS)
    layer.register_full_backward_hook(print)
    layer.register_full_backward_pre_hook(repr)
    assert torch_private.backward_hooks(layer) == [print, repr]
    assert all(not getattr(torch.optim.SGD(layer.parameters()), name) for name in torch_private.STEP_HOOKS)


def test_a_schema_tells_names_arguments_and_what_is_written():
    found = torch_private.schema(torch.ops.aten.add_.Tensor)
    assert found.name == "aten::add_"
    assert [(a.name, a.default_value) for a in found.arguments] == [("self", None), ("other", None), ("alpha", 1)]
    assert [a.name for a in found.arguments if a.alias_info is not None and a.alias_info.is_write] == ["self"]
    assert found.is_mutable
    assert not torch_private.schema(torch.ops.aten.add.Tensor).is_mutable


def test_hooks_of_gradients_and_steps_are_seen():
    weight = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight])
    weight.register_hook(lambda gradient: None)
    weight.register_post_accumulate_grad_hook(lambda parameter: None)
    optimizer.register_step_pre_hook(lambda *given: None)
    optimizer.register_step_post_hook(lambda *given: None)
    looking = Looking()
    optimizer.register_step_post_hook(looking)
    shared = register_optimizer_step_post_hook(lambda *given: None)
    try:
        assert len(torch_private.gradient_hooks(weight)) == 2
        assert len(list(torch_private.step_hooks(optimizer))) == 3
        looking.only_looks = False
        assert len(list(torch_private.step_hooks(optimizer))) == 4
    finally:
        shared.remove()


class Looking:
    only_looks = True

    def __call__(self, *given):
        """Do nothing."""


def test_a_replica_of_data_parallel_is_told_from_the_module():
    layer = nn.Linear(1, 1)
    assert torch_private.is_replica(getattr(layer, REPLICATE)())
    assert not torch_private.is_replica(layer)


def test_a_batch_norm_refuses_another_number_of_axes():
    with pytest.raises(ValueError, match="4D"):
        torch_private.check_dimensions(nn.BatchNorm2d(2), torch.ones(3, 2))


def test_an_operation_is_seen_below_autograd():
    seen = []

    class Mode(torch_private.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(torch_private.schema(func).name)
            return func(*args, **(kwargs or {}))

    with Mode():
        torch.ones(2) + 1
    assert "aten::add" in seen
    found = torch_private.tree_map_only(int, lambda n: n + 1, {"a": [1, "b"]})
    assert found == {"a": [2, "b"]}


# --------------------------------------------------------------------------- nobody else does


class Underscored(NamedTuple):
    """The names with an underscore that a file defines, and those that it uses, whosever they are."""

    defined: set[str]
    used: set[str]


@cache
def names_of(text):
    """Return what a file defines, and what it imports, looks up or writes as the name of a module."""
    defined, used, modules = set(), set(), set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute):
            used.add(node.attr)
            if isinstance(node.ctx, ast.Store):
                defined.add(node.attr)
        elif isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Store):
                defined.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.Import):
            used |= {part for alias in node.names for part in alias.name.split(".")}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            used |= {*node.module.split("."), *(alias.name for alias in node.names)}
        elif isinstance(node, ast.Constant) and str(node.value).startswith("torch._"):
            modules.add(node.value)
    return Underscored({*filter(hidden, defined)}, {*filter(hidden, used)} | modules)


def own(texts):
    """Return the names with an underscore that files of ours define."""
    return set().union(*(names_of(text).defined for text in texts))


def private(text, ours):
    """Return the private names of others that a text uses: imported, as attributes, or in the name of a module."""
    return names_of(text).used - ours - NAMED_TUPLES - OTHERS - HOOKS - {ASSERTION}


def hidden(name):
    return name.startswith("_") and not name.startswith("__")


def files():
    found = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return {path: path.read_text(encoding="utf-8") for path in found}


def test_only_one_file_uses_private_names_of_torch():
    texts = files()
    ours = own(texts.values()) - KNOWN
    wrong = {str(path): private(text, ours) for path, text in texts.items() if path not in (HOME, Path(__file__))}
    assert {path: names for path, names in wrong.items() if names} == {}


def test_every_private_name_of_the_one_file_is_tested():
    used = private(HOME.read_text(encoding="utf-8"), set()) | {"_dynamo"}
    assert used - {"_C", "_schema", "torch._dynamo"} <= KNOWN | {name for _, _, name in NAMES}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("from torch.nn.modules.conv import _ConvNd", {"_ConvNd"}),
        ("from torch.utils._pytree import tree_map", {"_pytree"}),
        ("import torch._dynamo as d", {"_dynamo"}),
        ("import_module('torch._inductor')", {"torch._inductor"}),
        ("def f(func):\n    return func._schema.name", {"_schema"}),
        ("class A:\n    def f(self):\n        return self._check_input_dim(1)", {"_check_input_dim"}),
        ("class A:\n    def f(self):\n        return self._mine, self.__class__, self.point._replace(x=1)", set()),
    ],
)
def test_a_private_name_is_found(text, found):
    assert private(text, {"_mine"}) == found
