"""Grids: many runs on many machines, seeds × architectures × norms × remedies × learning rates × ….

A grid is a list of `jobs.Job`. Its records are files that are named by their content
(`torch_experiments.lab.records`), so that the folder itself says what is done: finished runs are skipped, and the
same command goes on after any interruption. Two processes never work on one run (`checkpoints.locked`).
"""

from __future__ import annotations

import ast
import dataclasses
import itertools
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from torch_experiments import remedies
from torch_experiments.lab import experiments, records, runs
from torch_experiments.lab.campaign import engines
from torch_experiments.lab.campaign.engines import Engine
from torch_experiments.lab.campaign.jobs import Job, Outcome
from torch_experiments.lab.experiments import e04_remedies
from torch_experiments.lab.training import Config
from torch_experiments.support.choices import choose

KINDS = tuple(runs.KINDS)[::-1]  # where two kinds have a field, that of images counts
FIELDS = [field for kind in KINDS for field in dataclasses.fields(kind)]
AXES = {f.name: f.default for f in FIELDS if not isinstance(f.default, tuple)}
HINTS = {name: hint for kind in KINDS for name, hint in get_type_hints(kind).items()}
RETRIES = 2  # a machine may go twice; an error of the code comes back every time, and is told after the third


@dataclass(frozen=True)
class Result:
    """How a job ended, after some attempts."""

    job: Job
    outcome: Outcome
    attempts: int

    def row(self) -> tuple[str, ...]:
        """Return what `troubles` shows."""
        job, outcome = self.job, self.outcome
        return job.label, job.seeds, outcome.state, str(self.attempts), outcome.about, str(job.log)


def product(configs: Mapping[str, Config], axes: Mapping[str, Sequence[Any]]) -> dict[str, Config]:
    """Return every configuration with every combination of values of ``axes``, equal ones once, by label.

    A remedy comes with the settings that experiment 4 gives it, another stream with none, to be set by ``--set``.

    Raises:
        ValueError: for a field that `Config` does not have, and for values that it does not take.

    >>> list(product({"mine": Config()}, {"lr": (0.1, 0.01), "norm": ("none", "layer")}))[1]
    'mine, lr 0.1, norm layer'
    """
    found: dict[Config, str] = {}
    for (label, config), values in itertools.product(configs.items(), itertools.product(*axes.values())):
        given = dict(zip(axes, values, strict=True))
        name = ", ".join([label, *(f"{axis} {value}" for axis, value in given.items())])
        found.setdefault(_changed(config, given), name)
    return {name: config for config, name in found.items()}


def _changed(config: Config, given: Mapping[str, Any]) -> Config:
    for name, value in given.items():
        default = choose("over", name, AXES)
        if type(value) not in (_kind(name), type(default)):
            like = f"like {default!r}" if default is not None else f"None and those of {_kind(name).__name__}"
            raise ValueError(f"over: {name} got {value!r}; its values are {like}")
        choose("over", name, {axis: None for axis in AXES if hasattr(config, axis)})
    changes = dict(given)
    if "remedy" in given:
        changes["remedy_settings"] = e04_remedies.SETTINGS.get(given["remedy"], ())
    if given.get("stream", config.stream) != config.stream:
        changes["stream_settings"] = ()  # those of another stream say nothing
    return dataclasses.replace(config, **changes)


def axes_of(texts: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Return the axes that texts such as ``"lr=1e-3,1e-4"`` and ``"norm=none,layer"`` stand for.

    Raises:
        ValueError: for a text without ``=``, without values, or of a field that is no axis.

    >>> axes_of(["lr=1e-3,1e-4", "affine=True,False"])
    {'lr': (0.001, 0.0001), 'affine': (True, False)}
    """
    found = {}
    for text in texts:
        name, _, values = text.partition("=")
        choose("over", name, AXES)
        if not values:
            raise ValueError(f"over: got {text!r}; write a field and its values, such as lr=1e-3,1e-4")
        found[name] = tuple(_axis_value(item, name) for item in values.split(","))
    return found


def _kind(name: str) -> type:
    """Return the type of a field's values but None."""
    if AXES[name] is not None:
        return type(AXES[name])
    kind: type = next(kind for kind in get_args(HINTS[name]) if kind is not type(None))
    return kind


def _axis_value(text: str, name: str) -> Any:
    return None if AXES[name] is None and text == "None" else _value(text, _kind(name))


def _value(text: str, kind: type) -> Any:
    if kind is str:
        return text
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text
    return float(value) if kind is float and type(value) is int else value


def jobs(
    configs: Mapping[str, Config], seeds: Sequence[int], out: Path, *, stack: bool = False, **options: Any
) -> list[Job]:
    """Return a job for every configuration and seed, those of the first seed first; ``options`` are `Job`'s.

    Paths are made absolute, since a job may run in another folder. With ``stack`` the seeds of a configuration are
    one job, where they can be trained at once (`stackable`).
    """
    data = {(type(c), c.data): runs.kind(c).load(c.data) for c in configs.values()}
    found = []
    for seed, (label, config) in itertools.product(seeds, configs.items()):
        together = stack and stackable(config)
        if not together or seed == seeds[0]:
            group = tuple(seeds) if together else (seed,)
            found.append(_job(label, config, group, out.resolve(), data[type(config), config.data], options))
    return found


def stackable(config: Config) -> bool:
    """Return whether seeds can be trained at once: no batch norm, dropout, Muon, or remedy that watches a network.

    >>> stackable(Config()), stackable(Config(norm="batch"))
    (True, False)
    """
    if not runs.kind(config).stackable:
        return False
    remedy = remedies.make(config.remedy, **dict(config.remedy_settings))
    return not (config.norm == "batch" or config.dropout or config.optimizer == "muon" or remedy.watches)


def _job(
    label: str, config: Config, seeds: tuple[int, ...], out: Path, data: Any, options: Mapping[str, Any]
) -> Job:
    identity = runs.kind(config).identity
    names = tuple(records.path(out, identity(config, seed, data)).stem for seed in seeds)
    if config.data and Path(config.data).exists():
        config = dataclasses.replace(config, data=str(Path(config.data).resolve()))
    given = {"more": seeds[1:], "records": names, **options}
    return Job(label, config, seeds[0], out, out / "logs" / f"{names[0]}.log", **given)


def run(
    todo: Sequence[Job],
    engine: Engine,
    retries: int = RETRIES,
    note: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Return how every job ended, in the order of ``todo``; ``note`` is called as soon as one has.

    Finished jobs are skipped. A failed or lost one is started again at once, ``retries`` times at most, and goes on
    at its last checkpoint. An interruption stops all jobs, which save themselves, before it is passed on.
    """
    results = [Result(job, Outcome("skipped"), 0) for job in todo if job.finished]
    left = [job for job in todo if not job.finished]
    pending = dict(zip(engine.start(left), ((job, 1) for job in left), strict=True))
    for result in results:
        note(result)
    try:
        for result in _ends(pending, engine, retries):
            note(result)
            results.append(result)
    except BaseException:
        engine.stop(list(pending))
        raise
    places = {job: k for k, job in enumerate(todo)}
    return sorted(results, key=lambda result: places[result.job])


def _ends(pending: dict[Any, tuple[Job, int]], engine: Engine, retries: int) -> Iterator[Result]:
    """Yield the results as they come; ``pending`` holds the tickets under way with job and attempt."""
    while pending:
        for ticket in engine.ended(pending):
            outcome = engine.outcome(ticket)
            job, attempts = pending.pop(ticket)
            if outcome.retried and attempts <= retries:
                pending[engine.start([job])[0]] = job, attempts + 1
            else:
                yield Result(job, outcome, attempts)


def counts(results: Sequence[Result]) -> Table:
    """Return the number of runs by how they ended."""
    found = Counter(result.outcome.state for result in results)
    table = Table("runs", *found)
    table.add_row(str(len(results)), *map(str, found.values()))
    return table


def troubles(results: Sequence[Result]) -> Table:
    """Return the runs without a record: attempts, last line of the error, and where the log is."""
    table = Table("run", "seed", "state", "attempts", "error", "log")
    for result in results:
        if result.outcome.state not in ("done", "skipped"):
            job, outcome = result.job, result.outcome
            table.add_row(job.label, job.seeds, outcome.state, str(result.attempts), outcome.about, str(job.log))
    return table


def configs_of(
    names: Sequence[str],
    archs: Sequence[str],
    profile: str,
    data: str | None,
    axes: Mapping[str, Sequence[Any]],
    cells: Sequence[str] = (),
) -> dict[str, Config]:
    """Return the grid over experiments, architectures and ``axes``; arguments as `main`."""
    if experiments.CLONING in names:
        raise ValueError(f"experiment: {experiments.CLONING} has no grid; use `lop run {experiments.CLONING}`")
    found: dict[str, Config] = {}
    for name, arch in itertools.product(names, archs):
        own = experiments.chosen(experiments.load(name).configs(profile, arch, data), cells)
        found |= {f"{name} {arch} {label}": config for label, config in own.items()}
    return product(found, axes)


def main(
    names: Sequence[str],
    archs: Sequence[str],
    profile: str,
    seeds: str | None,
    data: str | None,
    out: Path,
    over: Sequence[str],
    changes: Mapping[str, Any],
    *,
    cells: Sequence[str] = (),
    engine: str,
    workers: int | None,
    options: Sequence[str],
    retries: int,
    threads: int,
    stack: bool = False,
) -> bool:
    """Run a grid with a progress bar, print how it went, and return whether all runs have their record.

    Raises:
        ValueError: for names, axes, options or an engine that there are not, see `lop grid --help`; where all runs
            refuse their values, what the first says.
    """
    if threads < 1 or retries < 0:
        raise ValueError(f"threads, retries: got {threads}, {retries}; allowed are threads ≥ 1 and retries ≥ 0")
    configs = experiments.changed(configs_of(names, archs, profile, data, axes_of(over), cells), **changes)
    todo = jobs(configs, _seeds(names, profile, seeds), out, stack=stack, threads=threads)
    count = max(1, (os.cpu_count() or 1) // threads) if workers is None else workers
    with _stoppable(), closing(engines.make(engine, count, out.resolve() / "logs", _options(options))) as where:
        results = watched(todo, where, retries)
    if results and all(result.outcome.state == "refused" for result in results):
        raise ValueError(results[0].outcome.about)
    return report(results)


def _seeds(names: Sequence[str], profile: str, seeds: str | None) -> tuple[int, ...]:
    own = [experiments.load(name).SEEDS.get(profile, experiments.SEEDS) for name in names]
    return experiments.seeds_of(seeds) if seeds is not None else tuple(sorted(set().union(*own)))


def _options(texts: Sequence[str]) -> dict[str, Any]:
    pairs = [text.partition("=") for text in texts]
    if wrong := [name for name, equals, _ in pairs if not equals]:
        raise ValueError(f"options: got {wrong[0]!r}; write a name and a value, such as timeout_min=720")
    return {name: _value(value, int) for name, _, value in pairs}


def watched(todo: Sequence[Job], engine: Engine, retries: int = RETRIES) -> list[Result]:
    """Return `run` with a progress bar."""
    with experiments.progress_bar(steps=False) as bar:
        line = bar.add_task("runs", total=len(todo))
        return run(todo, engine, retries, lambda result: _tick(bar, line, result))


def _tick(bar: Progress, line: Any, result: Result) -> None:
    bar.advance(line)
    if not result.outcome.settled:
        bar.print(f"{result.job.label}, seed {result.job.seeds}: {result.outcome.state}; {result.outcome.about}")


def report(results: Sequence[Result]) -> bool:
    """Print how the runs ended; return whether all have their record."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(counts(results))
    table = troubles(results)
    if table.row_count:
        console.print(table)
    return not table.row_count


@contextmanager
def _stoppable() -> Iterator[None]:
    """Take SIGTERM for Ctrl-C."""
    old = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)
