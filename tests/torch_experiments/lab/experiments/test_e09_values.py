"""Experiment 9 with values: every cell starts and has a fresh agent that sees its tasks; the command runs it."""

import dataclasses

import pytest

from torch_experiments.lab import records
from torch_experiments.lab.campaign import grids
from torch_experiments.lab.experiments import e09_values as e09
from torch_experiments.lab.experiments.e09_values import fresh_of
from torch_experiments.lab.rl import begin

FULL = e09.configs("full")
FEW = {"copies": 4, "horizon": 16, "batch": 32, "episodes": 2, "probe": 16, "tasks": 2, "steps": 1, "starts": 32}


def short(configs):
    return {label: dataclasses.replace(config, **FEW) for label, config in configs.items()}


@pytest.mark.parametrize("label", FULL)
def test_every_cell_takes_a_step(label):
    (config,) = short({label: dataclasses.replace(FULL[label], heavy=min(FULL[label].heavy, 1))}).values()
    found = begin(config, 0)
    found.advance()
    assert found.step == 1


@pytest.mark.parametrize("label", [label for label in FULL if not label.startswith("fresh")])
def test_the_fresh_agent_of_a_cell_sees_its_tasks_and_differs_as_the_label_says(label):
    cell, fresh = FULL[label], FULL[fresh_of(label)]
    told = ("remedy", "remedy_settings", "heavy", "reset_every", "reset_layers", "fixed_targets")
    assert fresh.remedy == "fresh"
    assert dataclasses.replace(fresh, **{name: getattr(cell, name) for name in told}) == cell
    differing = {name for name in told if getattr(fresh, name) != getattr(cell, name)}
    assert differing <= ({"remedy", "remedy_settings"} if cell.remedy != "fresh" else set(told[2:]))


def test_cells_differ_in_what_their_labels_say():
    assert len(set(FULL.values())) == len(FULL)
    heavy = [label for label in FULL if FULL[label].heavy]
    assert heavy == [label for label in FULL if label.startswith("heavy start")]
    assert {FULL[label].remedy for label in heavy} == {"fresh"}
    all_layers = FULL["heavy start, all layers anew"]
    assert all_layers.reset_layers == 1 + 2  # and two hidden ones
    assert [label for label in FULL if FULL[label].fixed_targets] == ["fixed targets"]
    assert {FULL[label].stream for label in e09.REMEDIES} == {"offset"}
    quick = e09.configs("quick")
    assert all(quick[label] == dataclasses.replace(FULL[label], tasks=e09.TASKS) for label in quick)
    assert {fresh_of(label) for label in quick} <= set(quick)


def test_the_command_runs_and_prints(tmp_path, command, monkeypatch):
    configs = short({label: FULL[label] for label in ("plain", "fresh")})
    monkeypatch.setattr(e09, "configs", lambda *args: configs)
    code, out, _ = command("run", "e09-dqn", "--seeds", "0..1", "--settings", '{"width": 4}', "--out", tmp_path)
    assert code == 0
    assert "rank of features" in out
    found = [records.load(path).config for path in tmp_path.glob("e09_dqn-*.parquet")]
    assert sorted(config["seed"] for config in found) == [0, 0, 1, 1]
    assert all(config["arch_settings"] == {"width": 4} for config in found)


def test_a_grid_of_agents_has_a_job_for_every_seed(tmp_path):
    configs = grids.product({"plain": FULL["plain"]}, grids.axes_of(["target_every=10,100", "remedy=redo"]))
    assert len(grids.jobs(configs, (0, 1), tmp_path)) == 4


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"profile": "text"}, "profile: got 'text'; e09-dqn has 'quick' and 'full'"),
        ({"profile": "full", "arch": "cnn"}, "arch: got 'cnn'; agents have 'mlp'"),
        ({"profile": "full", "data": "x"}, "data: e09-dqn does not have it; leave out --data"),
    ],
)
def test_what_there_is_not_is_named(asked, message):
    with pytest.raises(ValueError, match=message):
        e09.configs(**asked)
