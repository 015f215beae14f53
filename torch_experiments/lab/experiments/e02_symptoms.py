"""Experiment 2: the symptoms of loss of plasticity, without normalisation (JL25 figure 3.1).

A network learns one task after the other with one optimizer. The profile ``quick`` takes scikit-learn's digits with
random labels, new ones for every task, since a small network learns the digits themselves too easily to lose
anything; the others are JL25's setting on Tiny ImageNet: 40 tasks of 5 classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch_experiments.lab.training import Config
from torch_experiments.support.choices import choose

NAME = "e02"
TITLE = "symptoms of loss of plasticity: accuracy, dead and duplicate units, rank, over the tasks"
SEEDS: Mapping[str, tuple[int, ...]] = {"quick": (0, 1, 2)}
STEPS: Mapping[str, int] = {"text": 500, "medium": 2_000, "paper": 10_000}
RATES: Mapping[str, float] = {"vit": 1e-4}
SMALL: Mapping[str, Mapping[str, Any]] = {
    "mlp": {},
    "cnn": {"width": 8, "depth": 2, "hidden": 64},
    "resnet18": {"width": 8, "stages": (1, 1)},
    "vit": {"patch": 2, "width": 32, "depth": 2, "heads": 2},
}


def configs(profile: str, arch: str = "mlp", data: str | None = None) -> dict[str, Config]:
    """Return the configurations of the experiment by label.

    ``quick`` runs on the digits in about a minute with the MLP. In the other profiles a task has 500, 2,000 or
    10,000 steps of batch 128, which are 25, 100 and 500 epochs of JL25's 2,500 images.
    """
    return {"none": base(profile, arch, data, experiment="e02_symptoms")}


def base(profile: str, arch: str, data: str | None = None, **changes: Any) -> Config:
    """Return the plain setting that experiments 2 to 4 share.

    Raises:
        ValueError: for an unknown profile or network, or without ``data`` where the profile needs Tiny ImageNet.
    """
    choose("arch", arch, SMALL)
    if profile == "quick":
        return dataclasses.replace(_quick(arch), data=data or "digits", **changes)
    if profile not in STEPS:
        raise ValueError(f"profile: got {profile!r}; allowed are 'quick', {', '.join(map(repr, STEPS))}")
    if data is None:
        raise ValueError(f"data: the profile {profile!r} needs Tiny ImageNet: --data FOLDER, see `lop data info`")
    return dataclasses.replace(_published(arch), data=data, steps=STEPS[profile], **changes)


def _quick(arch: str) -> Config:
    return Config(
        stream="random_labels",
        stream_settings=(("images", 500),),
        tasks=40,
        steps=200,
        head="keep",
        lr=3e-3 if arch != "vit" else 1e-3,
        arch=arch,
        arch_settings=tuple(SMALL[arch].items()),
        measure_every=200,
    )


def _published(arch: str) -> Config:
    return Config(
        stream="class_split",
        stream_settings=(("size", 5),),
        tasks=40,
        arch=arch,
        lr=RATES.get(arch, 1e-3),
        padding=8,
        flip=True,
        jitter=0.1,
        measure_every=100,
        trapped=True,
    )
