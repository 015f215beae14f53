"""From trapped to free: the function-preserving escape (E2) on a cloned and on a dying network."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from paper_figures.support import style
from paper_figures.support.captions import Check
from paper_figures.support.results import RESULTS, Profile
from paper_figures.support.tables import Array
from torch_experiments import Recovery, certify, clone, remedies
from torch_experiments.lab.images import pixels
from torch_experiments.lab.models import mlp
from torch_experiments.lab.quotient import base_rates
from torch_experiments.remedies import Action

NAME = "freed"
TITLE = "trapped by clones or dead units, then free: an escape that does not change the loss"
SAME, UNCHANGED = 1e-9, 1e-12  # rounding that grows over the steps; rounding of one loss
BELOW = 0.9  # of the trapped loss: less is a fall


@dataclass(frozen=True)
class Config:
    """Training before the trap, in it, and after the escape, in steps of gradient descent on all samples."""

    width: int = 4
    factor: int = 4
    dead: int = 12
    before: int = 1000
    trapped: int = 500
    after: int = 1500
    lr: float = 0.1
    samples: int = 500
    seed: int = 0


CONFIGS: Mapping[Profile, Config] = {"quick": Config(), "full": Config(after=4000)}


@dataclass(frozen=True)
class Course:
    """Losses from the moment of the trap on, without and with an escape, and what the escape did.

    Attributes:
        left, freed: losses before each step; equal up to the escape.
        escape: number of steps before it.
        free: share of the parameters that are free, just before and just after it.
        action: loss before and after, change of the function, units touched.
    """

    left: Array
    freed: Array
    escape: int
    free: tuple[float, float]
    action: Action


@dataclass(frozen=True)
class Data:
    """The course of a cloned network beside its base's losses, and the course of one with dead units."""

    clones: Course
    base: Array
    dead: Course


def compute(profile: Profile, results: Path = RESULTS) -> Data:
    """Return the courses; they take seconds, so nothing is kept."""
    return measure(CONFIGS[profile])


def measure(config: Config) -> Data:
    """Train a network on digits, trap it by cloning or by silencing units, and set it free."""
    images = pixels.load("digits").floats(torch.float64)
    x, y = images.train_x[: config.samples], images.train_y[: config.samples]
    base = mlp(64, 10, width=config.width, depth=1, seed=config.seed, dtype=torch.float64)
    descend(base, sgd(base, config), x, y, config.before)
    clones = course(clone(base, config.factor), config, x, y)
    rates = base_rates(base, config.factor, config.lr)
    alone = descend(base, torch.optim.SGD(rates), x, y, config.trapped + config.after)
    return Data(clones, alone, course(dying(config, x, y), config, x, y))


def introduction(data: Data) -> str:
    """Return what is shown, and how it was found."""
    return (
        "Loss of networks with one hidden layer on digits under gradient descent, float64. Left: a trained network "
        "was cloned; its base has the same loss, at the rates that belong to it (claim C7). Right: most units of a "
        "trained network have died. At the dotted line a copy of the network escapes (E2): out-weights of clones "
        "are split with zero sums, dead units are drawn again with zero out-weights."
    )


def checks(data: Data) -> list[Check]:
    """Return what the caption claims."""
    off = float(np.max(np.abs(data.clones.left / data.base - 1)))
    jump = max(_jump(course) for course in (data.clones, data.dead))
    ends = [float(course.freed[-1] / course.left[-1]) for course in (data.clones, data.dead)]
    free = [course.free for course in (data.clones, data.dead)]
    return [
        Check(
            f"The trapped clone has the loss of its base at every step, to {off:.0e}.",
            off <= SAME,
        ),
        Check(f"The escapes change the loss by {jump:.0e} of its value or less.", jump <= UNCHANGED),
        Check(
            f"Then it falls: it ends at {ends[0]:.2g} of the trapped clone's loss, and at {ends[1]:.2g} of that of "
            "the network that keeps its dead units.",
            all(end <= BELOW for end in ends),
        ),
        Check(
            "By the certificate an escape raises the free share of the parameters from "
            + " and from ".join(f"{before:.0%} to {after:.0%}" for before, after in free)
            + ".",
            all(before < after == 1 for before, after in free),
        ),
    ]


def draw(data: Data) -> Figure:
    """Return a panel for clones and one for dead units."""
    figure = Figure(figsize=(style.PAGE, 2.1))
    left, right = figure.subplots(1, 2)
    left.plot(data.base, color=style.SKY, linewidth=3.5, label="base of the clone")
    _draw(left, data.clones)
    _draw(right, data.dead)
    left.set(title="every unit four times", ylabel="training loss")
    right.set_title("three quarters of the units dead")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def course(model: nn.Sequential, config: Config, x: Tensor, y: Tensor) -> Course:
    """Train a trapped network on; set a copy of it free on the way."""
    shared = descend(model, sgd(model, config), x, y, config.trapped)
    other = copy.deepcopy(model)
    optimizer = sgd(other, config)
    before = certify(other, x, parts=["frozen"])
    escape = remedies.Escape().on(other, optimizer, example_inputs=x, loss=partial(loss_of, other, x, y))
    (action,) = Recovery(None, escape).consult(before)
    after = certify(other, x, parts=["frozen"])
    freed = descend(other, optimizer, x, y, config.after)
    left = descend(model, sgd(model, config), x, y, config.after)
    losses = (np.concatenate([shared, left]), np.concatenate([shared, freed]))
    return Course(*losses, config.trapped, (before.unheld_fraction, after.unheld_fraction), action)


def dying(config: Config, x: Tensor, y: Tensor) -> nn.Sequential:
    """Return a trained network as wide as the clone, the first units of which then died: silent on all samples."""
    width = config.width * config.factor
    model = mlp(64, 10, width=width, depth=1, seed=config.seed, dtype=torch.float64)
    descend(model, sgd(model, config), x, y, config.before)
    with torch.no_grad():
        z = model[:2](x)[:, : config.dead]
        model.get_parameter("linear1.bias")[: config.dead] -= z.amax(dim=0) + 1
    return model


def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return the mean cross entropy."""
    return cross_entropy(model(x), y)


def sgd(model: nn.Module, config: Config) -> torch.optim.SGD:
    """Return plain SGD."""
    return torch.optim.SGD(model.parameters(), lr=config.lr)


def descend(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, steps: int) -> Array:
    """Take steps of gradient descent on all samples and return the losses before each, `[steps]`."""
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of(model, x, y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses)


def _jump(course: Course) -> float:
    return abs(course.action.loss_after / course.action.loss_before - 1)


def _draw(axis: Axes, course: Course) -> None:
    axis.plot(course.left, color=style.BLUE, linewidth=1.2, label="trapped")
    steps = np.arange(len(course.freed))
    after = steps >= course.escape
    axis.plot(steps[after], course.freed[after], color=style.VERMILION, linewidth=1.2, label="after the escape")
    axis.axvline(course.escape, color=style.GREY, linestyle=":", linewidth=0.8, label="escape")
    axis.set(xlabel="steps", yscale="log")
