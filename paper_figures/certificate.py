"""The certificate of a network as a picture: copies, near copies and frozen units (claims C8, F2b, F2c)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from paper_figures.support import style
from paper_figures.support.captions import Check
from paper_figures.support.results import RESULTS, Profile
from torch_experiments import certify
from torch_experiments.certificates.certificate import Certificate, copies
from torch_experiments.lab.images import pixels
from torch_experiments.lab.models import cnn

NAME = "certificate"
TITLE = "the certificate of a small CNN: copies, scaled copies, near-clones and frozen units"

LAYERS = {"conv1": "act1", "conv2": "act2", "linear": "act"}  # and the activations behind them
BATCH, EXACT = 300, 1e-6
REASONS = {"sign": "/////", "interval": "xxxxx", "observed": "....."}
FROZEN = {
    "sign": "frozen for all data (signs of weights)",
    "interval": "frozen for all inputs in a box",
    "observed": "frozen on the batch",
}
EQUAL, SCALED, NEAR = (style.BLUE, style.SKY), (style.ORANGE, style.YELLOW), (style.GREEN, style.PURPLE)

Copies = frozenset[tuple[str, tuple[int, ...], tuple[float, ...]]]
Near = frozenset[tuple[str, tuple[int, ...]]]
Frozen = frozenset[tuple[str, int, str]]


@dataclass(frozen=True)
class Marks:
    """Sets of copies with their scales, sets of near-clones, and frozen units with the reason."""

    copies: Copies = frozenset()
    near: Near = frozenset()
    frozen: Frozen = frozenset()


@dataclass(frozen=True)
class Data:
    """What was planted, what is found before and after, and sizes of layers and of the trapped set."""

    planted: Marks
    before: Marks
    found: Marks
    sizes: Mapping[str, int] = field(default_factory=dict)
    parameters: int = 0
    dimension: int = 0


PLANTED = Marks(
    frozenset({
        ("conv1", (1, 4), (1.0, 1.0)),
        ("conv1", (2, 7), (1.0, 2.0)),
        ("conv2", (0, 6, 13), (1.0, 1.0, 1.0)),
        ("conv2", (3, 17), (1.0, 0.5)),
        ("linear", (2, 3, 4, 5), (1.0, 1.0, 1.0, 1.0)),
        ("linear", (9, 16, 22), (1.0, 2.0, 4.0)),
    }),
    frozenset({("conv1", (5, 9)), ("conv2", (10, 15)), ("linear", (12, 26))}),
    frozenset({
        ("conv1", 10, "interval"),
        ("conv1", 11, "observed"),
        ("conv2", 8, "sign"),
        ("conv2", 20, "sign"),
        ("conv2", 22, "observed"),
        ("linear", 19, "sign"),
        ("linear", 29, "observed"),
        ("linear", 30, "observed"),
    }),
)  # fmt: skip


def compute(profile: Profile, results: Path = RESULTS) -> Data:
    """Return what is found in a network before and after the planting; a few seconds, so nothing is kept."""
    return measure(PLANTED)


def measure(planted: Marks, seed: int = 0) -> Data:
    """Train a small CNN on digits, certify it, plant, and certify it again."""
    images = pixels.load("digits").floats(torch.float64)
    x, y = images.train_x[:BATCH], images.train_y[:BATCH]
    box = (float(images.train_x.min()), float(images.train_x.max()))
    model = _trained(x, y, seed)
    before = certify(model, x, box=box, parts=("frozen", "near"))
    plant(model, planted, x, torch.Generator().manual_seed(seed))
    after = certify(model, x, box=box, parts=("frozen", "near"))
    sizes = {name: len(profile.block) for name, profile in after.blocks.groups.items()}
    return Data(planted, marks(before), marks(after), sizes, after.parameters, after.dimension)


def introduction(data: Data) -> str:
    """Return what is shown, and how it was found."""
    return (
        "The certificate of a convolutional network for 8×8 digits (two convolutions, a hidden linear layer, ReLU) "
        "with planted copies and frozen units. A row is a layer, a square a unit: a channel or a neuron. Within a "
        "row, squares of one colour are copies, equal ones or scaled ones; numbers tell by which factor a scaled "
        "copy is larger than the first of its set. Squares with edges of one colour are near-clones: they agree on "
        "the batch, but not exactly."
    )


def checks(data: Data) -> list[Check]:
    """Return what the caption claims."""
    found, planted = data.found, data.planted
    scaled = sum(len(set(scales)) > 1 for _, _, scales in planted.copies)
    free = data.dimension / max(data.parameters, 1)
    return [
        Check("Before the planting nothing is found.", data.before == Marks()),
        Check(
            f"All {len(planted.copies)} sets of copies are found, {scaled} of them scaled, and no other.",
            found.copies == planted.copies,
        ),
        Check(
            f"All {len(planted.frozen)} frozen units are found, each for the right reason, and no other.",
            found.frozen == planted.frozen,
        ),
        Check(f"All {len(planted.near)} pairs of near-clones are, and no other.", found.near == planted.near),
        Check(
            f"Of {data.parameters:,} parameters {data.dimension:,} are free ({free:.0%}): the others get no "
            "gradient or move together.",
            0 < free < 1,
        ),
    ]


def draw(data: Data) -> Figure:
    """Return one row of squares a layer, and the meaning of the marks below."""
    figure = Figure(figsize=(style.PAGE, 1.15))
    axis = figure.subplots()
    for row, (layer, size) in enumerate(data.sizes.items()):
        for unit in range(size):
            _square(axis, unit, row, facecolor=style.PALE, edgecolor="white")
        _draw_layer(axis, row, layer, data.found)
    axis.set(xlim=(-0.7, max(data.sizes.values()) - 0.3), ylim=(len(data.sizes) - 0.4, -0.6), aspect="equal")
    axis.set_yticks(range(len(data.sizes)), [f"{layer}: {size} units" for layer, size in data.sizes.items()])
    axis.set_xticks([])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    figure.legend(handles=_legend(), loc="outside lower center", ncols=4, handlelength=1.2, handleheight=1.2)
    return figure


def marks(found: Certificate) -> Marks:
    """Return what a certificate found, in terms of the layers that make the units."""
    sets = (
        (layer, tuple(units), tuple(round(s, 6) for s in scales))
        for layer, group in copies(found.blocks).items()
        for units, scales in zip(group["copies"], group["scales"], strict=True)
    )
    near = ((c.layer, c.units) for c in found.near or () if c.weights > EXACT)
    layer_of = {activation: layer for layer, activation in LAYERS.items()}
    units = found.frozen.units if found.frozen is not None else ()
    frozen = ((layer_of[u.layer], u.unit, str(u.reason)) for u in units)
    return Marks(frozenset(sets), frozenset(near), frozenset(frozen))


@torch.no_grad()
def plant(model: nn.Sequential, planted: Marks, x: Tensor, generator: torch.Generator) -> None:
    """Plant copies, near-clones and frozen units into a chain with ReLU, from the inputs on.

    A copy of scale ``s`` has ``s`` times the weights and bias of the first of its set, and ``s`` times its
    out-weights. A near-clone has in-weights that differ by one per cent, and out-weights of its own.
    """
    layers: dict[str, Any] = {name: layer for name, layer in model.named_children() if hasattr(layer, "weight")}
    previous = ""
    for name, layer in layers.items():
        _copy_rows(layer, name, planted, generator)
        for unit in (u for where, u, reason in planted.frozen if where == name and reason == "sign"):
            layer.weight[unit], layer.bias[unit] = -layer.weight[unit].abs(), -layer.bias[unit].abs()
        for units, scales in _sets(planted, previous):
            columns = layer.weight.unflatten(1, (len(layers[previous].weight), -1))
            for unit, scale in zip(units[1:], scales[1:], strict=True):
                columns[:, unit] = scale * columns[:, units[0]]
        _silence(model, layer, name, planted, x)
        previous = name


def _copy_rows(layer: Any, name: str, planted: Marks, generator: torch.Generator) -> None:
    for units, scales in _sets(planted, name):
        for unit, scale in zip(units[1:], scales[1:], strict=True):
            layer.weight[unit], layer.bias[unit] = scale * layer.weight[units[0]], scale * layer.bias[units[0]]
    for first, second in (units for where, units in planted.near if where == name):
        noise = torch.randn(layer.weight[first].shape, generator=generator, dtype=layer.weight.dtype)
        layer.weight[second] = layer.weight[first] * (1 + 0.01 * noise)
        layer.bias[second] = layer.bias[first]


def _silence(model: nn.Sequential, layer: Any, name: str, planted: Marks, x: Tensor) -> None:
    """Lower biases until units are silent in the box of the inputs, or just on the batch."""
    for unit, reason in ((u, reason) for where, u, reason in planted.frozen if where == name):
        if reason == "interval":
            layer.bias[unit] = -1.1 * layer.weight[unit].abs().sum() * x.abs().max()
        if reason == "observed":
            h = x
            for child_name, child in model.named_children():
                h = child(h)
                if child_name == name:
                    break
            layer.bias[unit] -= h[:, unit].max() + 0.01


def _sets(planted: Marks, name: str) -> Iterator[tuple[tuple[int, ...], tuple[float, ...]]]:
    return ((units, scales) for where, units, scales in planted.copies if where == name)


def _trained(x: Tensor, y: Tensor, seed: int) -> nn.Sequential:
    """Return a network whose hidden linear layer started with biases 1, so that no unit was dead from the start."""
    model = cnn(8, 10, channels=1, width=12, depth=2, hidden=32, seed=seed, dtype=x.dtype)
    nn.init.constant_(model.get_parameter("linear.bias"), 1.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    for _ in range(20):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
    return model


def _draw_layer(axis: Axes, row: int, layer: str, found: Marks) -> None:
    equal, scaled, near = map(cycle, (EQUAL, SCALED, NEAR))
    for _, units, scales in sorted(entry for entry in found.copies if entry[0] == layer):
        colour = next(equal if len(set(scales)) == 1 else scaled)
        for unit, scale in zip(units, scales, strict=True):
            _square(axis, unit, row, facecolor=colour, edgecolor="white")
            label = "" if len(set(scales)) == 1 else f"{scale:g}"
            axis.text(unit, row, label, ha="center", va="center", fontsize=6.5, color=style.BLACK)
    for _, units in sorted(entry for entry in found.near if entry[0] == layer):
        colour = next(near)
        for unit in units:
            _square(axis, unit, row, 0.72, facecolor=style.PALE, edgecolor=colour, linewidth=1.8)
    for _, unit, reason in (entry for entry in found.frozen if entry[0] == layer):
        _square(axis, unit, row, facecolor="white", edgecolor=style.BLACK, hatch=REASONS[reason], linewidth=0.5)


def _square(axis: Axes, x: float, y: float, side: float = 0.86, **look: Any) -> None:
    axis.add_patch(Rectangle((x - side / 2, y - side / 2), side, side, **look))


def _legend() -> list[Patch]:
    looks: dict[str, dict[str, Any]] = {
        "free": {"facecolor": style.PALE},
        "copies": {"facecolor": EQUAL[0]},
        "scaled copies, with their factors": {"facecolor": SCALED[0]},
        "near-clones": {"facecolor": style.PALE, "edgecolor": NEAR[0], "linewidth": 1.8},
    }
    frozen = {"facecolor": "white", "edgecolor": style.BLACK, "linewidth": 0.5}
    looks |= {label: frozen | {"hatch": REASONS[reason]} for reason, label in FROZEN.items()}
    return [Patch(label=label, **look) for label, look in looks.items()]
