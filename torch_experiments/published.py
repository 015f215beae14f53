"""Numbers read off the vector graphics of JL25's figures, for comparison with runs of this project.

By its code the published network is trained for 500 epochs a task, which are 10,000 steps, accuracy is taken over
all 200 outputs, units are measured on a batch of one class, and the score of cloning is a ratio of standard
deviations that gives even independent units more than 0. Cells are named as in `e03_normalisation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Ends(NamedTuple):
    """The first and the last value of a curve over the tasks."""

    first: float
    last: float


class Bar(NamedTuple):
    """A mean over the tasks with its interval over seeds."""

    value: float
    low: float
    high: float


PLAIN: Mapping[str, Mapping[str, Ends]] = {  # JL25 figure 3.1: no normalisation, no dropout
    "mlp": {
        "online_accuracy": Ends(0.884, 0.389),
        "dead_fraction": Ends(0.198, 0.529),
        "roy_vetterli_rank_raw": Ends(54.7, 24.9),
    },
    "cnn": {
        "online_accuracy": Ends(0.976, 0.991),
        "dead_fraction": Ends(0.549, 0.690),
        "duplicate_fraction": Ends(0.0066, 0.0033),
        "roy_vetterli_rank_raw": Ends(55.4, 34.3),
    },
    "resnet18": {
        "online_accuracy": Ends(0.957, 0.993),
        "dead_fraction": Ends(0.556, 0.747),
        "duplicate_fraction": Ends(0.0086, 0.0152),
        "roy_vetterli_rank_raw": Ends(68.3, 60.8),
    },
    "vit": {
        "online_accuracy": Ends(0.946, 0.091),
        "dead_fraction": Ends(0.0, 0.0),
        "duplicate_fraction": Ends(0.010, 0.937),
        "roy_vetterli_rank_raw": Ends(130.6, 2.3),
    },
}

RANK: Mapping[str, Mapping[str, Ends]] = {  # JL25 figure 3.2: effective rank by norm
    "mlp": {
        "none": Ends(54.7, 24.9),
        "batch": Ends(62.7, 70.6),
        "batch, affine": Ends(63.8, 66.8),
        "layer": Ends(56.6, 65.9),
        "layer, affine": Ends(59.8, 67.0),
    },
    "cnn": {
        "none": Ends(55.4, 34.3),
        "batch": Ends(64.0, 71.5),
        "batch, affine": Ends(72.9, 93.9),
        "layer": Ends(55.1, 49.7),
        "layer, affine": Ends(65.1, 88.0),
    },
    "vit": {
        "none": Ends(130.6, 2.3),
        "batch": Ends(129.9, 90.9),
        "batch, affine": Ends(130.8, 99.2),
        "layer, affine": Ends(154.3, 103.1),
    },
}

MLP_BARS: Mapping[str, Mapping[str, Bar]] = {  # means over the tasks, by norm; dropout without norm
    "dead_fraction": {
        "none": Bar(0.4286, 0.4188, 0.4383),
        "batch": Bar(0.00011, 0.00011, 0.00011),
        "batch, affine": Bar(0.00084, 0.00052, 0.00117),
        "layer": Bar(0.0037, 0.0027, 0.0046),
        "layer, affine": Bar(0.0281, 0.0233, 0.0328),
        "dropout": Bar(0.4846, 0.4745, 0.4948),
    },
    "duplicate_fraction": {
        "none": Bar(0.0163, 0.0139, 0.0187),
        "batch": Bar(0.00095, 0.00021, 0.00168),
        "batch, affine": Bar(0.0011, 0.0003, 0.0019),
        "layer": Bar(0.0012, 0.0006, 0.0018),
        "layer, affine": Bar(0.0015, 0.0007, 0.0023),
        "dropout": Bar(0.0297, 0.0264, 0.0329),
    },
    "roy_vetterli_rank_raw": {
        "none": Bar(38.72, 38.41, 39.04),
        "batch": Bar(70.09, 69.86, 70.32),
        "batch, affine": Bar(68.32, 68.09, 68.55),
        "layer": Bar(65.39, 65.05, 65.74),
        "layer, affine": Bar(68.44, 67.80, 69.07),
        "dropout": Bar(41.76, 40.97, 42.55),
    },
    "online_accuracy": {
        "none": Bar(0.7271, 0.6835, 0.7708),
        "batch": Bar(0.9435, 0.9422, 0.9447),
        "batch, affine": Bar(0.9460, 0.9440, 0.9480),
        "layer": Bar(0.9585, 0.9576, 0.9593),
        "layer, affine": Bar(0.9642, 0.9632, 0.9652),
        "dropout": Bar(0.6964, 0.6934, 0.6994),
    },
}

CLONING_SCORE: Mapping[str, Mapping[str, float]] = {  # JL25's own R², after 500 epochs
    "mlp": {"momentum": 1.0, "adam": 1.0, "noisy-elementwise": 0.446, "dropout": 0.529},
    "cnn": {"momentum": 1.0, "noisy-elementwise": 0.682, "dropout": 0.951},
    "resnet18": {"momentum": 1.0, "noisy-elementwise": 0.760, "dropout": 0.975},
    "vit": {"momentum": 1.0, "adam": 1.0, "noisy-elementwise": 0.550, "dropout": 0.726},
}


class Losses(NamedTuple):
    """Training losses at the end."""

    clone: float
    base: float


CLONING_LOSS: Mapping[str, Mapping[str, Losses]] = {  # after 500 epochs
    "mlp": {
        "momentum": Losses(0.762, 0.763),
        "adam": Losses(0.849, 0.837),
        "noisy-elementwise": Losses(0.239, 0.756),
        "dropout": Losses(0.903, 1.196),
    },
    "cnn": {
        "momentum": Losses(0.0031, 0.0039),
        "noisy-elementwise": Losses(0.0021, 0.0032),
        "dropout": Losses(0.0051, 0.0080),
    },
    "resnet18": {
        "momentum": Losses(0.00098, 0.00048),
        "noisy-elementwise": Losses(0.00048, 0.00057),
        "dropout": Losses(0.00087, 0.00049),
    },
    "vit": {
        "momentum": Losses(0.0065, 0.0055),
        "adam": Losses(2.103, 2.008),
        "noisy-elementwise": Losses(0.0061, 0.0054),
        "dropout": Losses(0.0121, 0.0191),
    },
}
