"""The claims as a picture: who rests on whom, coloured by verdict, each a link to its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import networkx as nx

from claims.ledger import Ledger, Verdict

WIDE, HIGH = 46, 26  # of a box
ACROSS, DOWN = 54, 64  # from box to box
ROW = 12  # boxes in a row of claims that rest on nothing and bear nothing
SWEEPS = 8

Place = tuple[float, float]


def arrows(ledger: Ledger) -> nx.DiGraph:
    """Return the graph of claims, an arrow from each to those that it rests on.

    >>> from claims.ledger import load
    >>> arrows(load()).has_edge("F2", "F2a")
    True
    """
    graph = nx.DiGraph()
    graph.add_nodes_from(ledger)
    graph.add_edges_from((claim.id, used) for claim in ledger.values() for used in claim.uses)
    return graph


def levels(graph: nx.DiGraph) -> list[list[str]]:
    """Return the claims of each level: every one a level above all that it rests on, near those, in few crossings.

    >>> levels(nx.DiGraph([("b", "a"), ("c", "b"), ("c", "a")]))
    [['a'], ['b'], ['c']]
    """
    found = [list(level) for level in nx.topological_generations(graph.reverse(copy=False))]
    for sweep in range(SWEEPS):
        order = range(1, len(found)) if sweep % 2 == 0 else range(len(found) - 2, -1, -1)
        for k in order:
            centres = _centres(graph, found, k, up=sweep % 2 == 0)
            found[k].sort(key=centres.__getitem__)
    return found


def _centres(graph: nx.DiGraph, rows: list[list[str]], k: int, *, up: bool) -> dict[str, float]:
    """Return the mean place of what each claim of a level rests on, or bears; its own place if there is none."""
    place = {name: rank / max(len(row) - 1, 1) for row in rows for rank, name in enumerate(row)}
    near = {name: [*(graph.successors(name) if up else graph.predecessors(name))] for name in rows[k]}
    return {name: sum(map(place.__getitem__, n)) / len(n) if n else place[name] for name, n in near.items()}


def places(graph: nx.DiGraph) -> tuple[dict[str, Place], float, float]:
    """Return where the middle of each box is, and the width and height of the picture; the lonely stand below."""
    lonely = [name for name in graph if graph.degree(name) == 0]
    rows = levels(graph.subgraph([name for name in graph if graph.degree(name)]))
    widest = max([len(row) for row in rows] + [ROW])
    width: float = widest * ACROSS
    found: dict[str, Place] = {}
    for k, row in enumerate(rows):
        step = width / len(row)
        found |= {name: ((n + 0.5) * step, DOWN * (k + 0.5)) for n, name in enumerate(row)}
    top = DOWN * len(rows) + HIGH
    across = int(width // ACROSS)
    for n, name in enumerate(lonely):
        found[name] = ((n % across + 0.5) * ACROSS, top + (n // across + 0.5) * HIGH * 1.4)
    height = top + HIGH * 1.4 * -(-len(lonely) // across) + HIGH / 2
    return found, width, height


def svg(ledger: Ledger, found: Mapping[str, Verdict], folder: str = "") -> str:
    """Return the picture as inline SVG, its boxes links to pages below ``folder``.

    >>> from claims.ledger import load, verdicts
    >>> 'href="F2.html"' in svg(load(), verdicts())
    True
    """
    graph = arrows(ledger)
    where, width, height = places(graph)
    lines = [_arrow(where[one], where[other]) for one, other in graph.edges]
    boxes = [_box(claim.id, claim.title, found[claim.id], where[claim.id], folder) for claim in ledger.values()]
    return "\n".join(
        [
            f'<svg class="claims-graph" role="group" aria-label="Which claim rests on which" '
            f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}">',
            *lines,
            *boxes,
            "</svg>",
        ]
    )


def _arrow(start: Place, end: Place) -> str:
    (x, y), (u, v) = start, end
    y, v = y - HIGH / 2, v + HIGH / 2
    bend = (y - v) / 2
    return (
        f'<path class="rests" d="M{x:.0f} {y:.0f}C{x:.0f} {y - bend:.0f} {u:.0f} {v + bend:.0f} {u:.0f} {v:.0f}"/>'
    )


def _box(name: str, title: str, verdict: Verdict, place: Place, folder: str) -> str:
    x, y = place
    return (
        f'<a href="{folder}{name}.html" aria-label="{name}, {verdict.verdict}: {escape(title)}">'
        f'<rect class="box v-{verdict.verdict}" x="{x - WIDE / 2:.0f}" y="{y - HIGH / 2:.0f}" '
        f'width="{WIDE}" height="{HIGH}" rx="5"/>'
        f'<text x="{x:.0f}" y="{y + 5:.0f}">{name}</text></a>'
    )


def bearing(ledger: Ledger, name: str) -> Sequence[str]:
    """Return the claims that rest on one, in the ledger's order.

    >>> from claims.ledger import load
    >>> "F2" in bearing(load(), "F2a")
    True
    """
    return [claim.id for claim in ledger.values() if name in claim.uses]
