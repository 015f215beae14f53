"""The figures: compute or load, check the caption, draw, write."""

from __future__ import annotations

import io
import os
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast, get_args

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from paper_figures import style
from paper_figures.captions import CaptionError
from paper_figures.results import RESULTS, Missing, Profile

FIGURES = (
    "cloning",
    "architectures",
    "noise_grid",
    "certificate",
    "certificate_cost",
    "freed",
    "quotient",
    "partitions",
    "optimizers",
    "frozen",
    "refinement",
    "kernels",
    "rank_gain",
    "recovery",
    "modulation",
    "depth",
    "shannon",
    "saturation",
    "sine",
    "stability",
    "portrait",
    "escape",
    "drift",
    "bitflip",
    "symptoms",
    "normalisation",
    "remedies",
    "generalisation",
    "after_escape",
    "streams",
    "tiny_symptoms",
    "tiny_normalisation",
    "tiny_bars",
    "layers_over_time",
    "free_fraction",
    "remedy_ranking",
    "early_warning",
    "cifar_cloning",
)
OUT = Path("paper_figures/out")
EPOCH = "1700000000"  # a PDF tells when it was made; a fixed date makes equal pictures equal files


class Drawable(Protocol):
    """What the module of a figure offers."""

    NAME: str
    TITLE: str
    compute: Callable[[Profile, Path], Any]
    check: Callable[[Any], None]
    caption: Callable[[Any], str]
    draw: Callable[[Any], Figure]


def load(name: str) -> Drawable:
    """Return the module of the figure `name`.

    Raises:
        ValueError: There is no such figure; the message lists the names that are near.
    """
    if name not in FIGURES:
        near = get_close_matches(name, FIGURES) or FIGURES
        raise ValueError(f"figure {name!r} is unknown; did you mean {' or '.join(near)}? See `lop figures --list`")
    return cast(Drawable, import_module(f"paper_figures.{name}"))


def make(name: str, profile: Profile = "quick", out: Path = OUT, results: Path = RESULTS) -> list[Path]:
    """Compute or load the data of a figure, check its caption, draw it, and return the files written.

    Args:
        name: One of `FIGURES`.
        profile: How much to compute.
        out: Folder for `name.pdf`, `name.png` and `name.txt`, the caption.
        results: Folder of finished results; what is there is not computed again.

    Raises:
        ValueError: The name or the profile is unknown.
        CaptionError: The caption is not true of the data; no file is touched.
        Missing: The figure only reads finished runs, and there are none.
    """
    if profile not in get_args(Profile):
        raise ValueError(f"profile {profile!r} is unknown; allowed are {', '.join(get_args(Profile))}")
    figure = load(name)
    data = figure.compute(profile, results)
    figure.check(data)
    with style.context(), _fixed_date():
        picture = figure.draw(data)
        paths = [_write(out / f"{name}.{kind}", picture.savefig, format=kind) for kind in ("pdf", "png")]
    caption = textwrap.fill(figure.caption(data), 100) + "\n"
    return [*paths, _write(out / f"{name}.txt", lambda path: Path(path).write_text(caption, encoding="utf-8"))]


def png(figure: Drawable, data: Any) -> bytes:
    """Return the picture of `data` as PNG, after checking its caption; notebooks show it.

    Raises:
        CaptionError: The caption is not true of the data.
    """
    figure.check(data)
    buffer = io.BytesIO()
    with style.context():
        figure.draw(data).savefig(buffer, format="png")
    return buffer.getvalue()


def main(
    names: Sequence[str] = (),
    list_: bool = False,
    profile: Profile = "quick",
    out: Path = OUT,
    results: Path = RESULTS,
) -> None:
    """Make the figures `names`, all if none is named, or list them.

    A figure of runs that are not there is left out, and it is said why. Exits with 1 if a caption is untrue, after
    making the others, and with 2 if a name is unknown.
    """
    console = Console(width=None if sys.stdout.isatty() else 100)
    try:
        chosen = [load(name) for name in dict.fromkeys(names or FIGURES)]
    except ValueError as error:
        sys.stderr.write(f"lop: {error}\n")
        sys.exit(2)
    if list_:
        console.print(_listing(chosen))
        return
    failures = [name for name in (_announced(console, figure, profile, out, results) for figure in chosen) if name]
    if failures:
        sys.exit(1)


def _announced(console: Console, figure: Drawable, profile: Profile, out: Path, results: Path) -> str | None:
    """Make one figure and say so; return its name if its caption is untrue."""
    console.print(f"[bold]{figure.NAME}[/bold]  {figure.TITLE}")
    start = time.perf_counter()
    try:
        paths = make(figure.NAME, profile, out, results)
    except CaptionError as error:
        console.print(f"  ✗ {error}", style="red", markup=False)
        return figure.NAME
    except Missing as reason:
        console.print(f"  – skipped: {reason}", markup=False)
        return None
    console.print(f"  ✓ {' '.join(map(str, paths))}  {time.perf_counter() - start:.1f} s", markup=False)
    return None


def _listing(figures: Sequence[Drawable]) -> Table:
    table = Table("name", "shows")
    for figure in figures:
        table.add_row(figure.NAME, figure.TITLE)
    return table


def _write(target: Path, save: Callable[..., Any], **options: Any) -> Path:
    """Let `save(path, **options)` write a temporary file beside `target`, then rename it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-", suffix=".tmp")
    os.close(handle)
    try:
        save(partial, **options)
        os.chmod(partial, 0o644)
        os.replace(partial, target)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(partial)
    return target


@contextmanager
def _fixed_date() -> Any:
    """Set SOURCE_DATE_EPOCH for a while unless it is set."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    os.environ["SOURCE_DATE_EPOCH"] = given or EPOCH
    try:
        yield
    finally:
        if given is None:
            del os.environ["SOURCE_DATE_EPOCH"]
