"""Experiment 11: what an early phase leaves behind, and what new classes do.

Pairs of classes for a small convolutional network and for a linear one, which cannot lose plasticity by its units
(Continual ImageNet, Dohare et al. 2024); more classes at every task, against networks that are trained anew on all
classes so far, the upper baseline (Dohare et al. 2024); a warm start on half of the images, with right and with
wrong labels (Ash & Adams 2020); labels that are noisy or wrong, or data that grow, before all is clean (Igl et al.
2021); and images that are blurred at first, for longer and longer (Achille et al. 2017).

Beside every case are fresh networks on its last tasks. What counts is the test accuracy at the end, so that it
shows where a network that fits its training images generalises less; of pairs it is the accuracy while learning.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch_experiments.lab.experiments import e02_symptoms
from torch_experiments.lab.experiments.e04_remedies import fresh_on_last, last_of
from torch_experiments.lab.experiments.e07_streams import STREAMS, label
from torch_experiments.lab.experiments.e10_amplifiers import fresh_of, small
from torch_experiments.lab.training import Config, Settings

NAME = "e11"
TITLE = "pairs, more classes, warm start, noisy and wrong labels, growing data, critical period; each against fresh"
SEEDS: Mapping[str, tuple[int, ...]] = {"quick": (0, 1, 2)}
PAIRS, CLASSES, WARM, TRANSIENT, CRITICAL = "pairs", "more classes", "warm start", "transient", "critical period"
BLURRED = (1, 2, 4, 8)  # tasks of the critical period
SHARP = 4  # tasks after them


@dataclass(frozen=True)
class Case:
    """A stream, and which of its tasks are judged.

    Attributes:
        stream, settings: of the configuration.
        tasks, steps: of the quick profile.
        last: on how many of the last tasks the fresh networks are trained.
        anew: whether these are new at every one of them, or go on as the network of the case does.
        changes: to the configuration.
    """

    stream: str
    settings: Settings
    tasks: int
    steps: int
    last: int = 1
    anew: bool = True
    changes: Mapping[str, Any] = field(default_factory=dict)


CONV: Mapping[str, Any] = {"arch": "cnn", "head": "zero", "optimizer": "sgd", "lr": 0.01}
LINEAR: Mapping[str, Any] = {**CONV, "head": "keep", "arch": "mlp", "arch_settings": (("depth", 0),)}
SIZES: Mapping[str, Settings] = {
    "quick": (("width", 8), ("depth", 2), ("hidden", 64)),
    "others": (("width", 32), ("depth", 3), ("hidden", 128)),
}  # of the convolutional network: three blocks as Dohare et al. have, and one hidden layer instead of two
NORM: Mapping[str, Any] = {"norm": "layer"}
HALF: Settings = (("share", 0.5),)
CASES: Mapping[str, Case] = {
    label(PAIRS, "conv net"): Case(*STREAMS["pairs"], 30, 50, 15, changes=CONV),
    label(PAIRS, "linear"): Case(*STREAMS["pairs"], 30, 50, 15, changes=LINEAR),
    label(CLASSES, "plain"): Case("class_incremental", (("size", 2),), 5, 200, 3),
    label(CLASSES, "layer norm"): Case("class_incremental", (("size", 2),), 5, 200, 3, changes=NORM),
    label(WARM, "right labels"): Case("warm_start", HALF, 2, 400),
    label(WARM, "wrong labels"): Case("warm_start", (*HALF, ("wrong", True)), 2, 400),
    label(TRANSIENT, "noisy labels"): Case("label_noise", (*HALF, ("drawn", "step")), 2, 400),
    label(TRANSIENT, "wrong labels"): Case("label_noise", (*HALF, ("drawn", "once")), 2, 400),
    label(TRANSIENT, "growing data"): Case("warm_start", (("share", 0.1), ("growing", 4)), 5, 100),
    **{
        label(CRITICAL, f"blurred {n}"): Case("blurred_start", (("blurred", n),), n + SHARP, 100, SHARP, anew=False)
        for n in BLURRED
    },
}
MANY: Mapping[str, Settings] = {"class_incremental": (("size", 5),)}  # of 200 classes


def configs(profile: str, arch: str = "mlp", data: str | None = None) -> dict[str, Config]:
    """Return every case and the fresh networks beside it, labelled by `fresh_of`; profiles as in `e02_symptoms`.

    Beyond ``quick`` a stream of classes has as many tasks as there, and each task as many steps.
    """
    plain = e02_symptoms.base(profile, arch, data, experiment="e11_transients", head="keep")
    cells = {name: _of_case(plain, case, profile == "quick") for name, case in CASES.items()}
    return cells | {fresh_of(name): _fresh(cells[name], case) for name, case in CASES.items()}


def _of_case(plain: Config, case: Case, quick: bool) -> Config:
    settings = case.settings if quick else MANY.get(case.stream, case.settings)
    long = not quick and case.stream in ("class_split", "class_incremental")
    tasks, steps = plain.tasks if long else case.tasks, case.steps if quick else plain.steps
    streams: dict[str, Any] = {"stream": case.stream, "stream_settings": settings, "tasks": tasks, "steps": steps}
    changes = {**streams, "measure_every": steps, **case.changes}
    if changes.get("arch") == "cnn":
        changes["arch_settings"] = SIZES["quick" if quick else "others"]
    return dataclasses.replace(small(plain) if quick else plain, **changes)


def _fresh(config: Config, case: Case) -> Config:
    """Return the fresh networks on the last tasks of a case, which see what its network sees there."""
    return (fresh_on_last if case.anew else last_of)(config, min(case.last, config.tasks))
