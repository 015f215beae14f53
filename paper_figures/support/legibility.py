"""What a referee would find in a picture: looks without a word for them, text that is small, cut off or covered.

Only what can be told from the parts of the picture is told: that each colour, dash, marker and hatch which tells
marks of a panel apart has an entry in a legend, or text of its colour in the panel, not whether words are right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, combinations
from typing import Any, NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.patches import Patch
from matplotlib.path import Path
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from paper_figures.support import style

NOTHING = ("None", "none", "", " ", None)  # the ways in which matplotlib says no line and no marker
MARKERS = "os^v<>Ddx+*PXph."
CAPS = ("|", "_", 0, 1, 2, 3)  # ends of error bars
SLACK = 1.0  # pixels by which boxes of text may meet: they hold some white around the letters
BROAD = 1.0  # points: an edge as broad as this is a mark of its own


class Look(NamedTuple):
    """What tells one mark from another."""

    colour: str
    dashes: str = ""
    marker: str = ""
    hatch: str = ""


def problems(figure: Figure) -> list[str]:
    """Return what cannot be read in a figure, a sentence each.

    Example:
        >>> axis = (figure := Figure()).subplots()
        >>> lines = [axis.plot([0, 1], [0, k], color=colour)[0] for k, colour in enumerate(("red", "blue"))]
        >>> problems(figure)
        ["panel '': nothing says what #0000ff means", "panel '': nothing says what #ff0000 means"]
        >>> entries = axis.legend(lines, ["a", "b"], loc="upper left")
        >>> problems(figure)
        []
    """
    FigureCanvasAgg(figure).draw()
    return [*unexplained(figure), *two_meanings(figure), *small(figure), *cut(figure), *covered(figure)]


def unexplained(figure: Figure) -> list[str]:
    """Return colours, dashes, markers and hatches that differ within a panel and that no legend or text names."""
    told = {look for legend in _legends(figure) for look in _looks(legend)}
    return list(chain.from_iterable(_unexplained(axis, told) for axis in figure.axes if axis.axison))


def two_meanings(figure: Figure) -> list[str]:
    """Return entries of legends that give one look two meanings, told by a semicolon."""
    texts = [text.get_text() for legend in _legends(figure) for text in legend.get_texts()]
    return [f"one look has two meanings: {text!r}" for text in texts if ";" in text]


def small(figure: Figure) -> list[str]:
    """Return text that is smaller in print than `style.SMALLEST` points."""
    sizes = {text.get_text(): float(text.get_fontsize()) for text in _texts(figure)}
    return [f"{text!r} has {size:g} points" for text, size in sizes.items() if size < style.SMALLEST]


def cut(figure: Figure) -> list[str]:
    """Return text that reaches beyond the edge of the figure."""
    edge = figure.bbox.padded(SLACK)
    boxes = {text.get_text(): text.get_window_extent() for text in _texts(figure)}
    return [f"{text!r} is cut off" for text, box in boxes.items() if not _holds(edge, box)]


def covered(figure: Figure) -> list[str]:
    """Return text that lies on other text, and legends that lie on data."""
    boxes = [(text.get_text(), text.get_window_extent().padded(-SLACK)) for text in _texts(figure)]
    pairs = [(a, b) for (a, one), (b, other) in combinations(boxes, 2) if one.overlaps(other)]
    legends = [(axis, legend) for axis in figure.axes if (legend := axis.get_legend())]
    return [
        *(f"{a!r} lies on {b!r}" for a, b in pairs),
        *(
            f"{_name(axis)}: the legend lies on data"
            for axis, legend in legends
            if any(_passes(artist, legend.get_window_extent()) for artist in _data(axis))
        ),
    ]


def _unexplained(axis: Axes, told: set[Look]) -> list[str]:
    there = {look for artist in _data(axis) for look in _looks(artist)}
    if _names_rows(axis):
        there = {look._replace(colour="", marker="") for look in there} - {Look("", "-")}
    named = {part: {getattr(look, part) for look in told} - {""} for part in Look._fields}
    named["colour"] |= {_hex(text.get_color()) for text in axis.texts if text.get_text()}
    found = {
        value
        for part in Look._fields
        for value in _differing(there, part) - named[part]
        if not any(_told_by(other, value, part, there, named) for other in Look._fields if other != part)
    }
    return [f"{_name(axis)}: nothing says what {value} means" for value in sorted(found)]


def _names_rows(axis: Axes) -> bool:
    """Return whether words along the axis name its rows, so that dots and bars in them need no colour."""
    words = axis.yaxis.get_major_formatter().format_ticks(list(axis.get_yticks()))
    return any(len(word) > 1 and word[0].isalpha() for word in words)


def _differing(looks: set[Look], part: str) -> set[str]:
    """Return the values of a part of the looks, if there are several."""
    values = {getattr(look, part) for look in looks}
    return values - {""} if len(values) > 1 else set()


def _told_by(other: str, value: str, part: str, there: set[Look], named: Mapping[str, set[str]]) -> bool:
    """Return whether the marks with this value of a part are named by another part, which no other marks share."""
    theirs = {getattr(look, other) for look in there if getattr(look, part) == value}
    shared = {getattr(look, other) for look in there if getattr(look, part) != value}
    return theirs <= named[other] - shared


def _data(axis: Axes) -> Iterator[Artist]:
    """Yield lines, points and bars of a panel; a thin grey line across it, at a value of the axis, is none."""
    yield from (line for line in axis.lines if line.get_visible() and not _is_rule(line, axis))
    yield from (points for points in axis.collections if isinstance(points, PathCollection))
    yield from axis.patches


def _is_rule(line: Line2D, axis: Axes) -> bool:
    across = (axis.get_xaxis_transform(which="grid"), axis.get_yaxis_transform(which="grid"))
    return line.get_transform() in across and line.get_linestyle() == "-" and _hex(line.get_color()) == style.GREY


def _looks(artist: Artist) -> set[Look]:
    """Return the looks of the lines, patches and points of an artist."""
    frame = artist.get_frame() if isinstance(artist, Legend) else None
    found: set[Look] = set()
    for part in artist.findobj():
        if isinstance(part, Line2D):
            found.add(_look_of_line(part))
        elif isinstance(part, Patch) and part is not frame:
            found |= _looks_of_patch(part)
        elif isinstance(part, PathCollection) and part.get_array() is None:
            colours = part.get_facecolor() if len(part.get_facecolor()) else part.get_edgecolor()
            found |= {Look(_hex(c), marker=_marker(part.get_paths()[0])) for c in np.unique(colours, axis=0)}
    return found - {Look("")}


def _look_of_line(line: Line2D) -> Look:
    dashes = "" if line.get_linestyle() in NOTHING else str(line.get_linestyle())
    shape = line.get_marker()
    if shape in NOTHING or shape in CAPS:
        return Look(_hex(line.get_color()) if dashes else "", dashes)
    marker = MarkerStyle(shape)
    hollow = " hollow" if marker.is_filled() and _hex(line.get_markerfacecolor()) in ("", "#FFFFFF") else ""
    return Look(_hex(line.get_color()), dashes, _marker(marker.get_path(), marker.get_transform()) + hollow)


def _looks_of_patch(patch: Patch) -> set[Look]:
    hatch = str(patch.get_hatch() or "")
    edge = {Look(_hex(patch.get_edgecolor()))} if patch.get_linewidth() > BROAD and not hatch else set()
    return {Look(_hex(patch.get_facecolor()), hatch=hatch)} | edge


def _marker(path: Path, transform: Any = None) -> str:
    """Return the name of a marker's shape."""
    vertices = np.asarray((path.transformed(transform) if transform is not None else path).vertices)
    return _SHAPES.get(np.round(vertices, 6).tobytes(), f"a shape of {len(vertices)} corners")


def _shape(name: str) -> bytes:
    marker = MarkerStyle(name)
    vertices = np.asarray(marker.get_path().transformed(marker.get_transform()).vertices)
    return bytes(np.round(vertices, 6).tobytes())


_SHAPES = {_shape(name): f"marker {name}" for name in MARKERS}


def _hex(colour: Any) -> str:
    """Return a colour as in `style`, nothing for none at all."""
    if isinstance(colour, str) and colour in NOTHING:
        return ""
    return to_hex(colour).upper() if to_rgba(colour)[3] else ""


def _texts(figure: Figure) -> list[Text]:
    """Return the text that is drawn: of the labels of ticks those within the limits of the axis."""
    ticks = [
        (tick, axis.get_view_interval())
        for panel in figure.axes
        for axis in (panel.xaxis, panel.yaxis)
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
    ]
    beyond = {
        id(label)
        for tick, (low, high) in ticks
        for label in (tick.label1, tick.label2)
        if not min(low, high) <= tick.get_loc() <= max(low, high)
    }
    hidden = {id(text) for axis in figure.axes if not axis.axison for text in axis.xaxis.findobj(Text)}
    hidden |= {id(text) for axis in figure.axes if not axis.axison for text in axis.yaxis.findobj(Text)}
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    return [text for text in texts if id(text) not in beyond | hidden and text.get_window_extent().width]


def _passes(artist: Artist, box: Bbox) -> bool:
    """Return whether a line or points pass through a box."""
    if isinstance(artist, Line2D):
        path, straight = artist.get_path(), artist.get_linestyle() not in NOTHING
        path = path.interpolated(20) if straight and 1 < len(np.asarray(path.vertices)) < 1000 else path
        points = np.asarray(artist.get_transform().transform_path(path).vertices)
    elif isinstance(artist, PathCollection):
        points = np.asarray(artist.get_offset_transform().transform(np.asarray(artist.get_offsets())))
    else:
        return False
    return bool(np.all((points > box.min) & (points < box.max), axis=1).any())


def _holds(edge: Bbox, box: Bbox) -> bool:
    return bool(np.all(box.min >= edge.min) and np.all(box.max <= edge.max))


def _legends(figure: Figure) -> list[Legend]:
    return [*figure.legends, *(legend for axis in figure.axes if (legend := axis.get_legend()))]


def _name(axis: Axes) -> str:
    name = axis.get_title(loc="left") or axis.get_title() or axis.get_ylabel() or axis.get_xlabel()
    return f"panel {name!r}"
