"""`lop campaign`: the runs of `torch_experiments.lab.campaign.items`, made or finished by one command."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from torch_experiments.lab import experiments, records, training
from torch_experiments.lab.campaign import engines, grids, items, throughput
from torch_experiments.lab.campaign.items import Item
from torch_experiments.lab.campaign.jobs import last_line
from torch_experiments.lab.experiments import e01_cloning
from torch_experiments.lab.images import pixels
from torch_experiments.lab.training import Config, Stopped
from torch_experiments.support.choices import choose

CLONING, CLONING_FOLDER, SPEEDS = "cloning", "e01", "throughput"
SOONEST = 0.01  # seconds after which a budget can be spent
SPENT = 75  # the exit code of a command that a budget or SIGTERM has stopped, "try again" in sysexits.h


@dataclass(frozen=True)
class Order:
    """What is to be run, and where the records go.

    Attributes:
        data: folder or zip of the images; items on digits need none.
        seeds: instead of the items' own.
        device: instead of the items' own.
        out: has a folder for every item.
    """

    data: str | None = None
    seeds: tuple[int, ...] | None = None
    device: str | None = None
    out: Path = items.RESULTS

    def configs(self, name: str) -> dict[str, Config]:
        """Return the cells of an item.

        Raises:
            ValueError: for an item that needs Tiny ImageNet, without ``data``.
        """
        item = items.item(name)
        if item.real and self.data is None:
            raise ValueError(f"data: {name} needs Tiny ImageNet: --data FOLDER; see `lop data info`")
        return experiments.changed(item.runs(self.data or ""), device=self.device)

    def seeds_of(self, item: Item) -> tuple[int, ...]:
        """Return the seeds of every cell."""
        return self.seeds or item.seeds

    def folder(self, name: str) -> Path:
        """Return where the records of an item are."""
        return self.out / name


class Work(NamedTuple):
    """One call of `training.run`."""

    name: str
    label: str
    config: Config
    seeds: tuple[int, ...]


def main(
    names: Sequence[str],
    order: Mapping[str, Any],
    *,
    gpu: bool = False,
    workers: int | None = None,
    budget: float | None = None,
    began: float | None = None,
) -> int:
    """Make the runs of the items ``names`` and return the exit code: 0, 1 if some failed, `SPENT`.

    ``order`` holds the fields of `Order`, the seeds as text; ``budget`` counts from when `time.monotonic` read
    ``began``, from now if None. With ``gpu`` the items are those of `items.GPU_ITEMS` if none is named, one run
    after the other, and the speeds are measured and printed.

    Raises:
        ValueError, FileNotFoundError: for names, data, a device or a folder ``out`` that there are not.
    """
    if budget is not None and budget <= 0:
        raise ValueError(f"budget: got {budget}; it has to be more than 0 seconds")
    spent = 0.0 if began is None else time.monotonic() - began
    left = None if budget is None else max(budget - spent, SOONEST)
    seeds = experiments.seeds_of(order["seeds"]) if order["seeds"] is not None else None
    chosen = Order(**{**order, "seeds": seeds})
    found = _names(names, gpu)
    _check_out(chosen.out)
    try:
        with within(left):  # the first look at a large set of images takes minutes
            act = _act(found, chosen, gpu, (os.cpu_count() or 1) if workers is None else workers)
            return int(not act())
    except Stopped:
        print("stopped; what was under way is saved, and the same command goes on")
        return SPENT


def _names(names: Sequence[str], gpu: bool) -> tuple[str, ...]:
    """Return the items to run, those on images but cloning if none is named."""
    if CLONING not in names:
        default = items.GPU_ITEMS if gpu else items.ITEMS
        known = {**items.every(), **items.BEYOND, CLONING: items.CLONING}
        return tuple(name for name in names or default if choose("item", name, known))
    if len(names) > 1:
        raise ValueError("names: cloning takes a folder of CIFAR-10, the others do not; run it on its own")
    return (CLONING,)


def _act(names: Sequence[str], order: Order, gpu: bool, workers: int) -> Callable[[], bool]:
    """Return what makes the runs, after a look at data and device."""
    if CLONING in names:
        return _cloning(order)
    configs = {name: order.configs(name) for name in names}
    devices = {config.device for cells in configs.values() for config in cells.values()}
    beyond = [name for name in names if name in items.BEYOND]
    if beyond and (gpu or (len(beyond) < len(names) and devices != {"cpu"})):
        raise ValueError(f"names: {beyond[0]} has no images, of which a GPU's speed is told; run it on its own")
    if devices - {"cpu"} and not torch.cuda.is_available():
        raise ValueError("device: torch sees no CUDA device; use --device cpu")
    _check_data(configs, order)
    if not gpu and (beyond or devices == {"cpu"}):
        return lambda: in_processes(configs, order, workers)
    return lambda: in_turn(configs, order)


def _check_out(out: Path) -> None:
    """Raise a ValueError if there cannot be folders below ``out``."""
    there = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not there.is_dir():
        raise ValueError(f"out: {there} is a file; give a folder")


def _check_data(configs: Mapping[str, Mapping[str, Config]], order: Order) -> None:
    """Read the images; say so if they are not those of the committed records."""
    if any(items.item(name).real for name in configs) and order.data is not None:
        found = pixels.load(order.data)
        _compare(found.fingerprint, items.TINY_IMAGENET, len(found.train_y))


def _compare(fingerprint: str, committed: str, images: int) -> None:
    if fingerprint != committed:
        print(
            f"data: {images:,} training images with the fingerprint {fingerprint}; the committed records are of "
            f"{committed}: these runs stand beside them"
        )


@contextmanager
def within(seconds: float | None) -> Iterator[None]:
    """Raise `Stopped` after so many seconds, or at SIGTERM; a run under way is saved before."""

    def stop(number: int, frame: Any) -> None:
        raise Stopped(SPENT)

    old = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGALRM)}
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGALRM, lambda number, frame: signal.raise_signal(signal.SIGTERM))
    signal.setitimer(signal.ITIMER_REAL, seconds or 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in old.items():
            signal.signal(number, handler)


# ---------------------------------------------------------------------- how the runs are made


def in_processes(configs: Mapping[str, Mapping[str, Config]], order: Order, workers: int) -> bool:
    """Run the items as one grid on ``workers`` processes; return whether all runs have their record."""
    todo = []
    for name, cells in configs.items():
        item = items.item(name)
        todo += grids.jobs(cells, order.seeds_of(item), order.folder(name), stack=item.stack)
    with closing(engines.make("local", workers, order.out.resolve() / "logs", {})) as where:
        return grids.report(grids.watched(todo, where))


def in_turn(configs: Mapping[str, Mapping[str, Config]], order: Order) -> bool:
    """Run the items in this process, one run after the other; return whether all runs have their record.

    The first seed of every cell comes before the second of any; items that are stacked train all seeds at once.
    Before its first run the speed of an item is measured; all speeds are printed at the end, however it comes.
    """
    failed: list[Work] = []
    speeds(configs, order)  # counts operations, for which there is no time once a budget is spent
    try:
        _every_round(configs, order, failed)
    finally:
        show(throughput.table(speeds(configs, order)))
    return not failed


def _every_round(configs: Mapping[str, Mapping[str, Config]], order: Order, failed: list[Work]) -> None:
    with experiments.progress_bar() as bar:
        for work in rounds(configs, order):
            try:
                _run(work, order, bar)
            except Exception as error:
                failed.append(work)
                traceback.print_exc()
                bar.print(f"{work.name}, {work.label}, seeds {work.seeds}: {last_line(error)}")


def speeds(configs: Mapping[str, Mapping[str, Config]], order: Order) -> list[throughput.Speed]:
    """Return what is known of the speed of every cell; nothing is measured."""
    found = []
    for name, cells in configs.items():
        stack = throughput.STACK if items.item(name).stack else 1
        for label, config in cells.items():
            data = pixels.load(config.data)
            done = throughput.known(config, stack, data, order.folder(SPEEDS))
            seeds = order.seeds_of(items.item(name))
            whole = next(filter(None, (_whole(config, seed, data, order.folder(name)) for seed in seeds)), None)
            found.append(throughput.speed(f"{name}, {label}", config, stack, data, done, whole))
    return found


def _whole(config: Config, seed: int, data: pixels.Pixels, folder: Path) -> float | None:
    record = records.find(folder, training.run_identity(config, seed, data.fingerprint))
    return throughput.of_record(config, record.environment) if record else None


def rounds(configs: Mapping[str, Mapping[str, Config]], order: Order) -> list[Work]:
    """Return the runs in their order."""
    found: list[tuple[int, Work]] = []
    for name, cells in configs.items():
        item = items.item(name)
        seeds = order.seeds_of(item)
        for cell in cells.items():
            together = item.stack and grids.stackable(cell[1])
            groups = [seeds] if together else [(seed,) for seed in seeds]
            found += [(k, Work(name, *cell, group)) for k, group in enumerate(groups)]
    return [work for _, work in sorted(found, key=lambda pair: pair[0])]


def _run(work: Work, order: Order, bar: Progress) -> None:
    config, data = work.config, pixels.load(work.config.data)
    torch.compiler.reset()  # else code that was compiled for earlier networks counts towards a limit
    throughput.measured(config, throughput.STACK if len(work.seeds) > 1 else 1, data, order.folder(SPEEDS))
    line = bar.add_task(f"{work.name}, {work.label}, {len(work.seeds)} seeds", total=config.tasks * config.steps)
    training.run(
        config,
        work.seeds,
        order.folder(work.name),
        data=data,
        stack=len(work.seeds) > 1,
        progress=lambda steps: bar.advance(line, steps),
    )
    bar.update(line, completed=config.tasks * config.steps)


def _cloning(order: Order) -> Callable[[], bool]:
    if order.data is None:
        raise ValueError("data: cloning needs a folder of CIFAR-10: --data FOLDER; see `lop data info`")
    changes = {"device": order.device, "seeds": order.seeds}
    given: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
    configs = {
        arch: dataclasses.replace(config, **given) for arch, config in items.CLONING.configs(order.data).items()
    }
    task = e01_cloning.load_task(next(iter(configs.values())))
    _compare(task.fingerprint, items.CIFAR, len(task.train.y))

    def act() -> bool:
        for config in configs.values():
            e01_cloning.run(config, order.out / CLONING_FOLDER, progress=True, task=task)
        return True

    return act


# ---------------------------------------------------------------------- what there is


def listing(names: Sequence[str], out: Path, gpu: bool = False) -> Table:
    """Return the items, their runs done of planned, the arithmetic of their training and the hours left.

    The hours are runs left × the mean seconds of finished runs of the same cell, one run at a time.
    """
    table = Table("item", "what", "seeds", "runs done", "PFLOP", "hours left")
    for name in dict.fromkeys(names) or (items.GPU_ITEMS if gpu else (*items.ITEMS, CLONING, *items.BEYOND)):
        table.add_row(*(_cloning_row(out) if name == CLONING else _row(name, out)))
    return table


def _row(name: str, out: Path) -> tuple[str, ...]:
    item = items.item(name)
    cells = item.runs("")
    found = items.found(name, out)
    environments = found.environments if found else {}
    work = 0.0 if name in items.BEYOND else sum(map(throughput.arithmetic, cells.values())) / 1e15
    seeds = ",".join(map(str, item.seeds)) if len(item.seeds) < 6 else f"0..{item.seeds[-1]}"
    done = f"{len(environments)} of {len(cells) * len(item.seeds)}"
    counted = f"{work * len(item.seeds):,.3g}" if work else ""
    return name, item.about, seeds, done, counted, _hours(item, cells, environments)


def _hours(item: Item, cells: Mapping[str, Config], done: Mapping[tuple[str, int], Mapping[str, Any]]) -> str:
    """Return the hours that are left, a bound from below if some cell has no finished run."""
    hours, unknown = 0.0, False
    for label in cells:
        seconds = [about["seconds"] for (cell, _), about in done.items() if cell == label]
        left = len(item.seeds) - len(seconds)
        unknown |= bool(left and not seconds)
        hours += left * sum(seconds) / max(len(seconds), 1) / 3600
    if unknown:
        return f"> {hours:.1f}" if hours else "?"
    return f"{hours:.1f}"


def _cloning_row(out: Path) -> tuple[str, ...]:
    planned, done = items.planned_clones(), items.clones(out)
    seeds = ",".join(str(seed) for seed in sorted({seed for _, seed, _ in planned}))
    return CLONING, items.CLONING.about, seeds, f"{len(done)} of {len(planned)}", "", ""


def show(table: Table) -> None:
    """Print a table."""
    Console(width=None if sys.stdout.isatty() else 140).print(table)
