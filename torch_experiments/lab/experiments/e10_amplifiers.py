"""Experiment 10: what makes a network lose more, and what less: optimizers, activations, norms and dropout.

The same images get new random labels at every task (Lyle et al. 2022), or in one arm the old ones again, under
which few units fall dormant (Sokar et al. 2023). How well labels of later tasks are fitted is the capacity left.
Every arm changes one thing, and has fresh networks with the same change for the later tasks beside it: what is lost
is what it lags behind them. Adam's default betas forget large second moments slowly, which equal betas do not
(Dohare et al. 2023); CReLU never silences both halves of a unit (Abbas et al. 2023).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch_experiments.lab.experiments import e02_symptoms
from torch_experiments.lab.experiments.e04_remedies import FRESH, fresh_on_last
from torch_experiments.lab.training import Config

NAME = "e10"
TITLE = "optimizers, activations, norms and dropout, each against fresh networks: what loses more, what less"
SEEDS: Mapping[str, tuple[int, ...]] = {"quick": (0, 1, 2)}
PLAIN, FIXED = "plain", "fixed labels"
ARMS: Mapping[str, Mapping[str, Any]] = {
    PLAIN: {},
    FIXED: {"stream_settings": (("images", 500), ("moving", False))},
    "equal betas 0.9": {"betas": (0.9, 0.9)},
    "equal betas 0.95": {"betas": (0.95, 0.95)},
    "adamw": {"optimizer": "adamw"},
    "rmsprop": {"optimizer": "rmsprop"},
    "muon": {"optimizer": "muon"},
    "sgd": {"optimizer": "sgd"},
    "layer norm": {"norm": "layer"},
    "batch norm": {"norm": "batch"},
    "dropout": {"dropout": 0.1},
    "leaky relu": {"activation": "leaky_relu"},
    "tanh": {"activation": "tanh"},
    "crelu": {"activation": "crelu"},
}
RATES: Mapping[str, float] = {"sgd": 10.0}  # times Adam's


def configs(profile: str, arch: str = "mlp", data: str | None = None) -> dict[str, Config]:
    """Return every arm with its fresh network; profiles as in `e02_symptoms`, ``quick`` with smaller networks.

    What an arm does not change is ReLU without norm, under Adam with its default betas (0.9, 0.999).
    """
    plain = e02_symptoms.base(profile, arch, data, experiment="e10_amplifiers")
    if profile == "quick":
        plain = small(dataclasses.replace(plain, tasks=16, steps=100, measure_every=100))
    return with_fresh({name: _changed(plain, name, changes) for name, changes in ARMS.items()})


def small(plain: Config) -> Config:
    """Return a configuration with three narrow layers, if it is one of an MLP, and fewer images to measure on."""
    settings = (("width", 64), ("depth", 3)) if plain.arch == "mlp" else plain.arch_settings
    return dataclasses.replace(plain, arch_settings=settings, probe_train=200, probe_test=200)


def with_fresh(cells: Mapping[str, Config]) -> dict[str, Config]:
    """Return the cells, and for each one fresh networks for every task of its second half, otherwise alike.

    >>> [(label, config.first, config.tasks) for label, config in with_fresh({"plain": Config(tasks=5)}).items()]
    [('plain', 0, 5), ('fresh, plain', 2, 3)]
    """
    fresh = {fresh_of(label): fresh_on_last(config, -(-config.tasks // 2)) for label, config in cells.items()}
    return {**cells, **fresh}


def fresh_of(label: str) -> str:
    """Return the label of the fresh network that a cell is set against.

    >>> fresh_of("tanh")
    'fresh, tanh'
    """
    return f"{FRESH}, {label}"


def _changed(plain: Config, name: str, changes: Mapping[str, Any]) -> Config:
    return dataclasses.replace(plain, **{"lr": plain.lr * RATES.get(name, 1.0), **changes})
