"""Measures of units, layers and networks, each formula once: how dead, how cloned, how low in rank.

`activity` says which units are dead, dormant, saturated or linear, `copies` how much copies are alike, `spectra`
which rank activations have, `parameters` how large parameters and gradients are. `moments` and `statistics` are the
sums over values that they read; `layers` are those of a network. `diagnostics` reports them under their names.
`simulate.unit_metrics` has its own few in NumPy, since it may not import torch; tests compare both.
"""

from torch_experiments.metrics.activity import (
    dead,
    dormant,
    flat,
    jl25_saturated,
    linearity,
    nearly_silent,
    saturated,
    share,
    shift,
    sign_entropy,
    still,
)
from torch_experiments.metrics.copies import CloningScore, cloning_score, jl25_cloning_r2
from torch_experiments.metrics.layers import activations, backward_scores, forward_scores, gather, observed
from torch_experiments.metrics.moments import (
    Moments,
    dead_fraction,
    duplicate_fraction,
    later_duplicate_fraction,
    measure,
    nearly_silent_fraction,
)
from torch_experiments.metrics.parameters import gradient_cosine, gradient_diversity, norm
from torch_experiments.metrics.spectra import (
    RANKS,
    hard_rank,
    log_renyi2_rank,
    quadrature_rank,
    renyi2_rank,
    roy_vetterli_rank,
    shannon_rank,
    singular_values,
    spectrum,
    srank,
    stable_rank,
)
from torch_experiments.metrics.statistics import Statistics

__all__ = [
    "RANKS",
    "CloningScore",
    "Moments",
    "Statistics",
    "activations",
    "backward_scores",
    "cloning_score",
    "dead",
    "dead_fraction",
    "dormant",
    "duplicate_fraction",
    "flat",
    "forward_scores",
    "gather",
    "gradient_cosine",
    "gradient_diversity",
    "hard_rank",
    "jl25_cloning_r2",
    "jl25_saturated",
    "later_duplicate_fraction",
    "linearity",
    "log_renyi2_rank",
    "measure",
    "nearly_silent",
    "nearly_silent_fraction",
    "norm",
    "observed",
    "quadrature_rank",
    "renyi2_rank",
    "roy_vetterli_rank",
    "saturated",
    "shannon_rank",
    "share",
    "shift",
    "sign_entropy",
    "singular_values",
    "spectrum",
    "srank",
    "stable_rank",
    "still",
]
