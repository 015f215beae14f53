"""Experiment 3: the same stream with batch norm, layer norm and dropout (JL25 figure 4.1).

Everything but the normalisation is as in experiment 2. Norms are with and without an affine map.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from torch_experiments.lab.experiments import e02_symptoms
from torch_experiments.lab.training import Config

NAME = "e03"
TITLE = "normalisation: none, batch, layer, with and without affine map, and dropout, over the tasks"
SEEDS: Mapping[str, tuple[int, ...]] = {"quick": (0,)}
TASKS = 15  # of the quick profile


def configs(profile: str, arch: str = "mlp", data: str | None = None) -> dict[str, Config]:
    """Return the configurations by label; profiles as in `e02_symptoms`, ``quick`` with fewer tasks."""
    plain = e02_symptoms.base(profile, arch, data, experiment="e03_normalisation")
    if profile == "quick":
        plain = dataclasses.replace(plain, tasks=TASKS)
    return {
        "none": plain,
        "batch": dataclasses.replace(plain, norm="batch", affine=False),
        "batch, affine": dataclasses.replace(plain, norm="batch"),
        "layer": dataclasses.replace(plain, norm="layer", affine=False),
        "layer, affine": dataclasses.replace(plain, norm="layer"),
        "dropout": dataclasses.replace(plain, dropout=0.1),
    }
