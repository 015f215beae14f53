"""The one writer of files and folders: whole or not at all, on a full disk and after an interruption too.

It lies here since `theory`, the only package below, writes nothing, and every package above may import it. `claims`
imports nothing of ours and has one line of its own, `claims.evidence.write_text`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a temporary path beside `target` that takes its place on success, and vanishes otherwise.

    Missing folders are made. A reader sees the old file or the new one, never half.

    Raises:
        OSError: The disk is full, or the folder cannot be written to; `target` is as it was.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder) / "x.txt") as part:
    ...         written = part.write_text("all of it")
    ...     os.listdir(folder)
    ['x.txt']
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-", suffix=".tmp")
    part = Path(name)
    try:
        os.close(handle)
        yield part
        _flush(part)
        part.chmod(0o644)  # mkstemp makes files that nobody else can read
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def filling(target: Path) -> Iterator[Path]:
    """Give an empty temporary folder that becomes `target` on success, and vanishes otherwise.

    A folder that another process has put there meanwhile is kept: use it where both hold the same.

    Raises:
        OSError: As `replacing`.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-", suffix=".tmp"))
    try:
        yield part
        for path in part.rglob("*"):
            if path.is_file():
                _flush(path)
        part.chmod(0o755)
        _rename(part, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _flush(path: Path) -> None:
    """Have the disk take all bytes before the name changes: some file systems say only then that they are full."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _rename(part: Path, target: Path) -> None:
    try:
        part.rename(target)
    except OSError:
        if not target.is_dir():
            raise
