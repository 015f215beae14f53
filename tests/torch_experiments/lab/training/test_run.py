"""The runner: what it records, that it resumes bit for bit after a kill, that stacked seeds are separate seeds."""

import dataclasses
import os
import signal
import subprocess
import sys

import pytest
import torch

from torch_experiments.lab import training
from torch_experiments.lab.experiments import e04_remedies
from torch_experiments.lab.images import augment
from torch_experiments.lab.images.pixels import load
from torch_experiments.lab.training import Config, Diverged, Keep, Run, Stopped, checkpoints, ensemble, loop, run
from torch_experiments.lab.training.checkpoints import CheckpointError
from torch_experiments.remedies import REMEDIES

DATA = load("digits")
PAIRS = (("size", 2),)
MLP = Config(
    stream_settings=PAIRS,
    tasks=3,
    steps=20,
    measure_every=8,
    batch=16,
    arch_settings=(("width", 16), ("depth", 2)),
    probe_train=60,
    probe_test=40,
    padding=1,
    flip=True,
    jitter=0.1,
    remedy="cbp",
    remedy_settings=(("rate", 0.02), ("maturity", 5)),
)
VIT = dataclasses.replace(
    MLP,
    arch="vit",
    arch_settings=(("depth", 1), ("heads", 2), ("patch", 2), ("width", 16)),
    norm="batch",
    dropout=0.1,
    remedy="redo",
    remedy_settings=(("every", 10),),
)
KILLED = """
import os, signal, sys, torch
torch.set_num_threads(1)
from tests.torch_experiments.lab.training import test_run as t
done = []
def progress(steps):
    done.append(steps)
    if sum(done) == 33:
        os.kill(os.getpid(), signal.SIGKILL)
t.run(getattr(t, sys.argv[1]), [3], sys.argv[2], data=t.DATA, progress=progress, checkpoint_every=0)
"""


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def values(record, metric, layer=0):
    rows = record.table.to_pylist()
    return {(r["task"], r["step"]): r["value"] for r in rows if r["metric"] == metric and r["layer"] == layer}


def weights_after(config, seed, folder=None):
    """Return all weights at the end of a run, from its checkpoint below ``folder`` on if there is one."""
    found = Run(config, [seed], DATA)
    start = 0
    if folder is not None:
        checkpoint = checkpoints.latest(found.folder(folder), found.about())
        start = checkpoint.step
        found.load(checkpoint)
    with loop._precision(config):
        while found.step < config.tasks * config.steps:
            found.advance()
    return start, found._weights(), found.rows


def test_denormal_numbers_are_flushed_in_training_alone(monkeypatch):
    smallest = torch.full((4,), 1e-40)
    seen = []
    advance = Run.advance
    monkeypatch.setattr(Run, "advance", lambda self: (seen.append((smallest * 1).sum().item()), advance(self)))
    training.run(dataclasses.replace(MLP, tasks=1, steps=2), [0], data=DATA)
    assert set(seen) == {0.0}
    assert (smallest * 1).sum() > 0


@pytest.mark.parametrize("name", ["MLP", "VIT"])
def test_a_killed_run_goes_on_bit_for_bit(name, tmp_path):
    config = globals()[name]
    killed = subprocess.run([sys.executable, "-c", KILLED, name, tmp_path], cwd=os.getcwd(), check=False)
    assert killed.returncode == -signal.SIGKILL
    start, resumed, rows = weights_after(config, 3, tmp_path)
    _, unbroken, expected = weights_after(config, 3)
    assert start == 32
    assert all(torch.equal(resumed[key], unbroken[key]) for key in unbroken)
    assert rows == expected
    (record,) = run(config, [3], tmp_path, data=DATA)
    assert record.table.to_pylist() == expected[0]
    assert [path.suffix for path in tmp_path.iterdir()] == [".parquet"]


@pytest.mark.parametrize("remedy", sorted(REMEDIES))
def test_every_remedy_resumes_bit_for_bit(remedy, tmp_path):
    changes = {"remedy": remedy, "remedy_settings": e04_remedies.SETTINGS.get(remedy, ()), "steps": 8}
    config = dataclasses.replace(MLP, **changes, dropout=0.1)
    started = Run(config, [3], DATA)
    with loop._precision(config):
        for _ in range(6):
            started.advance()
    folder = started.folder(tmp_path)
    folder.mkdir()
    started.save(folder)
    start, resumed, rows = weights_after(config, 3, tmp_path)
    _, unbroken, expected = weights_after(config, 3)
    assert start == 6
    assert all(torch.equal(resumed[key], unbroken[key]) for key in unbroken)
    assert str(rows) == str(expected)


CNN = dataclasses.replace(
    VIT, arch="cnn", arch_settings=(("depth", 2), ("hidden", 16), ("width", 4)), precision="float64", steps=12
)
RESNET = dataclasses.replace(CNN, arch="resnet18", arch_settings=(("stages", (1, 1)), ("width", 4)), dropout=0.0)


@pytest.mark.parametrize("config", [CNN, RESNET])
@pytest.mark.parametrize("remedy", ["redo", "spectral", "parseval", "weight-clipping", "shrink-perturb"])
def test_the_order_of_tensors_of_a_gpu_changes_no_number(config, remedy, tmp_path, monkeypatch):
    config = dataclasses.replace(config, remedy=remedy, remedy_settings=())
    _, expected, rows = weights_after(config, 3)
    monkeypatch.setattr(ensemble, "fast_order", lambda model: torch.channels_last)
    found = Run(config, [3], DATA)
    images = [p for p in found.ensemble.models[0].parameters() if p.ndim == 4]
    assert images
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in images)
    assert not all(p.is_contiguous() for p in images)
    while found.step < 18:
        found.advance()
    found.save(tmp_path)
    again = Run(config, [3], DATA)
    again.load(checkpoints.latest(tmp_path, again.about()))
    with loop._precision(config):
        while again.step < config.tasks * config.steps:
            again.advance()
    for name, weights in again._weights().items():
        assert torch.allclose(weights, expected[name], rtol=1e-8, atol=1e-10), name
    values = [[row["value"] for row in part[0]] for part in (again.rows, rows)]
    assert values[0] == pytest.approx(values[1], rel=1e-5, abs=1e-5)


def test_tensors_keep_their_order_on_a_cpu():
    assert all(p.is_contiguous() for p in Run(CNN, [3], DATA).ensemble.models[0].parameters())


def test_a_resume_that_skips_a_step_is_noticed():
    _, unbroken, _ = weights_after(MLP, 3)
    found = Run(MLP, [3], DATA)
    for _ in range(30):
        found.advance()
    found.step += 1
    while found.step < 60:
        found.advance()
    assert not all(torch.equal(found._weights()[key], unbroken[key]) for key in unbroken)


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


@pytest.mark.parametrize(
    "change",
    [
        {"remedy": "none", "remedy_settings": ()},
        {"remedy": "l2-init", "remedy_settings": (("strength", 0.1),)},
        {"remedy": "noise", "remedy_settings": ()},
        {"remedy": "shrink-perturb", "remedy_settings": ()},
        {"remedy": "fresh", "remedy_settings": (), "head": "fresh"},
        {"remedy": "optimizer-reset", "remedy_settings": (), "optimizer": "sgd", "lr": 0.05},
        {"remedy": "none", "remedy_settings": (), "norm": "layer", "protocol": "published"},
        {"remedy": "spectral", "remedy_settings": (("strength", 0.1),)},
        {"remedy": "parseval", "remedy_settings": (("strength", 0.1),)},
        {"remedy": "syre", "remedy_settings": (("strength", 0.1),)},
        {"remedy": "weight-clipping", "remedy_settings": (("kappa", 0.5),)},
        {"remedy": "escape", "remedy_settings": ()},
        {"remedy": "recovery", "remedy_settings": (("every", 5), ("dead", 0.01), ("rank", 0.1))},
    ],
)
def test_stacked_seeds_are_separate_seeds_to_rounding(change):
    config = dataclasses.replace(MLP, precision="float64", tasks=2, **change)
    separate, together = (run(config, [5, 6, 7], data=DATA, stack=stack) for stack in (False, True))
    for one, other in zip(separate, together, strict=True):
        assert one.table.drop(["value"]).equals(other.table.drop(["value"]))
        a, b = (torch.tensor(r.table["value"].to_pylist(), dtype=torch.float64) for r in (one, other))
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-6)
    ends = [values(record, "weight_norm")[1, 20] for record in together]
    assert ends == pytest.approx([values(record, "weight_norm")[1, 20] for record in separate], rel=1e-12)
    assert len(set(ends)) == 3


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


def test_a_finished_run_is_read(tmp_path, monkeypatch):
    (first,) = run(MLP, [0], tmp_path, data=DATA)
    monkeypatch.setattr(loop, "Run", lambda *args: pytest.fail("trained again"))
    assert run(MLP, [0], tmp_path, data=DATA)[0].table.equals(first.table)


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
    sizes = [
        run._probe(run.tasks[0], "train")[1].bincount(minlength=10).sort().values for run in (corrected, published)
    ]
    assert sizes[0].tolist()[-2:] == [30, 30]
    assert sizes[1].tolist()[-2:] == [0, 60]
    for found, kept in ((corrected, False), (published, True)):
        for _ in range(20):
            found.advance()
        found._prepare(1)
        head = training.head_of(found.networks[0].model)
        assert not head.weight.any()
        assert all(bool(m.any()) == kept for m in found.networks[0].moments(head.weight).values())


def test_batches_go_through_a_task_before_they_repeat():
    found = Run(dataclasses.replace(MLP, batch=50), [0], DATA)
    n = len(found.tasks[0].train)
    orders = zip(*(found._order((0,), e) for e in range(2)), strict=True)
    index, labels = (torch.cat(parts, dim=1)[0] for parts in orders)
    assert sorted(index[:n].tolist()) == sorted(found.tasks[0].train.tolist())
    assert torch.equal(found.tasks[0].active[labels], DATA.train_y[index])
    shown = [found._picked((0,), position) for position in range(2 * n // 50)]
    assert torch.equal(torch.cat([i[0] for i, _ in shown]), index[: 2 * n // 50 * 50])
    assert torch.equal(torch.cat([y[0] for _, y in shown]), labels[: 2 * n // 50 * 50])
    x, _ = found._batch(1)
    assert x.shape == (1, 50, 1, 8, 8)


@pytest.mark.parametrize("batch", [7, 400])
def test_a_batch_may_span_epochs(batch):
    found = Run(dataclasses.replace(MLP, batch=batch), [0], DATA)
    n = len(found.tasks[0].train)
    endless = torch.cat([found._order((0,), e)[0][0] for e in range(batch // n + 60)])
    for position in (0, n // batch, 2 * n // batch + 1):
        assert torch.equal(found._picked((0,), position)[0][0], endless[position * batch :][:batch])


def test_an_accelerator_changes_all_seeds_at_once_and_draws_ahead(monkeypatch):
    config = dataclasses.replace(MLP, stream="permuted", stream_settings=(), remedy="none", remedy_settings=())
    found = Run(config, [1, 2], DATA)
    x, _ = found._batch(3)
    levels = DATA.train_x[found._picked((0, 1), 3)[0].flatten()]
    assert torch.equal(found._prepared(levels, found._draw()), x.flatten(0, 1))
    found._ahead, found.step = 4, 6
    together = found._draw()
    alone = Run(config, [2], DATA)
    alone._ahead, alone.step = 4, 6
    for both, own in zip(together, alone._draw(), strict=True):
        assert torch.equal(both[..., 16:], own)
    assert found._draw() is not together
    found.step = 7
    assert not torch.equal(found._draw().factors, together.factors)


def test_what_an_accelerator_does_to_images_compiles_without_a_break(monkeypatch):
    monkeypatch.setattr(augment, "crop_flip", augment.gathered)
    found = Run(MLP, [1], DATA)
    levels = DATA.train_x[:16].clone()
    fused = torch.compile(found._prepared, backend="aot_eager", fullgraph=True)
    assert torch.equal(fused(levels, found._draw()), found._prepared(levels, found._draw()))


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


def test_where_the_first_nan_is():
    model = training.build(MLP, (1, 8, 8), 10, 0)
    x = torch.zeros(2, 1, 8, 8)
    assert training.first_infinite(model, x) == "the loss"
    assert training.first_infinite(model, x / 0) == "the input"
    with torch.no_grad():
        model.linear2.bias[3] = torch.inf
    assert training.first_infinite(model, x) == "the parameters of linear2"
    model.linear1.bias.data.fill_(3e38)
    model.linear1.weight.data.fill_(3e38)
    assert training.first_infinite(model, x + 1) == "the output of linear1"


def started(config, tmp_path, steps=5):
    found = Run(config, [0], DATA)
    folder = found.folder(tmp_path)
    folder.mkdir(parents=True)
    for _ in range(steps):
        found.advance()
    return found.save(folder)


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path):
    path = started(MLP, tmp_path)
    other = dataclasses.replace(MLP, lr=0.5)
    path.parent.rename(Run(other, [0], DATA).folder(tmp_path))
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


def test_two_runs_on_one_folder_are_refused(tmp_path):
    first, second = (Run(MLP, [0], DATA) for _ in range(2))
    message = rf"in use by process {os.getpid()} on .*; wait for it, or choose"
    with checkpoints.locked(first.folder(tmp_path)), pytest.raises(CheckpointError, match=message):
        second.to_the_end(Keep(tmp_path))
    assert len(second.to_the_end(Keep(tmp_path))) == 1


def test_a_write_that_fails_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = started(MLP, tmp_path)
    found = Run(MLP, [0], DATA)
    found.load(checkpoints.latest(path.parent, found.about()))
    found.advance()
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.pq, "write_table", lambda *args: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            found.save(path.parent)
    assert checkpoints.found(path.parent) == [path]
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arch": "mpl"}, r"arch: got 'mpl'; allowed are 'mlp', 'cnn', 'resnet18', 'vit'"),
        ({"stream": "x"}, r"stream: got 'x'; allowed are 'class_split'"),
        ({"remedy": "x"}, r"remedy: got 'x'; allowed are 'none', 'l2'"),
        ({"remedy": "l2", "remedy_settings": (("decay", 1),)}, r"remedy_settings: .*decay.*'l2'"),
        ({"protocol": "mine"}, r"protocol: got 'mine'; allowed are 'corrected', 'published'"),
        ({"steps": 0}, r"steps: got 0; it has to be at least 1"),
        ({"padding": -1}, r"augmentation: got padding -1"),
    ],
)
def test_a_wrong_setting_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        Config(**change)


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


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["MLP", "VIT"])
def test_a_run_on_a_gpu_resumes_where_it_was_saved(name, tmp_path):
    config = dataclasses.replace(globals()[name], device="cuda")
    (expected,) = run(config, [0], data=DATA)

    def progress(steps):
        if steps == 1 and not list(tmp_path.glob("*.run/step-*")):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        run(config, [0], tmp_path, data=DATA, progress=progress)
    (record,) = run(config, [0], tmp_path, data=DATA)
    found, wanted = (values(r, "online_loss") for r in (record, expected))
    assert found == pytest.approx(wanted, rel=1e-3)


def test_a_task_without_images_is_named():
    kept = DATA.train_y != 3
    few = dataclasses.replace(DATA, train_x=DATA.train_x[kept], train_y=DATA.train_y[kept])
    with pytest.raises(ValueError, match=r"stream: task \d of seed 0 \(3\) has no images of one of the splits"):
        run(dataclasses.replace(MLP, stream_settings=(("size", 1),), tasks=10, steps=1), [0], data=few)


def test_a_remedy_that_watches_and_a_norm_with_state_are_not_stacked():
    with pytest.raises(ValueError, match=r"the remedy 'cbp' watches single networks"):
        Run(MLP, [0, 1], DATA)
    with pytest.raises(ValueError, match=r"norm1 is BatchNorm1d; a stack takes neither running statistics"):
        Run(dataclasses.replace(MLP, remedy="none", remedy_settings=(), norm="batch"), [0, 1], DATA)


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


def test_a_signal_after_the_last_step_reaches_the_caller(tmp_path, monkeypatch):
    saved, heard = loop.records.save, []

    def save(out, record):
        os.kill(os.getpid(), signal.SIGTERM)
        return saved(out, record)

    monkeypatch.setattr(loop.records, "save", save)
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        run(dataclasses.replace(MLP, tasks=1, steps=3), [0], tmp_path, data=DATA)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]
    assert [path.suffix for path in tmp_path.iterdir()] == [".parquet"]
