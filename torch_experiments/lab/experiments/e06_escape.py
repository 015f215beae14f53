"""Experiment 6: escaping, and then? (the second open question of JL25)

A network starts on a cloned manifold, every hidden unit twice, and is trained on one fixed task. Then it stays
(``trapped``), or the out-weights of its clones are split (`remedies.escape`), which keeps its function, or noise on
the gradients parts them. Is what it finds then as good as what a network of the same width finds from scratch, in
the same number of steps, and better than the trapped one? ``narrow`` is the network that was cloned.

The "tasks" of the stream are stretches of training on the same images; the escape is at the start of the second.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch_experiments.lab.experiments import e02_symptoms
from torch_experiments.lab.training import Config

NAME = "e06"
TITLE = "after an escape from a cloned manifold: loss and test accuracy against training from scratch"
SEEDS: Mapping[str, tuple[int, ...]] = {"quick": (0, 1, 2)}
BASES: Mapping[str, Mapping[str, Any]] = {
    "mlp": {"width": 64},
    "cnn": {"width": 32, "hidden": 256},
    "resnet18": {"width": 32},
    "vit": {"width": 192, "heads": 3},
}
SMALL: Mapping[str, Mapping[str, Any]] = {
    "mlp": {"width": 8, "depth": 2},
    "cnn": {"width": 4, "depth": 2, "hidden": 16},
    "resnet18": {"width": 4, "stages": (1, 1)},
    "vit": {"patch": 2, "width": 16, "depth": 2, "heads": 1},
}
WIDENED = ("width", "hidden", "heads")
STRETCHES = 10  # the escape is after the first; nine tenths of the steps are left to gain from it


def configs(profile: str, arch: str = "mlp", data: str | None = None) -> dict[str, Config]:
    """Return the arms of the comparison.

    ``quick`` learns the digits with a network so narrow that width decides the loss, in stretches of 150 steps;
    the other profiles learn all classes of ``data`` in stretches of 500, 2,000 or 10,000 steps.
    """
    plain = e02_symptoms.base(profile, arch, data, experiment="e06_escape")
    stretches: dict[str, Any] = {
        "tasks": STRETCHES,
        "head": "keep",
        "stream": "label_noise",
        "stream_settings": (("noisy", 0),),
    }
    plain = dataclasses.replace(plain, **stretches)
    if profile == "quick":
        plain = dataclasses.replace(plain, steps=150, measure_every=150)
    return arms(plain, (SMALL if profile == "quick" else BASES)[arch])


def arms(plain: Config, narrow: Mapping[str, Any]) -> dict[str, Config]:
    """Return the arms for a narrow network with these settings and its clone of twice the width."""
    cloned = dataclasses.replace(plain, arch_settings=(*narrow.items(), ("clones", 2)))
    wide = tuple({name: value * (1 + (name in WIDENED)) for name, value in narrow.items()}.items())
    return {
        "narrow": dataclasses.replace(plain, arch_settings=tuple(narrow.items())),
        "trapped": cloned,
        "split": dataclasses.replace(cloned, remedy="escape", remedy_settings=(("dead", False),)),
        "noise": dataclasses.replace(cloned, remedy="noise", remedy_settings=(("sigma", 0.1),)),
        "scratch": dataclasses.replace(plain, arch_settings=wide),
    }
