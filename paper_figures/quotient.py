"""The losses of a clone and of its base trained at the quotient's rates (claim C7), on scikit-learn's digits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from matplotlib.figure import Figure
from torch import Tensor

from paper_figures.support import style
from paper_figures.support.captions import Check
from paper_figures.support.results import RESULTS, Profile, code_of, remembered
from paper_figures.support.tables import Array
from torch_experiments.cloning import exact
from torch_experiments.lab import models, quotient
from torch_experiments.lab.experiments import e01_cloning

NAME = "quotient"
TITLE = "a clone learns like its base at rescaled rates; at equal rates the two part"
SAME, APART = 1e-9, 1e-2  # rounding that grows over the steps stays below, other rates are far above


@dataclass(frozen=True)
class Config:
    """What determines the curves: the network, the copies of a unit, plain SGD in float64."""

    width: int = 128
    depth: int = 5
    factor: int = 2
    lr: float = 0.1
    batch: int = 128
    steps: int = 600
    seed: int = 0


CONFIGS: Mapping[Profile, Config] = {"quick": Config(), "full": Config(steps=1200)}


def compute(profile: Profile, results: Path = RESULTS) -> pa.Table:
    """Return the loss of every batch before its step, columns `clone`, `rescaled` and `equal`."""
    return measure(CONFIGS[profile], results)


def measure(config: Config, results: Path) -> pa.Table:
    """Return the curves of `config`, from `results` where they are."""
    task = e01_cloning.load_task(e01_cloning.Config(dtype="float64"))
    about = {
        "experiment": "figure_quotient",
        "data": task.fingerprint,
        "code": code_of(quotient, exact, models),
        **asdict(config),
    }
    return remembered(results, about, lambda: _curves(config, task))


def introduction(data: pa.Table) -> str:
    """Return what is shown, and how it was found."""
    return (
        f"Quotient dynamics. Top: training loss over {data.num_rows} steps of SGD on batches of 8×8 digits, "
        "float64, of a network whose hidden units are all doubled (clone), and of the network with one unit in "
        "place of two (base), started at the same function and given the same batches. Bottom: relative "
        "difference of the losses of base and clone."
    )


def checks(data: pa.Table) -> list[Check]:
    """Return what the caption claims."""
    same, apart = relative_difference(data, "rescaled").max(), relative_difference(data, "equal").max()
    learnt = data["clone"].to_numpy()
    return [
        Check(
            "With rates multiplied by n_j/n_i (block sizes of source and target) the base repeats the clone "
            f"step by step: the losses differ by at most {same:.0e}, relatively, which is rounding.",
            bool(same <= SAME),
        ),
        Check(f"With the clone's own rates it does not: they differ by up to {apart:.1f}.", bool(apart >= APART)),
        Check(
            f"Both learn: the loss falls from {learnt[0]:.2f} to {learnt[-1]:.2g}.", bool(learnt[-1] < learnt[0])
        ),
    ]


def relative_difference(data: pa.Table, base: str) -> Array:
    """Return `|base − clone| / clone` at every step, `[steps]`."""
    clone = data["clone"].to_numpy()
    return np.abs(data[base].to_numpy() - clone) / clone


def draw(data: pa.Table) -> Figure:
    """Return two panels, losses and relative differences."""
    figure = Figure(figsize=(style.WIDTH, 3.2))
    losses, differences = figure.subplots(2, 1, sharex=True)
    losses.plot(data["clone"], color=style.SKY, linewidth=3.5, label="clone")
    losses.plot(data["rescaled"], color=style.BLACK, linewidth=0.7, label="base, rescaled rates")
    losses.plot(data["equal"], color=style.VERMILION, linewidth=0.7, label="base, equal rates")
    differences.semilogy(_floored(relative_difference(data, "rescaled")), color=style.BLACK, linewidth=0.7)
    differences.semilogy(_floored(relative_difference(data, "equal")), color=style.VERMILION, linewidth=0.7)
    losses.legend(loc="upper right")
    losses.set_ylabel("loss of the batch")
    differences.set(xlabel="step", ylabel="relative difference", ylim=(3e-17, 30))
    return figure


def _floored(difference: Array) -> Array:
    """Return differences with zeros raised to the unit roundoff, so that a logarithmic axis shows them."""
    return np.maximum(difference, np.finfo(np.float64).eps / 2)


def _curves(config: Config, task: e01_cloning.Task) -> pa.Table:
    inputs = task.train.x[0].numel()
    base = models.mlp(
        inputs, task.classes, width=config.width, depth=config.depth, seed=config.seed, dtype=torch.float64
    )
    batches = _batches(config, task)
    rescaled, clone = quotient.loss_curves(base, batches, factor=config.factor, lr=config.lr)
    equal, _ = quotient.loss_curves(base, batches, factor=config.factor, lr=config.lr, rates="uniform")
    return pa.table({"clone": clone.numpy(), "rescaled": rescaled.numpy(), "equal": equal.numpy()})


def _batches(config: Config, task: e01_cloning.Task) -> list[tuple[Tensor, Tensor]]:
    order = torch.Generator().manual_seed(config.seed)
    chosen = [torch.randint(len(task.train.y), (config.batch,), generator=order) for _ in range(config.steps)]
    return [(task.train.x[index], task.train.y[index]) for index in chosen]
