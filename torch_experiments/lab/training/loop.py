"""The continual-training run: a stream of tasks, networks, an optimizer, a remedy, and what is measured on the way.

`Run` is the loop alone: `feed` says what the networks see, `networks` what is done to them, `measures` what is
recorded, and `keeping` what is saved.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from torch_experiments.lab import records
from torch_experiments.lab.images import pixels
from torch_experiments.lab.images.pixels import Pixels
from torch_experiments.lab.training import parallel
from torch_experiments.lab.training.clock import Clock, synchronise
from torch_experiments.lab.training.configuration import Config, run_identity
from torch_experiments.lab.training.feed import Feed
from torch_experiments.lab.training.keeping import MEASURING, STARTING, Diverged, Interrupted, finish_all
from torch_experiments.lab.training.measures import LOSS, Averages, Measured, first_infinite, measured, row, trapped
from torch_experiments.lab.training.networks import Networks
from torch_experiments.support.precision import in_float32, training_precision
from torch_experiments.support.processes import leads

LOOKS = 25  # steps between looks at the loss on an accelerator, each of which waits for the device


def run(
    config: Config,
    seeds: Sequence[int],
    out: str | Path | None = None,
    *,
    data: Pixels | None = None,
    stack: bool = False,
    resume: bool = True,
    progress: Callable[[int], None] = lambda steps: None,
    checkpoint_every: float = 120.0,
) -> list[records.Record]:
    """Run ``config`` for every seed and return the records, in the order of the seeds.

    Columns of a record: ``task``, ``step`` within the task, ``layer`` (1 is the first observed one; 0 is the whole
    network, for metrics of units the mean over layers), ``metric`` and ``value``. With a folder ``out``, finished
    runs are read, unfinished ones go on at their last checkpoint, and a new checkpoint is written every
    ``checkpoint_every`` seconds and when a signal ends the process. In a process group of torch.distributed all
    processes call this and share each batch (`torch_experiments.lab.training.parallel`); the first one reads and
    writes ``out``, and all return its records.

    Args:
        config: the settings.
        seeds: of initial weights, stream, order, augmentation and noise.
        out: folder of the records; None keeps nothing.
        data: the images, where the caller has them already.
        stack: train all seeds that are not finished at once (`lab.training.ensemble`).
        resume: whether a checkpoint may be used.
        progress: called with the number of steps just done, of one seed or of the whole stack.
        checkpoint_every: seconds.

    Raises:
        ValueError, FileNotFoundError: for settings or data that cannot be run.
        CheckpointError: when the folder is in use, or has a checkpoint that may not be used.
        Diverged: when a loss is not finite.
        Stopped: after SIGTERM or SIGINT.

    >>> config = Config(tasks=1, steps=2, batch=8, probe_train=9, probe_test=9, arch_settings=(("width", 4),))
    >>> run(config, [0])[0].table.column_names
    ['task', 'step', 'layer', 'metric', 'value']
    """
    images = data or pixels.load(config.data)
    return finish_all(
        lambda group: Run(config, group, images),
        lambda seed: run_identity(config, seed, images.fingerprint),
        seeds,
        out,
        stack=stack,
        resume=resume,
        progress=progress,
        checkpoint_every=checkpoint_every,
    )


class Run:
    """Networks of one configuration and some seeds in the middle of their stream.

    What they see and what is done to them are objects of `feeds` and `makes`; runs on other data have others.

    Attributes:
        step: optimizer steps taken since the stream began, those of tasks before the first one counted.
        resumed: at which of them this process began, 0 for the beginning.
        feed: what the networks see.
        networks: with optimizer and remedy.
        rows: measurements so far, one list a seed.
        averages: over the batches of this task.
        owed: task and position of a measurement that is due, None if none is; a run that is stopped while it
            measures is saved so, and measures first when it goes on.
        stage: `MEASURING`, `STARTING` in the first step of a process, which may compile, else empty.

    Raises:
        ValueError: for settings or a device that cannot be run; the message names the field.
    """

    feeds: ClassVar[Callable[..., Any]] = Feed
    makes: ClassVar[Callable[..., Any]] = Networks

    def __init__(self, config: Config, seeds: Sequence[int], data: Pixels) -> None:
        _check_device(config.device)
        self.config, self.seeds, self.fingerprint = config, tuple(seeds), data.fingerprint
        self.feed: Feed = self.feeds(config, seeds, data)
        self.networks: Networks = self.makes(config, seeds, self.feed)
        self.averages = Averages(len(seeds), config.device)
        self.step, self.resumed, self.clock, self.git = (
            config.first * config.steps,
            0,
            Clock(config.device),
            records.git_state(),
        )
        self.rows: list[list[dict[str, Any]]] = [[] for _ in seeds]
        self.owed: tuple[int, int] | None = None
        self.stage, self._started = "", False

    @property
    def done(self) -> bool:
        """Return whether all steps are taken."""
        return self._taken and self.owed is None

    @property
    def _taken(self) -> bool:
        return self.step >= (self.config.first + self.config.tasks) * self.config.steps

    def advance(self) -> None:
        """Train one step; measure where it is due, before the first step of a task and after its last.

        Raises:
            Diverged: when the loss is not finite.
        """
        k, position = divmod(self.step, self.config.steps)
        begun = self.owed == (k, 0)
        self._settle()
        if self._taken:
            return
        if position == 0 and not begun:
            self._begin(k)
            self.owed = (k, 0)
            self._settle()
        with self._at("" if self._started else STARTING):
            self._descend()
        self._started = True
        self.step += 1
        if position + 1 == self.config.steps or (position + 1) % self.config.measure_every == 0:
            self.owed = (k, position + 1)
            self._settle()

    def _settle(self) -> None:
        """Measure what is owed; the end of a task with the averages over its steps."""
        if self.owed is None:
            return
        buffers = [b for model in self.networks.ensemble.models for b in model.buffers()]
        before = [b.clone() for b in buffers]
        try:
            with self._at(MEASURING):
                found = self._rows(*self.owed)
        except Interrupted:  # perhaps while a tool was putting the statistics of norms back
            for b, old in zip(buffers, before, strict=True):
                b.copy_(old)
            raise
        for rows, new in zip(self.rows, found, strict=True):
            rows += new
        self.owed = None

    @contextlib.contextmanager
    def _at(self, stage: str) -> Iterator[None]:
        self.stage = stage
        yield  # whoever is interrupted here asks for the stage
        self.stage = ""

    def go_to(self, step: int) -> None:
        """Go on at ``step``, as at the end of the step before, or in the task of a measurement that is owed."""
        self.step = self.resumed = step
        self.feed.enter(step // self.config.steps if self.owed is None else self.owed[0])

    def identity(self, seed: int) -> dict[str, Any]:
        """Return what identifies the record of a seed."""
        return run_identity(self.config, seed, self.fingerprint)

    def weights(self) -> dict[str, Tensor]:
        """Return the weights of all networks by seed and name."""
        return self.networks.weights()

    def state(self) -> dict[str, Any]:
        """Return what optimizer and remedies remember, and the averages of the task."""
        owed = {} if self.owed is None else {"owed": list(self.owed)}
        return self.networks.state() | {"online": self.averages.sums} | owed

    def restore(self, weights: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Put weights and state back, in place; all that is random follows from the number of the step (`feed`)."""
        self.networks.restore(weights, state)
        self.averages.sums.copy_(state["online"])
        self.owed = tuple(state["owed"]) if "owed" in state else None

    @contextlib.contextmanager
    def precisely(self) -> Iterator[None]:
        """Allow TF32 where it is asked for, and keep the global generator out of the run, for a block of steps."""
        devices = [self.config.device] if self.config.device.startswith("cuda") else []
        seeded = torch.random.fork_rng(devices=devices) if self.config.dropout else contextlib.nullcontext()
        with seeded, training_precision(tf32=self.config.precision == "tf32"):
            yield

    def pace(self, warm: int, steps: int) -> float:
        """Return the mean seconds of ``steps`` steps of the first task, after ``warm`` others; nothing is kept."""
        self._begin(self.config.first)
        with self.precisely():
            self._steps(warm)
            start = time.perf_counter()
            self._steps(steps)
        return (time.perf_counter() - start) / steps

    def _steps(self, count: int) -> None:
        for _ in range(count):
            self._descend()
            self.step += 1
        synchronise(self.config.device)

    def _begin(self, k: int) -> None:
        self.feed.enter(k)  # first, as a remedy looks at the new task's images
        self.averages.sums.zero_()
        self.networks.begin(k)

    def _descend(self) -> None:
        with self.clock.on("data"):
            x, y = self.feed.batch(self.step)
        with self.clock.on("model"):
            outputs = self.networks.outputs(x, self.step)
            active, truth = self._active(outputs, y)
            loss = cross_entropy(active.flatten(0, 1), y.flatten(), reduction="none").view(y.shape).mean(dim=1)
            self._stop_if_infinite(self.averages.add(loss, active, outputs, y, truth), x)
            self.networks.descend(loss, self.step)

    def _active(self, outputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the outputs under the loss, and the labels ``y`` among all outputs."""
        active = torch.gather(outputs, 2, self.feed.active.expand(-1, outputs.shape[1], -1))
        return active, torch.gather(self.feed.active[:, 0], 1, y)

    def _stop_if_infinite(self, loss: Tensor, x: Tensor) -> None:
        every = 1 if self.config.device == "cpu" else LOOKS
        if self.step % every or bool(loss.isfinite().all()):
            return
        s = int((~loss.isfinite()).nonzero()[0, 0])
        k, position = divmod(self.step, self.config.steps)
        place = f"step {position} of task {k}, seed {self.seeds[s]}" + (f" (or up to {every} before)" * (every > 1))
        layer = parallel.first_other(first_infinite(self.networks.ensemble.models[s], x[s]), LOSS)
        raise Diverged(
            f"loss: {loss[s].item()} at {place}, first in {layer}; try a smaller lr than {self.config.lr}"
        )

    def _rows(self, k: int, position: int) -> list[list[dict[str, Any]]]:
        """Return the rows of a measurement, a list for each seed."""
        every = range(len(self.seeds))
        rows: list[list[dict[str, Any]]] = [[] for _ in every]
        if leads():
            with self.clock.on("metrics"), in_float32():
                rows = [[row(k, position, *found) for found in self._measured(s, position)] for s in every]
        if position == self.config.steps:
            for s in every:
                rows[s] += [row(k, position, *found) for found in self.averages.over(position, s)]
        return rows

    def _measured(self, s: int, position: int) -> Iterator[Measured]:
        model, active = self.networks.ensemble.models[s], self.feed.active[s, 0]
        train, test = (self.feed.probe(s, split) for split in ("train", "test"))
        yield from measured(model, train, test, active)
        if self.config.trapped and position == self.config.steps:
            yield from trapped(model, *train, active)


def _check_device(device: str) -> None:
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise ValueError(f"device: got {device!r}; allowed are 'cpu', 'cuda', and 'cuda:0', 'cuda:1', …")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device: got {device!r}, and torch sees no CUDA device; use 'cpu'")
