"""Diagnostics of any network: `diagnose` and its metrics."""

from torch_experiments.diagnostics.registry import METRICS, Metric, network_metric, parameter_metric, unit_metric
from torch_experiments.diagnostics.result import About, Diagnosis
from torch_experiments.diagnostics.run import diagnose
from torch_experiments.diagnostics.statistics import Statistics

__all__ = [
    "METRICS",
    "About",
    "Diagnosis",
    "Metric",
    "Statistics",
    "diagnose",
    "network_metric",
    "parameter_metric",
    "unit_metric",
]
