"""Runs of slowly changing regression: reproducible, resumable to the bit, and clear about bad input."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from simulate import bit_flipping, learner_reference
from simulate.bit_flipping import Config, run
from simulate.streams import Stream
from tests.flips import refused

ROOT = Path(__file__).parents[2]
SMALL = Config("cbp", hidden=4, steps=20_000, seeds=(0, 1, 2), bin=4_000)


def equal(one, other):
    same = all(np.array_equal(one.metrics[name], other.metrics[name], equal_nan=True) for name in one.metrics)
    return same and np.array_equal(one.loss, other.loss) and one.config == other.config


def test_threads_and_company_change_nothing():
    alone = run(dataclasses.replace(SMALL, seeds=(1,)), threads=1)
    one, two = run(SMALL, threads=1), run(SMALL, threads=2)
    assert equal(one, two)
    assert np.array_equal(alone.loss[0], one.loss[1])
    assert len(np.unique(one.loss[:, -1])) == 3


def test_a_longer_run_goes_on_from_a_shorter_one():
    longer = run(dataclasses.replace(SMALL, steps=40_000))
    assert np.array_equal(run(SMALL).loss, longer.loss[:, :5])


def test_bins_do_not_change_the_dynamics():
    """But for rounding: at the end of a bin, what plain SGD has kept together is added to the weights."""
    fine = run(dataclasses.replace(SMALL, bin=500))
    np.testing.assert_allclose(fine.loss.reshape(3, 5, 8).mean(axis=2), run(SMALL).loss, rtol=1e-12)
    np.testing.assert_allclose(fine.metrics["weight_norm"][:, 7::8], run(SMALL).metrics["weight_norm"], rtol=1e-12)


def test_the_losses_are_those_of_the_reference():
    found = run(dataclasses.replace(SMALL, seeds=(2,), steps=8_000))
    config = dataclasses.replace(SMALL, steps=8_000)
    state = bit_flipping.begun(config).states[2]
    seen = bit_flipping.world(config, 2)
    rows = bit_flipping.advanced(config, 2, seen, state, range(2), learner_reference.advance)
    np.testing.assert_allclose(found.loss[0], [mean for mean, _ in rows], rtol=1e-10)


KILLED = """
import sys
from simulate import bit_flipping
from simulate.streams import Stream
bit_flipping.BETWEEN_SAVES, bit_flipping.AT_ONCE = 0, 10_000
bit_flipping.run(bit_flipping.Config("cbp", 5, 2_000_000, (0, 1), 10_000), sys.argv[1], threads=1)
"""


def test_a_run_that_was_killed_goes_on_to_the_same_numbers(tmp_path):
    config, file = Config("cbp", 5, 2_000_000, (0, 1), 10_000), tmp_path / "run.npz"
    partial = tmp_path / "run.npz.partial"
    process = subprocess.Popen([sys.executable, "-c", KILLED, file], env={**os.environ, "PYTHONPATH": str(ROOT)})
    deadline = time.monotonic() + 60
    while not partial.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert partial.exists()
    assert not file.exists()
    done = bit_flipping._resumed(config, partial).done
    assert 0 < done < 200
    resumed = run(config, file)
    assert not partial.exists()
    assert equal(resumed, run(config))
    assert equal(resumed, bit_flipping.load(file, config))


def test_a_finished_run_is_read(tmp_path, monkeypatch):
    first = run(SMALL, tmp_path / "run.npz")
    monkeypatch.setattr(bit_flipping, "begun", lambda config: pytest.fail("computed again"))
    again = run(SMALL, tmp_path / "run.npz")
    assert equal(first, again)
    assert again.environment["numba"]


def test_a_file_of_another_config_or_of_something_else_is_refused(tmp_path):
    run(SMALL, tmp_path / "run.npz")
    with pytest.raises(ValueError, match=r"another configuration: hidden = 4"):
        run(dataclasses.replace(SMALL, hidden=5), tmp_path / "run.npz")
    bit_flipping._keep(tmp_path / "half.npz.partial", SMALL, bit_flipping.begun(SMALL))
    with pytest.raises(ValueError, match=r"another configuration: seeds = \[0, 1, 2\]"):
        run(dataclasses.replace(SMALL, seeds=(4,)), tmp_path / "half.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(ValueError, match="is no result of this project"):
        run(SMALL, tmp_path / "text.npz")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hidden": -5}, "hidden: got -5; it has to be at least 1"),
        ({"steps": 0}, "steps: got 0"),
        ({"bin": 3_000}, "bin: 3000 does not divide the 20000 steps"),
        ({"bin": 0}, "bin: got 0"),
        ({"learner": "cbpp"}, "'cbpp' is unknown; did you mean cbp"),
        ({"seeds": ()}, "seeds"),
        ({"seeds": (1, 1)}, "seeds"),
        ({"seeds": (-1,)}, "seeds"),
    ],
)
def test_bad_configs_are_refused(change, said):
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(SMALL, **change)


def test_bad_threads_are_refused():
    with pytest.raises(ValueError, match="threads: got 0"):
        run(SMALL, threads=0)


def test_a_rate_too_large_gives_nan_and_no_crash():
    wild = dataclasses.replace(bit_flipping.learners.named("sgd"), rate=10.0)
    found = run(Config(wild, hidden=4, steps=4_000, seeds=(0,), bin=2_000))
    assert not np.isfinite(found.loss[0, -1])


def test_plasticity_is_lost_and_kept_as_published():
    """Dohare et al. (2024): plain SGD ends above the linear learner, continual backprop far below."""
    ends = {}
    for learner in ("sgd", "cbp", "linear"):
        result = run(Config(learner, 5, 600_000, range(4), 20_000, Stream()))
        ends[learner] = result.end().mean()
    assert ends["cbp"] < 0.8 * ends["linear"] < ends["linear"] < ends["sgd"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seeds": 5}, "seeds: got 5"),
        ({"seeds": [1.5]}, r"seeds: got \[1\.5\]"),
        ({"steps": 1e4}, "steps: got 10000.0; it has to be an integer"),
        ({"hidden": 2.5}, "hidden: got 2.5"),
        ({"stream": "redraw"}, "give a Stream"),
    ],
)
def test_settings_of_a_wrong_kind_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        Config(**settings)


@pytest.mark.parametrize("content", [b"PK\x03\x04 cut short", b"", b"plain text"])
def test_damaged_files_are_named(tmp_path, content):
    file = tmp_path / "run.npz"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="no result of this project, or damaged"):
        bit_flipping.load(file)


def test_no_flipped_bit_changes_a_result(tmp_path):
    config, file = dataclasses.replace(SMALL, seeds=(0,)), tmp_path / "run.npz"
    found = run(config, file)
    assert refused(file, lambda: bit_flipping.load(file), lambda read: equal(read, found)) > 150
    assert equal(bit_flipping.load(file), found)


def test_no_flipped_bit_changes_an_unfinished_run(tmp_path):
    begun, file = bit_flipping.begun(SMALL), tmp_path / "run.npz.partial"
    bit_flipping._keep(file, SMALL, begun)

    def same(read):
        pairs = [pair for two in zip(read.states, begun.states, strict=True) for pair in zip(*two, strict=True)]
        pairs += [(read.loss, begun.loss), (read.metrics, begun.metrics), (read.done, begun.done)]
        return all(np.array_equal(one, other, equal_nan=True) for one, other in pairs)

    assert refused(file, lambda: bit_flipping._resumed(SMALL, file), same) > 100


def test_a_result_of_before_has_no_checksum_and_is_read(tmp_path):
    found = run(SMALL)
    about = json.dumps({"config": found.config, "environment": found.environment})
    np.savez_compressed(tmp_path / "old.npz", about=np.array(about), loss=found.loss, **found.metrics)
    assert equal(bit_flipping.load(tmp_path / "old.npz", SMALL), found)


def test_an_archive_without_the_numbers_is_no_result(tmp_path):
    about = json.dumps({"config": SMALL.about(), "environment": {}})
    for name, arrays in {"finished": {}, "half": {"done": np.array(1), "loss": np.ones(1)}}.items():
        np.savez(tmp_path / f"{name}.npz", about=np.array(about), **arrays)
        with pytest.raises(ValueError, match=rf"{name}.npz is no result of this project; choose another"):
            bit_flipping.load(tmp_path / f"{name}.npz")
