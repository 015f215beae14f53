"""Metrics by name, also those of a user."""

import pytest

from tests.torch_experiments.diagnostics.samples import measured, normal
from torch_experiments.diagnostics import METRICS, unit_metric
from torch_experiments.diagnostics.registry import chosen


def test_a_metric_of_ones_own_is_a_few_lines(monkeypatch):
    monkeypatch.setattr("torch_experiments.diagnostics.registry.METRICS", registered := dict(METRICS))

    @unit_metric("This test.")
    def largest_mean(s):
        return float((s.moments.total / s.moments.n).max())

    assert "largest_mean" in registered
    assert "largest_mean" not in METRICS
    z = normal(30, 4)
    assert measured(z)["largest_mean"] == pytest.approx(float(z.relu().mean(dim=0).max()))


def test_every_metric_has_a_source_and_a_docstring_and_full_is_fast_and_more():
    assert all(metric.source for metric in METRICS.values())
    assert set(chosen("fast")) < set(chosen("full")) == set(METRICS)
    assert {m.name for m in METRICS.values() if not m.fast} == set(chosen("full")) - set(chosen("fast"))
