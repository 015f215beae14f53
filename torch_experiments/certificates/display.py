"""A certificate to look at: its copies in numbers, and tables for the terminal, for HTML and for plain text."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Column, Table
from rich.text import Text

from torch_experiments.cloning.layouts import Profile
from torch_experiments.cloning.partition import Blocks

if TYPE_CHECKING:
    from torch_experiments.certificates.certificate import Certificate
    from torch_experiments.certificates.optimizer.sentences import Sentence

WIDTH = 110  # of pages and plain text; a terminal has its own
SHOWN = 8  # rows of near-clones, and notes
REASONS = 2  # shown of each verdict, the worst first
NOTE = 300  # characters
NAMES = {
    "clones": "copies stay copies",
    "coset": "weights stay on this manifold",
    "frozen": "frozen weights stay",
}
VIEWER = Path(__file__).with_name("viewer.js")  # and viewer.css: the site's page for certificates has the same
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}</title>
<style>
body {{ font-family: system-ui, sans-serif; max-width: 60em; margin: 1em auto; padding: 0 1em; }}
:root {{ color-scheme: light dark; }}
{style}</style>
</head>
<body>
<main id="certificate"></main>
<noscript><pre>{said}</pre></noscript>
<script type="application/json" id="certificate-data">{numbers}</script>
<script>
{script}</script>
</body>
</html>
"""
VERDICTS = {"kept": "yes", "left": "no", "unknown": "unknown"}
COLOURS = {"kept": "green", "left": "yellow", "unknown": "magenta"}


def rendered(certificate: Certificate) -> RenderableType:
    """Return all that `rich.print` shows of a certificate."""
    title = Text(f"certificate of {certificate.model}")
    return Panel(Group(*_parts(certificate)), title=title, title_align="left")


def html(certificate: Certificate) -> str:
    """Return a page of HTML: a script draws it from its numbers; else it is the plain text."""
    name = f"Certificate of {certificate.model}"
    numbers = json.dumps(certificate.to_dict(), allow_nan=False).replace("<", "\\u003c")  # no tag ends in it
    style, script = (VIEWER.with_suffix(kind).read_text(encoding="utf-8") for kind in (".css", ".js"))
    return PAGE.format(
        name=escape(name), style=style, said=escape(text(certificate)), numbers=numbers, script=script
    )


def sentences(certificate: Certificate) -> dict[str, str]:
    """Return in words what is said of the whole, of stability, small batches and this machine, if anything is.

    >>> import torch
    >>> from torch_experiments import certify
    >>> sentences(certify(torch.nn.Linear(2, 1), torch.ones(1, 2)))["headline"][:26]
    'nothing traps this network'
    """
    said = {"headline": _headline(certificate).plain}
    if certificate.stability is not None:
        said["stability"] = _stability(certificate)
    if certificate.minibatches is not None:
        said["minibatches"] = str(certificate.minibatches)
    if certificate.rounding is not None and _rounding_counts(certificate):
        said["rounding"] = str(certificate.rounding)
    return said


def _rounding_counts(c: Certificate) -> bool:
    return c.rounding is not None and bool(c.trapped or c.rounding.still or not c.rounding.held)


def text(certificate: Certificate) -> str:
    """Return plain text."""
    console = Console(width=WIDTH, file=io.StringIO(), color_system=None, force_jupyter=False)
    console.print(certificate)
    file: Any = console.file
    return file.getvalue()


def markdown(certificate: Certificate, name: str) -> str:
    """Return Markdown: the plain text under a heading, and the version that wrote it."""
    said = text(certificate).rstrip()
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", said)), default=0))
    versions = f"torch {torch.__version__}"
    with suppress(PackageNotFoundError):  # imported from a folder that nobody installed
        versions += f", lop-companion {version('lop-companion')}"
    what = f"free: {certificate.free_fraction:.1%} of {certificate.parameters:,} trained entries"
    return f"# Certificate of {name or certificate.model}\n\n{what}; {versions}\n\n{fence}text\n{said}\n{fence}\n"


def copies(blocks: Blocks) -> dict[str, dict[str, Any]]:
    """Return by group of units how many there are, how many differ, and the sets of copies with their scales.

    ``kind`` is ``"identical"``, ``"signed"`` (scales ±1), ``"scaled"``, or ``"none"`` without copies.

    >>> import torch
    >>> from torch import nn
    >>> from torch_experiments.cloning.partition import coarsest_blocks
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> nn.utils.vector_to_parameters(torch.ones(13), model.parameters())
    >>> copies(coarsest_blocks(model, torch.ones(1, 2)))["0"]["copies"]
    [[0, 1, 2]]
    """
    return {name: _summary(profile) for name, profile in blocks.groups.items()}


def _summary(profile: Profile) -> dict[str, Any]:
    count = profile.block.bincount()
    sets = [(profile.block == b).nonzero().flatten() for b in (count > 1).nonzero().flatten().tolist()]
    scales = profile.scale[torch.cat(sets)] if sets else torch.ones(1)
    kind = "identical" if bool((scales == 1).all()) else "signed" if bool((scales.abs() == 1).all()) else "scaled"
    return {
        "units": len(profile.block),
        "different": len(count),
        "kind": kind if sets else "none",
        "copies": [members.tolist() for members in sets],
        "scales": [profile.scale[members].tolist() for members in sets],
    }


def _parts(c: Certificate) -> Iterator[RenderableType]:
    yield _headline(c)
    yield _copies(c)
    if c.frozen is not None and c.frozen.sizes:
        yield _frozen(c)
    if c.unreached:
        yield _unreached(c)
    if c.near:
        yield _near(c)
    if c.optimizer is not None and c.trapped:
        yield _optimizer(c)
    if c.stability is not None:
        yield Text(f"stability: {_stability(c)}")
    if c.minibatches is not None:
        yield Text(f"small batches: {c.minibatches}")
    if _rounding_counts(c):
        yield Text(f"on this machine: {c.rounding}")
    silent = tuple(f"no gradient: {part.parameter}: " for part in c.unreached)  # they have rows in a table already
    for note in _short(tuple(note for note in c.notes if not note.startswith(silent))):
        said = note if len(note) <= NOTE else f"{note[: NOTE // 2]} … {note[-NOTE // 2 :]}"
        yield Text(f"note: {said}", style="dim")


def _headline(c: Certificate) -> Text:
    held = c.parameters - c.dimension
    share = f"{c.free_fraction:.2%} of {c.parameters:,} parameters are free"
    if not c.trapped:
        return Text(f"nothing traps this network: no unit is frozen on the batch, none is a copy; {share}", "green")
    return Text(f"{share}: gradients cannot reach {held:,} directions, because of {_traps(c)}", "yellow")


def _traps(c: Certificate) -> str:
    """Return how many units are frozen, and how many copies there are beyond the first of each set."""
    extra = sum(len(profile.block) - len(profile.block.unique()) for profile in c.blocks.groups.values())
    frozen = 0 if c.frozen is None else len(c.frozen.units)
    counts = ((frozen, "frozen unit", "frozen units"), (extra, "copy", "copies"))
    return " and ".join(f"{n:,} {one if n == 1 else more}" for n, one, more in counts if n)


def _copies(c: Certificate) -> Table:
    table = Table(
        Column("units of", overflow="fold"),
        "units",
        "different",
        "copies",
        title="exact copies",
        title_justify="left",
    )
    for name, found in copies(c.blocks).items():
        sizes = [len(members) for members in found["copies"]]
        table.add_row(Text(name), str(found["units"]), str(found["different"]), _sets(sizes, found["kind"]))
    return table


def _sets(sizes: list[int], kind: str) -> str:
    if not sizes:
        return "-"
    size = f"{min(sizes)} to {max(sizes)}" if min(sizes) < max(sizes) else str(sizes[0])
    return f"{len(sizes)} set{'s' if len(sizes) > 1 else ''} of {size}, {kind}"


def _frozen(c: Certificate) -> Table:
    table = Table(
        Column("activation", overflow="fold"),
        "units",
        "for all data",
        "in the box",
        "on the batch",
        title="frozen units, by the inputs on which they are frozen",
        title_justify="left",
    )
    assert c.frozen is not None
    for layer, n in c.frozen.by_layer().items():
        boxed = str(n["interval"]) if c.boxed else "no box"
        table.add_row(Text(layer), str(n["units"]), str(n["sign"]), boxed, str(n["observed"]))
    return table


def _unreached(c: Certificate) -> Table:
    table = Table(
        Column("parameter", overflow="fold"),
        "entries",
        "likeliest reason",
        title=f"no gradient, and no certificate why ({c.passes})",
        title_justify="left",
    )
    for part in c.unreached[:SHOWN]:
        table.add_row(Text(part.parameter), f"{part.entries:,} of {part.size:,}", Text(part.why))
    if len(c.unreached) > SHOWN:
        table.add_row(f"… and {len(c.unreached) - SHOWN} more", "", "")
    return table


def _near(c: Certificate) -> Table:
    table = Table(
        Column("units of", overflow="fold"),
        Column("near-clones", max_width=24),
        "outputs\noff by",
        "weights\noff by",
        title="near-clones: units whose activations nearly agree",
        title_justify="left",
    )
    for cluster in (c.near or ())[:SHOWN]:
        units = ", ".join(map(str, cluster.units[:SHOWN])) + (" …" if len(cluster.units) > SHOWN else "")
        table.add_row(Text(cluster.layer), units, f"{cluster.activations:.1e}", f"{cluster.weights:.1e}")
    if len(c.near or ()) > SHOWN:
        table.add_row(f"… and {len(c.near or ()) - SHOWN} more", "", "", "")
    return table


def _optimizer(c: Certificate) -> RenderableType:
    assert c.optimizer is not None
    v = c.optimizer
    title = Text(f"in exact arithmetic, under {v.optimizer}")
    table = Table("does it hold?", "", "why", title=title, title_justify="left")
    for what, verdict in (("clones", v.clones), ("coset", v.coset), ("frozen", v.frozen)):
        reasons = [r for r in v.reasons if r.about == what and r.rests_on]
        for k, reason in enumerate(reasons[:REASONS]):
            said = Text(VERDICTS[verdict] if not k else "", COLOURS[verdict])
            table.add_row(NAMES[what] if not k else "", said, Text(_why(reason)))
        if len(reasons) > REASONS:
            table.add_row("", "", f"… and {len(reasons) - REASONS} more")
    return table


def _why(reason: Sentence) -> str:
    """Return the sentence, the first place that it is about, and the claims, in brackets."""
    more = f" and {len(reason.where) - 1} more" if len(reason.where) > 1 else ""
    where = f"{reason.where[0]}{more}: " if reason.where else ""
    return f"{where}{reason.sentence} [{', '.join(reason.rests_on)}]"


def _stability(c: Certificate) -> str:
    s = c.stability
    assert s is not None
    kind = s.kind if s.certified else f"{s.kind} (not certified)"
    ends = f"{kind}; normal curvature from {s.lowest:.3g} to {s.highest:.3g}"
    if s.growth is not None:
        return f"{ends}; a distance from the manifold grows {s.growth:.6g}-fold a step"
    if s.time is not None:
        return f"{ends}; escape rate {s.rate:.3g}, from rounding about {s.time:,.3g} units of time; {s.reason}"
    return f"{ends}; no direction of escape was seen" + (f"; {s.reason}" if s.reason else "")


def _short(notes: tuple[str, ...]) -> Iterator[str]:
    yield from notes[:SHOWN]
    if len(notes) > SHOWN:
        yield f"… and {len(notes) - SHOWN} more in `notes`"
