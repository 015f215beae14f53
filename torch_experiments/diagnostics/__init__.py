"""Diagnostics of any network: `diagnose` and its metrics, and `PlasticityMonitor` for training."""

from torch_experiments.diagnostics.adapters import as_lightning_callback, as_trainer_callback
from torch_experiments.diagnostics.alarms import DEFAULT_ALARMS, Alarm, Overfitting, Raised
from torch_experiments.diagnostics.attending import attention_of
from torch_experiments.diagnostics.measurement import diagnose
from torch_experiments.diagnostics.monitor import PlasticityAlarm, PlasticityMonitor
from torch_experiments.diagnostics.registry import (
    METRICS,
    Metric,
    attention_metric,
    network_metric,
    parameter_metric,
    unit_metric,
)
from torch_experiments.diagnostics.result import About, Diagnosis
from torch_experiments.metrics.statistics import Statistics

__all__ = [
    "DEFAULT_ALARMS",
    "METRICS",
    "About",
    "Alarm",
    "Diagnosis",
    "Metric",
    "Overfitting",
    "PlasticityAlarm",
    "PlasticityMonitor",
    "Raised",
    "Statistics",
    "as_lightning_callback",
    "as_trainer_callback",
    "attention_metric",
    "attention_of",
    "diagnose",
    "network_metric",
    "parameter_metric",
    "unit_metric",
]
