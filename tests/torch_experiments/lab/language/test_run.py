"""Runs on text: they resume bit for bit, learn, and measure what they say; what cannot be run is named."""

import dataclasses
import os
import signal
import subprocess
import sys

import pytest
import torch

from tests.torch_experiments.lab.training.settings import to_the_end
from torch_experiments.lab.language import Config, Run, load, run
from torch_experiments.lab.training import Diverged, checkpoints, keeping

TEXT = load("sample")
TINY = Config(
    tasks=3,
    steps=6,
    batch=4,
    context=8,
    measure_every=4,
    probe_train=4,
    probe_test=4,
    arch_settings=(("depth", 1), ("heads", 2), ("width", 8)),
    lr=1e-2,
)
KILLED = """
import os, signal, sys, torch
torch.set_num_threads(1)
from tests.torch_experiments.lab.language.test_run import TINY
from torch_experiments.lab.language import run
done = []
def progress(steps):
    done.append(steps)
    if sum(done) == 9:
        os.kill(os.getpid(), signal.SIGKILL)
run(TINY, [3], sys.argv[1], progress=progress, checkpoint_every=0)
"""


def values(found, metric, layer=0):
    """Return the values of a metric by task and step."""
    return {(r["task"], r["step"]): r["value"] for r in found if (r["metric"], r["layer"]) == (metric, layer)}


def test_a_killed_run_goes_on_bit_for_bit(tmp_path):
    killed = subprocess.run([sys.executable, "-c", KILLED, tmp_path], cwd=os.getcwd(), check=False)
    assert killed.returncode == -signal.SIGKILL
    found, expected = Run(TINY, [3], TEXT), to_the_end(Run(TINY, [3], TEXT))
    checkpoint = checkpoints.latest(keeping.folder_of(found, tmp_path), keeping.about(found))
    assert checkpoint.step == 8
    keeping.restore(found, checkpoint)
    weights, rows = to_the_end(found)
    assert rows == expected[1]
    assert all(torch.equal(weights[name], expected[0][name]) for name in expected[0])
    (record,) = run(TINY, [3], tmp_path)
    assert record.table.to_pylist() == rows[0]


@pytest.mark.parametrize("remedy", ["fresh", "l2-init", "redo", "shrink-perturb", "optimizer-reset"])
@pytest.mark.parametrize("stream", ["alphabet", "domains"])
def test_every_case_resumes_bit_for_bit(remedy, stream, tmp_path):
    config = dataclasses.replace(TINY, remedy=remedy, stream=stream, every=2, dropout=0.1)
    expected = to_the_end(Run(config, [1], TEXT))
    started = Run(config, [1], TEXT)
    with started.precisely():
        for _ in range(8):
            started.advance()
    keeping.save(started, tmp_path)
    found = Run(config, [1], TEXT)
    keeping.restore(found, checkpoints.latest(tmp_path, keeping.about(found)))
    weights, rows = to_the_end(found)
    assert str(rows) == str(expected[1])
    assert all(torch.equal(weights[name], expected[0][name]) for name in expected[0])


def test_a_network_learns_and_both_ends_are_measured():
    config = dataclasses.replace(TINY, tasks=1, steps=60, measure_every=60)
    rows = to_the_end(Run(config, [0], TEXT))[1][0]
    assert values(rows, "online_loss")[0, 60] < 4.1
    assert values(rows, "test_loss")[0, 60] < 3.7
    names = {row["metric"] for row in rows}
    assert {"dead_fraction", "free_fraction", "attention_entropy", "value_rank", "test_accuracy"} <= names
    assert {row["layer"] for row in rows if row["metric"] == "dead_fraction"} == {0, 1}


def test_the_fresh_network_beside_a_run_sees_some_of_its_tasks():
    beside = Run(dataclasses.replace(TINY, remedy="fresh", every=2, tasks=2), [0], TEXT)
    whole = Run(TINY, [0], TEXT)
    beside.feed.enter(1)
    whole.feed.enter(2)
    assert torch.equal(beside.feed.tasks[0].read, whole.feed.tasks[0].read)
    whole.feed.enter(1)
    assert not torch.equal(beside.feed.tasks[0].read, whole.feed.tasks[0].read)
    first = [to_the_end(found)[1][0] for found in (beside, Run(TINY, [0], TEXT))]
    assert values(first[0], "test_loss")[0, 6] == values(first[1], "test_loss")[0, 6]


def test_seeds_are_not_trained_at_once():
    with pytest.raises(ValueError, match="stack: character models are trained seed by seed; leave out --stack"):
        run(TINY, [0, 1], stack=True)


def test_a_loss_that_is_no_number_ends_the_run_by_name(tmp_path):
    config = dataclasses.replace(TINY, norm="none", lr=1e30)
    with pytest.raises(Diverged, match=r"loss: (nan|inf) at step \d of task 0, seed 0, first in .*a smaller lr"):
        run(config, [0], tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"context": 5000},
            "data: task 0 .alphabet 0. has 42601 characters to learn and 4732 held out",
        ),
        ({"context": 2000, "stream": "domains"}, "held out; with a context of 2000"),
        ({"stream_settings": (("pairs", 99),)}, "pairs: got 99; allowed are None and 1 to"),
        ({"stream_settings": (("swaps", 1),)}, "stream_settings: .*swaps.*stream 'alphabet'"),
    ],
)
def test_what_a_text_cannot_give_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        Run(dataclasses.replace(TINY, **changes), [0], TEXT)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stream": "genres"}, "stream: got 'genres'; allowed are 'alphabet', 'labels', 'domains'"),
        ({"arch": "vit"}, "arch: got 'vit'; allowed are 'gpt', 'gpt2'"),
        ({"norm": "batch"}, "norm: got 'batch'; allowed are 'none', 'layer'"),
        ({"lr": float("inf")}, "lr: got inf"),
        ({"every": 0}, "every: got 0; it has to be at least 1"),
        ({"free_every": -1}, "free_every: got -1"),
        ({"arch_settings": (("stages", 2),)}, "arch_settings: got 'stages'; allowed are 'width'"),
        ({"remedy": "luck"}, "remedy: got 'luck'"),
    ],
)
def test_settings_that_cannot_be_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **changes)
