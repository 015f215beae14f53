"""Build the site: `python -m lop.site.build`, which is `make site`."""

from __future__ import annotations

import argparse
import filecmp
import hashlib
import os
import shutil
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from sphinx.cmd.build import build_main

from claims.ledger import load, verdicts
from lop.site import api_pages, claim_pages, data, front_pages, places, sources
from torch_experiments.certificates.display import VIEWER

MARK = ".lop-site"  # a file that says of a folder that this module made it, and so may replace it


def claim(out: Path) -> None:
    """Make a folder the site's, unless it holds what this module did not make.

    Raises:
        ValueError: It holds other files, or cannot be written.

    >>> with TemporaryDirectory() as folder:
    ...     claim(Path(folder) / "site")
    ...     [path.name for path in (Path(folder) / "site").iterdir()]
    ['.lop-site']
    """
    try:
        if out.is_dir() and any(out.iterdir()) and not _ours(out):
            raise ValueError(
                f"--out: {out} holds files that are not of a site made here, and would be replaced; "
                "give a folder that is new or empty"
            )
        out.mkdir(parents=True, exist_ok=True)
        (out / MARK).write_text("Made by `lop site`, which replaces all in this folder.\n", encoding="utf-8")
    except OSError as error:
        why = error.strerror
        raise ValueError(f"--out: the site cannot be written to {out} ({why}); give another folder") from None


def _ours(out: Path) -> bool:
    """Tell whether a folder has our mark, or is a site that was made before there was one."""
    return (out / MARK).is_file() or all((out / name).is_file() for name in (".buildinfo", "_static/viewer.js"))


def stage(source: Path, extra: Path) -> None:
    """Write all that Sphinx reads below two folders that are empty."""
    ledger = load()
    found = verdicts(ledger)
    sources.copy(source)
    claim_pages.write(source / "claims", ledger, found)
    front_pages.write(source, ledger, found, api_pages.write(source / "api"))
    for name in front_pages.EXPLORERS:
        shutil.copyfile(places.HERE / "pages" / f"{name}.md", source / "explore" / f"{name}.md")
    (extra / "_static").mkdir(parents=True)
    for kind in (".css", ".js"):
        shutil.copyfile(VIEWER.with_suffix(kind), extra / f"_static/viewer{kind}")
    data.write(extra / "data")


def build(out: Path = places.SITE, jobs: int = 2) -> int:
    """Stage the pages and let Sphinx make the site; return its exit code. A warning is an error.

    Pages that are as they were are not read again; where one is gone, or the code of this package changed, all are.

    Raises:
        ValueError: The folder is not the site's to replace; see ``claim``.
    """
    out = out.resolve()
    claim(out)
    places.WORK.mkdir(parents=True, exist_ok=True)
    doctrees = places.WORK / "doctrees"
    with TemporaryDirectory(dir=places.WORK) as folder:
        stage(Path(folder) / "source", Path(folder) / "extra")
        gone = [renewed(Path(folder) / kept.name, kept) for kept in (places.SOURCE, places.EXTRA)]
    if any(gone) or _other_code(places.WORK / "code") or not (out / "index.html").is_file():
        for old in (out, doctrees):
            shutil.rmtree(old, ignore_errors=True)
        claim(out)
    words = ["-q", "-W", "--keep-going", "-j", str(jobs), "-b", "html", "-c", str(places.HERE), "-d", str(doctrees)]
    return build_main([*words, str(places.SOURCE), str(out)])


def _other_code(stamp: Path) -> bool:
    """Note in a file which code makes the site, and tell whether other code did before."""
    texts = [path.read_bytes() for path in sorted(places.HERE.glob("*.py"))]
    now = hashlib.sha256(b"\0".join(texts)).hexdigest()
    before = stamp.read_text() if stamp.is_file() else ""
    stamp.write_text(now)
    return now != before


def renewed(fresh: Path, kept: Path) -> bool:
    """Move what differs from one folder into another, delete what the first has not, and tell whether that was any.

    >>> with TemporaryDirectory() as folder:
    ...     one, two = (Path(folder) / name for name in "ab")
    ...     for path, text in ((one / "x", "new"), (two / "x", "old"), (two / "y", "gone")):
    ...         _ = path.parent.mkdir(exist_ok=True), path.write_text(text)
    ...     renewed(one, two), [path.read_text() for path in two.iterdir()], renewed(one, two)
    (True, ['new'], False)
    """
    names = {path.relative_to(fresh) for path in fresh.rglob("*") if path.is_file()}
    gone = {path.relative_to(kept) for path in kept.rglob("*") if path.is_file()} - names
    for name in gone:
        (kept / name).unlink()
    for name in names:
        if not (kept / name).is_file() or not filecmp.cmp(fresh / name, kept / name, shallow=False):
            (kept / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(fresh / name, kept / name)
    return bool(gone)


def main() -> None:
    """Build the site and say how long it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=places.SITE, help="folder of the site: new, empty, or a site made here"
    )
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="processes of Sphinx")
    given = parser.parse_args()
    start = time.perf_counter()
    try:
        claim(given.out)
    except ValueError as error:
        parser.exit(2, f"{error}\n")
    code = build(given.out, given.jobs)
    if not code:
        print(f"{given.out}/index.html  {time.perf_counter() - start:.0f} s")
    raise SystemExit(code)


if __name__ == "__main__":
    main()
