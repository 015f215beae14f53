"""Runs of slowly changing regression: seeds side by side, losses in bins, metrics on the fly, resumed exactly.

A run is determined by its `Config` to the last bit: each seed is computed by itself, whatever runs beside it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from simulate import lane_kernels, learner_kernels, learners
from simulate.checksums import of_array, sealed, unsealed
from simulate.files import replacing
from simulate.learners import Learner, Segment, Settings, State
from simulate.streams import Stream, Target, generator, patterns, slow_bits, target, task
from simulate.unit_metrics import unit_metrics

Array = np.ndarray[Any, Any]
Advance = Callable[[State, Segment, Settings], float]
REVISION = 2  # raise it when the same config would give other numbers
PROBE = 4  # the random sequence of the fixed inputs on which units are measured
PROBES = 512
BETWEEN_SAVES = 5.0  # seconds
AT_ONCE = 200_000  # steps that a thread takes in one go
BATCHES = ("recent", "uniform")
SHOWN = (
    "recent_roy_vetterli_rank",
    "uniform_roy_vetterli_rank",
    "uniform_dead_fraction",
    "uniform_duplicate_fraction",
    "weight_norm",
    "renewed",
)


@dataclass(frozen=True)
class Config:
    """Everything that determines the numbers.

    Attributes:
        learner: a name of `learners.LEARNERS`, or the settings themselves.
        hidden: ReLU units of the learner.
        steps: samples, one a step.
        seeds: of target, stream, initial weights and whatever the learner draws.
        bin: steps over which losses are averaged, and between two measurements of the units.
        stream: what the learner sees.

    >>> config = Config("cbp", steps=100, bin=50, seeds=range(2))
    >>> config.seeds, config.settings.resets
    ((0, 1), 'cbp')
    """

    learner: str | Learner = "sgd"
    hidden: int = 5
    steps: int = 1_000_000
    seeds: Sequence[int] = (0, 1, 2, 3, 4)
    bin: int = 20_000
    stream: Stream = field(default_factory=Stream)

    def __post_init__(self) -> None:
        if not isinstance(self.stream, Stream):
            raise ValueError(f"stream: got {self.stream!r}; give a Stream, such as Stream({self.stream!r})")
        if isinstance(self.seeds, int) or not all(isinstance(seed, (int, np.integer)) for seed in self.seeds):
            raise ValueError(f"seeds: got {self.seeds!r}; give a sequence of integers, such as range(5)")
        object.__setattr__(self, "seeds", tuple(int(seed) for seed in self.seeds))
        if isinstance(self.learner, str):
            object.__setattr__(self, "learner", learners.named(self.learner))
        for name in ("hidden", "steps", "bin"):
            if not isinstance(getattr(self, name), (int, np.integer)):
                raise ValueError(f"{name}: got {getattr(self, name)!r}; it has to be an integer")
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}; it has to be at least 1")
        if self.steps % self.bin:
            raise ValueError(f"bin: {self.bin} does not divide the {self.steps} steps; choose one that does")
        if not self.seeds or min(self.seeds) < 0 or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: got {self.seeds}; give at least one, different ones, none negative")

    @property
    def settings(self) -> Learner:
        """The learner, looked up."""
        return learners.named(self.learner) if isinstance(self.learner, str) else self.learner

    @property
    def units(self) -> int:
        """Hidden units in fact: one for the linear learner."""
        return 1 if self.settings.linear else self.hidden

    def about(self) -> dict[str, Any]:
        """Return the config as JSON values, with the revision of the numbers."""
        return {"experiment": "bit_flipping", "revision": REVISION} | json.loads(
            json.dumps(dataclasses.asdict(self))
        )


@dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes:
        config: as `Config.about` returns it.
        loss: means of `(ŷ − y)²` (seeds, bins).
        metrics: by name, at the end of every bin (seeds, bins): of `simulate.unit_metrics`, on the inputs of the
            task at hand (`recent_…`) and on a fixed random batch (`uniform_…`), `weight_norm`, `outgoing_norm`
            and `renewed`, the units re-drawn so far.
        environment: versions, reported only.
    """

    config: Mapping[str, Any]
    loss: Array
    metrics: Mapping[str, Array]
    environment: Mapping[str, Any]

    def end(self, name: str = "loss", last: float = 0.1) -> Array:
        """Return the mean of the loss or a metric over the last part of the bins, for every seed (seeds,)."""
        values = self.loss if name == "loss" else self.metrics[name]
        return values[:, -max(1, round(last * values.shape[1])) :].mean(axis=1)


class World(NamedTuple):
    """What a seed sees, apart from the order of the inputs."""

    network: Target
    slow: Array
    probe: Array


class Progressing(NamedTuple):
    """An unfinished run: bins done, and for every seed the learner's state, the losses and the metrics so far."""

    done: int
    states: list[State]
    loss: Array
    metrics: Array


def run(
    config: Config, out: str | Path | None = None, *, threads: int | None = None, progress: bool = False
) -> Result:
    """Return the result of a config; from the file `out` if it is there, else computed and written to it.

    While it runs, its state is kept beside `out`, so that a run that was killed goes on with exactly the same
    numbers. The number of threads (all cores, if none is given) changes nothing but the time.

    Args:
        config: What is run.
        out: Where the result is kept, an `.npz` file.
        threads: How many groups of seeds move at once.
        progress: Whether a bar is shown.

    Raises:
        ValueError: `out`, or the state beside it, belongs to another config or is no result; `threads` is below 1.

    >>> small = Config(steps=40, bin=20, seeds=[0], stream=Stream(bits=5, slow=3, hold=10, units=4))
    >>> result = run(small, threads=1)
    >>> result.loss.shape, result.end("renewed").tolist()
    ((1, 2), [0.0])
    """
    file = Path(out) if out is not None else None
    if file is not None and file.exists():
        return load(file, config)
    current = _resumed(config, _partial(file)) if file is not None and _partial(file).exists() else begun(config)
    result = _finished(config, _completed(config, current, file, threads, progress))
    if file is not None:
        save(file, result)
        _partial(file).unlink(missing_ok=True)
    return result


def begun(config: Config) -> Progressing:
    """Return the run before its first step.

    >>> begun(Config(steps=40, bin=20, seeds=range(3))).loss.shape
    (3, 2)
    """
    states = [learners.initial(config.settings, config.stream.bits, config.units, s) for s in config.seeds]
    shape = (len(states), config.steps // config.bin)
    return Progressing(0, states, np.full(shape, np.nan), np.full((*shape, len(_names())), np.nan))


def advanced(config: Config, seed: int, world: World, state: State, bins: range, advance: Advance) -> list[Any]:
    """Move one seed through some bins and return for each the mean loss and the metrics (a list of pairs).

    Args:
        config: What is run.
        seed: Which of the seeds.
        world: What it sees.
        state: Of its learner; changed in place.
        bins: Numbers of the bins, in order.
        advance: Of `simulate.learner_kernels`, or the slow one of `simulate.learner_reference`.

    >>> small = Config(steps=40, bin=20, seeds=[0], stream=Stream(bits=5, slow=3, hold=10, units=4))
    >>> rows = advanced(small, 0, world(small, 0), begun(small).states[0], range(2), learner_kernels.advance)
    >>> [loss for loss, _ in rows] == run(small, threads=1).loss[0].tolist()
    True
    """
    rows = []
    for number in bins:
        total = 0.0
        for segment in segments(config, seed, world, number * config.bin, (number + 1) * config.bin):
            total += advance(state, segment, learners.settings(config.settings))
        rows.append((total / config.bin, list(measure(config, world, state, (number + 1) * config.bin).values())))
    return rows


def advanced_together(
    config: Config, seeds: Sequence[int], worlds: Sequence[World], states: Sequence[State], bins: range
) -> list[Any]:
    """Move some seeds as `advanced` moves one, with the same numbers, and return what it returns for each.

    Small learners are lanes of the same vectors; one alone moves by itself, and so does a wide one, whose units
    fill vectors.

    >>> small = Config(steps=40, bin=20, seeds=range(3), stream=Stream(bits=5, slow=3, hold=10, units=4))
    >>> seen, states = [world(small, seed) for seed in small.seeds], begun(small).states
    >>> [len(rows) for rows in advanced_together(small, small.seeds, seen, states, range(2))]
    [2, 2, 2]
    """
    if not _fit(config, len(seeds)):
        alone = partial(advanced, config, bins=bins, advance=learner_kernels.advance)
        return list(map(alone, seeds, worlds, states))
    lanes, numbers = lane_kernels.together(states), learners.settings(config.settings)
    rows: list[list[Any]] = [[] for _ in seeds]
    for number in bins:
        start, stop = number * config.bin, (number + 1) * config.bin
        totals = np.zeros(lane_kernels.LANES)
        parts = [segments(config, seed, seen, start, stop) for seed, seen in zip(seeds, worlds, strict=True)]
        for part in zip(*parts, strict=True):
            totals += lane_kernels.advance(lanes, lane_kernels.aligned(part), numbers)
        now = lane_kernels.apart(lanes, len(seeds))
        for row, total, seen, state in zip(rows, totals, worlds, now, strict=False):
            row.append((total / config.bin, list(measure(config, seen, state, stop).values())))
    for state, moved in zip(states, lane_kernels.apart(lanes, len(seeds)), strict=True):
        for array, new in zip(state, moved, strict=True):
            array[...] = new
    return rows


def segments(config: Config, seed: int, world: World, start: int, stop: int) -> list[Segment]:
    """Return the steps from `start` to before `stop`, split where tasks change.

    Args:
        config: What is run.
        seed: Which of the seeds.
        world: What it sees.
        start, stop: Steps, `0 ≤ start < stop ≤ config.steps`.

    >>> small = Config(steps=40, bin=20, seeds=[0], stream=Stream(bits=5, slow=3, hold=10, units=4))
    >>> [len(part.order) for part in segments(small, 0, world(small, 0), 5, 25)]
    [5, 10, 5]
    """
    hold, memory = config.stream.hold, config.settings.memory
    found = []
    for index in range(start // hold, (stop - 1) // hold + 1):
        inputs, targets, order = task(config.stream, world.network, world.slow[index], seed, index)
        recent = patterns(config.stream, world.slow[max(0, index + 1 - memory) : index + 1])
        part = slice(max(0, start - index * hold), stop - index * hold)
        found.append(Segment(inputs, targets, order[part], recent))
    return found


def world(config: Config, seed: int) -> World:
    """Return what a seed sees.

    >>> small = Config(steps=40, bin=20, seeds=[0], stream=Stream(bits=5, slow=3, hold=10, units=4))
    >>> world(small, 0).slow.shape, world(small, 0).probe.shape
    ((4, 3), (512, 5))
    """
    tasks = (config.steps - 1) // config.stream.hold + 1
    probe = generator(seed, PROBE).integers(0, 2, (PROBES, config.stream.bits)).astype(float)
    return World(target(config.stream, seed), slow_bits(config.stream, seed, tasks), probe)


def measure(config: Config, seen: World, state: State, steps: int) -> dict[str, float]:
    """Return the metrics after that many steps, by name.

    Args:
        config: What is run.
        seen: The world of the seed.
        state: Of its learner.
        steps: How many it has made, at least 1.

    >>> small = Config(steps=40, bin=20, seeds=[0], stream=Stream(bits=5, slow=3, hold=10, units=4))
    >>> found = measure(small, world(small, 0), begun(small).states[0], 1)
    >>> found["renewed"], 0 <= found["uniform_dead_fraction"] <= 1
    (0.0, True)
    """
    slow = seen.slow[(steps - 1) // config.stream.hold][None]
    found: dict[str, float] = {}
    for batch, x in zip(BATCHES, (patterns(config.stream, slow), seen.probe), strict=True):
        a = learners.activations(state.weights, config.units, x, config.settings)
        found |= {f"{batch}_{name}": value for name, value in unit_metrics(a).items()}
    v = learners.unpack(state.weights, config.units)[2]
    norms = {"weight_norm": float(np.linalg.norm(state.weights)), "outgoing_norm": float(np.linalg.norm(v))}
    return found | norms | {"renewed": float(state.clock[1])}


def summary(result: Result, title: str = "") -> Table:
    """Return loss and metrics in the first bin and the last tenth, mean ± standard error; all re-drawn units.

    >>> small = Config(steps=40, bin=20, seeds=[0], stream=Stream(bits=5, slow=3, hold=10, units=4))
    >>> summary(run(small, threads=1)).row_count
    7
    """
    table = Table("", "first bin", "last tenth", title=title)
    for name in ("loss", *SHOWN):
        values = result.loss if name == "loss" else result.metrics[name]
        last = values[:, -1] if name == "renewed" else result.end(name)  # a count, not a level
        table.add_row(name.replace("_", " "), _mean(values[:, 0]), _mean(last))
    return table


def key(config: Config) -> str:
    """Return 16 hex digits that depend on the config alone.

    >>> key(Config()) == key(Config(learner="sgd")) != key(Config("adam"))
    True
    """
    return sha256(json.dumps(config.about(), sort_keys=True).encode()).hexdigest()[:16]


def save(file: Path, result: Result) -> None:
    """Write a result whole or not at all, as an `.npz` file; missing folders are made.

    >>> from tempfile import TemporaryDirectory
    >>> small = Config(steps=40, bin=20, seeds=[0], stream=Stream(bits=5, slow=3, hold=10, units=4))
    >>> with TemporaryDirectory() as folder:
    ...     save(Path(folder, "run.npz"), run(small, threads=1))
    ...     load(Path(folder, "run.npz"), small).loss.shape
    (1, 2)
    """
    about = {"config": result.config, "environment": result.environment}
    _write(file, about, {"loss": result.loss} | dict(result.metrics))


def load(file: Path, config: Config | None = None) -> Result:
    """Return the result in a file, that of `config` if one is given.

    Raises:
        ValueError: it is no result, damaged (its checksum is wrong), or that of another config.

    >>> load(Path("missing.npz"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: out: missing.npz is no result of this project, or damaged ...
    """
    arrays = _read(file)
    about = json.loads(str(arrays.pop("about")))
    if "done" in arrays:
        raise ValueError(f"out: {file} is an unfinished run; give the file that it belongs to, without .partial")
    if config is not None and about["config"] != config.about():
        raise ValueError(f"out: {file} holds {_difference(about['config'], config.about())}; choose another file")
    return Result(about["config"], arrays.pop("loss"), arrays, about["environment"])


def environment() -> dict[str, str]:
    """Return the versions that make the numbers.

    >>> sorted(environment())
    ['numba', 'numpy', 'platform', 'python']
    """
    versions = {package: version(package) for package in ("numpy", "numba")}
    return {"python": platform.python_version(), "platform": platform.platform()} | versions


def _mean(values: Array) -> str:
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return f"{np.mean(values):.3g} ± {error:.2g}" if np.isfinite(error) else f"{np.mean(values):.3g}"


def _completed(
    config: Config, current: Progressing, file: Path | None, threads: int | None, progress: bool
) -> Progressing:
    """Advance all seeds to the end, saving the state now and then."""
    if threads is not None and threads < 1:
        raise ValueError(f"threads: got {threads}; it has to be at least 1")
    threads = threads or os.cpu_count() or 1
    worlds = [world(config, seed) for seed in config.seeds]
    bins, at_once = config.steps // config.bin, max(1, AT_ONCE // config.bin)
    groups = _groups(len(worlds), threads)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %"))
    with (
        Progress(*columns, TimeRemainingColumn(), disable=not progress) as bar,
        ThreadPoolExecutor(threads) as pool,
    ):
        line = bar.add_task("compiling", total=bins, completed=current.done)
        _compile(config, len(groups[0]))
        bar.update(line, description="bit flipping")
        saved = time.monotonic()
        while current.done < bins:
            part = range(current.done, min(bins, current.done + at_once))
            current = _together(config, worlds, current, part, pool, groups)
            bar.update(line, completed=current.done)
            if file is not None and time.monotonic() - saved > BETWEEN_SAVES:
                _keep(_partial(file), config, current)
                saved = time.monotonic()
    return current


def _together(
    config: Config,
    worlds: list[World],
    current: Progressing,
    bins: range,
    pool: ThreadPoolExecutor,
    groups: list[list[int]],
) -> Progressing:
    def moved(group: list[int]) -> list[Any]:
        seeds, seen = [config.seeds[i] for i in group], [worlds[i] for i in group]
        return advanced_together(config, seeds, seen, [current.states[i] for i in group], bins)

    found = chain.from_iterable(pool.map(moved, groups))
    for loss, metrics, rows in zip(current.loss, current.metrics, found, strict=True):
        for number, (mean, values) in zip(bins, rows, strict=True):
            loss[number], metrics[number] = mean, values
    return current._replace(done=bins.stop)


def _groups(seeds: int, threads: int) -> list[list[int]]:
    """Return the places of the seeds that move together: as few as lanes hold, and one a thread at least.

    >>> _groups(10, 2), _groups(3, 8)
    ([[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]], [[0], [1], [2]])
    """
    number = min(seeds, max(-(-seeds // lane_kernels.LANES), threads))
    return [group.tolist() for group in np.array_split(np.arange(seeds), number)]


def _fit(config: Config, seeds: int) -> bool:
    return seeds > 1 and config.units < learner_kernels.WIDE


def _compile(config: Config, seeds: int) -> None:
    """Compile, or load, the kernel for that many seeds at once by a call without steps."""
    state = learners.initial(config.settings, config.stream.bits, config.units, 0)
    x = np.zeros((1, config.stream.bits))
    empty, numbers = Segment(x, np.zeros(1), np.zeros(0, dtype=np.uint16), x), learners.settings(config.settings)
    if _fit(config, seeds):
        lane_kernels.advance(lane_kernels.together([state]), lane_kernels.aligned([empty]), numbers)
    else:
        learner_kernels.advance(state, empty, numbers)


def _finished(config: Config, current: Progressing) -> Result:
    metrics = {name: current.metrics[:, :, i] for i, name in enumerate(_names())}
    return Result(config.about(), current.loss, metrics, environment())


def _names() -> list[str]:
    units = [f"{batch}_{name}" for batch in BATCHES for name in unit_metrics(np.zeros((1, 1)))]
    return [*units, "weight_norm", "outgoing_norm", "renewed"]


def _partial(file: Path) -> Path:
    return file.with_name(file.name + ".partial")


def _keep(file: Path, config: Config, current: Progressing) -> None:
    """Write the state of an unfinished run."""
    fields = {name: np.stack([getattr(state, name) for state in current.states]) for name in State._fields}
    rest = {"done": np.array(current.done), "loss": current.loss, "metrics": current.metrics}
    _write(file, {"config": config.about()}, rest | {f"state_{k}": v for k, v in fields.items()})


def _resumed(config: Config, file: Path) -> Progressing:
    """Return the unfinished run in a file.

    Raises:
        ValueError: it is that of another config.
    """
    arrays = _read(file)
    held = json.loads(str(arrays["about"]))["config"]
    if held != config.about():
        raise ValueError(f"out: {file} holds {_difference(held, config.about())}; choose another file or remove it")
    fields = [list(arrays[f"state_{name}"]) for name in State._fields]
    states = [State(*(array.copy() for array in seed)) for seed in zip(*fields, strict=True)]
    return Progressing(int(arrays["done"]), states, arrays["loss"], arrays["metrics"])


def _difference(held: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Say in which settings two configs differ."""
    other = [f"{k} = {held.get(k)!r}" for k in {**held, **wanted} if held.get(k) != wanted.get(k)]
    return "the run of another configuration: " + ", ".join(other)


def _read(file: Path) -> dict[str, Array]:
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            found = dict(arrays)
        about = unsealed(json.loads(str(found["about"])), _bytes(found))
        rest = {"environment"} if "done" not in found else {"metrics", *(f"state_{name}" for name in State._fields)}
        complete = {"config", "loss", *rest} <= about.keys() | found.keys()
    except Exception as error:  # whatever NumPy, zip, zlib and JSON raise for a damaged file
        raise ValueError(f"out: {file} is no result of this project, or damaged ({error}); remove it") from error
    if not complete:
        raise ValueError(f"out: {file} is no result of this project; choose another file")
    return found


def _write(target: Path, about: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    text = np.array(json.dumps(sealed(about, _bytes(arrays))))
    with replacing(target) as part, part.open("wb") as stream:  # to a path NumPy would append ".npz"
        np.savez_compressed(stream, allow_pickle=False, about=text, **arrays)


def _bytes(arrays: Mapping[str, Array]) -> dict[str, bytes]:
    return {name: of_array(array) for name, array in arrays.items() if name != "about"}
