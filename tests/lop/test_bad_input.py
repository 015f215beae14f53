"""Whatever a user gets wrong, in any command, ends with one line on stderr and exit code 2."""

import errno
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import lop
from lop import application, guard, memory
from simulate import files

ROOT = Path(lop.__file__).parents[1]
MODEL = """
from torch import nn

def make(width=4):
    return nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))

def broken():
    raise RuntimeError("of its own")
"""
HUGE = 10**12


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A present folder with a network, a text under all endings, and folders that look like files."""
    (tmp_path / "mine.py").write_text(MODEL)
    (tmp_path / "unparsable.py").write_text("def f(:\n")
    for kind in ("safetensors", "pt", "bin", "npy", "json"):
        (tmp_path / f"text.{kind}").write_text("this is no data\n")
        (tmp_path / f"folder.{kind}").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in ("mine", "unparsable"):
        sys.modules.pop(name, None)


def python(code, *words, variables=None, **options):
    """Run some Python that finds this `lop`."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **(variables or {})}
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    return subprocess.run([sys.executable, "-c", code, *map(str, words)], env=environment, check=False, **given)


def outside(*words, before="", **variables):
    """Run `lop` in a process of its own, after some Python; what it prints are bytes."""
    code = f"import sys\n{before}\nimport lop\nlop.main(sys.argv[1:])"
    return python(code, *words, variables=variables, text=False)


NETWORK = ("mine:make", "--input", "3")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        # words and options
        ((), "Expected one of {claims, results, figures, "),
        (("clams",), "Unrecognized options: clams; Available subcommands: claims, "),
        (("evidence", "--list"), "`lop evidence` is now `lop campaign`, with the same options"),
        (
            ("claims", "--wirte"),
            "Unrecognized options: --wirte; perhaps you meant --write; see `lop claims",
        ),
        (("run", "e02", "--arch", "mpl"), "invalid choice 'mpl' for argument '--arch'. Expected one of ('mlp', "),
        (("certify", *NETWORK, "--samples", "x"), "Error parsing --samples: invalid literal for int()"),
        (("clone", *NETWORK), "Missing from lop clone: --out PATH"),
        # sizes beyond memory
        (
            ("clone", *NETWORK, "--out", "x.safetensors", "--factor", 10**5),
            "with --factor 100000 takes more memory",
        ),
        (
            ("certify", *NETWORK, "--samples", HUGE),
            f"with --samples {HUGE} takes more memory than there is (11,176",
        ),
        (("certify", "mine:make", "--input", f"{HUGE},{HUGE}"), f"--input {HUGE},{HUGE} takes more memory"),
        (("certify", *NETWORK, "--settings", '{"width": 1000000}'), '--settings {"width": 1000000} takes more mem'),
        (("diagnose", *NETWORK, "--samples", 10**30), f"--samples {10**30} is too large a number"),
        (("diagnose", *NETWORK, "--seed", 10**30), f"--seed {10**30} is too large a number"),
        (("simulate", "bit-flipping", "--hidden", 10**10), f"--hidden {10**10} takes more memory than there is"),
        (("simulate", "bit-flipping", "--steps", 2 * 10**16), f"--steps {2 * 10**16} takes more memory"),
        (("simulate", "bit-flipping", "--hidden", 10**30), f"--hidden {10**30} takes more memory than there is"),
        (("kernel", "relu", "--certify", "--prec", HUGE), f"--prec {HUGE} is too large a number"),
        (("run", "e02", "--seeds", f"0..{HUGE}"), f"--seeds 0..{HUGE} takes more memory than there is"),
        # negative sizes
        (("certify", *NETWORK, "--samples", -1), "input: got -1 samples of shape (3,); every size has to be"),
        (("certify", *NETWORK, "--tokens", -1), "tokens: got -1; it has to be at least 1"),
        (
            ("certify", *NETWORK, "--settings", '{"width": -1}'),
            "model: mine:make raised RuntimeError: Tr",
        ),
        (("clone", *NETWORK, "--out", "x.safetensors", "--factor", -2), "factor: got -2; it has to be at least 2"),
        (("figures", "frozen", "--jobs", -1), "jobs: got -1; it has to be at least 1"),
        (("run", "e02", "--measure-every", -1, "--out", "out"), "measure_every: got -1; it has to be at least 1"),
        (("campaign", "streams", "--workers", -1, "--out", "out"), "workers: got -1; at least 1 is needed"),
        # names
        (("kernel", "rellu"), "activation 'rellu' is unknown; did you mean one of relu"),
        (("figures", "clonning"), "figure 'clonning' is unknown; did you mean cloning"),
        (("claims", "C99"), "ids: there is no claim C99"),
        (("data", "fetch"), "name: got ''; allowed are tiny-imagenet"),
        (("certify", "mine:maek", "--input", "3"), "model: mine:maek: the module has no 'maek'"),
        (("certify", "mine:broken", "--input", "3"), "model: mine:broken raised RuntimeError: of its own"),
        (
            ("certify", "unparsable:f", "--input", "3"),
            "model: importing 'unparsable' raised SyntaxError: ",
        ),
        # JSON
        (("certify", *NETWORK, "--settings", "width=3"), "settings: 'width=3' is no JSON"),
        (("certify", *NETWORK, "--settings", '"width"'), "settings: got '\"width\"'; it has to be a JSON object"),
        (("run", "e02", "--settings", "width=3"), "settings: 'width=3' is no JSON"),
        (
            ("certify", *NETWORK, "--optimizer", "sgd", "--optimizer-settings", "[1]"),
            "optimizer-settings: got ",
        ),
        # texts as data
        (
            ("certify", *NETWORK, "--checkpoint", "text.safetensors"),
            "checkpoint: text.safetensors is damaged",
        ),
        (
            ("certify", *NETWORK, "--checkpoint", "text.pt"),
            "checkpoint: text.pt is damaged or no checkpoint of",
        ),
        (
            ("certify", *NETWORK, "--checkpoint", "text.bin"),
            "checkpoint: text.bin is damaged or no checkpoint of torch",
        ),
        (("diagnose", "mine:make", "--batch", "text.npy"), "batch: text.npy is damaged, or no array of numbers"),
        (("diagnose", "mine:make", "--batch", "text.safetensors"), "batch: text.safetensors is damaged or no"),
        (("diagnose", "mine:make", "--batch", "text.json"), "batch: got text.json; it has to be .safetensors"),
        (("claims", "--check", "text.json"), "text.json is no evidence file"),
        (("simulate", "bit-flipping", "--out", "text.npy"), "out: text.npy is no result of this project"),
        (("data", "info", "text.json"), "text.json"),
        # folders as files, and files as folders
        (("certify", *NETWORK, "--checkpoint", "folder.pt"), "checkpoint: there is no file folder.pt"),
        (("diagnose", "mine:make", "--batch", "folder.npy"), "batch: there is no file folder.npy"),
        (("certify", *NETWORK, "--html", "folder.bin"), "html: folder.bin is a folder; give a file"),
        (("clone", *NETWORK, "--out", "folder.safetensors"), "out: folder.safetensors is a folder; give a file"),
        (("claims", "--evidence", "folder.json"), "Is a directory: 'folder.json'"),
        (("simulate", "bit-flipping", "--out", "folder.npy"), "out: folder.npy is no result of this project"),
        (("results", "--folder", "text.json"), "folder: there is no folder text.json"),
        (("campaign", "streams", "--out", "text.json"), "out: text.json is a file; give a folder"),
    ],
)
def test_it_is_one_line_and_exit_code_2(words, said, command, folder):
    before = sorted(folder.rglob("*.*"))
    code, out, err = command(*words)
    assert code == 2
    assert err.startswith("lop: ")
    assert err.count("\n") == 1
    assert said in err
    assert "Traceback" not in out
    assert [path for path in sorted(folder.rglob("*.*")) if "__pycache__" not in path.parts] == before


def test_what_is_no_fault_of_the_user_keeps_its_traceback(monkeypatch):
    def broken():
        raise KeyError("a bug")

    monkeypatch.setattr(application, "parsed", lambda words: broken)
    with pytest.raises(KeyError, match="a bug"):
        application.main([])


# ---------------------------------------------------------------------------------------- memory


def test_more_memory_than_the_container_has_is_refused_not_killed(tmp_path):
    (tmp_path / "max").write_text(f"{2**30}\n")
    code = f"""
import pathlib, resource, numpy
from lop import memory
memory.GROUP = pathlib.Path({str(tmp_path / "max")!r})
before = resource.getrlimit(resource.RLIMIT_DATA)
try:
    with memory.limited():
        numpy.empty(2**31, dtype=numpy.uint8)
except MemoryError:
    print("refused", before == resource.getrlimit(resource.RLIMIT_DATA))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert done.stdout == "refused True\n", done.stderr


@pytest.mark.parametrize(("words", "limited"), [(["run"], True), (["run", "--device=cuda"], False)])
def test_beside_a_gpu_memory_is_not_limited(words, limited):
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with guard.guarded(words):
        assert (resource.getrlimit(resource.RLIMIT_DATA) != before) == limited


@pytest.mark.parametrize("text", ["max\n", f"{10**18}\n"])
def test_a_container_without_limit_has_the_memory_of_the_machine(text, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "GROUP", tmp_path / "none")
    own = memory.physical()
    (tmp_path / "max").write_text(text)
    monkeypatch.setattr(memory, "GROUP", tmp_path / "max")
    assert memory.physical() == own > 0


# ------------------------------------------------------------------------------------------ disk


def test_a_full_disk_behind_the_output_is_told():
    with open("/dev/full", "w") as full:
        done = python("import lop; lop.main(['claims'])", stdout=full)
    assert (done.returncode, done.stderr) == (2, "lop: [Errno 28] No space left on device\n")


def test_a_full_disk_leaves_no_half_file(command, folder, monkeypatch):
    def full(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = sorted(folder.iterdir())
    monkeypatch.setattr(files.os, "fsync", full)
    for words in (("clone", *NETWORK, "--out", "x.safetensors"), ("certify", *NETWORK, "--html", "x.html")):
        assert command(*words)[::2] == (2, "lop: [Errno 28] No space left on device\n")
    short = ("--steps", 2_000, "--bin", 1_000, "--seeds", 0)
    assert command("simulate", "bit-flipping", *short, "--out", "x.npz")[0] == 2
    assert [path for path in sorted(folder.iterdir()) if path.name != "__pycache__"] == before


def test_a_disk_that_fills_while_torch_writes_is_an_error_of_the_system(tmp_path):
    from torch_experiments.lab.training import checkpoints

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    state = checkpoints.Checkpoint({}, 1, {}, {"a": list(range(10_000))}, [{"a": 1}])
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            checkpoints._write(tmp_path, state)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# -------------------------------------------------------------------------------------- terminal

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize("variables", [ASCII, {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}])
def test_a_terminal_without_utf_8_gets_escapes(variables):
    done = outside("kernel", "relu", "--rho", "1", **variables)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"K(1.0) = 1, E \\u03c6(X)\\u03c6(Y) = 0.5" in done.stdout


def test_json_stays_json_and_tables_stay_tables_there():
    done = outside("claims", "--json", **ASCII)
    assert json.loads(done.stdout.decode("ascii")) == json.loads(outside("claims", "--json").stdout.decode())
    table = outside("claims", **ASCII)
    assert (table.returncode, table.stderr) == (0, b"")
    assert max(map(len, table.stdout.decode("ascii").splitlines())) < 130


def test_errors_are_told_there_too():
    done = outside("kernel", "relu", "--rho", "2", **ASCII)
    assert done.returncode == 2
    assert done.stderr.startswith(b"lop: rho contains 2.0; allowed are correlations in [\\u22121, 1]")


# ---------------------------------------------------------------------------------------- extras

BLOCKED = """
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {name!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
"""


@pytest.mark.parametrize(
    ("missing", "extra", "words"),
    [
        ("torch", "torch", ("certify", "mine:make", "--input", "3")),
        ("torch", "torch", ("run", "--list")),
        ("safetensors", "torch", ("clone", "mine:make", "--input", "3", "--out", "/tmp/x.safetensors")),
        ("pyarrow", "torch", ("results", "--folder", ROOT / "results")),
        ("matplotlib", "figures", ("figures", "frozen")),
    ],
)
def test_a_missing_extra_is_named_with_the_line_that_installs_it(missing, extra, words):
    done = outside(*words, before=BLOCKED.format(name=missing))
    said = f"lop: this needs {missing}, which is not installed: pip install 'lop-companion[{extra}]'\n"
    assert (done.returncode, done.stderr.decode()) == (2, said)


def test_a_missing_extra_is_named_to_who_imports_too():
    code = f"import sys\n{BLOCKED.format(name='torch')}\nimport lop\nlop.certify"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert done.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: this needs torch, which is not installed: pip install 'lop-companion[torch]'"
    )


def test_a_module_that_no_extra_brings_keeps_its_error():
    error = ModuleNotFoundError("No module named 'nothing'", name="nothing")
    assert guard.explained(error) is None
