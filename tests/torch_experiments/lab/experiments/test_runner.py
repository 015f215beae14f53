"""Experiments 2 to 4 and their commands: every configuration starts, tables are labelled, bad input is named."""

import dataclasses
import json
from functools import partial

import numpy as np
import pytest

from torch_experiments.lab import experiments, records
from torch_experiments.lab.experiments import EXPERIMENTS, e01_cloning, e02_symptoms, seeds_of
from torch_experiments.lab.images.pixels import load
from torch_experiments.lab.models import ARCHITECTURES
from torch_experiments.lab.training import Run, loop

DATA = load("digits")
SHORT_CLONES = dataclasses.replace(e01_cloning.SHORT, base_epochs=1, probe=30)


def short(configs):
    return experiments.changed(configs, tasks=2, steps=3, probe_train=20, probe_test=20)


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_quick_configuration_takes_a_step(name, arch):
    for config in experiments.load(name).configs("quick", arch).values():
        found = Run(dataclasses.replace(config, probe_train=10, probe_test=10), [0], DATA)
        found.advance()
        assert found.step == config.first * config.steps + 1


@pytest.mark.parametrize("name", ["e02", "e03", "e04", "e05"])
@pytest.mark.parametrize(("profile", "steps"), [("text", 500), ("medium", 2000), ("paper", 10_000)])
def test_the_published_setting_is_that_of_the_paper(name, profile, steps):
    for config in experiments.load(name).configs(profile, "vit", "folder").values():
        assert (config.tasks, config.steps, config.batch, config.lr) == (40, steps, 128, 1e-4)
        assert (config.padding, config.flip, config.jitter, config.head) == (8, True, 0.1, "zero")


def test_tables_are_labelled_by_cell_and_seed(tmp_path):
    configs = short(dict(list(experiments.load("e03").configs("quick").items())[:2]))
    table = experiments.computed(configs, (0, 1), tmp_path)
    assert set(table["cell"].to_pylist()) == {"none", "batch"}
    assert set(table["seed"].to_pylist()) == {0, 1}
    values = experiments.over_tasks(table, "batch", "online_accuracy")
    assert values.shape == (2, 2)
    assert np.isfinite(values).all()
    assert "dead fraction" in [column.header for column in experiments.summary(table).columns]


def test_the_command_runs_resumes_and_prints(tmp_path, command, monkeypatch):
    configs = short(e02_symptoms.configs("quick"))
    monkeypatch.setattr(e02_symptoms, "configs", lambda *args: configs)
    assert "none" in command("run", "e02", "--seeds", "0..1", "--out", tmp_path)[1]
    assert len(list(tmp_path.glob("e02_symptoms-*.parquet"))) == 2
    monkeypatch.setattr(loop, "Run", lambda *args: pytest.fail("trained again"))
    assert command("run", "e02", "--seeds", "0,1", "--out", tmp_path)[0] == 0


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_cloning_experiment_runs_by_its_name(arch, tmp_path, command, monkeypatch):
    monkeypatch.setattr(e01_cloning, "EPOCHS", dict.fromkeys(ARCHITECTURES, 1))
    monkeypatch.setattr(e01_cloning, "SHORT", dataclasses.replace(SHORT_CLONES, regimes=("sgd",)))
    monkeypatch.setattr(e01_cloning, "load_task", partial(e01_cloning.load_task, limit=200))
    width = {"vit": '{"width": 8}'}.get(arch, '{"width": 4}')
    sizes = ("--seeds", "3,4", "--precision", "float32", "--settings", width, "--out", tmp_path)
    call = ("run", "e01", "--arch", arch, *sizes)
    assert "clone" in command(*call, "--device", "cpu")[1]
    found = [records.load(path).config for path in tmp_path.glob("e01_cloning-*.parquet")]
    assert sorted(config["seed"] for config in found) == [3, 4]
    own = e01_cloning.SMALL[arch] | json.loads(width)
    assert all(config["arch"] == arch and config["arch_settings"] == own for config in found)
    monkeypatch.setattr(e01_cloning, "run_cell", lambda *args: pytest.fail("trained again"))
    assert command(*call)[0] == 0


def test_the_published_cloning_experiment_is_jl25s():
    (config,) = e01_cloning.configs("paper", "vit", "folder").values()
    assert (config.epochs, config.norm, config.data, config.arch_settings) == (500, "layer", "folder", ())


def test_sizes_and_settings_are_changed_from_the_command_line(tmp_path, command, monkeypatch):
    configs = short(e02_symptoms.configs("quick", "cnn"))
    monkeypatch.setattr(e02_symptoms, "configs", lambda *args: configs)
    sizes = ("--size", 4, "--measure-every", 2, "--settings", '{"width": 4}')
    assert command("run", "e02", "--seeds", 0, *sizes, "--out", tmp_path)[0] == 0
    (path,) = tmp_path.glob("e02_symptoms-*.parquet")
    config = records.load(path).config
    assert (config["size"], config["measure_every"]) == (4, 2)
    assert config["arch_settings"] == {"width": 4, "depth": 2, "hidden": 64}


def test_lists_in_settings_become_tuples():
    (config,) = experiments.changed(e02_symptoms.configs("quick", "resnet18"), '{"stages": [1]}').values()
    assert dict(config.arch_settings) == {"width": 8, "stages": (1,)}
    assert hash(config)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tasks", "set: got 'tasks'; write a field and its value, such as stream_settings.size=2"),
        ("tusks=3", "set: got 'tusks'; allowed are 'experiment', 'data'"),
        ("tasks=few", "set: tasks got 'few'; its values are like 40"),
        ("tasks.few=3", "set: got 'tasks.few=3'; write tasks=VALUE"),
        ("stream_settings=3", "set: got 'stream_settings=3'; write stream_settings.NAME=VALUE"),
        ("arch_settings.heads=3", "settings: got 'heads'; allowed are 'width', 'depth'"),
        ("betas=0.9,1", r"betas: got \(0.9, 1\); two numbers in"),
    ],
)
def test_a_field_that_cannot_be_set_is_named(text, message):
    with pytest.raises(ValueError, match=message):
        experiments.changed(e02_symptoms.configs("quick"), set_=[text])


def test_fields_and_settings_are_set():
    texts = [
        "lr=1",
        "betas=0.95,0.95",
        "stream_settings.images=50",
        "arch_settings.width=9",
        "size=4",
        "compile=True",
    ]
    (config,) = experiments.changed(e02_symptoms.configs("quick"), set_=texts).values()
    assert (config.lr, config.betas, config.size, config.compile) == (1.0, (0.95, 0.95), 4, True)
    assert dict(config.stream_settings) == {"images": 50}
    assert dict(config.arch_settings) == {"width": 9}


def test_experiments_and_data_are_listed(command):
    printed = command("run", "--list")[1]
    assert all(name in printed for name in ("e01", *EXPERIMENTS, "e08", "e09", "e09-dqn"))
    assert "tiny-imagenet-200" in command("data", "info")[1]
    assert DATA.fingerprint in command("data", "info", "digits")[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "e99"), "experiment: got 'e99'; allowed are 'e01', 'e02'"),
        (("run", "e02", "--settings", "{width}"), "settings: '{width}' is no JSON"),
        (("run", "e02", "--settings", "[3]"), "settings: got '[3]'; it has to be a JSON object"),
        (("run", "e02", "--settings", '{"norm": "layer"}'), "settings: got 'norm'; allowed are 'width', 'dep"),
        (("run", "e02", "--size", 0), "size: got 0; it has to be at least 1"),
        (("run", "e01", "e02", "--stack"), "stack: e01 does not have it; leave out --stack"),
        (("run", "e01", "--measure-every", 5), "measure_every: e01 does not have it; leave out --measure-e"),
        (("run", "e01", "--protocol", "published"), "protocol: e01 does not have it; leave out --protocol"),
        (("run", "e01", "--size", 4), "size: e01 does not have it; leave out --size"),
        (("run", "e01", "--set", "tasks=3"), "set: e01 does not have it; leave out --set"),
        (("run", "e01", "--ddp"), "ddp: e01 does not have it; leave out --ddp"),
        (("run", "e01", "--precision", "bf16"), "precision: got 'bf16'; e01 has 'float32' and 'float64'"),
        (("run", "e01", "--profile", "text"), "profile: got 'text'; e01 has 'quick' and 'paper'"),
        (("run", "e01", "--profile", "paper"), "data: the profile 'paper' needs images: --data FOLDER"),
        (("run", "e01", "--settings", '{"clones": 2}'), "settings: got 'clones'; allowed are 'width'"),
        (("grid", "e02", "e01"), "experiment: e01 has no grid; use `lop run e01`"),
        (("grid",), "names: is missing; name experiments"),
        (("run", "e09", "--profile", "text"), "profile: got 'text'; e09 has 'quick', 'full', 'ant', 'paper'"),
        (("run", "e09", "--arch", "cnn"), "arch: got 'cnn'; agents have 'mlp'"),
        (("run", "e09", "--data", "folder"), "data: e09 does not have it; leave out --data"),
        (
            ("run", "e09", "--precision", "bf16"),
            "precision: e09_reinforcement does not have it; leave out --precis",
        ),
        (("run", "e09", "--stack"), "stack: e09_reinforcement does not have it; leave out --stack"),
        (("run", "e09", "--settings", '{"heads": 2}'), "settings: got 'heads'; allowed are 'width', 'depth'"),
        (("grid", "e09", "--over", "norm=layer"), "over: got 'norm'; allowed are "),
        (("grid", "e09", "--over", "environment=pong"), "environment: got 'pong'; allowed are 'cartpole'"),
        (
            ("run", "e09", "--cells", "plain", "plane"),
            "cells: got 'plane'; allowed are 'plain', 'fresh', 'shrink-perturb'",
        ),
        (("grid", "e08", "--cells", "normal"), "cells: got 'normal'; allowed are 'layer norm'"),
        (("run", "e02", "--profile", "full"), "profile: got 'full'; allowed are 'quick', 'text'"),
        (("run", "e02", "--profile", "text"), "needs Tiny ImageNet: --data FOLDER, see `lop data info`"),
        (("run", "e02", "--seeds", "3..1"), "seeds: got '3..1'; allowed are a range 0..4"),
        (("run", "e02", "--data", "nowhere"), "data: there is no nowhere"),
        (("data", "fetch", "mnits"), "name: got 'mnits'; allowed are tiny-imagenet"),
    ],
)
def test_bad_input_ends_with_a_message(command, words, message):
    code, _, err = command(*words)
    assert code == 2
    assert message in err


@pytest.mark.parametrize(("text", "found"), [("0..2", (0, 1, 2)), ("3", (3,)), ("0,2,5", (0, 2, 5))])
def test_seeds_are_ranges_and_lists(text, found):
    assert seeds_of(text) == found


@pytest.mark.parametrize("text", ["", "a", "1..", "2..1", "1,", "-1"])
def test_other_seeds_are_refused(text):
    with pytest.raises(ValueError, match="seeds: got"):
        seeds_of(text)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "--seeds", "0,1,0"), "every seed may stand there once"),
        (("run", "--seeds", ""), "seeds: got ''"),
        (("run", "--threads", 0), "threads: got 0; at least 1 is needed"),
        (("run", "--seeds", "0", "--device", "gpu"), "device: got 'gpu'; allowed are 'cpu'"),
        (("run", "--seeds", "0", "--out", "/dev/null/records"), "Not a directory"),
        (("grid", "--workers", 0), "workers: got 0; at least 1 is needed"),
        (("grid", "--threads", 0), "threads, retries: got 0, 2"),
    ],
)
def test_numbers_and_places_that_cannot_be_are_named(command, words, message, tmp_path):
    name, *options = words
    where = () if "--out" in options else ("--out", tmp_path)
    code, _, err = command(name, "e02", *options, *where)
    assert code == 2
    assert message in err


def test_a_budget_of_no_time_is_refused(command, tmp_path):
    code, _, err = command("campaign", "streams", "--budget", -1.0, "--out", tmp_path)
    assert code == 2
    assert "budget: got -1.0" in err
