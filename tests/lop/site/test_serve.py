"""The site is shown on this machine, and `lop site` says in one line what it lacks."""

import threading
from urllib.request import urlopen

import pytest

from lop.site import build, places, serve


def test_files_are_served_on_this_machine_alone(tmp_path):
    (tmp_path / "index.html").write_text("here")
    with serve.server(tmp_path) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        address, port = running.server_address
        with urlopen(f"http://127.0.0.1:{port}/") as answer:
            assert answer.read() == b"here"
        running.shutdown()
    assert address == "127.0.0.1"


def test_a_port_that_is_taken_is_named(tmp_path):
    with serve.server(tmp_path) as running:
        port = running.server_address[1]
        with pytest.raises(ValueError, match=f"port: {port} cannot be used"):
            serve.server(tmp_path, port)


def test_what_is_wrong_is_one_line(command, monkeypatch, tmp_path):
    code, _, err = command("site", "--port", "0")
    assert (code, err.count("\n")) == (2, 1)
    assert "port: got 0" in err
    monkeypatch.setattr(places, "ROOT", tmp_path)
    code, _, err = command("site")
    assert (code, err.count("\n")) == (2, 1)
    assert "a clone of the repository" in err


def test_an_extra_that_is_missing_is_named(command, monkeypatch):
    def missing(*arguments):
        raise ModuleNotFoundError("No module named 'furo'", name="furo")

    monkeypatch.setattr(build, "build", missing)
    code, _, err = command("site", "--out", "nowhere")
    assert (code, err) == (2, "lop: this needs furo, which is not installed: pip install 'lop-companion[site]'\n")


@pytest.mark.parametrize("served", [(), ("--serve", "--port", "8765")])
def test_a_folder_with_other_files_is_left_alone(command, monkeypatch, tmp_path, served):
    monkeypatch.setattr(build, "stage", None)  # nothing is built
    (tmp_path / "thesis.tex").write_text("years")
    code, _, err = command("site", "--out", str(tmp_path), *served)
    assert (code, err.count("\n")) == (2, 1)
    assert f"--out: {tmp_path} holds files" in err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_that_cannot_be_made_is_named(command, monkeypatch, tmp_path):
    monkeypatch.setattr(build, "stage", None)
    (tmp_path / "notes.txt").write_text("kept")
    for out in (tmp_path / "notes.txt", tmp_path / "notes.txt" / "site"):
        code, _, err = command("site", "--out", str(out))
        assert (code, err.count("\n")) == (2, 1)
        assert f"--out: the site cannot be written to {out}" in err
    assert (tmp_path / "notes.txt").read_text() == "kept"


def test_a_port_that_is_taken_is_told_before_anything_is_built(command, monkeypatch, tmp_path):
    monkeypatch.setattr(build, "build", None)
    with serve.server(tmp_path) as running:
        port = running.server_address[1]
        code, _, err = command("site", "--serve", "--out", str(tmp_path / "site"), "--port", str(port))
    assert (code, err.count("\n")) == (2, 1)
    assert f"port: {port} cannot be used" in err


def test_a_site_made_here_may_be_replaced(tmp_path):
    build.claim(tmp_path)
    (tmp_path / "index.html").write_text("a page")
    build.claim(tmp_path)
    (tmp_path / build.MARK).unlink()
    with pytest.raises(ValueError, match="holds files"):
        build.claim(tmp_path)
    (tmp_path / "_static").mkdir()
    for name in (".buildinfo", "_static/viewer.js"):
        (tmp_path / name).write_text("as made before there was a mark")
    build.claim(tmp_path)


def test_only_what_differs_is_renewed(tmp_path):
    fresh, kept = tmp_path / "fresh", tmp_path / "kept"
    for folder, name, text in ((fresh, "a", "1"), (kept, "a", "1"), (fresh, "b", "2"), (kept, "b", "old")):
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    before = (kept / "a").stat().st_mtime_ns
    assert not build.renewed(fresh, kept)
    assert (kept / "a").stat().st_mtime_ns == before
    assert (kept / "b").read_text() == "2"
    (fresh / "a").unlink()
    assert build.renewed(fresh, kept)
    assert not (kept / "a").exists()
