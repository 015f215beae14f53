"""The figures: compute or load, check the caption, draw, write."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast, get_args

from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from paper_figures.support import captions, parallel, style
from paper_figures.support.captions import Caption, CaptionError, Check
from paper_figures.support.results import RESULTS, Missing, Profile
from simulate.files import replacing

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
    "stochastic_stability",
    "portrait",
    "escape",
    "drift",
    "bitflip",
    "bitflip_activations",
    "symptoms",
    "normalisation",
    "remedies",
    "generalisation",
    "after_escape",
    "streams",
    "language",
    "agents",
    "tiny_symptoms",
    "tiny_normalisation",
    "tiny_bars",
    "layers_over_time",
    "free_fraction",
    "remedy_ranking",
    "early_warning",
    "cifar_cloning",
)
LONGEST = (  # started first where several are made at once
    "remedies",
    "symptoms",
    "normalisation",
    "cloning",
    "architectures",
    "bitflip_activations",
    "bitflip",
    "optimizers",
    "certificate_cost",
)
OUT = Path("paper_figures/out")
EPOCH = "1700000000"  # a PDF tells when it was made; a fixed date makes equal pictures equal files


class Drawable(Protocol):
    """What the module of a figure offers; ``notes(data)``, sentences that assert nothing, may be added to it."""

    NAME: str
    TITLE: str
    compute: Callable[[Profile, Path], Any]
    introduction: Callable[[Any], str]
    checks: Callable[[Any], Sequence[Check]]
    draw: Callable[[Any], Figure]


class Made(NamedTuple):
    """A figure that was made: the files written, and how many checks and notes its caption has."""

    paths: list[Path]
    checks: int
    notes: int


def load(name: str) -> Drawable:
    """Return the module of the figure `name`.

    Raises:
        ValueError: There is no such figure; the message lists the names that are near.
    """
    if name not in FIGURES:
        near = " or ".join(get_close_matches(name, FIGURES))
        meant = f"; did you mean {near}?" if near else "."
        raise ValueError(f"figure {name!r} is unknown{meant} See `lop figures --list`")
    return cast(Drawable, import_module(f"paper_figures.{name}"))


def caption(figure: Drawable, data: Any) -> Caption:
    """Return the caption of a figure, be its checks true of ``data`` or not."""
    notes = getattr(figure, "notes", None)
    return Caption(figure.introduction(data), figure.checks(data), notes(data) if notes else ())


def check(figure: Drawable, data: Any) -> None:
    """Pass if all checks of a figure's caption hold for ``data``.

    Raises:
        CaptionError: Some do not.
    """
    captions.verify(figure.NAME, figure.checks(data))


def make(name: str, profile: Profile = "quick", out: Path = OUT, results: Path = RESULTS) -> Made:
    """Compute or load the data of a figure, check its caption, draw it, and return what was written.

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
    found = caption(figure, data)
    captions.verify(name, found.checks)
    with style.context(), _fixed_date():
        picture = figure.draw(data)
        paths = [_write(out / f"{name}.{kind}", picture.savefig, format=kind) for kind in ("pdf", "png")]
    text = _write(out / f"{name}.txt", lambda path: path.write_text(str(found), encoding="utf-8"))
    return Made([*paths, text], len(found.checks), len(found.notes))


def png(figure: Drawable, data: Any) -> bytes:
    """Return the picture of `data` as PNG, after checking its caption; notebooks show it.

    Raises:
        CaptionError: The caption is not true of the data.
    """
    check(figure, data)
    buffer = io.BytesIO()
    with style.context():
        figure.draw(data).savefig(buffer, format="png")
    return buffer.getvalue()


class Outcome(NamedTuple):
    """How a figure ended: what was made, or what is untrue of its caption, or why it was left out; and seconds."""

    made: Made | None
    untrue: str
    missing: str
    seconds: float


def main(
    names: Sequence[str] = (),
    list_: bool = False,
    profile: Profile = "quick",
    out: Path = OUT,
    results: Path = RESULTS,
    jobs: int = 1,
) -> None:
    """Make the figures `names`, all if none is named, `jobs` at a time, or list them.

    A figure of runs that are not there is left out, and it is said why. Exits with 1 if a caption is untrue, after
    making the others.

    Raises:
        ValueError: A name is unknown, or `jobs` is below 1.
    """
    console = Console(width=None if sys.stdout.isatty() else 100)
    chosen = [load(name) for name in dict.fromkeys(names or FIGURES)]
    if jobs < 1:
        raise ValueError(f"jobs: got {jobs}; it has to be at least 1")
    if list_:
        console.print(_listing(chosen))
        return
    act = partial(_outcome, profile=profile, out=out, results=results)
    ended = _one_by_one(console, chosen, act) if jobs == 1 else _at_once(console, chosen, act, jobs)
    if any(outcome.untrue for outcome in ended):
        sys.exit(1)


def _outcome(name: str, profile: Profile, out: Path, results: Path) -> Outcome:
    start, made, untrue, missing = time.perf_counter(), None, "", ""
    try:
        made = make(name, profile, out, results)
    except CaptionError as error:
        untrue = str(error)
    except Missing as reason:
        missing = str(reason)
    return Outcome(made, untrue, missing, time.perf_counter() - start)


def _one_by_one(console: Console, figures: Sequence[Drawable], act: Callable[[str], Outcome]) -> list[Outcome]:
    ended = []
    for figure in figures:
        _announce(console, figure)
        ended.append(act(figure.NAME))
        _tell(console, ended[-1])
    return ended


def _at_once(
    console: Console, figures: Sequence[Drawable], act: Callable[[str], Outcome], jobs: int
) -> list[Outcome]:
    """Make figures side by side, the longest first; each one's lines appear when it is done."""
    ended, titled = [], {figure.NAME: figure for figure in figures}
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    order = sorted(titled, key=lambda name: ranks.get(name, len(ranks)))
    with (
        Progress(console=console, disable=not console.is_terminal, transient=True) as bar,
        closing(parallel.spread(act, order, jobs)) as answers,
    ):
        for name, outcome, printed in bar.track(answers, total=len(order), description="figures"):
            _announce(console, titled[name])
            console.out(printed, end="", highlight=False)
            _tell(console, outcome)
            ended.append(outcome)
    return ended


def _announce(console: Console, figure: Drawable) -> None:
    console.print(f"[bold]{figure.NAME}[/bold]  {figure.TITLE}")


def _tell(console: Console, outcome: Outcome) -> None:
    if outcome.made is None:
        mark, text = ("✗", outcome.untrue) if outcome.untrue else ("–", f"skipped: {outcome.missing}")
        console.print(f"  {mark} {text}", style="red" if outcome.untrue else None, markup=False)
    else:
        counts = f"{outcome.made.checks} checked, {outcome.made.notes} noted"
        paths = " ".join(map(str, outcome.made.paths))
        console.print(f"  ✓ {paths}  {outcome.seconds:.1f} s  ({counts})", markup=False)


def _listing(figures: Sequence[Drawable]) -> Table:
    table = Table("name", "shows", "caption")
    for figure in figures:
        table.add_row(figure.NAME, figure.TITLE, "checks and notes" if hasattr(figure, "notes") else "checks")
    return table


def _write(target: Path, save: Callable[..., Any], **options: Any) -> Path:
    """Let `save(path, **options)` write the file `target` at once."""
    with replacing(target) as partial:
        save(partial, **options)
    return target


@contextmanager
def _fixed_date() -> Iterator[None]:
    """Set SOURCE_DATE_EPOCH for a while unless it is set."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    os.environ["SOURCE_DATE_EPOCH"] = given or EPOCH
    try:
        yield
    finally:
        if given is None:
            del os.environ["SOURCE_DATE_EPOCH"]
