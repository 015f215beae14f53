"""Experiment 9: does an agent lose its plasticity, and by what? Proximal policy optimisation on streams of tasks.

CartPole with another offset of what is seen in every task, for a plain agent, for remedies, for other betas of Adam
and for tanh, with a fresh agent for every task beside each; then other streams, and Acrobot. The profiles ``ant``
and ``paper`` have MuJoCo's Ant, whose friction changes with every task or stays, scaled down and as published. Deep
reinforcement learning is where plasticity was seen to be lost: Dohare et al. (2024), Nature 632; Lyle et al.
(2023), arXiv 2303.01486; Sokar et al. (2023), arXiv 2302.12902.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch_experiments.lab.rl import Config
from torch_experiments.lab.rl.configuration import Pairs

NAME = "e09"
TITLE = "agents (PPO) whose observations, rewards or physics change: plain, remedies, betas, tanh, fresh"
SEEDS: Mapping[str, tuple[int, ...]] = {
    "quick": (0, 1),
    "full": tuple(range(10)),
    "ant": tuple(range(5)),
    "paper": tuple(range(100)),  # as many as its figure has
}
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
ANT = Config(  # needs MuJoCo
    experiment="e09_reinforcement",
    environment="ant",
    stream="friction",
    tasks=4,
    steps=16,
    copies=8,
    horizon=128,
    batch=256,
    epochs=10,
    lr=1e-2,
    episodes=4,
)  # a task has 16,384 steps, where the paper's has two million
# Slippery Ant of Dohare et al. (2024), by the files sant/std.yml and ant/std.yml of their code; where ours differs
# is on the page
PAPER = dataclasses.replace(
    ANT,
    tasks=10,
    steps=977,  # of 2,048 steps: the first number of them with two million
    copies=1,
    horizon=2048,
    batch=128,
    lr=1e-4,
    value=1.0,
    max_norm=1e9,
    arch_settings=(("width", 256),),
    measure_every=100,
    episodes=64,
)
ANTS: Mapping[str, Mapping[str, Any]] = {"ant": {}, "ant, stationary": {"stream": "stationary"}}
LONGER = 5  # times as long is the stationary training of the paper, 100 million steps
SHOWN: Mapping[str, str] = {
    "return": "return",
    "policy_entropy": "entropy",
    "largest_logit_gap": "largest logit gap",
    "action_deviation": "deviation of actions",
    "dead_fraction": "dead fraction",
    "free_fraction": "free fraction",
    "roy_vetterli_rank_raw": "effective rank",
}


def configs(profile: str, arch: str = "mlp", data: str | None = None) -> dict[str, Config]:
    """Return the configurations of the experiment by label; `fresh_of` says which fresh agent belongs to a cell.

    ``quick`` has a few cells of four tasks and takes a minute, ``full`` all cells of ten. ``ant`` has the cells of
    MuJoCo's Ant and takes some ten minutes of one core, ``paper`` has them as published and takes days of many.

    Raises:
        ValueError: for another profile, network or data.
    """
    if profile not in SEEDS:
        raise ValueError(f"profile: got {profile!r}; {NAME} has {', '.join(map(repr, SEEDS))}")
    if arch != "mlp":
        raise ValueError(f"arch: got {arch!r}; agents have 'mlp'")
    if data is not None:
        raise ValueError(f"data: {NAME} does not have it; leave out --data")
    if profile in ("ant", "paper"):
        return _ants(profile)
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
    return f"{FRESH}, {label}" if label in (*ARMS, *OTHERS, *ANTS) else FRESH


def _ants(profile: str) -> dict[str, Config]:
    found: dict[str, Config] = {}
    for name, changes in ANTS.items():
        found[name] = dataclasses.replace(PAPER if profile == "paper" else ANT, **changes)
        if profile == "paper" and name == "ant, stationary":
            found[name] = dataclasses.replace(found[name], tasks=LONGER * PAPER.tasks)
        found[fresh_of(name)] = _with(found[name], FRESH)
    return found


def _with(config: Config, remedy: str) -> Config:
    return dataclasses.replace(config, remedy=remedy, remedy_settings=REMEDIES[remedy])
