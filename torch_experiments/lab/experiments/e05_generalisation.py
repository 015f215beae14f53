"""Experiment 5: do networks that keep rank, or that generalise, keep plasticity?

Rank and test accuracy at the end of a task against the learning of the next one, over width, decay and label noise;
then an intervention: the rank is held up by a bonus in the loss (`remedies.RankBonus`) or by layer norm, with
everything else as it was. Where the rank is a cause, learning follows it; where it is a symptom, it need not.
Learning is counted against a fresh network of the same width and label noise, which has the same task to learn.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from itertools import product
from typing import Any

from torch_experiments.lab.experiments import e02_symptoms
from torch_experiments.lab.training import Config

NAME = "e05"
TITLE = "rank and test accuracy of a task against learning of the next; the rank held up artificially"
SEEDS: Mapping[str, tuple[int, ...]] = {"quick": (0, 1, 2)}
WIDTHS: Mapping[str, tuple[int, int]] = {"mlp": (64, 128), "cnn": (32, 64), "resnet18": (32, 64), "vit": (192, 384)}
SMALL: Mapping[str, tuple[int, int]] = {"mlp": (32, 96), "cnn": (4, 8), "resnet18": (4, 8), "vit": (16, 32)}
DECAYS = (0.0, 1e-3)
NOISES = (0.0, 0.5)
TASKS = 6  # of the quick profile
STRENGTH = 0.05  # of the bonus on the rank


def configs(profile: str, arch: str = "mlp", data: str | None = None) -> dict[str, Config]:
    """Return the grid, a fresh network for each width and noise, and the interventions at the larger width.

    ``quick`` permutes the pixels of the digits, the other profiles (as in `e02_symptoms`) split classes.
    """
    plain = base(profile, arch, data)
    widths = (SMALL if profile == "quick" else WIDTHS)[arch]
    found = {grid(*place): _changed(plain, *place) for place in product(widths, DECAYS, NOISES)}
    for width, noise in product(widths, NOISES):
        found[fresh(width, noise)] = dataclasses.replace(_changed(plain, width, 0.0, noise), remedy="fresh")
    for noise in NOISES:
        held = _changed(plain, widths[-1], 0.0, noise)
        settings = (("strength", STRENGTH), ("images", 50))
        found[f"rank bonus, noise {noise}"] = dataclasses.replace(held, remedy="rank", remedy_settings=settings)
        found[f"layer norm, noise {noise}"] = dataclasses.replace(held, norm="layer")
    return found


def grid(width: int, decay: float, noise: float) -> str:
    """Return the label of a cell of the grid."""
    return f"width {width}, decay {decay:g}, noise {noise}"


def fresh(width: int, noise: float) -> str:
    """Return the label of the fresh networks."""
    return f"fresh, width {width}, noise {noise}"


def fresh_of(label: str) -> str | None:
    """Return the label of the fresh networks that a cell is set against; None of these and of layer norm.

    >>> fresh_of("width 32, decay 0.001, noise 0.5"), fresh_of("rank bonus, noise 0.0")
    ('fresh, width 32, noise 0.5', 'fresh, width 96, noise 0.0')
    """
    places = {grid(*place): (place[0], place[2]) for place in product(SMALL["mlp"], DECAYS, NOISES)}
    places |= {f"rank bonus, noise {noise}": (SMALL["mlp"][-1], noise) for noise in NOISES}
    return fresh(*places[label]) if label in places else None


def base(profile: str, arch: str, data: str | None) -> Config:
    """Return what all cells share; raises as `e02_symptoms.base`."""
    plain = e02_symptoms.base(profile, arch, data, experiment="e05_generalisation")
    if profile != "quick":
        return plain
    own = (("depth", 3),) if arch == "mlp" else plain.arch_settings
    small: dict[str, Any] = {
        "stream": "permuted",
        "stream_settings": (),
        "arch_settings": own,
        "tasks": TASKS,
        "steps": 100,
    }
    return dataclasses.replace(plain, lr=1e-2, measure_every=100, probe_train=200, probe_test=200, **small)


def _changed(plain: Config, width: int, decay: float, noise: float) -> Config:
    settings = tuple((dict(plain.arch_settings) | {"width": width}).items())
    streams = tuple((dict(plain.stream_settings) | {"noise": noise}).items())
    decayed: dict[str, Any] = {"remedy": "l2", "remedy_settings": (("strength", decay),)} if decay else {}
    return dataclasses.replace(plain, arch_settings=settings, stream_settings=streams, **decayed)
