"""Experiment 9: every cell starts and has a fresh agent with its own settings, and the commands run it."""

import dataclasses

import pytest

from torch_experiments.lab import experiments, records
from torch_experiments.lab.campaign import grids
from torch_experiments.lab.campaign.jobs import attempt
from torch_experiments.lab.experiments import e09_reinforcement as e09
from torch_experiments.lab.experiments.e09_reinforcement import fresh_of
from torch_experiments.lab.rl import Run

FULL = e09.configs("full")
FEW = {"copies": 4, "horizon": 16, "batch": 32, "epochs": 1, "episodes": 2, "probe": 16, "tasks": 2, "steps": 1}


def short(configs):
    return {label: dataclasses.replace(config, **FEW) for label, config in configs.items()}


@pytest.mark.parametrize("label", FULL)
def test_every_cell_takes_a_step(label):
    (config,) = short({label: FULL[label]}).values()
    found = Run(config, 0)
    found.advance()
    assert found.step == 1


@pytest.mark.parametrize("label", [label for label in FULL if not label.startswith("fresh")])
def test_the_fresh_agent_of_a_cell_has_its_settings_and_its_tasks(label):
    cell, fresh = FULL[label], FULL[fresh_of(label)]
    assert fresh.remedy == "fresh"
    assert dataclasses.replace(fresh, remedy=cell.remedy, remedy_settings=cell.remedy_settings) == cell


@pytest.mark.parametrize("profile", ["ant", "paper"])
def test_robots_have_fresh_agents_with_their_settings_and_tasks(profile):
    cells = e09.configs(profile)
    assert list(cells) == ["ant", "fresh, ant", "ant, stationary", "fresh, ant, stationary"]
    for label in ("ant", "ant, stationary"):
        cell, fresh = cells[label], cells[fresh_of(label)]
        assert dataclasses.replace(fresh, remedy="none") == cell
        assert (cell.environment, cell.remedy, fresh.remedy) == ("ant", "none", "fresh")
    assert [cells[label].stream for label in ("ant", "ant, stationary")] == ["friction", "stationary"]


@pytest.mark.parametrize("label", e09.configs("ant"))
def test_every_robot_takes_a_step(label):
    pytest.importorskip("mujoco", reason="pip install 'lop-companion[rl]'")
    pytest.importorskip("gymnasium", reason="pip install 'lop-companion[rl]'")
    (config,) = short({label: e09.configs("ant")[label]}).values()
    found = Run(config, 0)
    found.advance()
    assert found.step == 1


def test_the_published_protocol_has_two_million_steps_a_task():
    cells = e09.configs("paper")
    slippery, stationary = cells["ant"], cells["ant, stationary"]
    steps = slippery.copies * slippery.horizon * slippery.steps
    assert 2_000_000 <= steps < 2_000_000 + slippery.horizon
    assert slippery.tasks * steps == pytest.approx(2e7, rel=1e-3)
    assert stationary.tasks * steps == pytest.approx(1e8, rel=1e-3)
    assert slippery.horizon / slippery.batch == 16
    assert dict(slippery.arch_settings) == {"width": 256}
    assert (slippery.lr, slippery.clip, slippery.gamma, slippery.lam, slippery.epochs) == (
        1e-4,
        0.2,
        0.99,
        0.95,
        10,
    )


def test_no_other_profile_needs_mujoco():
    for profile in ("quick", "full"):
        assert all(config.environment != "ant" for config in e09.configs(profile).values())


def test_cells_differ_in_what_their_labels_say():
    assert len(set(FULL.values())) == len(FULL)
    assert FULL["plain"].betas == (0.9, 0.999)
    assert FULL["equal betas"].betas == (0.99, 0.99)
    assert FULL["tanh"].activation == "tanh"
    assert FULL["acrobot"].environment == "acrobot"
    assert {FULL[label].stream for label in e09.REMEDIES} == {"offset"}
    quick = e09.configs("quick")
    assert all(quick[label] == dataclasses.replace(FULL[label], tasks=e09.TASKS) for label in quick)
    assert {fresh_of(label) for label in quick} <= set(quick)


def test_ten_seeds_have_a_full_run():
    assert len(e09.SEEDS["full"]) == 10


def test_the_command_runs_resumes_and_prints(tmp_path, command, monkeypatch):
    configs = short({label: FULL[label] for label in ("plain", "fresh")})
    monkeypatch.setattr(e09, "configs", lambda *args: configs)
    code, out, _ = command("run", "e09", "--seeds", "0..1", "--settings", '{"width": 4}', "--out", tmp_path)
    assert code == 0
    assert "plain" in out
    assert "entropy" in out
    found = [records.load(path).config for path in tmp_path.glob("e09_reinforcement-*.parquet")]
    assert sorted(config["seed"] for config in found) == [0, 0, 1, 1]
    assert all(config["arch_settings"] == {"width": 4} for config in found)
    some = command("run", "e09", "--cells", "fresh", "--seeds", "0", "--out", tmp_path / "some")
    assert some[0] == 0
    assert [records.load(path).config["remedy"] for path in (tmp_path / "some").glob("*.parquet")] == ["fresh"]
    monkeypatch.setattr(Run, "advance", lambda self: pytest.fail("trained again"))
    again = command("run", "e09", "--seeds", "0..1", "--settings", '{"width": 4}', "--resume", "--out", tmp_path)
    assert again[0] == 0


def test_returns_are_read_by_cell_and_task(tmp_path):
    table = experiments.computed(short({"plain": FULL["plain"]}), (0, 1), tmp_path)
    assert experiments.over_tasks(table, "plain", "return").shape == (2, 2)


def test_a_grid_of_agents_has_a_job_for_every_seed_and_none_is_stacked(tmp_path):
    configs = grids.product({"plain": FULL["plain"]}, grids.axes_of(["lr=1e-3,1e-2", "entropy=0.0,0.01"]))
    jobs = grids.jobs(configs, (0, 1), tmp_path, stack=True)
    assert len(jobs) == 8
    assert {job.seeds for job in jobs} == {"0", "1"}
    (job,) = grids.jobs(short({"plain": FULL["plain"]}), (0,), tmp_path)
    assert attempt(job).state == "done"
    assert job.finished
