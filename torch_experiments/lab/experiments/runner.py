"""The experiments by name, and how they are run from the command line."""

from __future__ import annotations

import ast
import dataclasses
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from torch_experiments.lab import language, models, records, rl, runs, training
from torch_experiments.lab.experiments import e01_cloning
from torch_experiments.lab.training import Config, Settings, parallel
from torch_experiments.lab.training.checkpoints import InUse
from torch_experiments.support.choices import choose, json_object
from torch_experiments.support.processes import leads
from torch_experiments.support.threads import one_thread

EXPERIMENTS: Mapping[str, str] = {
    "e02": "e02_symptoms",
    "e03": "e03_normalisation",
    "e04": "e04_remedies",
    "e05": "e05_generalisation",
    "e06": "e06_escape",
    "e07": "e07_streams",
    "e10": "e10_amplifiers",
    "e11": "e11_transients",
}
BEYOND: Mapping[str, str] = {  # text and agents, no images
    "e08": "e08_language",
    "e09": "e09_reinforcement",
    "e09-dqn": "e09_values",
}
CLONING = e01_cloning.NAME  # has a configuration of its own, regimes instead of tasks
WITHOUT = ("protocol", "size", "measure_every", "set_", "stack", "ddp")  # options that experiment 1 does not have
C = TypeVar("C", Config, e01_cloning.Config, language.Config, rl.Config, rl.ValueConfig)
SEEDS = (0, 1, 2, 3, 4)  # as many as JL25 has
WAIT = 1.0  # seconds


class Experiment(Protocol):
    """What the module of an experiment offers."""

    NAME: str
    TITLE: str
    SEEDS: Mapping[str, tuple[int, ...]]
    configs: Callable[..., dict[str, Any]]


def load(name: str) -> Experiment:
    """Return the module of an experiment.

    Raises:
        ValueError: for an unknown name; the message lists them.

    >>> list(load("e06").configs("quick"))
    ['narrow', 'trapped', 'split', 'noise', 'scratch']
    """
    known = {CLONING: "e01_cloning", **EXPERIMENTS, **BEYOND}
    module: Any = import_module(f"torch_experiments.lab.experiments.{choose('experiment', name, known)}")
    return module


def seeds_of(text: str) -> tuple[int, ...]:
    """Return the seeds that ``"0..4"``, ``"3"`` or ``"0,2,5"`` stand for.

    Raises:
        ValueError: for anything else.

    >>> seeds_of("0..4"), seeds_of("0,2,5")
    ((0, 1, 2, 3, 4), (0, 2, 5))
    """
    if found := re.fullmatch(r"(\d+)\.\.(\d+)", text):
        first, last = map(int, found.groups())
        if first <= last:
            return tuple(range(first, last + 1))
    if re.fullmatch(r"\d+(,\d+)*", text):
        listed = tuple(map(int, text.split(",")))
        if len(set(listed)) < len(listed):
            raise ValueError(f"seeds: got {text!r}; every seed may stand there once")
        return listed
    raise ValueError(f"seeds: got {text!r}; allowed are a range 0..4, a number 3, and a list 0,2,5")


def run(
    configs: Mapping[str, Any],
    seeds: Sequence[int],
    out: Path | None,
    *,
    bar: Progress | None = None,
    **options: Any,
) -> pa.Table:
    """Run every configuration for every seed; return all measurements with the columns ``cell`` and ``seed``.

    ``options`` are those of `training.run`. ``bar`` shows a line for each configuration.

    >>> small = {"tasks": 2, "steps": 2, "probe_train": 9, "probe_test": 9}
    >>> configs = changed(load("e02").configs("quick"), '{"width": 8}', **small)
    >>> table = run(configs, (0, 1), None)
    >>> table.column_names[-2:], over_tasks(table, "none", "online_accuracy").shape
    (['cell', 'seed'], (2, 2))
    """
    data = {config.data: runs.kind(config).load(config.data) for config in configs.values()}
    tables = []
    for label, config in configs.items():
        tick = _ticker(bar, label, config, len(seeds), options.get("stack", False))
        found = runs.kind(config).run(config, seeds, out, data=data[config.data], progress=tick, **options)
        tables += [labelled(record, label) for record in found]
    return pa.concat_tables(tables)


def chosen(configs: Mapping[str, C], cells: Sequence[str]) -> dict[str, C]:
    """Return the configurations with these labels in their order, all of them if there is no label.

    Raises:
        ValueError: for a label that there is not; the message lists those there are.

    >>> list(chosen(load("e06").configs("quick"), ("noise", "narrow")))
    ['narrow', 'noise']
    """
    for cell in cells:
        choose("cells", cell, configs)
    return {label: config for label, config in configs.items() if label in cells or not cells}


def computed(configs: Mapping[str, Config], seeds: Sequence[int], out: Path, **options: Any) -> pa.Table:
    """Return `run` with a progress bar and one thread, which is the fastest at the size of the quick profiles.

    Runs that another process is making are waited for, as two figures may show the same ones.
    """
    with one_thread():
        while True:
            try:
                with progress_bar() as bar:
                    return run(configs, seeds, out, bar=bar, **options)
            except InUse:
                time.sleep(WAIT)


def progress_bar(steps: bool = True) -> Progress:
    """Return a bar that counts steps, with their rate and the remaining time, or other things, without."""
    rate = (Rate(), TimeRemainingColumn()) if steps else ()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), *rate)
    return Progress(*columns, refresh_per_second=2, speed_estimate_period=60, disable=not leads())


class Rate(ProgressColumn):
    """Steps per second."""

    def render(self, task: Task) -> Text:
        """Return the rate of the last minute."""
        return Text(f"{task.speed:,.1f} steps/s" if task.speed else "")


def changed(
    configs: Mapping[str, C], settings: str = "{}", set_: Sequence[str] = (), **changes: Any
) -> dict[str, C]:
    """Return the configurations with the given fields changed, None meaning as it was.

    Args:
        configs: by label, of one kind.
        settings: a JSON object that is merged over their ``arch_settings``.
        set_: texts as of `with_set`.
        changes: the fields.

    Raises:
        ValueError: for a value or a setting that does not exist.

    >>> changed(load("e02").configs("quick"), '{"width": 64}', lr=0.01)["none"].arch_settings
    (('width', 64),)
    """
    given = {name: value for name, value in changes.items() if value is not None}
    own = json_object("settings", settings)
    for config in configs.values():
        runs.check_fields(config, given)
    found = {label: dataclasses.replace(c, **given, arch_settings=_merged(c, own)) for label, c in configs.items()}
    return {label: with_set(config, set_) for label, config in found.items()} if set_ else found


def with_set(config: C, texts: Sequence[str]) -> C:
    """Return a configuration with what texts such as ``"tasks=5"`` and ``"stream_settings.size=2"`` say.

    Raises:
        ValueError: for a text without a value, a field that there is not, or a value of another kind.

    >>> with_set(Config(), ["betas=0.9,0.9", "stream_settings.size=2"]).stream_settings
    (('size', 2),)
    """
    changes: dict[str, Any] = {}
    for text in texts:
        place, equals, value = text.partition("=")
        field, dot, name = place.partition(".")
        if not equals or not value:
            raise ValueError(f"set: got {text!r}; write a field and its value, such as stream_settings.size=2")
        choose("set", field, {f.name: None for f in dataclasses.fields(config)})
        old = changes.get(field, getattr(config, field))
        if bool(dot) != field.endswith("_settings"):
            shape = f"{field}.NAME=VALUE" if not dot else f"{field}=VALUE"
            raise ValueError(f"set: got {text!r}; write {shape}")
        given = _literal(value)
        changes[field] = tuple((dict(old) | {name: given}).items()) if dot else _like(field, given, old)
    if "arch_settings" in changes:
        runs.check_sizes(config, dict(changes["arch_settings"]))
    return dataclasses.replace(config, **changes)


def _literal(text: str) -> Any:
    """Return the number, truth value or tuple that a text is, else the text."""
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text
    return tuple(value) if isinstance(value, list) else value


def _like(field: str, value: Any, old: Any) -> Any:
    """Return a value of the kind of the old one; whole numbers are fine where there may be others."""
    if isinstance(old, float) and type(value) is int:
        return float(value)
    if old is not None and type(value) is not type(old):
        raise ValueError(f"set: {field} got {value!r}; its values are like {old!r}")
    return value


def _merged(config: Any, own: Mapping[str, Any]) -> Settings:
    """Return ``arch_settings`` with ``own`` over them; lists become tuples."""
    if isinstance(config, e01_cloning.Config):
        for name in own:
            choose("settings", name, dict.fromkeys(models.settings_of(config.arch)))
    else:
        runs.check_sizes(config, own)
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in own.items()}
    return tuple((dict(config.arch_settings) | given).items())


def labelled(record: records.Record, label: str) -> pa.Table:
    """Return the measurements of a record with the columns ``cell`` and ``seed``."""
    n = len(record.table)
    table = record.table.append_column("cell", pa.array([label] * n))
    return table.append_column("seed", pa.array([record.config["seed"]] * n, pa.int64()))


def _ticker(bar: Progress | None, label: str, config: Any, seeds: int, stack: bool) -> Callable[[int], None]:
    if bar is None:
        return lambda steps: None
    total = config.tasks * config.steps * (1 if stack else seeds)
    line = bar.add_task(label, total=total)
    return lambda steps: bar.advance(line, steps)


def main(
    names: Sequence[str],
    arch: str,
    profile: str,
    seeds: str | None,
    data: str | None,
    out: Path,
    changes: Mapping[str, Any],
    *,
    cells: Sequence[str] = (),
    threads: int = 1,
    ddp: bool = False,
    **options: Any,
) -> None:
    """Run the experiments ``names`` with a progress bar and print their end values; see `lop run --help`."""
    if threads < 1:
        raise ValueError(f"threads: got {threads}; at least 1 is needed")
    torch.set_num_threads(threads)
    if CLONING in names:
        refuse({**changes, **options, "ddp": ddp})
    with parallel.joined(ddp):
        for name in names:
            experiment = load(name)
            which = seeds_of(seeds) if seeds is not None else experiment.SEEDS.get(profile, SEEDS)
            configs = chosen(experiment.configs(profile, arch, data), cells)
            if name == CLONING:
                view = _clones(configs, which, out, changes)
            else:
                with progress_bar() as bar:
                    table = run(changed(configs, **changes), which, out, bar=bar, **options)
                view = summary(table, getattr(experiment, "SHOWN", SHOWN))
            Console(width=None if sys.stdout.isatty() else 100, quiet=not leads()).print(view)


def refuse(options: Mapping[str, Any]) -> None:
    """Raise a ValueError that names the first given option that experiment 1 does not have."""
    for name in WITHOUT:
        if options.get(name) not in (None, False, ()):
            option = name.rstrip("_").replace("_", "-")
            raise ValueError(f"{name.rstrip('_')}: {CLONING} does not have it; leave out --{option}")
    if options.get("precision") not in (None, *e01_cloning.DTYPES):
        raise ValueError(f"precision: got {options['precision']!r}; {CLONING} has 'float32' and 'float64'")


def _clones(
    configs: Mapping[str, e01_cloning.Config], seeds: Sequence[int], out: Path, changes: Mapping[str, Any]
) -> Table:
    """Return what the one configuration of experiment 1 gives."""
    given: dict[str, Any] = {
        "device": changes.get("device"),
        "dtype": changes.get("precision"),
        "seeds": tuple(seeds),
    }
    (config,) = changed(configs, changes.get("settings", "{}"), **given).values()
    return e01_cloning.summary(e01_cloning.run(config, out, progress=True))


def listing() -> Table:
    """Return the experiments with their titles."""
    table = Table("name", "shows")
    for name in (CLONING, *EXPERIMENTS, *BEYOND):
        table.add_row(name, load(name).TITLE)
    return table


SHOWN: Mapping[str, str] = {
    "online_accuracy": "online accuracy",
    "train_accuracy": "train accuracy",
    "test_accuracy": "test accuracy",
    "dead_fraction": "dead fraction",
    "duplicate_fraction": "duplicate fraction",
    "roy_vetterli_rank_raw": "effective rank",
}


def summary(table: pa.Table, shown: Mapping[str, str] = SHOWN) -> Table:
    """Return the values at the end of the first and of the last task, means over seeds, a row a cell.

    ``shown`` has the metrics with their headings; what was not measured is left out.
    """
    measured = pc.unique(table["metric"]).to_pylist()
    shown = {metric: heading for metric, heading in shown.items() if metric in measured}
    view = Table("cell", *shown.values(), title="first task → last task, means over seeds")
    for cell in pc.unique(table["cell"]).to_pylist():
        pairs = [over_tasks(table, cell, metric).mean(axis=0)[[0, -1]] for metric in shown]
        view.add_row(cell, *(f"{first:.3g} → {last:.3g}" for first, last in pairs))
    return view


def over_tasks(table: pa.Table, cell: str, metric: str) -> np.ndarray[Any, Any]:
    """Return a metric of the whole network at the end of every task, ``[seeds, tasks]``."""
    for column, value in {"cell": cell, "metric": metric, "layer": training.WHOLE}.items():
        table = table.filter(pc.equal(table[column], value))
    table = table.filter(pc.equal(table["step"], pc.max(table["step"])))
    rows = table.sort_by([("seed", "ascending"), ("task", "ascending")])
    return rows["value"].to_numpy().reshape(len(pc.unique(rows["seed"])), -1)
