"""One look for all figures: a dict of matplotlib settings, used through `context`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import matplotlib
from cycler import cycler
from tueplots import axes, bundles

WIDTH, PAGE = 3.25, 6.75  # inches: one column of a two-column page, and the whole page
SMALLEST = 6.5  # points of the smallest text in print

BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, YELLOW = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#F0E442",
)  # Okabe & Ito (2008), told apart by colour-blind readers
BLACK, GREY, PALE = "#000000", "#777777", "#E8E8E8"
PALETTE = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, YELLOW)

ACTIVATIONS: Mapping[str, str] = {  # names for people
    "relu": "ReLU",
    "gelu": "GELU",
    "tanh": "tanh",
    "elu": "ELU",
    "sigmoid": "sigmoid",
    "silu": "SiLU",
    "selu": "SELU",
    "abs": "|z|",
}
ACTIVATION_COLOURS: Mapping[str, str] = {
    "relu": BLUE,
    "gelu": VERMILION,
    "tanh": GREEN,
    "elu": PURPLE,
    "sigmoid": ORANGE,
    "silu": SKY,
    "abs": BLACK,
}
NORMS: Mapping[str, Mapping[str, Any]] = {  # lines of networks by norm, dashed without affine map
    "none": {"color": BLACK},
    "batch": {"color": BLUE, "linestyle": "--"},
    "batch, affine": {"color": BLUE},
    "layer": {"color": ORANGE, "linestyle": "--"},
    "layer, affine": {"color": ORANGE},
    "dropout": {"color": GREEN},
}

RC: Mapping[str, Any] = {
    **bundles.icml2024(column="half", usetex=False),
    **axes.lines(base_width=0.6, line_base_ratio=2.0),
    "font.family": ["STIXGeneral", "DejaVu Sans"],
    "mathtext.fontset": "stix",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 7.5,
    "legend.fontsize": SMALLEST,
    "xtick.labelsize": SMALLEST,
    "ytick.labelsize": SMALLEST,
    "axes.prop_cycle": cycler(color=PALETTE),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "pdf.fonttype": 42,
    "savefig.dpi": 300,
    "savefig.pad_inches": 0.02,
}


def context() -> AbstractContextManager[None]:
    """Return the context in which every figure is drawn and saved."""
    settings: Any = dict(RC)
    return matplotlib.rc_context(settings)
