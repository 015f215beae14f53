import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import matplotlib
import pytest
from matplotlib.figure import Figure

from paper_figures.support import captions, registry, results, style
from paper_figures.support.captions import CaptionError, Statement


def simple(name, holds=True):
    """Return a figure whose data are whether its caption holds."""

    def draw(data):
        figure = Figure()
        figure.subplots().plot([0, 1])
        return figure

    return SimpleNamespace(
        NAME=name,
        TITLE=f"the title of {name}",
        compute=lambda profile, folder: holds,
        statements=lambda data: [Statement("One is 1.", data)],
        caption=lambda data: "One is 1.",
        draw=draw,
    )


@pytest.fixture
def figures(monkeypatch):
    """Register two figures, one of them with an untrue caption."""
    for figure in (simple("false", holds=False), simple("true")):
        monkeypatch.setitem(sys.modules, f"paper_figures.{figure.NAME}", figure)
    monkeypatch.setattr(registry, "FIGURES", ("false", "true"))


def test_every_figure_has_what_the_registry_needs():
    for name in registry.FIGURES:
        figure = registry.load(name)
        assert name == figure.NAME
        assert figure.TITLE
        assert all(callable(getattr(figure, part)) for part in ("compute", "statements", "caption", "draw"))


def test_a_figure_is_written_as_pdf_png_and_caption(figures, tmp_path):
    paths = registry.make("true", "quick", tmp_path / "out", tmp_path)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["true.pdf", "true.png", "true.txt"]
    assert paths[0].read_bytes().startswith(b"%PDF")
    assert paths[1].read_bytes().startswith(b"\x89PNG")
    assert paths[2].read_text(encoding="utf-8") == "One is 1.\n"


@pytest.mark.parametrize("epoch", [None, "1600000000"])
def test_equal_pictures_are_equal_files(figures, tmp_path, monkeypatch, epoch):
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    if epoch:
        monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    found = [registry.make("true", "quick", tmp_path / f"out{k}", tmp_path) for k in range(2)]
    hashes = [[hashlib.sha256(path.read_bytes()).hexdigest() for path in paths] for paths in found]
    assert hashes[0] == hashes[1]
    year = b"2020" if epoch else b"2023"
    assert b"(D:" + year in found[0][0].read_bytes()


def test_an_untrue_caption_touches_no_file(figures, tmp_path):
    old = tmp_path / "false.png"
    old.write_bytes(b"old")
    with pytest.raises(CaptionError, match=r"One is 1\."):
        registry.make("false", "quick", tmp_path, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["false.png"]
    assert old.read_bytes() == b"old"
    with pytest.raises(CaptionError):
        registry.png(registry.load("false"), False)


def test_main_draws_the_others_and_fails(figures, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        registry.main(out=tmp_path, results=tmp_path)
    assert stop.value.code == 1
    assert (tmp_path / "true.pdf").exists()
    assert "the caption is not true of the data" in " ".join(capsys.readouterr().out.split())


SCRIPT = """
import sys, time, warnings
from pathlib import Path
from types import SimpleNamespace
from matplotlib.figure import Figure
from paper_figures.support import captions, registry

def register(name, untrue=False, seconds=0.0):
    def compute(profile, folder):
        print(f"computing {name}", file=sys.stderr)
        (folder / name).touch()
        time.sleep(seconds)
        print(f"computed {name}")

    sys.modules[f"paper_figures.{name}"] = SimpleNamespace(
        NAME=name, TITLE=f"the title of {name}", compute=compute, caption=lambda data: "One is 1.",
        statements=lambda data: [captions.Statement("One is 1.", not untrue)],
        draw=lambda data: Figure(),
    )

register("false", untrue=True), register("one"), register("two"), register("slow", seconds=600.0)
registry.FIGURES = ("false", "one", "two", "slow")
if __name__ == "__main__":
    folder, *names = sys.argv[1:]
    registry.main(names, out=Path(folder), results=Path(folder), jobs=2)
"""


def in_two_processes(folder, *names):
    """Start the registry of `SCRIPT` with two jobs."""
    (folder / "script.py").write_text(SCRIPT)
    command = [sys.executable, folder / "script.py", folder, *names]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )


def all_ended(group, seconds=10.0):
    """Return whether all processes of a group end in time."""
    limit = time.monotonic() + seconds
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < limit:
            os.killpg(group, 0)
            time.sleep(0.1)
        return False
    return True


def test_several_at_once_draw_the_others_fail_and_keep_their_lines_together(tmp_path):
    process = in_two_processes(tmp_path, "false", "one", "two")
    printed, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (1, "")
    assert sorted(path.name for path in tmp_path.glob("*.pdf")) == ["one.pdf", "two.pdf"]
    lines = printed.splitlines()
    for name, mark in (("false", "✗"), ("one", "✓"), ("two", "✓")):
        first = lines.index(f"{name}  the title of {name}")
        assert lines[first + 1 : first + 3] == [f"computing {name}", f"computed {name}"]
        assert lines[first + 3].strip().startswith(mark)


def test_an_interruption_stops_all_that_are_made_at_once(tmp_path):
    process = in_two_processes(tmp_path, "slow", "one")
    while not (tmp_path / "slow").exists():
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=60)[1]
    assert not (tmp_path / "slow.pdf").exists()
    assert all_ended(process.pid)


def test_no_jobs_are_refused(figures, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        registry.main(jobs=0, out=tmp_path)
    assert "jobs: got 0; it has to be at least 1" in capsys.readouterr().err


def test_main_lists_without_drawing(figures, tmp_path, capsys):
    registry.main(list_=True, out=tmp_path / "out")
    shown = capsys.readouterr().out
    assert "the title of true" in shown
    assert "the title of false" in shown
    assert not (tmp_path / "out").exists()


def test_an_unknown_name_is_refused_with_near_names_before_anything_is_computed(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        registry.main(("partitions", "clonning"), out=tmp_path / "out")
    assert stop.value.code == 2
    assert "figure 'clonning' is unknown; did you mean cloning or" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match=r"figure 'xyz' is unknown\. See"):
        registry.load("xyz")


def test_an_unknown_profile_is_refused(figures, tmp_path):
    with pytest.raises(ValueError, match=r"profile 'fast' is unknown; allowed are quick, full"):
        registry.make("true", "fast", tmp_path, tmp_path)


def test_an_interrupted_write_leaves_the_old_file_and_no_other(tmp_path):
    target = tmp_path / "x.txt"
    target.write_text("old")

    def fail(path):
        with open(path, "w") as file:
            file.write("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        registry._write(target, fail)
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"]
    assert target.read_text() == "old"


def test_png_is_a_picture(figures):
    assert registry.png(registry.load("true"), True).startswith(b"\x89PNG")


def test_the_style_holds_inside_its_context_only():
    before = dict(matplotlib.rcParams)
    with style.context():
        assert matplotlib.rcParams["font.family"] == ["STIXGeneral", "DejaVu Sans"]
        assert not matplotlib.rcParams["text.usetex"]
    assert dict(matplotlib.rcParams) == before


def test_a_result_is_computed_once(tmp_path):
    import pyarrow as pa

    table = pa.table({"a": [1.0]})
    config = {"experiment": "x", "seed": 0}
    assert results.remembered(tmp_path, config, lambda: table) == table
    assert results.remembered(tmp_path, config, lambda: pytest.fail("again")) == table
    other = pa.table({"a": [2.0]})
    assert results.remembered(tmp_path, {**config, "seed": 1}, lambda: other) == other


def test_the_hash_of_code_depends_on_the_modules():
    assert results.code_of(captions, style) != results.code_of(captions)
    assert results.code_of(captions) == results.code_of(captions)


def test_a_nan_makes_no_statement_true():
    with pytest.raises(CaptionError, match="figure 'f'"):
        captions.verify("f", [Statement("fine", True), Statement("less", float("nan") < 1)])
