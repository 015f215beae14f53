"""Grids: what they contain, that finished runs are skipped, failed ones retried, killed ones resumed."""

import dataclasses
import os
import re
import signal
import threading
import time
from functools import cache

import pytest

from tests.torch_experiments.small import SMALL
from torch_experiments.lab import experiments, language, records, rl, runs, training
from torch_experiments.lab.campaign import engines, grids
from torch_experiments.lab.campaign.engines import Local, make
from torch_experiments.lab.campaign.jobs import Job, Outcome, attempt
from torch_experiments.lab.images.pixels import load
from torch_experiments.lab.training import checkpoints, keeping

DATA = load("digits")
LONG = dataclasses.replace(SMALL, tasks=2, steps=1000, measure_every=1000)
TEXT = language.Config(
    **{"tasks": 2, "steps": 60, "context": 16, "batch": 4, "probe_train": 2, "probe_test": 2, "free_every": 0},
    arch_settings=(("width", 16),),
)
AGENTS = rl.Config(tasks=2, steps=60, copies=8, horizon=32, batch=64, episodes=2, probe=16)
RUNS = {
    training.Config: lambda config, seed: training.Run(config, [seed], DATA),
    language.Config: lambda config, seed: language.Run(config, [seed], language.load(config.data)),
    rl.Config: rl.Run,
}
DIVERGING = dataclasses.replace(SMALL, optimizer="sgd", lr=1e20)


def jobs_of(tmp_path, seeds=(0,), **configs):
    return grids.jobs(configs, seeds, tmp_path, checkpoint_every=0.3)


def states(results):
    return [(r.job.label, r.job.seed, r.outcome.state, r.attempts) for r in results]


def unbroken(job):
    return run_whole(job.config, job.seed)


@cache
def run_whole(config, seed):
    kind = runs.kind(config)
    (record,) = kind.run(config, [seed], data=kind.load(config.data))
    return record.table


def folder_of(job):
    return keeping.folder_of(RUNS[type(job.config)](job.config, job.seed), job.out)


def stored(job):
    return records.load(job.out / f"{job.log.stem}.parquet").table


@pytest.fixture
def local(tmp_path):
    engine = Local(2, tmp_path, {})
    yield engine
    engine.close()


class Fake:
    """An engine that plays given outcomes, one after the other, for every job."""

    def __init__(self, **outcomes):
        self.outcomes = {label: iter(states) for label, states in outcomes.items()}
        self.started, self.stopped = [], []

    def start(self, jobs):
        self.started += [job.label for job in jobs]
        return [(job.label, len(self.started) + k) for k, job in enumerate(jobs)]

    def ended(self, tickets):
        return [next(iter(tickets))]

    def outcome(self, ticket):
        state = next(self.outcomes[ticket[0]])
        if state == "interrupt":
            raise KeyboardInterrupt
        return Outcome(state, f"because {state}")

    def stop(self, tickets):
        self.stopped = [label for label, _ in tickets]


def test_a_failed_or_lost_run_is_tried_again_and_no_other(tmp_path):
    todo = jobs_of(tmp_path, a=SMALL, b=SMALL, c=SMALL, d=SMALL)
    engine = Fake(a=["lost", "failed", "done"], b=["done"], c=["failed"] * 3, d=["in use"])
    found = grids.run(todo, engine, retries=2)
    assert states(found) == [("a", 0, "done", 3), ("b", 0, "done", 1), ("c", 0, "failed", 3), ("d", 0, "in use", 1)]
    assert sorted(engine.started) == list("aaabcccd")
    assert states(grids.run(todo[:1], Fake(a=["lost", "done"]), retries=0)) == [("a", 0, "lost", 1)]


def test_an_interruption_stops_what_is_under_way_and_is_passed_on(tmp_path):
    engine = Fake(a=["done"], b=["interrupt"], c=["done"])
    seen = []
    with pytest.raises(KeyboardInterrupt):
        grids.run(jobs_of(tmp_path, a=SMALL, b=SMALL, c=SMALL), engine, note=seen.append)
    assert (states(seen), engine.stopped) == ([("a", 0, "done", 1)], ["b", "c"])


def test_the_report_counts_runs_and_names_the_log_of_what_went_wrong(tmp_path, capsys):
    todo = jobs_of(tmp_path, a=SMALL, b=SMALL)
    assert not grids.report(grids.run(todo, Fake(a=["done"], b=["failed"]), retries=0))
    shown = re.sub(r"[\s│]", "", capsys.readouterr().out)
    assert "becausefailed" in shown
    assert todo[1].log.stem in shown
    assert grids.report(grids.run(todo, Fake(a=["done"], b=["done"])))


def test_processes_run_a_grid_and_a_run_that_fails_fails_alone(tmp_path, local):
    todo = jobs_of(tmp_path, (0, 1), good=SMALL) + jobs_of(tmp_path, bad=DIVERGING)
    found = grids.run(todo, local, retries=1)
    assert states(found) == [("good", 0, "done", 1), ("good", 1, "done", 1), ("bad", 0, "failed", 2)]
    assert found[2].outcome.about.startswith("Diverged: loss: nan at step")
    assert found[2].job.log.read_text().count("Traceback") == 2
    assert all(stored(job).equals(unbroken(job)) for job in todo[:2])
    again = grids.run(todo[:2], Fake())
    assert states(again) == [("good", 0, "skipped", 0), ("good", 1, "skipped", 0)]


def holder(job, seconds=60):
    """Return the process that works on ``job``, once it has a checkpoint."""
    folder, end = folder_of(job), time.monotonic() + seconds
    while time.monotonic() < end:
        if list(folder.glob("step-*")) and (found := re.match(r"process (\d+)", (folder / "lock").read_text())):
            return int(found[1])
        time.sleep(0.02)
    raise TimeoutError("no checkpoint was written")


def killing(job, killed, number=signal.SIGKILL):
    """Return a thread that ends the worker of ``job`` as soon as it has a checkpoint."""

    def kill():
        killed.append(holder(job))
        os.kill(killed[0], number)

    return threading.Thread(target=kill)


def assert_killed_and_resumed(job, engine, retries=1):
    killed = []
    thread = killing(job, killed)
    thread.start()
    (found,) = grids.run([job], engine, retries=retries)
    thread.join()
    assert (found.outcome.state, found.attempts) == ("done", 2)
    assert killed[0] != os.getpid()
    record = records.load(job.out / f"{job.log.stem}.parquet")
    assert record.table.equals(unbroken(job))
    assert record.environment["resumed"] > 0


def test_a_killed_process_loses_a_run_that_goes_on_at_its_checkpoint(tmp_path, local):
    assert_killed_and_resumed(jobs_of(tmp_path, run=LONG)[0], local)


@pytest.mark.parametrize("config", [TEXT, AGENTS], ids=["text", "agents"])
def test_killed_runs_on_text_and_of_agents_go_on_bit_for_bit(tmp_path, local, config):
    (job,) = grids.jobs({"run": config}, (0,), tmp_path, checkpoint_every=0.05)
    assert_killed_and_resumed(job, local)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "package"), [("slurm", "submitit"), ("ray", "ray")])
def test_other_engines_run_text_and_agents(tmp_path, name, package):
    pytest.importorskip(package, reason=f"the extra {name!r} is not installed")
    todo = grids.jobs({"text": TEXT, "agents": AGENTS}, (0,), tmp_path)
    engine = make(name, 1, tmp_path, {"cluster": "local", "timeout_min": 5} if name == "slurm" else {})
    try:
        found = grids.run(todo, engine)
    finally:
        engine.close()
    assert [result.outcome.state for result in found] == ["done", "done"]
    assert all(stored(job).equals(unbroken(job)) for job in todo)


def test_without_a_retry_a_killed_process_is_reported(tmp_path, local):
    (job,) = jobs_of(tmp_path, run=LONG)
    thread = killing(job, [])
    thread.start()
    (found,) = grids.run([job], local, retries=0)
    thread.join()
    assert found.outcome == Outcome("lost", "the process ended with signal SIGKILL")


def test_ctrl_c_saves_the_runs_and_the_same_grid_goes_on(tmp_path, local):
    (job,) = jobs_of(tmp_path, run=LONG)
    here = threading.get_ident()
    interrupt = threading.Thread(target=lambda: (holder(job), signal.pthread_kill(here, signal.SIGINT)))
    interrupt.start()
    with pytest.raises(KeyboardInterrupt):
        grids.run([job], local)
    interrupt.join()
    assert "stopped by signal 15" in job.log.read_text()
    assert len(list(tmp_path.glob("*.run/step-*"))) == 1
    (found,) = grids.run([job], second := Local(1, tmp_path, {}))
    second.close()
    assert found.outcome.state == "done"
    assert stored(job).equals(unbroken(job))


def test_a_run_that_another_process_holds_is_left_to_it(tmp_path):
    (job,) = jobs_of(tmp_path, run=SMALL)
    with checkpoints.locked(folder_of(job)):
        found = attempt(job)
    assert found.state == "in use"
    assert re.search(rf"in use by process {os.getpid()} on \S+; wait for it, or choose another --out", found.about)
    assert attempt(job).state == "done"


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path):
    (job,) = jobs_of(tmp_path, run=SMALL)
    folder_of(job).mkdir()
    (folder_of(job) / "lock").write_text("process 1 on elsewhere")
    assert attempt(job).state == "done"


def test_a_run_that_was_finished_meanwhile_is_not_repeated(tmp_path, monkeypatch):
    (job,) = jobs_of(tmp_path, run=SMALL)
    late = training.Run(SMALL, [0], DATA)
    assert attempt(job).state == "done"
    monkeypatch.setattr(late, "advance", lambda: pytest.fail("trained again"))
    (record,) = training.finish(late, training.Keep(tmp_path))
    assert record.table.equals(stored(job))


@pytest.mark.filterwarnings("ignore")
def test_submitit_runs_a_grid_and_resumes_a_killed_job(tmp_path, monkeypatch):
    submitit = pytest.importorskip("submitit", reason="the extra 'slurm' is not installed")
    monkeypatch.setattr(submitit.core.core.Job, "_results_timeout_s", 1)  # of 15: a killed job leaves no result
    engine = make("slurm", 2, tmp_path, {"cluster": "local", "timeout_min": 5})
    assert_killed_and_resumed(jobs_of(tmp_path, run=LONG)[0], engine)


@pytest.mark.filterwarnings("ignore")
def test_a_run_whose_ray_worker_is_killed_is_finished_by_another(tmp_path):
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    handler = signal.getsignal(signal.SIGTERM)
    engine = make("ray", 1, tmp_path, {})  # every process imports torch anew, and two are enough
    assert signal.getsignal(signal.SIGTERM) is handler
    try:
        todo = jobs_of(tmp_path, run=LONG) + jobs_of(tmp_path, bad=DIVERGING)
        killed = []
        thread = killing(todo[0], killed)
        thread.start()
        found = grids.run(todo, engine, retries=1)
        thread.join()
    finally:
        engine.close()
    assert [(r.outcome.state, r.attempts) for r in found] == [("done", 2), ("failed", 2)]
    assert stored(todo[0]).equals(unbroken(todo[0]))


def test_a_grid_is_every_combination_once():
    configs = {"plain": SMALL, "again": SMALL}
    found = grids.product(configs, {"lr": (1e-3, 1e-2), "remedy": ("none", "l2")})
    assert list(found) == [f"plain, lr {lr}, remedy {r}" for lr in (1e-3, 1e-2) for r in ("none", "l2")]
    assert {(c.lr, c.remedy, bool(c.remedy_settings)) for c in found.values()} == {
        (lr, r, r == "l2") for lr in (1e-3, 1e-2) for r in ("none", "l2")
    }
    assert grids.product(configs, {}) == {"plain": SMALL}


def test_another_stream_begins_without_the_settings_of_the_old_one():
    axes = {"stream": ("class_incremental", SMALL.stream), "tasks": (2,)}
    other, same = grids.product({"plain": SMALL}, axes).values()
    assert (other.stream_settings, same.stream_settings) == ((), SMALL.stream_settings)
    assert SMALL.stream_settings
    (given,) = experiments.changed({"plain": other}, set_=["stream_settings.size=2"]).values()
    assert training.Run(given, [0], DATA).feed.active.shape[-1] == 2


def test_text_and_agents_make_one_grid(tmp_path):
    configs = grids.configs_of(("e08", "e09"), ("mlp",), "quick", None, grids.axes_of(["lr=1e-3,1e-2"]))
    todo = grids.jobs(configs, (0,), tmp_path)
    assert {type(job.config) for job in todo} == {language.Config, rl.Config}
    assert len({job.log for job in todo}) == len(todo) == len(configs)
    assert {"e08 mlp no norm, lr 0.01", "e09 mlp tanh, lr 0.001"} <= set(configs)


def test_axes_are_read_with_the_types_of_their_fields():
    found = grids.axes_of(
        ["lr=1,1e-4", "norm=none,layer", "affine=True,False", "steps=5", "activation=tanh,None", "size=4,None"]
    )
    assert found == {
        "lr": (1.0, 1e-4),
        "norm": ("none", "layer"),
        "affine": (True, False),
        "steps": (5,),
        "activation": ("tanh", None),
        "size": (4, None),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rate=1", r"over: got 'rate'; allowed are .*'lr'"),
        ("stream_settings=1", r"over: got 'stream_settings'; allowed are"),
        ("lr", r"over: got 'lr'; write a field and its values, such as lr=1e-3,1e-4"),
        ("lr=fast", r"over: lr got 'fast'; its values are like 0.001"),
        ("affine=1", r"over: affine got 1; its values are like True"),
        ("size=big", r"over: size got 'big'; its values are None and those of int"),
        ("size=0", r"size: got 0; it has to be at least 1"),
        ("remedy=l3", r"remedy: got 'l3'; allowed are"),
    ],
)
def test_a_wrong_axis_is_named(text, message):
    with pytest.raises(ValueError, match=message):
        grids.product({"plain": SMALL}, grids.axes_of([text]))


def test_a_wrong_engine_or_option_is_named(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"engine: got 'pbs'; allowed are 'local', 'slurm', 'ray'"):
        make("pbs", 1, tmp_path, {})
    with pytest.raises(ValueError, match=r"workers: got 0; at least 1 is needed"):
        make("local", 0, tmp_path, {})
    with pytest.raises(ValueError, match=r"options: got \['gpus'\]; the engine 'local' has none"):
        make("local", 1, tmp_path, {"gpus": 1})
    with pytest.raises(ValueError, match=r"'slurm' needs the package no_such: pip install 'lop-companion\[slurm"):
        engines.needed("no_such", "slurm")


def test_the_command_runs_a_grid_and_skips_it_the_second_time(tmp_path, command, monkeypatch):
    configs = experiments.changed({"none": SMALL, "fast": SMALL}, tasks=1)
    configs["fast"] = dataclasses.replace(configs["fast"], lr=0.01)
    monkeypatch.setattr(experiments.load("e02"), "configs", lambda *given: configs)
    for state in ("done", "skipped"):
        given = ("--seeds", 0, "--workers", 2, "--over", "norm=none,layer", "--out", tmp_path)
        assert re.search(rf"runs.*{state}.*\n.*\n.*4.*4", command("grid", "e02", *given)[1])
    monkeypatch.setattr(experiments.load("e02"), "configs", lambda *given: {"bad": DIVERGING})
    code, out, _ = command("grid", "e02", "--seeds", 0, "--retries", 0, "--out", tmp_path)
    assert code == 1
    assert "Diverged" in out


def test_stacked_seeds_are_one_job_where_they_can_be(tmp_path):
    watching = dataclasses.replace(SMALL, remedy="cbp")
    cells = {"plain": SMALL, "batch": dataclasses.replace(SMALL, norm="batch"), "watching": watching}
    todo = grids.jobs(cells | {"dropping": dataclasses.replace(SMALL, dropout=0.1)}, (2, 5), tmp_path, stack=True)
    assert [(job.label, job.seeds) for job in todo] == [
        ("plain", "2,5"),
        *((label, seed) for seed in ("2", "5") for label in ("batch", "watching", "dropping")),
    ]
    assert len({job.log for job in todo}) == len(todo)


def test_a_stacked_job_makes_the_records_of_its_seeds(tmp_path, local):
    training.run(SMALL, [0], tmp_path, data=DATA)
    todo = grids.jobs({"a": SMALL}, (0, 1, 2), tmp_path, stack=True)
    assert not todo[0].finished
    assert states(grids.run(todo, local)) == [("a", 0, "done", 1)]
    found = [records.load(tmp_path / f"{name}.parquet") for name in todo[0].records]
    assert [(r.config["seed"], r.environment["stacked"]) for r in found] == [(0, 1), (1, 2), (2, 2)]
    alone = training.run(SMALL, [2], data=DATA)[0].table["value"].to_pylist()
    assert found[2].table["value"].to_pylist() == pytest.approx(alone, rel=1e-4, abs=1e-4)
    assert states(grids.run(todo, Fake())) == [("a", 0, "skipped", 0)]


def test_jobs_go_through_seeds_first_and_name_their_files(tmp_path):
    todo = jobs_of(tmp_path, (4, 5), a=SMALL, b=LONG)
    assert [(job.label, job.seed) for job in todo] == [("a", 4), ("b", 4), ("a", 5), ("b", 5)]
    assert len({job.log for job in todo}) == 4
    assert all(isinstance(job, Job) and job.out.is_absolute() for job in todo)
