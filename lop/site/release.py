"""What a release is: wheel, sources and site, in `dist/`: `python -m lop.site.release`, as `make release` does."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from lop.site import places

DIST = places.ROOT / "dist"
SDIST = "from setuptools import build_meta; import sys; build_meta.build_sdist(sys.argv[1])"


def named() -> str:
    """Return the name of this version, as archives have it.

    >>> named().startswith("lop_companion-")
    True
    """
    about = tomllib.loads((places.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return f"{about['name'].replace('-', '_')}-{about['version']}"


def main(dist: Path = DIST, site: Path = places.SITE) -> None:
    """Write the sources as an archive, the wheel that is built of it, and the site, and print their paths.

    Raises:
        ValueError: There is no site.
    """
    if not (site / "index.html").is_file():
        raise ValueError(f"site: there is none in {site}; run `make site` first")
    dist.mkdir(exist_ok=True)
    subprocess.run([sys.executable, "-c", SDIST, dist], cwd=places.ROOT, check=True, stdout=subprocess.DEVNULL)
    sources = dist / f"{named()}.tar.gz"
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(dist)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(sources)], check=True)
    pages = shutil.make_archive(str(dist / f"{named()}-site"), "gztar", root_dir=site)
    for path in (sources, *dist.glob(f"{named()}-*.whl"), pages):
        print(path)


if __name__ == "__main__":
    main()
