"""What is kept of a run: it resumes bit for bit after a kill, and no checkpoint is lost or mistaken for another."""

import dataclasses
import json
import os
import signal

import pytest
import torch

from simulate.checksums import SEAL
from tests.flips import refused
from tests.torch_experiments.lab.training import settings
from tests.torch_experiments.lab.training.settings import DATA, MLP, resumed, to_the_end, unbroken, values
from torch_experiments.lab.experiments import e04_remedies
from torch_experiments.lab.training import Keep, Run, Stopped, checkpoints, finish, keeping, loop, run
from torch_experiments.lab.training.checkpoints import CheckpointError
from torch_experiments.remedies import REMEDIES
from torch_experiments.support.torch_private import TorchDispatchMode, schema, written


def killed(name, out):
    """Run until this process is killed at step 33, with a checkpoint of every step before."""

    def progress(steps):
        done.append(steps)
        if sum(done) == 33:
            os.kill(os.getpid(), signal.SIGKILL)

    done = []
    torch.set_num_threads(1)
    run(getattr(settings, name), [3], out, data=DATA, progress=progress, checkpoint_every=0)


def assert_same(weights, expected):
    assert all(torch.equal(weights[key], expected[key]) for key in expected)


@pytest.mark.parametrize("name", ["MLP", "VIT"])
def test_a_killed_run_goes_on_bit_for_bit(name, tmp_path, forks):
    config = getattr(settings, name)
    process = forks.Process(target=killed, args=(name, tmp_path))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    start, weights, rows = resumed(config, tmp_path)
    expected = unbroken(config)
    assert start == 32
    assert_same(weights, expected[0])
    assert rows == expected[1]
    (record,) = run(config, [3], tmp_path, data=DATA)
    assert record.table.to_pylist() == rows[0]
    assert [path.suffix for path in tmp_path.iterdir()] == [".parquet"]


@pytest.mark.parametrize("remedy", sorted(REMEDIES))
def test_every_remedy_resumes_bit_for_bit(remedy, tmp_path):
    changes = {"remedy": remedy, "remedy_settings": e04_remedies.SETTINGS.get(remedy, ())}
    config = dataclasses.replace(MLP, **changes, tasks=2, steps=8, dropout=0.1)
    started = Run(config, [3], DATA)
    with started.precisely():
        for _ in range(6):
            started.advance()
    folder = keeping.folder_of(started, tmp_path)
    folder.mkdir()
    keeping.save(started, folder)
    start, weights, rows = resumed(config, tmp_path)
    expected = to_the_end(Run(config, [3], DATA))
    assert start == 6
    assert_same(weights, expected[0])
    assert str(rows) == str(expected[1])


def test_a_resume_that_skips_a_step_is_noticed():
    found = Run(MLP, [3], DATA)
    for _ in range(30):
        found.advance()
    found.step += 1
    while found.step < 60:
        found.advance()
    with pytest.raises(AssertionError):
        assert_same(found.networks.weights(), unbroken(MLP)[0])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_stops_and_the_run_goes_on(number, tmp_path, capsys):
    def progress(steps):
        if steps == 1 and not list(tmp_path.glob("*.run/step-*")):
            os.kill(os.getpid(), number)

    with pytest.raises(Stopped):
        run(MLP, [0], tmp_path, data=DATA, progress=progress)
    assert "the same command goes on" in capsys.readouterr().out
    assert [path.name for path in tmp_path.glob("*.run/step-*")] == ["step-0000000001"]
    (record,) = run(MLP, [0], tmp_path, data=DATA)
    assert record.table.equals(run(MLP, [0], data=DATA)[0].table)
    assert signal.getsignal(number) is not None


@pytest.mark.parametrize(("name", "measurement"), [*(("MLP", k) for k in range(1, 13)), ("VIT", 4), ("VIT", 5)])
def test_a_signal_within_a_measurement_stops_at_once_and_the_run_goes_on_bit_for_bit(
    name, measurement, tmp_path, monkeypatch
):
    """Of each task, the first measurement comes before a step, and the last one with the task's averages."""
    config, at_its_end, calls = getattr(settings, name), loop.Run._measured, []

    def slow(self, s, position):
        yield from at_its_end(self, s, position)
        calls.append(position)
        if len(calls) == measurement:
            os.kill(os.getpid(), signal.SIGTERM)
            pytest.fail("it went on")

    monkeypatch.setattr(loop.Run, "_measured", slow)
    with pytest.raises(Stopped):
        run(config, [3], tmp_path, data=DATA)
    assert len(calls) == measurement
    monkeypatch.setattr(loop.Run, "_measured", at_its_end)
    _, weights, rows = resumed(config, tmp_path)
    assert_same(weights, unbroken(config)[0])
    assert str(rows) == str(unbroken(config)[1])


def test_a_signal_within_the_last_measurement_leaves_a_run_that_is_not_done(tmp_path, monkeypatch):
    short, at_its_end = dataclasses.replace(MLP, tasks=1, steps=3), loop.Run._measured

    def stop(self, s, position):
        if position == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        yield from at_its_end(self, s, position)

    monkeypatch.setattr(loop.Run, "_measured", stop)
    with pytest.raises(Stopped):
        run(short, [0], tmp_path, data=DATA)
    assert not list(tmp_path.glob("*.parquet"))
    monkeypatch.setattr(loop.Run, "_measured", at_its_end)
    assert run(short, [0], tmp_path, data=DATA)[0].table.equals(run(short, [0], data=DATA)[0].table)


def test_a_signal_within_the_first_step_which_may_compile_stops_at_once(tmp_path, monkeypatch):
    descend = loop.Run._descend

    def compiling(self):
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("it went on")

    monkeypatch.setattr(loop.Run, "_descend", compiling)
    with pytest.raises(Stopped):
        run(MLP, [3], tmp_path, data=DATA)
    assert not list(tmp_path.glob("*.run/step-*"))
    monkeypatch.setattr(loop.Run, "_descend", descend)
    assert run(MLP, [3], tmp_path, data=DATA)[0].table.to_pylist() == unbroken(MLP)[1][0]


def test_a_signal_within_another_step_waits_for_its_end(tmp_path, monkeypatch):
    descend = loop.Run._descend

    def asked(self):
        if self.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        descend(self)

    monkeypatch.setattr(loop.Run, "_descend", asked)
    with pytest.raises(Stopped):
        run(MLP, [0], tmp_path, data=DATA)
    assert [path.name for path in tmp_path.glob("*.run/step-*")] == ["step-0000000005"]


class Writes(TorchDispatchMode):
    """Note which of some tensors operations write to."""

    def __init__(self, tensors):
        super().__init__()
        self.names, self.found = {t.data_ptr(): name for name, t in tensors}, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = dict(zip([argument.name for argument in schema(func).arguments], args, strict=False)) | (
            kwargs or {}
        )
        changed = (
            [t for t in written(func, given) if isinstance(t, torch.Tensor)] if schema(func).is_mutable else []
        )
        self.found |= {self.names[t.data_ptr()] for t in changed if t.data_ptr() in self.names}
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["MLP", "VIT"])
def test_a_measurement_writes_to_no_parameter_for_a_moment(name):
    """What is saved when one is interrupted is the network."""
    found = Run(dataclasses.replace(getattr(settings, name), trapped=True), [0], DATA)
    found.advance()
    parameters = list(found.networks.ensemble.models[0].named_parameters())
    with Writes(parameters) as writes:
        found._rows(0, found.config.steps)
        assert not writes.found
        with torch.no_grad():
            parameters[0][1].add_(1)
    assert writes.found == {parameters[0][0]}


def test_statistics_that_a_measurement_moves_are_put_back_when_it_is_interrupted(monkeypatch):
    found = Run(settings.VIT, [0], DATA)
    found.advance()
    buffers = {name: b.clone() for name, b in found.networks.ensemble.models[0].named_buffers()}
    assert buffers

    def moving(self, k, position):
        for b in self.networks.ensemble.models[0].buffers():
            b.add_(1)
        raise keeping.Interrupted

    monkeypatch.setattr(loop.Run, "_rows", moving)
    found.owed = (0, 1)
    with pytest.raises(keeping.Interrupted):
        found.advance()
    assert_same(dict(found.networks.ensemble.models[0].named_buffers()), buffers)


def test_a_signal_after_the_last_step_reaches_the_caller(tmp_path, monkeypatch):
    saved, heard = keeping.records.save, []

    def save(out, record):
        os.kill(os.getpid(), signal.SIGTERM)
        return saved(out, record)

    monkeypatch.setattr(keeping.records, "save", save)
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        run(dataclasses.replace(MLP, tasks=1, steps=3), [0], tmp_path, data=DATA)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]
    assert [path.suffix for path in tmp_path.iterdir()] == [".parquet"]


def test_a_finished_run_is_read(tmp_path, monkeypatch):
    (first,) = run(MLP, [0], tmp_path, data=DATA)
    monkeypatch.setattr(loop, "Run", lambda *args: pytest.fail("trained again"))
    assert run(MLP, [0], tmp_path, data=DATA)[0].table.equals(first.table)


def started(config, tmp_path, steps=5):
    found = Run(config, [0], DATA)
    folder = keeping.folder_of(found, tmp_path)
    folder.mkdir(parents=True)
    for _ in range(steps):
        found.advance()
    return keeping.save(found, folder)


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path):
    path = started(MLP, tmp_path)
    other = dataclasses.replace(MLP, lr=0.5)
    path.parent.rename(keeping.folder_of(Run(other, [0], DATA), tmp_path))
    with pytest.raises(CheckpointError, match=r"another configuration \(lr is 0.001 there and 0.5 here\)"):
        run(other, [0], tmp_path, data=DATA)


def test_without_resume_a_checkpoint_is_left_alone(tmp_path):
    path = started(MLP, tmp_path)
    with pytest.raises(CheckpointError, match=r"holds step 5; add --resume to go on, or remove it"):
        run(MLP, [0], tmp_path, data=DATA, resume=False)
    assert path.exists()


def test_a_damaged_checkpoint_is_named(tmp_path):
    path = started(MLP, tmp_path)
    (path / "state.pt").write_bytes(b"?")
    with pytest.raises(CheckpointError, match=r"step-0000000005 cannot be read .*remove it to begin anew"):
        run(MLP, [0], tmp_path, data=DATA)


@pytest.mark.parametrize("name", [checkpoints.ABOUT, checkpoints.WEIGHTS, checkpoints.STATE, checkpoints.ROWS])
def test_no_flipped_bit_changes_a_checkpoint(name, tmp_path):
    path = started(MLP, tmp_path)
    identity = keeping.about(Run(MLP, [0], DATA))
    whole = checkpoints.read(path, identity)

    def same(read):
        assert_same(read.weights, whole.weights)
        return (read.step, read.config, str(read.rows), str(read.state)) == (
            whole.step,
            whole.config,
            str(whole.rows),
            str(whole.state),
        )

    assert refused(path / name, lambda: checkpoints.read(path, identity), same) > 250


def test_a_checkpoint_of_before_has_no_checksum_and_is_read(tmp_path):
    path = started(MLP, tmp_path)
    about = json.loads((path / checkpoints.ABOUT).read_text())
    del about[SEAL]
    (path / checkpoints.ABOUT).write_text(json.dumps(about))
    assert checkpoints.read(path, keeping.about(Run(MLP, [0], DATA))).step == 5


def test_two_runs_on_one_folder_are_refused(tmp_path):
    first, second = (Run(MLP, [0], DATA) for _ in range(2))
    message = rf"in use by process {os.getpid()} on .*; wait for it, or choose"
    with checkpoints.locked(keeping.folder_of(first, tmp_path)), pytest.raises(CheckpointError, match=message):
        finish(second, Keep(tmp_path))
    assert len(finish(second, Keep(tmp_path))) == 1


def test_a_write_that_fails_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = started(MLP, tmp_path)
    found = Run(MLP, [0], DATA)
    keeping.restore(found, checkpoints.latest(path.parent, keeping.about(found)))
    found.advance()
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.pq, "write_table", lambda *args: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            keeping.save(found, path.parent)
    assert checkpoints.found(path.parent) == [path]
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name]


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["MLP", "VIT"])
def test_a_run_on_a_gpu_resumes_where_it_was_saved(name, tmp_path):
    config = dataclasses.replace(getattr(settings, name), device="cuda")
    (expected,) = run(config, [0], data=DATA)

    def progress(steps):
        if steps == 1 and not list(tmp_path.glob("*.run/step-*")):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        run(config, [0], tmp_path, data=DATA, progress=progress)
    (record,) = run(config, [0], tmp_path, data=DATA)
    found, wanted = (values(r, "online_loss") for r in (record, expected))
    assert found == pytest.approx(wanted, rel=1e-3)
