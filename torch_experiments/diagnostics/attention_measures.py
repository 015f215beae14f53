"""The metrics of the heads of an attention that `diagnose` reports, from their `metrics.attention.Heads`."""

from __future__ import annotations

import torch

from torch_experiments.diagnostics.registry import attention_metric
from torch_experiments.metrics import moments, spectra
from torch_experiments.metrics.activity import share
from torch_experiments.metrics.attention import Heads

ENTROPY = "Zhai et al. (2023), arXiv 2303.06296, as a share of its maximum"
OWN = "Own definition"


@attention_metric(ENTROPY)
def attention_entropy(heads: Heads) -> float:
    """Return the mean over heads of ``H(softmax)/ln(visible keys)``: 1 looks at all keys alike, 0 at one alone."""
    return float(heads.entropy.nanmean())


@attention_metric(ENTROPY)
def lowest_attention_entropy(heads: Heads) -> float:
    """Return `attention_entropy` of the head that has the least."""
    return float(heads.entropy.nan_to_num(torch.inf).min())


@attention_metric(f"{OWN}, after dormant units (Sokar et al. 2023), with heads for units")
def idle_head_fraction(heads: Heads) -> float:
    """Return the share of heads whose output has at most 0.025 of the mean head's length; 1 if all are 0."""
    return share(heads.idle)


@attention_metric(f"{OWN}: correlation of what two heads return, at least 0.95 in absolute value")
def duplicate_head_fraction(heads: Heads) -> float:
    """Return the share of heads with a partner that returns the same up to scale and a constant."""
    return share(heads.duplicate)


@attention_metric("Roy & Vetterli (2007), of the values before they are weighed")
def value_rank(heads: Heads) -> float:
    """Return the effective rank of the value features of all heads together, raw; at most their number."""
    return spectra.RANKS["roy_vetterli_rank"](heads.values.spectrum(centred=False))


@attention_metric(f"{OWN}: `dead_fraction` of the value features")
def dead_value_fraction(heads: Heads) -> float:
    """Return the share of value features that are exactly 0 for every key of every sample."""
    return moments.dead_fraction(heads.values)


@attention_metric(f"{OWN}: `duplicate_fraction` of the value features")
def duplicate_value_fraction(heads: Heads) -> float:
    """Return the share of value features with a partner of correlation 0.95 or more in absolute value."""
    return moments.duplicate_fraction(heads.values)
