"""Experiments 2 to 4 and their commands: every configuration starts, tables are labelled, bad input is named."""

import dataclasses

import numpy as np
import pytest

import lop
from torch_experiments import e02_symptoms, experiments, training
from torch_experiments.experiments import EXPERIMENTS, seeds_of
from torch_experiments.pixels import load
from torch_experiments.training import ARCHITECTURES, Run

DATA = load("digits")


def short(configs):
    return experiments.changed(configs, tasks=2, steps=3, probe_train=20, probe_test=20)


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_quick_configuration_takes_a_step(name, arch):
    for config in experiments.load(name).configs("quick", arch).values():
        found = Run(dataclasses.replace(config, probe_train=10, probe_test=10), [0], DATA)
        found.advance()
        assert found.step == 1


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


def test_the_command_runs_resumes_and_prints(tmp_path, capsys, monkeypatch):
    configs = short(e02_symptoms.configs("quick"))
    monkeypatch.setattr(e02_symptoms, "configs", lambda *args: configs)
    lop.run(("e02",), seeds="0..1", out=tmp_path)
    assert "none" in capsys.readouterr().out
    assert len(list(tmp_path.glob("e02_symptoms-*.parquet"))) == 2
    monkeypatch.setattr(training, "Run", lambda *args: pytest.fail("trained again"))
    lop.run(("e02",), seeds="0,1", out=tmp_path)


def test_experiments_and_data_are_listed(capsys):
    lop.run(list_=True)
    assert all(name in capsys.readouterr().out for name in ("e02",))
    lop.data("info")
    assert "tiny-imagenet-200" in capsys.readouterr().out
    lop.data("info", "digits")
    assert DATA.fingerprint in capsys.readouterr().out


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lop.run(("e99",)), "experiment: got 'e99'; allowed are 'e02'"),
        (lambda: lop.run(("e02",), profile="text"), "needs Tiny ImageNet: --data FOLDER, see `lop data info`"),
        (lambda: lop.run(("e02",), seeds="3..1"), "seeds: got '3..1'; allowed are a range 0..4"),
        (lambda: lop.run(("e02",), data="nowhere"), "data: there is no nowhere"),
        (lambda: lop.data("fetch", "mnits"), "name: got 'mnits'; allowed are tiny-imagenet"),
    ],
)
def test_bad_input_ends_with_a_message(call, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        call()
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("text", "found"), [("0..2", (0, 1, 2)), ("3", (3,)), ("0,2,5", (0, 2, 5))])
def test_seeds_are_ranges_and_lists(text, found):
    assert seeds_of(text) == found


@pytest.mark.parametrize("text", ["", "a", "1..", "2..1", "1,", "-1"])
def test_other_seeds_are_refused(text):
    with pytest.raises(ValueError, match="seeds: got"):
        seeds_of(text)
