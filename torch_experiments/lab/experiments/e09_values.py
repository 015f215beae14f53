"""Experiment 9 with values in place of policies: does deep Q-learning lose its plasticity, and by what?

CartPole with another offset of what is seen in every task, as in `e09_reinforcement`, for a plain agent and
remedies, each beside a fresh agent; then a world that stays as it is. Three questions of the literature besides:
a heavy start (many gradient steps on the first transitions: Nikishin et al. 2022, arXiv 2205.07802) and layers
that are drawn anew after it; units that are dormant with moving targets and with fixed ones (Sokar et al. 2023,
arXiv 2302.12902); the rank of features (Kumar et al. 2021, arXiv 2010.14498).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch_experiments.lab.rl import ValueConfig
from torch_experiments.lab.rl.configuration import Pairs

NAME = "e09-dqn"
TITLE = "agents (DQN) whose observations change: plain, remedies, heavy starts, moving and fixed targets, fresh"
SEEDS: Mapping[str, tuple[int, ...]] = {"quick": (0, 1), "full": tuple(range(10))}
PLAIN = ValueConfig(
    experiment="e09_dqn",
    environment="cartpole",
    stream="offset",
    stream_settings=(("sd", 1.0),),
    tasks=8,
    arch_settings=(("width", 32),),
    lr=3e-3,
    target_every=50,
)  # a task has 51,200 steps
QUICK = ("plain", "heavy start")
TASKS = 3  # of the quick profile
FRESH = "fresh"
REMEDIES: Mapping[str, Pairs] = {
    FRESH: (),
    "redo": (("every", 500), ("threshold", 0.1)),
    "optimizer-reset": (),
    "shrink-perturb": (("shrink", 0.3), ("perturb", 0.7)),
}
STATIONARY: Mapping[str, Any] = {"stream": "stationary", "stream_settings": ()}
HEAVY: Mapping[str, Any] = {"remedy": FRESH, "heavy": 3_000}  # every task is a start
CELLS: Mapping[str, Mapping[str, Any]] = {  # what differs from the plain agent
    "stationary": STATIONARY,
    "fresh, stationary": {**STATIONARY, "remedy": FRESH},
    "heavy start": HEAVY,
    "heavy start, last layer anew": {**HEAVY, "reset_every": 13},  # once, in the middle of a task
    "heavy start, all layers anew": {**HEAVY, "reset_every": 13, "reset_layers": 3},
    "fixed targets": {**STATIONARY, "remedy": FRESH, "fixed_targets": True},
}
SHOWN: Mapping[str, str] = {
    "return": "return",
    "mean_value": "value",
    "dead_fraction": "dead fraction",
    "dormant_fraction_0.1": "dormant fraction",
    "feature_srank": "rank of features",
}


def configs(profile: str, arch: str = "mlp", data: str | None = None) -> dict[str, ValueConfig]:
    """Return the configurations of the experiment by label; `fresh_of` says which fresh agent belongs to a cell.

    ``quick`` has a few cells of three tasks and takes a minute, ``full`` all cells of eight.

    Raises:
        ValueError: for another profile, network or data.
    """
    if profile not in SEEDS:
        raise ValueError(f"profile: got {profile!r}; {NAME} has {' and '.join(map(repr, SEEDS))}")
    if arch != "mlp":
        raise ValueError(f"arch: got {arch!r}; agents have 'mlp'")
    if data is not None:
        raise ValueError(f"data: {NAME} does not have it; leave out --data")
    given = {name: {"remedy": name, "remedy_settings": settings} for name, settings in REMEDIES.items()}
    changes: dict[str, Mapping[str, Any]] = {"plain": {}, **given, **CELLS}
    found = {name: dataclasses.replace(PLAIN, **change) for name, change in changes.items()}
    if profile == "quick":
        cells = {*QUICK, *map(fresh_of, QUICK)}
        return {name: dataclasses.replace(found[name], tasks=TASKS) for name in found if name in cells}
    return found


def fresh_of(label: str) -> str:
    """Return the label of the fresh agent that a cell is set against: one that sees the same tasks.

    >>> fresh_of("redo"), fresh_of("stationary")
    ('fresh', 'fresh, stationary')
    """
    return f"{FRESH}, stationary" if label in ("stationary", "fixed targets") else FRESH
