"""Parts of panels that several figures draw: bands over seeds, marks of published values, legends below."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from paper_figures.support import style
from paper_figures.support.tables import Array


def band(axis: Axes, x: Array, middle: Array, low: Array, high: Array, *, alpha: float = 0.18, **line: Any) -> None:
    """Draw a line through `middle`, and from `low` to `high` a band of its colour; shapes (points,)."""
    (drawn,) = axis.plot(x, middle, **line)
    axis.fill_between(x, low, high, color=drawn.get_color(), alpha=alpha, linewidth=0)


def bounds(values: Array) -> tuple[Array, Array]:
    """Return least and largest value over the seeds, each `[points]`, from `values [seeds, points]`."""
    return values.min(axis=0), values.max(axis=0)


def mark(axis: Axes, value: float, colour: str, *, filled: bool = True) -> None:
    """Mark a value to compare with by a small triangle at the right edge, and let the axis reach it."""
    axis.update_datalim([(1, value)], updatex=False)
    axis.autoscale_view(scalex=False)
    axis.plot(
        1.02,
        value,
        "<",
        transform=axis.get_yaxis_transform(),
        clip_on=False,
        color=colour,
        markerfacecolor=colour if filled else "white",
        markeredgewidth=0.6,
        markersize=3.2,
    )


def handle(label: str, *, filled: bool = True) -> Line2D:
    """Return the entry of a legend for what `mark` draws."""
    face = style.GREY if filled else "white"
    triangle: dict[str, Any] = {"marker": "<", "markersize": 3.2, "markeredgewidth": 0.6, "markerfacecolor": face}
    return Line2D([], [], color=style.GREY, linestyle="", label=label, **triangle)


def entry(label: str, **look: Any) -> Line2D:
    """Return the entry of a legend for marks of this look in all colours: grey unless a colour is given.

    >>> entry("measured", marker="o", linestyle="").get_label()
    'measured'
    """
    return Line2D([], [], **{"color": style.GREY, "label": label, **look})


def legend_below(figure: Figure, axis: Axes, columns: int) -> None:
    """Name below all panels what one of them shows."""
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=columns)
