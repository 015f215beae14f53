"""The wheel is whole: installed into an empty environment, it is used outside the repository."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("claims", "lop", "paper_figures", "simulate", "theory", "torch_experiments")
SHIPPED = (
    *(f"{package}/py.typed" for package in PACKAGES),
    "claims/CLAIMS.md",
    "claims/evidence.json",
    "claims/ledger.toml",
    "theory/formal/_CoqProject",
    "theory/formal/network.v",
    "theory/formal/statements.txt",
    "torch_experiments/certificates/viewer.css",
    "torch_experiments/certificates/viewer.js",
    "torch_experiments/lab/language/sample/tragedy.txt",
    "torch_experiments/lab/language/sample_source.md",
    "torch_experiments/lab/report/published_cloning.csv",
    "torch_experiments/lab/report/published_streams.csv",
)
MODEL = """
from torch import nn

def make(width=4):
    return nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 2))
"""
COMMANDS = {  # what each says
    ("claims",): "what it says",
    ("claims", "C9"): "## C9. Which optimizers keep which clones",
    ("kernel", "relu"): "K(0.5) = 0.4264223420127392",
    ("certify", "mine:make", "--input", "3"): "certificate of Sequential",
    ("figures", "frozen", "--out", "pictures"): "pictures/frozen.pdf",
    ("results", "--folder", "records"): "## Item `mlp-medium`",
}
IN_ONE_PROCESS = """
import contextlib, importlib, io, json, sys
import lop

found = {}
for words in json.loads(sys.argv[1]):
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            lop.main(words)
        except SystemExit as stop:
            code = stop.code or 0
    found[" ".join(words)] = code, out.getvalue(), err.getvalue()
found["files"] = [importlib.import_module(package).__file__ for package in json.loads(sys.argv[2])]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy of the sources; nothing is downloaded."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__", "out"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*build, "--wheel-dir", out, source], check=True)
    (found,) = out.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """An environment that has the wheel, and of ours only that; what it needs comes from the present one.

    The line in a ``.pth`` adds the folder of the present environment and none of the ``.pth`` files there, so that
    an editable install of the repository is not seen.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    install = [sys.executable, "-m", "pip", "--python", folder / "bin/python", "install", "--quiet", "--no-index"]
    subprocess.run([*install, "--no-deps", "--no-compile", wheel], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "needed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    """A folder outside the repository, with a network of a user."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "mine.py").write_text(MODEL)
    return folder


@pytest.fixture(scope="module")
def run(installed, outside):
    """Run a program of the environment outside the repository; return code, output and errors."""
    given = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment = given | {"MPLBACKEND": "Agg", "NUMBA_CACHE_DIR": str(outside / "numba")}

    def run(program, *words):
        command = [installed / "bin" / program, *map(str, words)]
        done = subprocess.run(command, cwd=outside, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture(scope="module")
def one_process(run, outside):
    """What each command said, run one after the other in one process, as starting one takes most of the time.

    As below the script `lop`, the folder itself is not on the path of imports (`-P`).
    """
    shutil.copytree(ROOT / "results/mlp-medium", outside / "records/mlp-medium")
    words = json.dumps([*COMMANDS, ("results",)])
    code, out, err = run("python", "-P", "-c", IN_ONE_PROCESS, words, json.dumps(PACKAGES))
    assert (code, err) == (0, "")
    return json.loads(out)


def test_the_wheel_holds_all_packages_and_what_they_read(wheel):
    names = set(ZipFile(wheel).namelist())
    assert set(SHIPPED) <= names
    sources = {path.relative_to(ROOT).as_posix() for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == sources


def test_torch_is_a_range(wheel):
    with ZipFile(wheel) as archive:
        (about,) = (name for name in archive.namelist() if name.endswith("METADATA"))
        lines = archive.read(about).decode().splitlines()
    (torch,) = (line for line in lines if line.startswith("Requires-Dist: torch"))
    assert torch == 'Requires-Dist: torch>=2.11; extra == "torch"'


def test_what_is_imported_comes_from_the_wheel(one_process, installed):
    assert len(one_process["files"]) == len(PACKAGES)
    assert all(Path(file).is_relative_to(installed) for file in one_process["files"])


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_commands_work_outside_the_repository(words, one_process, outside):
    code, out, err = one_process[" ".join(words)]
    assert (code, err) == (0, "")
    assert COMMANDS[words] in out
    if "pictures" in words:
        assert {path.name for path in (outside / "pictures").iterdir()} == {
            f"frozen.{k}" for k in ("pdf", "png", "txt")
        }


def test_what_needs_the_records_says_so_in_one_line(one_process):
    code, out, err = one_process["results"]
    assert (code, out) == (2, "")
    assert err.startswith("lop: folder: the records are in the folder results/ of the repository, not in the inst")
    assert err.count("\n") == 1


def test_the_script_ends_with_the_code_of_the_command(run):
    code, out, err = run("lop", "claims", "--write")
    assert (code, out) == (2, "")
    assert err.startswith("lop: --write is for a clone of the repository")
    assert err.count("\n") == 1


def test_the_module_runs_too(run):
    assert run("python", "-m", "lop", "kernel", "relu", "--rho", "1")[1].endswith("K(1.0) = 1, E φ(X)φ(Y) = 0.5\n")
