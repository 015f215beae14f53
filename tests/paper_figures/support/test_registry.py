import hashlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from matplotlib.figure import Figure

import paper_figures
from paper_figures.support import registry
from paper_figures.support.captions import CaptionError, Check


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
        checks=lambda data: [Check("One is 1.", data)],
        introduction=lambda data: "Two are shown.",
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
        assert all(callable(getattr(figure, part)) for part in ("compute", "introduction", "checks", "draw"))


def test_the_folder_holds_one_file_a_figure():
    files = {path.stem for path in Path(paper_figures.__file__).parent.glob("*.py")}
    assert files - {"__init__"} == set(registry.FIGURES)


def test_a_figure_is_written_as_pdf_png_and_caption(figures, tmp_path):
    paths, checks, notes = registry.make("true", "quick", tmp_path / "out", tmp_path)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["true.pdf", "true.png", "true.txt"]
    assert paths[0].read_bytes().startswith(b"%PDF")
    assert paths[1].read_bytes().startswith(b"\x89PNG")
    assert paths[2].read_text(encoding="utf-8") == "Two are shown.\n\nChecked: One is 1.\n"
    assert (checks, notes) == (1, 0)


@pytest.mark.parametrize("epoch", [None, "1600000000"])
def test_equal_pictures_are_equal_files(figures, tmp_path, monkeypatch, epoch):
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    if epoch:
        monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    found = [registry.make("true", "quick", tmp_path / f"out{k}", tmp_path).paths for k in range(2)]
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


def test_no_jobs_are_refused(figures, tmp_path):
    with pytest.raises(ValueError, match="jobs: got 0; it has to be at least 1"):
        registry.main(jobs=0, out=tmp_path)


def test_main_lists_without_drawing(figures, tmp_path, capsys):
    registry.main(list_=True, out=tmp_path / "out")
    shown = capsys.readouterr().out
    assert "the title of true" in shown
    assert "the title of false" in shown
    assert "notes" not in shown
    assert not (tmp_path / "out").exists()


def test_notes_are_told_apart_from_checks(figures, tmp_path, capsys):
    sys.modules["paper_figures.true"].notes = lambda data: ["Three is measured.", "So is four."]
    registry.main(["true"], list_=True, out=tmp_path)
    assert "checks and notes" in capsys.readouterr().out
    registry.main(["true"], out=tmp_path, results=tmp_path)
    assert "(1 checked, 2 noted)" in " ".join(capsys.readouterr().out.split())
    text = (tmp_path / "true.txt").read_text(encoding="utf-8")
    assert text.endswith("Checked: One is 1.\n\nNoted, not checked: Three is measured. So is four.\n")


def test_an_unknown_name_is_refused_with_near_names_before_anything_is_computed(tmp_path):
    with pytest.raises(ValueError, match="figure 'clonning' is unknown; did you mean cloning or"):
        registry.main(("partitions", "clonning"), out=tmp_path / "out")
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
