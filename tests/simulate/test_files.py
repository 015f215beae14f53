"""Files and folders appear whole or not at all."""

import os
import resource
import signal
import stat
import subprocess
import sys
from contextlib import contextmanager

import pytest

from simulate.files import filling, replacing


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write(target, text, then=lambda: None):
    with replacing(target) as part:
        part.write_text(text)
        then()


def fill(target, texts):
    with filling(target) as part:
        for name, text in texts.items():
            (part / name).write_text(text)


def raises(error):
    def raise_it(*args):
        raise error

    return raise_it


def test_a_file_takes_the_place_of_the_old_one_and_all_can_read_it(tmp_path):
    target = tmp_path / "new" / "folder" / "x.txt"
    for text in ("old", "new"):
        write(target, text)
    assert target.read_text() == "new"
    assert names(target.parent) == ["x.txt"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o644


@pytest.mark.parametrize("error", [OSError("no space"), KeyboardInterrupt(), SystemExit(1)])
@pytest.mark.parametrize("at", ["writing", "fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, error, at):
    target = tmp_path / "x.txt"
    target.write_text("old")
    if at != "writing":
        monkeypatch.setattr(os, at, raises(error))
    with pytest.raises(type(error)):
        write(target, "new", raises(error) if at == "writing" else lambda: None)
    assert names(tmp_path) == ["x.txt"]
    assert target.read_text() == "old"


@contextmanager
def a_full_disk():
    """Let no file grow beyond 100 bytes; pytest's own output may be one, so the limit ends with the block."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_does_not_fit_leaves_nothing(tmp_path):
    write(tmp_path / "x.txt", "old")
    with pytest.raises(OSError, match="File too large"), a_full_disk():
        write(tmp_path / "x.txt", "long" * 100)
    with pytest.raises(OSError, match="File too large"), a_full_disk():
        fill(tmp_path / "y", {"a": "short", "b": "long" * 100})
    assert names(tmp_path) == ["x.txt"]
    assert (tmp_path / "x.txt").read_text() == "old"


def test_a_folder_appears_with_all_that_it_holds(tmp_path):
    with filling(tmp_path / "x") as part:
        (part / "inner").mkdir()
        (part / "inner" / "a").write_text("a")
        assert not (tmp_path / "x").exists()
    assert names(tmp_path) == ["x"]
    assert (tmp_path / "x" / "inner" / "a").read_text() == "a"


def test_a_folder_that_another_process_finished_first_is_kept(tmp_path):
    with filling(tmp_path / "x") as part:
        (part / "a").write_text("second")
        with filling(tmp_path / "x") as other:
            (other / "a").write_text("first")
    assert names(tmp_path) == ["x"]
    assert (tmp_path / "x" / "a").read_text() == "first"


def test_a_file_in_the_place_of_a_folder_is_no_success(tmp_path):
    (tmp_path / "x").write_text("a file")
    with pytest.raises(OSError, match="Not a directory"):
        fill(tmp_path / "x", {"a": "text"})
    assert names(tmp_path) == ["x"]


INTERRUPTED = """
import pathlib, sys, time
from simulate.files import replacing
with replacing(pathlib.Path(sys.argv[1])) as part:
    part.write_text("half")
    print("half", flush=True)
    time.sleep(60)
"""


def test_an_interrupted_process_leaves_nothing(tmp_path):
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path / "x.txt")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout.readline() == "half\n"
        process.send_signal(signal.SIGINT)
        process.wait(timeout=20)
    assert names(tmp_path) == []
