"""`lop campaign`: what it runs, that a budget saves and the same command goes on, and what it lists."""

import dataclasses
import os
import signal
import threading
import time
from functools import partial

import numpy as np
import pytest
import torch

from tests.torch_experiments.lab.images import files
from tests.torch_experiments.small import SMALL
from torch_experiments.lab import experiments, language, rl, training
from torch_experiments.lab.campaign import campaign, grids, items, throughput
from torch_experiments.lab.campaign.items import Cloning, Item
from torch_experiments.lab.experiments import e01_cloning
from torch_experiments.lab.images import pixels
from torch_experiments.lab.training import loop

LONG = dataclasses.replace(SMALL, steps=100_000, measure_every=100_000)


def item(config=SMALL, seeds=(0, 1), **options):
    return Item("a test", lambda data: {"none": dataclasses.replace(config)}, seeds, real=False, **options)


@pytest.fixture
def offer(monkeypatch):
    """Return a function that puts other items in the place of those for a CPU."""

    def put(**found):
        monkeypatch.setattr(items, "ITEMS", found)

    return put


def folder_of(tmp_path, classes=10, shards=2):
    """Write two of four shards of a tiny Tiny ImageNet."""
    tmp_path.mkdir()
    names = [f"n{k}" for k in range(classes)]
    for shard in range(shards):
        raws = list(map(files.png, files.images(4 * classes, shard, 64)))
        labels = list(np.arange(4 * classes) % classes)
        files.write(tmp_path / f"train-{shard:05d}-of-00004.parquet", raws, labels, names=names)
    raws = list(map(files.png, files.images(2 * classes, 9, 64)))
    labels = list(np.arange(2 * classes) % classes)
    files.write(tmp_path / "valid-00000-of-00001.parquet", raws, labels, names=names)
    return tmp_path


def test_the_command_makes_the_runs_and_reads_them_the_second_time(tmp_path, command, offer):
    offer(a=item(), b=item(dataclasses.replace(SMALL, lr=0.01), (5,)))
    for state in ("done", "skipped"):
        assert state in command("campaign", "--workers", 2, "--out", tmp_path)[1]
    found = items.found("a", tmp_path)
    (alone,) = training.run(SMALL, [1], data=pixels.load("digits"))
    assert set(found.environments) == {("none", 0), ("none", 1)}
    assert found.table.slice(len(alone.table)).equals(experiments.labelled(alone, "none"))
    assert command("campaign", "b", "--seeds", 6, "--out", tmp_path)[0] == 0
    assert len(list((tmp_path / "b").glob("*.parquet"))) == 2


@pytest.mark.parametrize("stack", [False, True])
def test_a_budget_saves_what_is_under_way_and_the_command_goes_on(tmp_path, command, offer, stack, monkeypatch):
    """The time is over as soon as every run is further than at the end of the time before."""
    offer(a=item(LONG, stack=stack))
    monkeypatch.setattr(campaign, "_act", acting_in_turn if stack else campaign._act)
    monkeypatch.setattr(grids, "jobs", partial(grids.jobs, checkpoint_every=0.1))
    monkeypatch.setattr(training, "run", partial(training.run, checkpoint_every=0.1))
    for name, value in {"WARM": 1, "STEPS": 2, "STACK": 3}.items():
        monkeypatch.setattr(throughput, name, value)
    reached, runs = 0, 1 if stack else 2
    for _ in range(2):
        alarm = threading.Thread(target=alarm_beyond, args=(tmp_path / "a", runs, reached))
        alarm.start()
        code, out, _ = command("campaign", "--workers", 2, "--budget", 300, "--out", tmp_path)
        alarm.join()
        assert code == campaign.SPENT
        assert "the same command goes on" in out
        saved = steps_below(tmp_path / "a")
        assert len(saved) == runs
        assert min(saved) > reached
        reached = max(saved)


def steps_below(folder):
    """Return the last step of every unfinished run; for a moment there are two checkpoints of one."""
    found = {path.parent: int(path.name.removeprefix("step-")) for path in sorted(folder.glob("*.run/step-*"))}
    return list(found.values())


def alarm_beyond(folder, runs, reached, seconds=200):
    """End the budget once ``runs`` runs have a checkpoint beyond a number of steps."""
    end = time.monotonic() + seconds
    while sum(step > reached for step in steps_below(folder)) < runs and time.monotonic() < end:
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGALRM)


def acting_in_turn(names, order, gpu, workers):
    return lambda: campaign.in_turn({name: order.configs(name) for name in names}, order)


@pytest.mark.parametrize("slow", ["a measurement", "compilation", "a look at speeds"])
def test_a_budget_holds_to_five_seconds_whatever_takes_long(tmp_path, command, offer, slow, monkeypatch):
    """The budget ends a moment after the long thing has begun."""
    began = []

    def sleep(*args, **options):
        began.append(time.monotonic())
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        time.sleep(60)

    offer(a=item(LONG, (0,)))
    monkeypatch.setattr(campaign, "_act", acting_in_turn)
    monkeypatch.setattr(throughput, "measured", sleep if slow == "a look at speeds" else lambda *args: 1.0)
    if slow != "a look at speeds":
        monkeypatch.setattr(loop.Run, "_rows" if slow == "a measurement" else "_descend", sleep)
    assert command("campaign", "--workers", 1, "--budget", 300, "--out", tmp_path)[0] == campaign.SPENT
    assert time.monotonic() - began[0] < 5
    assert len(steps_below(tmp_path / "a")) == (slow == "a measurement")


def test_time_before_the_command_counts_towards_the_budget(offer, monkeypatch):
    offer(a=item(LONG, (0,)))
    monkeypatch.setattr(campaign, "_act", lambda *args: lambda: time.sleep(60))
    order = {"data": None, "seeds": None, "device": None, "out": items.RESULTS}
    start = time.monotonic()
    assert campaign.main((), order, budget=30.0, began=start - 100) == campaign.SPENT
    assert time.monotonic() - start < 5


def test_sigterm_stops_like_a_budget():
    threading.Timer(0.2, signal.pthread_kill, [threading.get_ident(), signal.SIGTERM]).start()
    start = time.monotonic()
    with pytest.raises(training.Stopped), campaign.within(None):
        time.sleep(20)
    assert time.monotonic() - start < 20  # sent to the timer's own thread it would be seen only after the sleep
    with campaign.within(60):
        pass
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_cells_that_cannot_be_stacked_are_run_seed_by_seed(offer):
    offer(a=item(dataclasses.replace(SMALL, norm="batch"), (0, 1), stack=True))
    order = campaign.Order()
    assert [work.seeds for work in campaign.rounds({"a": order.configs("a")}, order)] == [(0,), (1,)]


def test_seeds_come_in_rounds_and_stacks_whole(offer):
    offer(a=item(seeds=(0, 1)), b=item(seeds=(2, 3), stack=True), c=item(seeds=(4,)))
    order = campaign.Order()
    found = campaign.rounds({name: order.configs(name) for name in items.ITEMS}, order)
    assert [(work.name, work.seeds) for work in found] == [("a", (0,)), ("b", (2, 3)), ("c", (4,)), ("a", (1,))]
    fewer = campaign.rounds({"a": order.configs("a")}, campaign.Order(seeds=(7,)))
    assert [work.seeds for work in fewer] == [(7,)]


def test_a_run_that_fails_does_not_stop_the_others(tmp_path, capsys, offer):
    diverging = dataclasses.replace(SMALL, optimizer="sgd", lr=1e20)
    offer(a=item(diverging, (0,)), b=item(seeds=(0,)))
    order = campaign.Order(out=tmp_path)
    assert not campaign.in_turn({name: order.configs(name) for name in items.ITEMS}, order)
    assert "a, none, seeds (0,): Diverged" in capsys.readouterr().out
    assert items.found("b", tmp_path) is not None


def test_the_list_says_what_is_done(tmp_path, command, offer):
    offer(a=item(), b=item())
    assert command("campaign", "a", "--seeds", 0, "--out", tmp_path)[0] == 0
    text = command("campaign", "--list", "--out", tmp_path)[1]
    rows = {line.split("│")[1].strip(): line for line in text.splitlines() if line.startswith("│")}
    assert "1 of 2" in rows["a"]
    assert "0 of 2" in rows["b"]
    assert "?" in rows["b"]
    assert "?" not in rows["a"]
    assert "of 24" in rows["cloning"]
    assert command("campaign", "a", "a", "--list", "--out", tmp_path)[1].count("1 of 2") == 1


def test_items_of_text_and_agents_are_made_and_listed(tmp_path, command, monkeypatch):
    """They are those of `lop run e08` and `lop run e09`, in the folders of the committed records."""
    text = language.Config(tasks=1, steps=2, context=8, batch=2, probe_train=2, probe_test=2, free_every=0)
    agents = rl.Config(tasks=1, steps=1, copies=2, horizon=8, batch=8, episodes=2, probe=8)
    assert {items.item(name).configs("")["plain"].experiment for name in ["reinforcement"]} == {"e09_reinforcement"}
    fingerprint = language.load("sample").fingerprint
    for name, config in {"language": text, "reinforcement": agents}.items():
        small = dataclasses.replace(items.BEYOND[name], configs=lambda data, c=config: {"cell": c}, seeds=(0, 1))
        monkeypatch.setitem(items.BEYOND, name, dataclasses.replace(small, other=fingerprint))
    for state in ("done", "skipped"):
        assert state in command("campaign", "language", "reinforcement", "--workers", 1, "--out", tmp_path)[1]
    for name in ("language", "reinforcement"):
        assert set(items.found(name, tmp_path).environments) == {("cell", 0), ("cell", 1)}
    listed = command("campaign", "--list", "--out", tmp_path)[1]
    rows = {line.split("│")[1].strip(): line for line in listed.splitlines() if line.startswith("│")}
    assert "2 of 2" in rows["language"]
    assert "2 of 2" in rows["reinforcement"]


def test_the_committed_records_of_text_and_agents_are_those_of_the_items():
    for name in items.BEYOND:
        found = items.found(name)
        assert {cell for cell, _ in found.environments} <= set(items.item(name).configs(""))
        assert len({cell for cell, _ in found.environments}) > 10
    assert len(items.found("language").environments) == len(list((items.RESULTS / "language").glob("*.parquet")))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["language", "--gpu"], "names: language has no images, of which a GPU's speed is told; run it on its own"),
        (["mlp"], "data: mlp needs Tiny ImageNet: --data FOLDER"),
        (["nothing"], "item: got 'nothing'; allowed are 'mlp'"),
        (["cloning", "mlp"], "run it on its own"),
        (["cloning"], "data: cloning needs a folder of CIFAR-10"),
        (["streams", "--seeds", "x"], "seeds: got 'x'"),
        (["mlp", "--data", "/nowhere"], "data: there is no /nowhere"),
    ],
)
def test_what_cannot_be_run_is_named(command, words, message):
    code, _, err = command("campaign", *words)
    assert code == 2
    assert message in err


def test_a_file_is_no_folder_for_records(tmp_path, command):
    file = tmp_path / "file"
    file.touch()
    for out in (file, file / "below"):
        code, _, err = command("campaign", "streams", "--out", out)
        assert code == 2
        assert f"out: {file} is a file" in err


def test_the_budget_holds_while_images_are_read(monkeypatch, command, tmp_path):
    monkeypatch.setattr(pixels, "load", lambda data: time.sleep(60))
    code, out, _ = command("campaign", "mlp", "--data", tmp_path, "--budget", 0.2, "--out", tmp_path)
    assert code == campaign.SPENT
    assert "the same command goes on" in out


def test_some_shards_of_tiny_imagenet_are_enough(tmp_path, command, monkeypatch):
    folder, mlp = folder_of(tmp_path / "data"), items.item("mlp")
    small = {"tasks": 2, "steps": 4, "batch": 8, "measure_every": 4, "probe_train": 10, "probe_test": 10}

    def configs(data):
        found = {"none": mlp.configs(data)["none"]}
        return experiments.changed(found, '{"width": 8, "depth": 2}', **small)

    monkeypatch.setenv("LOP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(items.ITEMS, "mlp", Item("a test", configs, (0,)))
    said = command("campaign", "mlp", "--data", folder, "--workers", 1, "--out", tmp_path)[1]
    assert "data: 80 training images" in said
    assert "done" in said
    assert len(list((tmp_path / "mlp").glob("*.parquet"))) == 1


TINY = {
    "mlp": {"width": 8, "depth": 2},
    "cnn": {"width": 4, "depth": 2, "hidden": 8},
    "resnet18": {"width": 4, "stages": (1, 1)},
    "vit": {"patch": 16, "width": 8, "depth": 1, "heads": 2},
}


def reduced(found):
    """Return an item with everything but its sizes as it is."""
    small = {"tasks": 1, "steps": 4, "batch": 8, "measure_every": 4, "probe_train": 10, "probe_test": 10}

    def configs(data):
        cells = experiments.changed(found.configs(data), **small, compile=False)
        return {
            label: dataclasses.replace(config, arch_settings=tuple(TINY[config.arch].items()))
            for label, config in cells.items()
        }

    return dataclasses.replace(found, configs=configs, seeds=found.seeds[:2])


def test_a_dry_run_of_every_gpu_item(tmp_path, command, monkeypatch):
    folder, every = folder_of(tmp_path / "data"), {n: reduced(i) for n, i in items.GPU_ITEMS.items()}
    monkeypatch.setenv("LOP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(items, "GPU_ITEMS", every)
    for name, value in {"WARM": 1, "STEPS": 2, "STACK": 3}.items():
        monkeypatch.setattr(throughput, name, value)
    monkeypatch.setattr(throughput, "PEAKS", {"cpu": throughput.PEAKS["H200"]})
    for _ in range(2):
        where = ("--device", "cpu", "--data", folder, "--out", tmp_path)
        said = command("campaign", "--gpu", "--budget", 300.0, *where)[1]
        rows = [line.split("│") for line in said.splitlines() if line.startswith("│ gpu-")]
        assert len(rows) == sum(len(item.configs("").items()) for item in every.values()) == 10
        assert all(cell.strip() for row in rows for cell in row[2:8])
    for name, item in every.items():
        assert len(list((tmp_path / name).glob("*.parquet"))) == 2 * len(item.configs(""))
    assert len(list((tmp_path / "throughput").glob("*.parquet"))) == 9  # one of two lengths


def test_gpu_items_need_a_gpu(command, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, _, err = command("campaign", "gpu-vit", "--gpu", "--data", tmp_path)
    assert code == 2
    assert "device: torch sees no CUDA device; use --device cpu" in err
    assert "gpu-mlp-paper" in command("campaign", "--list", "--gpu", "--out", tmp_path)[1]


def test_cloning_is_an_item_of_its_own(tmp_path, monkeypatch, command):
    small = {"arch_settings": (("width", 8), ("depth", 1)), "base_epochs": 1, "epochs": 1, "probe": 50}
    config = e01_cloning.Config(regimes=("adam",), seeds=(0, 1), **small)
    cells = Cloning("a test", lambda data: {"mlp": dataclasses.replace(config, data=data)})
    monkeypatch.setattr(items, "CLONING", cells)
    out = command("campaign", "cloning", "--data", "digits", "--seeds", 1, "--out", tmp_path)[1]
    assert f"the committed records are of {items.CIFAR}" in out
    assert len(list((tmp_path / "e01").glob("*.parquet"))) == 1
