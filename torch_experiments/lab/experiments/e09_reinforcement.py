"""Experiment 9: does an agent lose its plasticity, and by what? Proximal policy optimisation on streams of tasks.

CartPole with another offset of what is seen in every task, for a plain agent, for remedies, for other betas of Adam
and for tanh, with a fresh agent for every task beside each; then other streams, and Acrobot. Deep reinforcement
learning is where plasticity was seen to be lost: Dohare et al. (2024), Nature 632; Lyle et al. (2023), arXiv
2303.01486; Sokar et al. (2023), arXiv 2302.12902.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch_experiments.lab.rl import Config
from torch_experiments.lab.rl.configuration import Pairs

NAME = "e09"
TITLE = "agents (PPO) whose observations, rewards or physics change: plain, remedies, betas, tanh, fresh"
SEEDS: Mapping[str, tuple[int, ...]] = {"quick": (0, 1), "full": tuple(range(10))}
PLAIN = Config(
    experiment="e09_reinforcement",
    environment="cartpole",
    stream="offset",
    tasks=10,
    arch_settings=(("width", 16),),
    batch=512,
    epochs=8,
    lr=1e-2,
)  # a task has 51,200 steps
QUICK = ("plain", "shrink-perturb", "tanh")
TASKS = 4  # of the quick profile
FRESH = "fresh"
REMEDIES: Mapping[str, Pairs] = {
    FRESH: (),
    "l2-init": (("strength", 1e-2),),
    "redo": (("every", 200), ("threshold", 0.1)),
    "shrink-perturb": (("shrink", 0.3), ("perturb", 0.7)),
    "optimizer-reset": (),
}
ARMS: Mapping[str, Mapping[str, Any]] = {  # what differs from the plain agent, each with a fresh agent of its own
    "rate 0.003": {"lr": 3e-3},
    "tanh": {"activation": "tanh"},
    "equal betas": {"betas": (0.99, 0.99)},
    "entropy bonus": {"entropy": 0.01},
}
OTHERS: Mapping[str, Mapping[str, Any]] = {  # other streams, each with a fresh agent of its own
    "stationary": {"stream": "stationary"},
    "permuted": {"stream": "permuted"},
    "rewards": {"stream": "rewards"},
    "dynamics": {"stream": "dynamics"},
    "acrobot": {"environment": "acrobot"},
}
SHOWN: Mapping[str, str] = {
    "return": "return",
    "policy_entropy": "entropy",
    "largest_logit_gap": "largest logit gap",
    "dead_fraction": "dead fraction",
    "free_fraction": "free fraction",
    "roy_vetterli_rank_raw": "effective rank",
}


def configs(profile: str, arch: str = "mlp", data: str | None = None) -> dict[str, Config]:
    """Return the configurations of the experiment by label; `fresh_of` says which fresh agent belongs to a cell.

    ``quick`` has a few cells of four tasks and takes a minute, ``full`` all cells of ten.

    Raises:
        ValueError: for another profile, network or data.
    """
    if profile not in SEEDS:
        raise ValueError(f"profile: got {profile!r}; {NAME} has {' and '.join(map(repr, SEEDS))}")
    if arch != "mlp":
        raise ValueError(f"arch: got {arch!r}; agents have 'mlp'")
    if data is not None:
        raise ValueError(f"data: {NAME} does not have it; leave out --data")
    found = {"plain": PLAIN} | {name: _with(PLAIN, name) for name in REMEDIES}
    for name, changes in {**ARMS, **OTHERS}.items():
        found[name] = dataclasses.replace(PLAIN, **changes)
        found[fresh_of(name)] = _with(found[name], FRESH)
    if profile == "quick":
        cells = [*QUICK, *map(fresh_of, QUICK)]
        return {name: dataclasses.replace(found[name], tasks=TASKS) for name in found if name in cells}
    return found


def fresh_of(label: str) -> str:
    """Return the label of the fresh agent that a cell is set against: one with the same settings and tasks.

    >>> fresh_of("redo"), fresh_of("tanh")
    ('fresh', 'fresh, tanh')
    """
    return f"{FRESH}, {label}" if label in (*ARMS, *OTHERS) else FRESH


def _with(config: Config, remedy: str) -> Config:
    return dataclasses.replace(config, remedy=remedy, remedy_settings=REMEDIES[remedy])
