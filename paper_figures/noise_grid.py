"""How far clones part, by size and decay of noise and rate of dropout (claim E1; JL25, appendix)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from paper_figures.support import style
from paper_figures.support.captions import Check
from paper_figures.support.clones import DIRECTIONS
from paper_figures.support.results import RESULTS, Profile
from paper_figures.support.tables import Array, where
from torch_experiments.lab.experiments import e01_cloning
from torch_experiments.lab.experiments.e01_cloning import WHOLE, Config, Task
from torch_experiments.lab.report import series

NAME = "noise_grid"
TITLE = "score of cloning over size and decay of gradient noise, and over the rate of dropout"

SIGMAS = (0.01, 0.02, 0.05)
DECAYS = (0.0, 0.9, 0.99, 0.999, 1.0)
RATES = (0.01, 0.02, 0.05, 0.1, 0.2)
SETTINGS = (("width", 32), ("depth", 2))
CONFIGS: Mapping[Profile, Config] = {
    "quick": Config(arch_settings=SETTINGS, base_epochs=5, epochs=10, log_every=10, probe=200, seeds=(0,)),
    "full": Config(base_epochs=20, epochs=100, log_every=100, seeds=(0, 1, 2)),
}


def compute(profile: Profile, results: Path = RESULTS) -> pa.Table:
    """Return final scores; finished cells are read from `results`."""
    return measure(CONFIGS[profile], results)


def measure(config: Config, results: Path) -> pa.Table:
    """Return `sigma`, `decay`, `rate` and, by direction, the final score: mean over layers and seeds, so many."""
    task = e01_cloning.load_task(config)
    return pa.Table.from_pylist([_cell(changed, task, results) for changed in _cells(config)])


def introduction(data: pa.Table) -> str:
    """Return what is shown, and how it was found."""
    return (
        "One minus the explained-variance score of cloning, mean over layers, at the end of training a cloned "
        f"multilayer perceptron on 8×8 digits by SGD with momentum for {data['epochs'][0]} epochs (JL25, "
        "appendix): 0 for exact copies, 1 for independent units. Left and middle, noise in every entry of the "
        r"gradient, of size $\sigma_0 \lambda^t$ times the gradient's norm at step $t$: score of activations "
        "(forward) and of their gradients (backward). Right, dropout on hidden layers. "
        f"{series.counted(data['seeds'][0].as_py()).capitalize()}."
    )


def checks(data: pa.Table) -> list[Check]:
    """Return what the caption claims."""
    maps = [noise_map(data, direction) for direction in DIRECTIONS]
    strips = [dropout_strip(data, direction) for direction in DIRECTIONS]
    least = float(np.min([*np.concatenate(maps).flat, *np.concatenate(strips)]))
    lasting = float(np.min([m[:, -1] / m[:, 0] for m in maps]))
    stronger, more = (float(np.min([m[-1] / m[0] for m in part])) for part in (maps, strips))
    return [
        Check(f"Every noise and every dropout parts the copies: 1 − score is {least:.1g} at least.", least > 0),
        Check(
            "One noisy step is enough, but lasting noise parts them further: without decay 1 − score ends at "
            f"{lasting:.2g} times that of a single noisy step or more.",
            lasting > 1,
        ),
        Check(
            f"Five times the noise gives at least {stronger:.2g} times the departure, at every decay.", stronger > 1
        ),
        Check(f"Twenty times the rate of dropout gives at least {more:.2g} times the departure.", more > 1),
    ]


def draw(data: pa.Table) -> Figure:
    """Return two heat maps of noise and one of dropout, with one scale of colours."""
    figure = Figure(figsize=(style.PAGE, 1.9))
    axes = figure.subplots(1, 3, width_ratios=(5, 5, 2.4))
    strip = np.stack([dropout_strip(data, direction) for direction in DIRECTIONS], axis=1)
    maps = [noise_map(data, direction) for direction in DIRECTIONS]
    values = np.concatenate([m.ravel() for m in (*maps, strip)])
    norm, seeds = LogNorm(values.min(), values.max()), series.counted(data["seeds"][0].as_py())
    for axis, found, title in zip(axes, maps, ("noise: forward", "noise: backward"), strict=False):
        _heat(axis, found, norm, (r"decay $\lambda$", DECAYS), (r"size $\sigma_0$", SIGMAS))
        axis.set_title(f"{title}, {seeds}")
    image = _heat(axes[2], strip, norm, ("", ("forward", "backward")), ("rate", RATES))
    axes[2].set_title("dropout")
    figure.colorbar(image, ax=axes[2], label="1 − score", fraction=0.12)
    return figure


def noise_map(data: pa.Table, direction: str) -> Array:
    """Return `1 − score` `[sizes, decays]`."""
    rows = data.filter(pc.is_null(data["rate"])).sort_by([("sigma", "ascending"), ("decay", "ascending")])
    return 1 - rows[direction].to_numpy().reshape(len(SIGMAS), len(DECAYS))


def dropout_strip(data: pa.Table, direction: str) -> Array:
    """Return `1 − score` by rate of dropout, `[rates]`."""
    rows = data.filter(pc.is_valid(data["rate"])).sort_by("rate")
    return 1 - rows[direction].to_numpy()


def _cells(config: Config) -> Iterator[Config]:
    for sigma in SIGMAS:
        for decay in DECAYS:
            yield dataclasses.replace(config, sigma=sigma, decay=decay, regimes=("noisy-elementwise",))
    for rate in RATES:
        yield dataclasses.replace(config, dropout=rate, regimes=("dropout",))


def _cell(config: Config, task: Task, results: Path) -> dict[str, Any]:
    table = e01_cloning.run(config, results, task=task)
    place = {"network": "clone", "layer": WHOLE, "epoch": config.epochs}
    ends = {m: where(table, place | {"metric": m})["value"].to_numpy().mean() for m in DIRECTIONS}
    dropout = "dropout" in config.regimes
    noise = {"sigma": None, "decay": None} if dropout else {"sigma": config.sigma, "decay": config.decay}
    size = {"seeds": len(config.seeds), "epochs": config.epochs}
    return noise | {"rate": config.dropout if dropout else None} | size | ends


def _heat(
    axis: Axes,
    values: Array,
    norm: LogNorm,
    columns: tuple[str, tuple[Any, ...]],
    rows: tuple[str, tuple[Any, ...]],
) -> Any:
    image = axis.imshow(values, norm=norm, cmap="cividis", aspect="auto")
    middle = np.sqrt(norm.vmin * norm.vmax) if norm.vmin and norm.vmax else 0.0
    for (i, j), value in np.ndenumerate(values):
        colour = "white" if value < middle else "black"
        digit, exponent = f"{value:.0e}".split("e")
        axis.text(
            j,
            i,
            rf"${digit}\cdot 10^{{{int(exponent)}}}$",
            ha="center",
            va="center",
            color=colour,
            fontsize=style.SMALLEST,
        )
    axis.set_xticks(range(len(columns[1])), [f"{tick}" for tick in columns[1]])
    axis.set_yticks(range(len(rows[1])), [f"{tick}" for tick in rows[1]])
    axis.set(xlabel=columns[0], ylabel=rows[0])
    return image
