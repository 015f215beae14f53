"""Experiment 4: remedies, against the plain network and against a fresh network for every task.

The fresh network is the probe of trainability (Lyle et al. 2022): a remedy keeps plasticity when a task is learnt
as well as by a network that has seen none before. Strengths are the settings of this file, tuned on nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from torch_experiments.lab.experiments import e02_symptoms
from torch_experiments.lab.training import Config, Settings

NAME = "e04"
TITLE = "remedies against a fresh network for every task: accuracy while learning, over the tasks"
SEEDS: Mapping[str, tuple[int, ...]] = {"quick": (0,)}
TASKS = 10  # of the quick profile
FRESH = "fresh"
SETTINGS: Mapping[str, Settings] = {
    "none": (),
    FRESH: (),
    "l2": (("strength", 1e-3),),
    "l2-init": (("strength", 1e-3),),
    "shrink-perturb": (("shrink", 0.4), ("perturb", 0.1)),
    "noise": (("sigma", 0.1),),
    "optimizer-reset": (),
    "redo": (("every", 50), ("threshold", 0.025)),
    "cbp": (("rate", 1e-3), ("maturity", 50)),
    "snr": (("eta", 0.01), ("least", 100), ("second_moments", "mean")),
    "weight-clipping": (("kappa", 2.0),),
    "spectral": (("strength", 1e-3),),
    "parseval": (("strength", 1e-3),),
    "syre": (("strength", 1e-3),),
    "escape": (),
    "recovery": (),
}
VARIANTS: Mapping[str, tuple[str, Settings]] = {
    f"{name}-mean": (name, (*SETTINGS[name], ("second_moments", "mean"))) for name in ("redo", "cbp")
}


def configs(profile: str, arch: str = "mlp", data: str | None = None) -> dict[str, Config]:
    """Return a configuration a remedy, a variant and a norm; profiles as in `e02_symptoms`, ``quick`` with fewer
    tasks. Variants replace units as the remedies do, but leave them the mean of the second moments. A norm has a
    fresh network of its own, labelled by `fresh_of`.
    """
    plain = e02_symptoms.base(profile, arch, data, experiment="e04_remedies")
    if profile == "quick":
        plain = dataclasses.replace(plain, tasks=TASKS)
    cells = {name: (name, settings) for name, settings in SETTINGS.items()} | dict(VARIANTS)
    found = {label: dataclasses.replace(plain, remedy=r, remedy_settings=s) for label, (r, s) in cells.items()}
    norms = {f"{norm}-norm": dataclasses.replace(plain, norm=norm) for norm in ("layer", "batch")}
    probes = {fresh_of(label): dataclasses.replace(norm, remedy=FRESH) for label, norm in norms.items()}
    return found | norms | probes


def fresh_on_last(config: Config, tasks: int) -> Config:
    """Return fresh networks on the last tasks of a configuration; they see what its network sees there.

    >>> found = fresh_on_last(Config(tasks=5, first=1), 2)
    >>> found.first, found.tasks, found.remedy
    (4, 2, 'fresh')
    """
    return dataclasses.replace(last_of(config, tasks), remedy=FRESH, remedy_settings=())


def last_of(config: Config, tasks: int) -> Config:
    """Return a configuration of so many of the last tasks alone.

    >>> last_of(Config(tasks=5), 2).first
    3
    """
    return dataclasses.replace(config, first=config.first + config.tasks - tasks, tasks=tasks)


def fresh_of(label: str) -> str:
    """Return the label of the fresh network that a cell is set against, which has the same norm."""
    return f"{FRESH}, {label}" if label.endswith("-norm") else FRESH
