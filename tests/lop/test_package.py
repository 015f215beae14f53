"""What `import lop` gives, how light it is, and that all commands share their options and the guard."""

import dataclasses
import inspect
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import lop
import torch_experiments
from lop import application, experiments, networks
from theory.kernels import dual_kernel
from torch_experiments.lab import records
from torch_experiments.lab.training import checkpoints
from torch_experiments.support import loading

HEAVY = ("torch", "numpy", "scipy", "sympy", "flint", "numba", "matplotlib", "pyarrow", "rich", "tyro")


def loaded(code):
    """Return which of the heavy packages are imported by some code."""
    code = f"{code}\nimport sys; print(*({set(HEAVY)!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_the_names_of_lop_are_those_of_the_library():
    for name in ("certify", "clone", "diagnose", "verify", "PlasticityMonitor", "Recovery", "remedies"):
        assert getattr(lop, name) is getattr(torch_experiments, name)
    assert lop.dual_kernel is dual_kernel
    assert lop.main is application.main
    assert set(lop.__all__) <= set(dir(lop))


def test_the_version_is_that_of_the_package(command):
    version = tomllib.loads((Path(lop.__file__).parents[1] / "pyproject.toml").read_text())["project"]["version"]
    assert lop.__version__ == version
    assert command("--version") == (0, f"{version}\n", "")


def test_names_stay_those_of_the_library_after_a_command_has_run(command):
    assert command("claims", "C9")[0] == 0
    assert lop.certify is torch_experiments.certify
    assert all(not inspect.ismodule(getattr(lop, name)) for name in lop.__all__ if name != "remedies")


def test_modules_of_the_library_that_users_name_are_at_its_top():
    assert torch_experiments.loading is loading
    assert torch_experiments.records is records
    assert torch_experiments.checkpoints is checkpoints


@pytest.mark.parametrize("package", [lop, torch_experiments])
def test_an_unknown_name_is_an_attribute_error(package):
    with pytest.raises(AttributeError, match=r"has no attribute 'certfy'"):
        _ = package.certfy


def test_importing_is_light():
    assert loaded("import lop") == set()
    assert loaded("import lop, lop.application") == {"tyro"}
    assert loaded("import lop; lop.main(['claims'])") == {"tyro", "rich"}
    assert loaded("import lop; lop.dual_kernel") & {"torch", "matplotlib", "pyarrow"} == set()
    assert "torch" in loaded("import lop; lop.certify")  # the control: what is used is imported


@pytest.mark.parametrize(
    ("commands", "shared", "own"),
    [
        ((networks.certify, networks.diagnose, networks.clone), networks.Subject, {"samples"}),
        ((experiments.run, experiments.grid), experiments.Changes, set()),
        ((experiments.run, experiments.grid), experiments.Extent, set()),
    ],
)
def test_commands_share_their_options(commands, shared, own, command):
    names = {field.name.replace("_", "-").strip("-") for field in dataclasses.fields(shared)} - {"model"}
    for act in commands:
        text = command(act.__name__, "--help")[1]
        assert {name for name in names if f"--{name} " not in text} == set()
    defaults = [p.default for act in commands for p in inspect.signature(act).parameters.values()]
    instances = [dataclasses.asdict(default) for default in defaults if isinstance(default, shared)]
    assert len(instances) == len(commands)
    assert {name for name in instances[0] if len({repr(one[name]) for one in instances}) > 1} == own


def test_every_command_goes_through_the_guard(monkeypatch, capsys):
    for act in application.COMMANDS:
        monkeypatch.setattr(application, "parsed", lambda words, act=act: lambda: fail(act))
        with pytest.raises(SystemExit) as stopped:
            lop.main([act.__name__])
        assert stopped.value.code == 2
        assert capsys.readouterr().err == f"lop: {act.__name__} says so\n"


def fail(act):
    raise ValueError(f"{act.__name__}\n says so")


def test_an_interruption_has_its_own_code(monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(application, "parsed", lambda words: interrupted)
    with pytest.raises(SystemExit) as stopped:
        lop.main(["run", "e02"])
    assert stopped.value.code == 130
    assert capsys.readouterr().err == "lop: interrupted; finished results are kept, the same command goes on\n"
