"""Build the site: `python -m lop.site.build`, which is `make site`."""

from __future__ import annotations

import argparse
import os
import shutil
import time
from pathlib import Path

from sphinx.cmd.build import build_main

from claims.ledger import load, verdicts
from lop.site import api_pages, claim_pages, data, front_pages, places, sources
from torch_experiments.certificates.display import VIEWER


def stage(source: Path = places.SOURCE, extra: Path = places.EXTRA) -> None:
    """Write all that Sphinx reads, below two folders that are made anew."""
    for folder in (source, extra):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    ledger = load()
    found = verdicts(ledger)
    sources.copy(source)
    claim_pages.write(source / "claims", ledger, found)
    front_pages.write(source, ledger, found, api_pages.write(source / "api"))
    for name in front_pages.EXPLORERS:
        shutil.copyfile(places.HERE / "pages" / f"{name}.md", source / "explore" / f"{name}.md")
    (extra / "_static").mkdir()
    for kind in (".css", ".js"):
        shutil.copyfile(VIEWER.with_suffix(kind), extra / f"_static/viewer{kind}")
    data.write(extra / "data")


def build(out: Path = places.SITE, jobs: int = 2) -> int:
    """Stage the pages and let Sphinx make the site; return its exit code. A warning is an error."""
    stage()
    doctrees = places.WORK / "doctrees"
    shutil.rmtree(out, ignore_errors=True)
    words = ["-q", "-W", "--keep-going", "-j", str(jobs), "-b", "html", "-c", str(places.HERE), "-d", str(doctrees)]
    return build_main([*words, str(places.SOURCE), str(out)])


def main() -> None:
    """Build the site and say how long it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=places.SITE, help="folder of the site")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="processes of Sphinx")
    given = parser.parse_args()
    start = time.perf_counter()
    code = build(given.out, given.jobs)
    if not code:
        print(f"{given.out}/index.html  {time.perf_counter() - start:.0f} s")
    raise SystemExit(code)


if __name__ == "__main__":
    main()
