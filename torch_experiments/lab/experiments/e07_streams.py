"""Experiment 7: is plasticity lost in every stream, and do the same things help?

Pairs of classes (Continual ImageNet, Dohare et al. 2024), permuted pixels (Goodfellow 2013), random labels (Lyle et
al. 2022) and a warm start (Ash & Adams 2020), each for a plain network, one with layer norm, one pulled towards its
initial weights, and a fresh network for every task. For the warm start, what counts is the test accuracy after the
second task against that of a network which has never seen the first. Layer norm has its own fresh network.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch_experiments.lab.experiments import e02_symptoms
from torch_experiments.lab.training import Config, Settings

NAME = "e07"
TITLE = "pairs, permuted pixels, random labels, warm start: plain, layer norm, L2 towards the start, fresh"
SEEDS: Mapping[str, tuple[int, ...]] = {"quick": (0, 1, 2)}
STREAMS: Mapping[str, tuple[str, Settings]] = {
    "pairs": ("class_split", (("size", 2), ("disjoint", False), ("shared_head", True))),
    "permuted": ("permuted", ()),
    "random labels": ("random_labels", (("images", 500),)),
    "warm start": ("warm_start", (("share", 0.3),)),
}
WARM = "warm start"
ARMS = ("plain", "layer norm", "l2-init", "fresh")
FRESH_NORM = "fresh, layer norm"
STRENGTH = 3e-3  # of the pull
LENGTHS: Mapping[str, tuple[int, int]] = {
    "pairs": (16, 50),
    "permuted": (6, 100),
    "random labels": (15, 100),
    "warm start": (2, 300),
}  # tasks and steps of the quick profile


def configs(profile: str, arch: str = "mlp", data: str | None = None) -> dict[str, Config]:
    """Return a configuration a stream and arm, labelled by `label`; profiles as in `e02_symptoms`."""
    plain = e02_symptoms.base(profile, arch, data, experiment="e07_streams")
    if profile == "quick" and arch == "mlp":
        settings = (("width", 64), ("depth", 3))
        plain = dataclasses.replace(plain, arch_settings=settings, probe_train=200, probe_test=200)
    found: dict[str, Config] = {}
    for stream in STREAMS:
        cells = arms(_of_stream(plain, stream, profile == "quick"))
        found |= {label(stream, name): cell for name, cell in cells.items()}
    return found


def label(stream: str, arm: str) -> str:
    """Return the name of a cell."""
    return f"{stream}: {arm}"


def fresh_of(arm: str) -> str:
    """Return the fresh network that an arm is set against, which has the same norm."""
    return FRESH_NORM if arm == "layer norm" else "fresh"


def control(cell: str) -> str | None:
    """Return the label of the fresh network that a cell is set against, None of a fresh one.

    >>> control("pairs: layer norm"), control("pairs: fresh")
    ('pairs: fresh, layer norm', None)
    """
    stream, arm = cell.split(": ")
    return None if arm.startswith("fresh") else label(stream, fresh_of(arm))


def arms(plain: Config) -> dict[str, Config]:
    """Return what is done to the plain network."""
    fresh = dataclasses.replace(plain, remedy="fresh")
    return {
        "plain": plain,
        "layer norm": dataclasses.replace(plain, norm="layer"),
        "l2-init": dataclasses.replace(plain, remedy="l2-init", remedy_settings=(("strength", STRENGTH),)),
        "fresh": fresh,
        FRESH_NORM: dataclasses.replace(fresh, norm="layer"),
    }


def _of_stream(plain: Config, stream: str, quick: bool) -> Config:
    kind, settings = STREAMS[stream]
    tasks, steps = LENGTHS[stream] if quick else (2 if stream == WARM else plain.tasks, plain.steps)
    changes: dict[str, Any] = {"stream": kind, "stream_settings": settings, "tasks": tasks, "head": "keep"}
    return dataclasses.replace(plain, steps=steps, measure_every=steps, **changes)
