"""An agent on a stream: it resumes bit for bit, environments and generators included; errors are clear."""

import dataclasses
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from torch_experiments import remedies
from torch_experiments.lab.rl import Config, Run, ValueConfig, ValueRun, begin, measures, run
from torch_experiments.lab.rl.environments import CartPole, Moved
from torch_experiments.lab.rl.ppo import ActorCritic
from torch_experiments.lab.training import Diverged, Keep, Stopped, keeping

SMALL = Config(
    experiment="agents",
    tasks=2,
    steps=4,
    copies=4,
    horizon=16,
    batch=32,
    epochs=2,
    lr=1e-2,
    arch_settings=(("width", 8),),
    episodes=4,
    probe=32,
    measure_every=2,
)
VALUES = ValueConfig(
    experiment="values",
    tasks=2,
    steps=4,
    copies=4,
    horizon=16,
    batch=16,
    capacity=256,
    starts=32,
    updates=1,
    target_every=10,
    explore=100,
    lr=1e-2,
    arch_settings=(("width", 8),),
    episodes=4,
    probe=32,
    measure_every=2,
)
KILLED = """
import os, signal, sys, torch
torch.set_num_threads(1)
from tests.torch_experiments.lab.rl.test_run import SMALL
from torch_experiments.lab.rl import run
done = []
def progress(steps):
    done.append(steps)
    if sum(done) == 7:
        os.kill(os.getpid(), signal.SIGKILL)
run(SMALL, [3], sys.argv[1], progress=progress, checkpoint_every=0)
"""
REMEDIES = ("none", "fresh", "l2-init", "redo", "shrink-perturb", "optimizer-reset", "cbp")


def to_the_end(found, until=None):
    while not found.done and found.step != until:
        found.advance()
    return found


def values(found):
    return {name: w.clone() for name, w in found.weights().items()}, found.rows, found.seen.copies.state()


def assert_same(one, other):
    assert all(torch.equal(one[0][name], w) for name, w in other[0].items())
    assert str(one[1]) == str(other[1])
    assert str(one[2]) == str(other[2])


def resumed(config, folder, seed=3):
    found = begin(config, seed)
    keeping.restore(found, keeping.checkpoints.latest(folder, keeping.about(found)))
    return found


@pytest.mark.parametrize(("remedy", "at"), [*((remedy, 5) for remedy in REMEDIES), ("none", 3)])
def test_an_interrupted_run_goes_on_bit_for_bit(remedy, at, tmp_path):
    given = (("every", 3), ("threshold", 0.5)) if remedy == "redo" else ()
    config = dataclasses.replace(SMALL, remedy=remedy, remedy_settings=given)
    started = to_the_end(Run(config, 3), at)
    keeping.save(started, tmp_path)
    again = resumed(config, tmp_path)
    assert (again.step, again.resumed) == (at, at)
    assert_same(values(to_the_end(again)), values(to_the_end(Run(config, 3))))


@pytest.mark.parametrize(("remedy", "at"), [*((remedy, 6) for remedy in REMEDIES), ("none", 4), ("none", 3)])
def test_an_interrupted_run_of_values_goes_on_bit_for_bit(remedy, at, tmp_path):
    """With a replay that is overwritten, a heavy start, and layers that are drawn anew."""
    given = (("every", 3), ("threshold", 0.5)) if remedy == "redo" else ()
    changes = {"capacity": 100, "heavy": 5, "reset_every": 3}
    config = dataclasses.replace(VALUES, remedy=remedy, remedy_settings=given, **changes)
    started = to_the_end(begin(config, 3), at)
    keeping.save(started, tmp_path)
    again = resumed(config, tmp_path)
    assert (again.step, again.resumed) == (at, at)
    assert_same(values(to_the_end(again)), values(to_the_end(begin(config, 3))))


@pytest.mark.parametrize("remedy", ["redo", "cbp"])
def test_units_of_a_network_of_values_are_replaced(remedy):
    given = {"redo": (("every", 3), ("threshold", 0.9)), "cbp": (("rate", 0.1), ("maturity", 0))}[remedy]
    found = begin(dataclasses.replace(VALUES, remedy=remedy, remedy_settings=given), 3)
    found.advance()
    weights = {name: w.clone() for name, w in found.weights().items()}
    found.remedy.remedy.after_step(found.remedy.network, found.remedy.state, 2)
    silent = [bool((w == 0).all(dim=0).any()) for w in (found.policy.q[2].weight, found.policy.q[4].weight)]
    assert any(silent)
    assert any(not torch.equal(w, found.weights()[name]) for name, w in weights.items())


@pytest.mark.parametrize("remedy", ["none", "fresh"])
def test_a_run_with_fixed_targets_goes_on_bit_for_bit_and_changes_nothing_else(remedy, tmp_path):
    config = dataclasses.replace(VALUES, remedy=remedy, fixed_targets=True)
    keeping.save(to_the_end(begin(config, 3), 6), tmp_path)
    whole = to_the_end(begin(config, 3))
    assert_same(values(to_the_end(resumed(config, tmp_path))), values(whole))
    more = {r["metric"] for r in whole.rows[0] if r["metric"].startswith(("start_", "fixed_"))}
    assert {"start_dormant_fraction_0.1", "fixed_dormant_fraction_0.1", "fixed_feature_srank"} <= more
    plain = to_the_end(begin(dataclasses.replace(config, fixed_targets=False), 3))
    assert [r for r in whole.rows[0] if r["metric"] not in more] == plain.rows[0]


@pytest.mark.parametrize("lost", ["source", "copies", "optimizer", "agent", "drawn"])
def test_a_state_of_values_without_a_part_goes_on_otherwise(lost, tmp_path):
    keeping.save(to_the_end(begin(VALUES, 3), 6), tmp_path)
    again, other = resumed(VALUES, tmp_path), begin(VALUES, 3)
    again.restore(again.weights(), again.state() | {lost: other.state()[lost]})
    again.go_to(6)
    with pytest.raises(AssertionError):
        assert_same(values(to_the_end(again)), values(to_the_end(begin(VALUES, 3))))


def test_a_record_of_values_has_what_became_of_the_network():
    (record,) = run(VALUES, [0])
    rows = [r for r in record.table.to_pylist() if r["layer"] == 0]
    wanted = {
        "return",
        "return_low",
        "return_high",
        "mean_value",
        "dead_fraction",
        "free_fraction",
        "online_return",
    }
    wanted |= {"dormant_fraction", "dormant_fraction_0.1", "feature_srank", "roy_vetterli_rank_raw", "weight_norm"}
    for k in range(VALUES.tasks):
        found = [r["metric"] for r in rows if (r["task"], r["step"]) == (k, VALUES.steps)]
        assert wanted <= set(found)
        assert len(found) == len(set(found))
    assert {r["layer"] for r in record.table.to_pylist()} == {0, 1, 2}
    assert (record.config["algorithm"], record.config["target_every"]) == ("dqn", 10)


def test_a_fresh_agent_of_values_begins_every_task_anew():
    plain, fresh = (begin(dataclasses.replace(VALUES, remedy=remedy), 3) for remedy in ("none", "fresh"))
    for found in (plain, fresh):
        to_the_end(found, VALUES.steps)
    assert_same(values(plain), values(fresh))
    for found in (plain, fresh):
        found.advance()
        assert found.agent.replay.size == 64
    taken = 16 - 7  # of the 16 steps of the copies the first 7 have fewer than 32 transitions
    assert fresh.optimizer.state_dict()["state"][0]["step"] == taken
    assert plain.optimizer.state_dict()["state"][0]["step"] == 64 - 7 + taken


@pytest.mark.parametrize(
    ("environment", "stream"),
    [("acrobot", "dynamics"), ("cartpole", "rewards"), ("mountaincar", "permuted"), ("mountaincar", "stationary")],
)
def test_every_environment_and_stream_resumes(environment, stream, tmp_path):
    config = dataclasses.replace(SMALL, environment=environment, stream=stream, tasks=2, steps=2)
    keeping.save(to_the_end(Run(config, 0), 1), tmp_path)
    assert_same(values(to_the_end(resumed(config, tmp_path, 0))), values(to_the_end(Run(config, 0))))


@pytest.mark.parametrize("remedy", ["none", "fresh"])
def test_a_robot_resumes_bit_for_bit_in_the_middle_of_its_episodes(remedy, tmp_path):
    """Physics of MuJoCo, Gaussian policy; at the first rollout of a task and at the second."""
    pytest.importorskip("mujoco", reason="pip install 'lop-companion[rl]'")
    pytest.importorskip("gymnasium", reason="pip install 'lop-companion[rl]'")
    config = dataclasses.replace(SMALL, environment="ant", stream="friction", steps=2, episodes=2, remedy=remedy)
    unbroken = values(to_the_end(Run(config, 0)))
    assert {row["metric"] for row in unbroken[1][0]} >= {"policy_entropy", "action_deviation", "free_fraction"}
    for at in (1, 2, 3):
        keeping.save(to_the_end(Run(config, 0), at), tmp_path / str(at))
        again = resumed(config, tmp_path / str(at), 0)
        assert again.seen.copies.lengths.any()
        assert_same(values(to_the_end(again)), unbroken)


def test_a_fresh_agent_has_the_deviations_of_a_new_one():
    policy = Run(dataclasses.replace(SMALL, environment="cartpole"), 0).policy
    assert policy.log_sd is None
    found = ActorCritic(4, 3, continuous=True)
    assert found.log_sd.tolist() == [0.0] * 3
    optimizer = torch.optim.Adam(found.parameters())
    bound = remedies.make("fresh").on(found, optimizer, fresh=lambda seed: ActorCritic(4, 3, continuous=True))
    torch.nn.init.constant_(found.log_sd, 3.0)
    bound.apply()
    assert found.log_sd.tolist() == [0.0] * 3


def test_a_killed_run_goes_on_and_leaves_the_record_of_an_unbroken_one(tmp_path):
    killed = subprocess.run([sys.executable, "-c", KILLED, tmp_path], cwd=os.getcwd(), check=False)
    assert killed.returncode == -signal.SIGKILL
    (record,) = run(SMALL, [3], tmp_path)
    assert record.environment["resumed"] == 6
    assert record.table.equals(run(SMALL, [3])[0].table)
    assert [path.suffix for path in tmp_path.iterdir()] == [".parquet"]


@pytest.mark.parametrize("lost", ["source", "copies", "optimizer"])
def test_a_state_without_a_part_goes_on_otherwise(lost, tmp_path):
    started = to_the_end(Run(SMALL, 3), 6)
    keeping.save(started, tmp_path)
    again, other = resumed(SMALL, tmp_path), Run(SMALL, 3)
    state = again.state() | {lost: other.state()[lost]}
    again.restore(again.weights(), state)
    again.go_to(6)
    with pytest.raises(AssertionError):
        assert_same(values(to_the_end(again)), values(to_the_end(Run(SMALL, 3))))


def test_a_signal_saves_and_stops(tmp_path, capsys):
    def progress(steps):
        if steps == 1 and not list(tmp_path.glob("*.run/step-*")):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        run(SMALL, [0], tmp_path, progress=progress)
    assert "the same command goes on" in capsys.readouterr().out
    (record,) = run(SMALL, [0], tmp_path)
    assert record.table.equals(run(SMALL, [0])[0].table)


def test_a_record_has_what_a_task_returned_and_what_became_of_the_network():
    (record,) = run(SMALL, [0])
    rows = [r for r in record.table.to_pylist() if r["layer"] == 0]
    wanted = {"return", "return_low", "return_high", "policy_entropy", "logit_gap", "largest_logit_gap"}
    wanted |= {"dead_fraction", "free_fraction", "roy_vetterli_rank_raw", "weight_norm", "online_return"}
    for k in range(SMALL.tasks):
        found = {r["metric"]: r["value"] for r in rows if (r["task"], r["step"]) == (k, SMALL.steps)}
        assert wanted <= set(found)
        assert found["return_low"] <= found["return"] <= found["return_high"]
        assert 0 <= found["policy_entropy"] <= np.log(2) + 1e-9
        assert 0 <= found["free_fraction"] <= 1
    assert {r["step"] for r in rows} == {2, 4}
    assert {r["layer"] for r in record.table.to_pylist()} == {0, 1, 2, 3, 4}  # two of the actor, two of the critic
    assert record.config["stream"] == "offset"
    assert record.config["betas"] == [0.9, 0.999]


def test_a_fresh_agent_forgets_and_the_first_task_is_the_same():
    plain, fresh = Run(SMALL, 3), Run(dataclasses.replace(SMALL, remedy="fresh"), 3)
    for found in (plain, fresh):
        to_the_end(found, SMALL.steps)
    assert_same(values(plain), values(fresh))
    assert np.array_equal(plain.stream.task(1).offset, fresh.stream.task(1).offset)
    for found in (plain, fresh):
        found.advance()
    assert plain.optimizer.state_dict()["state"][0]["step"] == 5 * 4
    assert fresh.optimizer.state_dict()["state"][0]["step"] == 4


def test_a_decided_policy_is_seen():
    found = {metric: value for _, metric, value in measures.policy_rows(torch.tensor([[30.0, 0.0, -5.0]]))}
    assert found["policy_entropy"] < 1e-10
    assert found["logit_gap"] == found["largest_logit_gap"] == 30.0
    assert found["saturated_policy_fraction"] == 1.0
    p = torch.tensor([measures.BEYOND, 0.0]).softmax(0)
    assert float(1 - p[0]) == 0.0
    assert float(1 - torch.tensor([measures.BEYOND - 1, 0.0]).softmax(0)[0]) > 0.0


def test_a_gaussian_policy_that_the_bounds_cut_is_seen():
    mean = torch.tensor([[0.0, 3.0], [-3.5, 2.9]])
    found = {metric: value for _, metric, value in measures.gaussian_rows(mean, torch.zeros(2))}
    assert found["saturated_policy_fraction"] == 0.5
    assert found["largest_mean"] == 3.5
    narrow = {metric: value for _, metric, value in measures.gaussian_rows(mean, torch.full((2,), -3.0))}
    assert narrow["policy_entropy"] == pytest.approx(found["policy_entropy"] - 6.0)
    assert narrow["saturated_policy_fraction"] == 0.75


def test_rewards_that_are_no_numbers_are_named(monkeypatch):
    def move(self, state, action):
        return Moved(state, np.full(len(state), np.nan), np.zeros(len(state), bool))

    monkeypatch.setattr(CartPole, "move", move)
    message = r"return: a reward or a value is not finite at rollout 0 of task 0 \(offset 0\), seed 3; look at"
    with pytest.raises(Diverged, match=message):
        Run(SMALL, 3).advance()


def test_gradients_that_are_no_numbers_are_named_and_saved(tmp_path):
    config = dataclasses.replace(SMALL, value=1e38, max_norm=1e38)
    with pytest.raises(Diverged, match=r"try a smaller lr than 0.01. The state before this step is in"):
        keeping.finish(Run(config, 3), Keep(tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"environment": "pong"}, "environment: got 'pong'; allowed are 'cartpole'"),
        ({"stream": "moved"}, "stream: got 'moved'; allowed are 'offset'"),
        ({"arch": "cnn"}, "arch: got 'cnn'; allowed are 'mlp'"),
        ({"arch_settings": (("heads", 2),)}, "settings: got 'heads'; allowed are 'width', 'depth'"),
        ({"device": "cuda"}, "device: got 'cuda'; allowed are 'cpu'"),
        ({"remedy": "redoo"}, "remedy: got 'redoo'; allowed are"),
        ({"episodes": 0}, "episodes: got 0; it has to be at least 1"),
        (
            {"stream": "turns", "stream_settings": (("others", ("acrobot",)),)},
            "others: acrobot has 6 observations and 3 actions, cartpole 4 and 2",
        ),
    ],
)
def test_wrong_settings_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"environment": "pong"}, "environment: got 'pong'; allowed are 'cartpole'"),
        ({"epsilon": 2.0}, r"epsilon: got 2.0; it has to be in \[0, 1\]"),
        ({"episodes": 0}, "episodes: got 0; it has to be at least 1"),
        (
            {"fixed_targets": True, "capacity": 100},
            "capacity: got 100; fixed_targets needs a task's transitions, 256",
        ),
        (
            {"environment": "ant", "stream": "friction"},
            "environment: got 'ant', whose actions are continuous; DQN needs some that can be counted",
        ),
        ({"fixed_targets": True, "remedy": "redo"}, "fixed_targets: got True with reset_every 0 and remedy 'redo'"),
    ],
)
def test_wrong_settings_of_values_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(VALUES, **changes)


def test_gradients_of_values_that_are_no_numbers_are_named():
    with pytest.raises(Diverged, match=r"gradient: .* at rollout \d of task 0 .*; try a smaller lr than 1e\+38"):
        to_the_end(begin(dataclasses.replace(VALUES, lr=1e38, max_norm=1e38), 3))


def test_configurations_begin_their_own_runs():
    assert type(begin(SMALL, 0)) is Run
    assert type(begin(VALUES, 0)) is ValueRun


def test_agents_have_no_stacks():
    with pytest.raises(ValueError, match="stack: agents does not have it; leave out --stack"):
        run(SMALL, [0, 1], stack=True)
