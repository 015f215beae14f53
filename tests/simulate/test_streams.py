"""Slowly changing regression: what changes when, and when a threshold unit fires."""

import numpy as np
import pytest

from simulate import streams
from simulate.streams import Stream


def test_a_task_holds_the_slow_bits_and_runs_through_all_fast_ones():
    stream, slow = Stream(), np.arange(15) % 2.0
    task = streams.task(stream, streams.target(stream, 0), slow, 0, 3)
    assert task.inputs.shape == (32, 20)
    assert len(np.unique(task.inputs, axis=0)) == 32
    assert np.all(task.inputs[:, :15] == slow)
    counts = np.bincount(task.order, minlength=32)
    assert counts.sum() == stream.hold
    assert np.sum((counts - stream.hold / 32) ** 2) / (stream.hold / 32) < 80  # χ² with 31 degrees of freedom


def test_one_bit_flips_or_all_are_drawn_anew():
    for kind, least, most in (("flip-one", 1, 1), ("redraw", 7, 8)):
        bits = streams.slow_bits(Stream(kind), 0, 400)
        changed = np.abs(np.diff(bits, axis=0)).sum(axis=1)
        assert least <= changed.mean() <= most
        assert (changed == 1).all() == (kind == "flip-one")
        assert set(np.unique(bits)) == {0.0, 1.0}


@pytest.mark.parametrize("kind", ["flip-one", "redraw"])
def test_more_tasks_go_on_from_fewer(kind):
    few, many = (streams.slow_bits(Stream(kind), 5, tasks) for tasks in (20, 50))
    assert np.array_equal(few, many[:20])


@pytest.mark.parametrize(("threshold", "needed"), [("paper", {1: 14, -1: 15}), ("code", {1: 14, -1: 17})])
def test_a_unit_fires_when_enough_bits_agree_with_its_weights(threshold, needed):
    stream = Stream(threshold=threshold)
    network = streams.target(stream, 1)
    x = np.random.default_rng(0).integers(0, 2, (2000, 20)).astype(float)
    for w, b, theta in zip(network.weights, network.offsets, network.thresholds, strict=True):
        agreeing = np.where(w > 0, x, 1 - x).sum(axis=1)
        assert np.array_equal(x @ w + b > theta, agreeing >= needed[int(b)])


def test_the_two_thresholds_make_different_targets():
    x = np.random.default_rng(0).integers(0, 2, (2000, 20)).astype(float)
    paper, code = (streams.respond(streams.target(Stream(threshold=t), 1), x) for t in ("paper", "code"))
    assert np.mean(paper != code) > 0.3


def test_the_target_sums_the_units_that_fire():
    network = streams.target(Stream(), 2)
    x = np.random.default_rng(0).integers(0, 2, 20).astype(float)
    y = network.bias
    for i in range(100):
        if sum(network.weights[i, j] * x[j] for j in range(20)) + network.offsets[i] > network.thresholds[i]:
            y += network.outgoing[i]
    assert streams.respond(network, x[None])[0] == y


def test_seeds_and_tasks_differ_and_repeat():
    stream = Stream()
    network = streams.target(stream, 0)
    orders = [streams.task(stream, network, np.zeros(15), s, j).order for s, j in ((0, 0), (0, 1), (1, 0), (0, 0))]
    assert np.array_equal(orders[0], orders[3])
    assert all(np.mean(orders[0] == other) < 0.1 for other in orders[1:3])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "flip"}, "kind: got 'flip'; choose from redraw, flip-one"),
        ({"threshold": "x"}, "threshold"),
        ({"bits": 0}, "bits: got 0"),
        ({"hold": -1}, "hold: got -1"),
        ({"slow": 21}, "slow: got 21 of 20"),
        ({"slow": 2}, "slow: got 2 of 20"),
    ],
)
def test_bad_streams_are_refused(change, said):
    with pytest.raises(ValueError, match=said):
        Stream(**change)
