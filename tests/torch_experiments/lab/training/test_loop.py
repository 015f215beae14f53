"""The loop: what it records, and how it ends when a loss is not finite."""

import dataclasses

import pytest
import torch

from tests.torch_experiments.lab.training.settings import DATA, MLP, VIT, values
from torch_experiments.lab import training
from torch_experiments.lab.training import Diverged, Run, run


def test_denormal_numbers_are_flushed_in_training_alone(monkeypatch):
    smallest = torch.full((4,), 1e-40)
    seen = []
    advance = Run.advance
    monkeypatch.setattr(Run, "advance", lambda self: (seen.append((smallest * 1).sum().item()), advance(self)))
    training.run(dataclasses.replace(MLP, tasks=1, steps=2), [0], data=DATA)
    assert set(seen) == {0.0}
    assert (smallest * 1).sum() > 0


def test_a_record_says_what_made_it_and_covers_both_ends_of_every_task(tmp_path):
    (record,) = run(MLP, [0], tmp_path, data=DATA)
    assert record.config["seed"] == 0
    assert record.config["remedy_settings"] == {"rate": 0.02, "maturity": 5}
    assert {"torch", "device", "seconds", "metrics_share", "overhead_share", "threads"} <= set(record.environment)
    assert list(values(record, "train_loss")) == [(k, s) for k in range(3) for s in (0, 8, 16, 20)]
    assert list(values(record, "online_accuracy")) == [(0, 20), (1, 20), (2, 20)]
    assert set(values(record, "dead_fraction", layer=2)) == set(values(record, "train_loss"))
    for metric in ("weight_norm", "roy_vetterli_rank_raw", "shannon_rank_centred", "later_duplicate_fraction"):
        assert values(record, metric)


def test_masked_accuracy_is_at_least_the_unmasked_one():
    (record,) = run(dataclasses.replace(MLP, protocol="published"), [0], data=DATA)
    for split in ("train", "test"):
        masked, unmasked = (values(record, f"{split}_accuracy{x}") for x in ("", "_unmasked"))
        assert all(masked[place] >= unmasked[place] for place in masked)
        assert any(masked[place] > unmasked[place] for place in masked)


def test_the_protocols_differ_in_metric_batch_and_moments_of_the_head():
    corrected, published = (
        Run(dataclasses.replace(MLP, protocol=p), [0], DATA) for p in ("corrected", "published")
    )
    labels = [run.feed.probe(0, "train")[1] for run in (corrected, published)]
    sizes = [y.bincount(minlength=10).sort().values for y in labels]
    assert sizes[0].tolist()[-2:] == [30, 30]
    assert sizes[1].tolist()[-2:] == [0, 60]
    for found, kept in ((corrected, False), (published, True)):
        for _ in range(20):
            found.advance()
        found.networks.begin(1)
        (view,) = found.networks.views
        head = training.head_of(view.model)
        assert not head.weight.any()
        assert all(bool(m.any()) == kept for m in view.moments(head.weight).values())


def test_the_pace_of_a_run_is_measured_without_metrics():
    found = Run(MLP, [1], DATA)
    assert found.pace(2, 3) > 0
    assert found.step == 5
    assert not found.rows[0]


def test_a_loss_that_is_not_finite_stops_saves_and_names_step_and_layer(tmp_path):
    config = dataclasses.replace(MLP, remedy="none", remedy_settings=(), optimizer="sgd", lr=1e20)
    with pytest.raises(
        Diverged, match=r"loss: nan at step \d of task 0, seed 0, first in the .* of linear\d; try a"
    ) as e:
        run(config, [0], tmp_path, data=DATA)
    (saved,) = tmp_path.glob("*.run/failed-*")
    assert str(saved) in str(e.value)
    assert not list(tmp_path.glob("*.parquet"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arch_settings": (("breadth", 3),)}, r"arch_settings: .*breadth.*'mlp'"),
        ({"tasks": 9}, r"tasks: got 9 tasks of 2 classes; the data have 10"),
    ],
)
def test_a_setting_that_does_not_fit_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        Run(dataclasses.replace(MLP, **change), [0], DATA)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"device: got 'cuda', and torch sees no CUDA device; use 'cpu'"):
        Run(dataclasses.replace(MLP, device="cuda"), [0], DATA)


@pytest.mark.parametrize("arch", ["cnn", "resnet18"])
def test_convolutions_run_too(arch):
    settings = {"cnn": (("depth", 2), ("hidden", 16), ("width", 4)), "resnet18": (("stages", (1, 1)), ("width", 4))}
    config = dataclasses.replace(MLP, arch=arch, arch_settings=settings[arch], tasks=1, steps=2)
    (record,) = run(config, [0], data=DATA)
    assert values(record, "roy_vetterli_rank_centred")[0, 2] > 1


def test_the_global_generator_is_left_alone():
    state = torch.random.get_rng_state()
    run(dataclasses.replace(VIT, tasks=1, steps=2), [0], data=DATA)
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("change", [{"lr": float("nan")}, {"lr": float("inf")}, {"lr": -1.0}, {"device": "CUDA"}])
def test_a_rate_or_a_device_that_there_is_not_is_refused(change):
    ((name, value),) = change.items()
    with pytest.raises(ValueError, match=f"{name}: got {value!r}; "):
        Run(dataclasses.replace(MLP, **change), [0], DATA)


def test_a_network_that_overflows_between_measurements_diverges_with_a_message(tmp_path):
    config = dataclasses.replace(MLP, lr=1e20, measure_every=1, remedy="none", remedy_settings=())
    with pytest.raises(Diverged, match=r"step \d of task 0, seed 0, first in .*The state before this step is in"):
        run(config, [0], tmp_path, data=DATA)


def test_fresh_networks_on_the_last_tasks_are_those_of_a_run_of_all_tasks(tmp_path):
    all_tasks = dataclasses.replace(MLP, remedy="fresh", remedy_settings=(), padding=1, jitter=0.1)
    last = dataclasses.replace(all_tasks, first=2, tasks=1)
    whole, alone = (run(config, [3], tmp_path, data=DATA)[0].table.to_pylist() for config in (all_tasks, last))
    assert [row for row in whole if row["task"] == 2] == alone
    assert {row["task"] for row in alone} == {2}


def test_progress_of_a_run_that_begins_late_counts_its_own_steps(tmp_path):
    seen = []
    run(dataclasses.replace(MLP, first=2, tasks=1), [0], tmp_path, data=DATA, progress=seen.append)
    assert sum(seen) == MLP.steps
