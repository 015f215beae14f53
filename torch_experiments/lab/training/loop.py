"""The continual-training run: a stream of tasks, a network, an optimizer, a remedy, and what is measured on the
way.

Every random number depends on the seed and the place where it is used (task, epoch, step) and on nothing that was
drawn before, so that a run resumes at any step and gives the same numbers, and seeds trained together see the data
that they would see alone. A batch is a cut of fixed size out of the permutations of a task, one after the other.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from torch_experiments import remedies
from torch_experiments.cloning.exact import clone
from torch_experiments.lab import models, records, streams
from torch_experiments.lab.images import pixels
from torch_experiments.lab.images.augment import NOTHING, Augmentation, Draw, joined
from torch_experiments.lab.images.pixels import Pixels
from torch_experiments.lab.streams import Task
from torch_experiments.lab.training import checkpoints, parallel
from torch_experiments.lab.training.checkpoints import Checkpoint, CheckpointError
from torch_experiments.lab.training.configuration import Config, run_identity
from torch_experiments.lab.training.measures import (
    LOSS,
    WHOLE,
    first_infinite,
    in_turn,
    row,
    scores,
    trapped,
    unit_rows,
)
from torch_experiments.metrics import layers
from torch_experiments.metrics.parameters import norm
from torch_experiments.remedies.network import Memory, Network
from torch_experiments.support.generators import generator
from torch_experiments.support.processes import leads, processes
from torch_experiments.support.threads import flushed
from torch_experiments.units.inputs import evaluating

ORDER, AUGMENT, DROPOUT, INITIAL, PROBE, HEAD = range(10, 16)
AHEAD = 64  # steps whose crops, flips and jitters are drawn at once on an accelerator
CHUNK = 100  # images of a metric batch that pass the network together
PARTS = ("data", "model", "metrics", "checkpoints")


class Diverged(ArithmeticError):
    """The loss of a run is not finite; the message says when, where first, and where the state was saved."""


class Stopped(SystemExit):
    """A signal asked the run to end; it was saved."""


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
    """
    data = data or pixels.load(config.data)
    finished = parallel.told(lambda: {seed: _finished(config, seed, data, out) for seed in seeds})
    missing = [seed for seed in seeds if finished[seed] is None]
    groups = [missing] if stack and missing else [[seed] for seed in missing]
    keep = Keep(Path(out), checkpoint_every, resume) if out is not None else None
    for group in groups:
        with flushed():
            found = Run(config, group, data).to_the_end(keep, progress)
        finished |= dict(zip(group, found, strict=True))
    return [record for record in finished.values() if record is not None]


def _finished(config: Config, seed: int, data: Pixels, out: str | Path | None) -> records.Record | None:
    return records.find(out, run_identity(config, seed, data.fingerprint)) if out is not None else None


@dataclass(frozen=True)
class Keep:
    """Where and how often a run is saved, and whether it may go on from a checkpoint."""

    out: Path
    every: float = 120.0
    resume: bool = True


@dataclass
class Clock:
    """Seconds spent on each of `PARTS`."""

    spent: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    started: float = field(default_factory=time.perf_counter)

    @contextmanager
    def on(self, part: str) -> Iterator[None]:
        """Add the time of a block to a part."""
        start = time.perf_counter()
        yield
        self.spent[part] += time.perf_counter() - start

    def shares(self) -> dict[str, float]:
        """Return all seconds, and the share of them that is metrics, and that is none of the parts."""
        total = time.perf_counter() - self.started
        rest = total - sum(self.spent.values())
        shares = {"metrics_share": self.spent["metrics"] / total, "overhead_share": rest / total}
        return {"seconds": round(total, 3)} | {name: round(share, 5) for name, share in shares.items()}


class Run:
    """Networks of one configuration and some seeds in the middle of their stream.

    Attributes:
        step: optimizer steps taken, over all tasks.  resumed: at which of them this process began.
        rows: measurements so far, one list a seed.
    """

    def __init__(self, config: Config, seeds: Sequence[int], data: Pixels) -> None:
        if not re.fullmatch(r"cpu|cuda(:\d+)?", config.device):
            raise ValueError(f"device: got {config.device!r}; allowed are 'cpu', 'cuda', and 'cuda:0', 'cuda:1', …")
        if config.device.startswith("cuda") and not torch.cuda.is_available():
            raise ValueError(f"device: got {config.device!r}, and torch sees no CUDA device; use 'cpu'")
        self.config, self.seeds, self.fingerprint = config, tuple(seeds), data.fingerprint
        data = data.resized(config.size)
        self.data = data.to(config.device)
        self.streams = [make_stream(config, data, seed) for seed in seeds]
        self._shift, self._factor = (t.to(self.data.mean) for t in (self.data.mean, 1 / self.data.scale.double()))
        self.augment = Augmentation(config.padding, config.flip, config.jitter)
        self.remedy = remedies.make(config.remedy, **dict(config.remedy_settings))
        if self.remedy.watches and len(seeds) > 1:
            raise ValueError(
                f"stack: the remedy {config.remedy!r} watches single networks; run the seeds one by one"
            )
        if config.compile and processes() > 1:
            raise ValueError("compile: is not for several processes; leave it out, or run without --ddp")
        self.part = parallel.part(config.batch)
        self.ensemble = parallel.shared_ensemble([self.fresh(seed) for seed in seeds], self._optimizer)
        self.networks = [self._network(s) for s in range(len(seeds))]
        self.states = [self.remedy.begin(network) for network in self.networks]
        for network, state in zip(self.networks, self.states, strict=True):
            self.remedy.attach(network, state)
        self.forward = torch.compile(self.ensemble.forward) if config.compile else self.ensemble.forward
        self.step, self.resumed, self.clock, self.git = 0, 0, Clock(), records.git_state()
        self.rows: list[list[dict[str, Any]]] = [[] for _ in seeds]
        self.online = torch.zeros(3, len(seeds), dtype=torch.float64, device=config.device)
        self._changed = torch.compile(self._prepared) if config.compile else self._prepared
        self._ahead = 1 if config.device == "cpu" else AHEAD
        self._drawn: dict[int, Draw] = {}
        self._orders: dict[tuple[tuple[int, ...], int, int], tuple[Tensor, Tensor]] = {}
        self._enter(0)

    # ------------------------------------------------------------------ the run

    def to_the_end(
        self, keep: Keep | None = None, progress: Callable[[int], None] = lambda steps: None
    ) -> list[records.Record]:
        """Return the records, after training what is left; see `run`."""
        if keep is None:
            self._train(progress, lambda: None)
            return parallel.told(self._records)
        with self._locked(self.folder(keep.out)) as folder:
            found = parallel.told(lambda: self._found(keep.out)) or self._finish(folder, keep, progress)
            if leads():
                shutil.rmtree(folder, ignore_errors=True)
        return found

    @contextmanager
    def _locked(self, folder: Path) -> Iterator[Path]:
        """Hold ``folder`` for all processes of this run by the first one."""
        with contextlib.ExitStack() as stack:
            parallel.told(lambda: str(stack.enter_context(checkpoints.locked(folder))))
            yield folder

    def _finish(self, folder: Path, keep: Keep, progress: Callable[[int], None]) -> list[records.Record]:
        self._resume(folder, keep.resume)
        progress(self.step)
        with _signals() as asked:
            self._train(progress, self._saver(folder, keep.every, asked), folder)
            found = parallel.told(lambda: [self._saved(keep.out, record) for record in self._records()])
        if asked:  # after the last step: it is for whoever called
            signal.raise_signal(asked[0])
        return found

    def _records(self) -> list[records.Record]:
        return [self._record(s) for s in range(len(self.seeds))]

    def _saved(self, out: Path, record: records.Record) -> records.Record:
        records.save(out, record)
        return record

    def _found(self, out: Path) -> list[records.Record]:
        """Return the records, if another process has finished all of them meanwhile."""
        pairs = [records.find(out, run_identity(self.config, seed, self.fingerprint)) for seed in self.seeds]
        found = [record for record in pairs if record is not None]
        return found if len(found) == len(self.seeds) else []

    def folder(self, out: Path) -> Path:
        """Return the folder of this run's checkpoints below ``out``."""
        about = self.about()
        return out / f"{self.config.experiment}-{records.key(about)}.run"

    def about(self) -> dict[str, Any]:
        """Return the identity of this run: that of its first seed, with the list of all seeds."""
        return run_identity(self.config, self.seeds[0], self.fingerprint) | {"seeds": list(self.seeds)}

    def advance(self) -> None:
        """Train one step; measure where it is due, before the first step of a task and after its last."""
        k, position = divmod(self.step, self.config.steps)
        if position == 0:
            self._enter(k)
            self._prepare(k)
            self._measure(k, 0)
        self._descend(position)
        self.step += 1
        if position + 1 == self.config.steps:
            self._close(k)
        elif (position + 1) % self.config.measure_every == 0:
            self._measure(k, position + 1)

    def pace(self, warm: int, steps: int) -> float:
        """Return the mean seconds of ``steps`` steps of the first task, after ``warm`` others; nothing is kept."""
        self._enter(0)
        self._prepare(0)
        with _precision(self.config):
            for position in range(warm + steps):
                if position == warm:
                    self._wait()
                    start = time.perf_counter()
                self._descend(position)
                self.step += 1
            self._wait()
        return (time.perf_counter() - start) / steps

    def _wait(self) -> None:
        if self.config.device.startswith("cuda"):
            torch.cuda.synchronize(self.config.device)

    def _train(self, progress: Callable[[int], None], save: Callable[[], None], folder: Path | None = None) -> None:
        with _precision(self.config):
            while self.step < self.config.tasks * self.config.steps:
                try:
                    self.advance()
                except Diverged as error:
                    raise Diverged(f"{error}{self._keep_failed(folder)}") from None
                progress(1)
                save()

    # ------------------------------------------------------------------ one step

    def _descend(self, position: int) -> None:
        with self.clock.on("data"):
            x, y = self._batch(position)
        with self.clock.on("model"):
            self._seed_dropout()
            outputs = self._autocast(x)
            active = torch.gather(outputs, 2, self._active.expand(-1, outputs.shape[1], -1))
            loss = cross_entropy(active.flatten(0, 1), y.flatten(), reduction="none").view(y.shape).mean(dim=1)
            self._stop_if_infinite(self._note(loss, active, outputs, y), x)
            self.ensemble.step(loss, self._edit if self.remedy.edits_gradients else None)
            self._for_all(self.remedy.after_step, self.step)

    def _batch(self, position: int) -> tuple[Tensor, Tensor]:
        """Return the images ``[S, batch, c, h, w]`` and local labels ``[S, batch]`` of a step of the task.

        They are those of this process, where several share the batch.
        """
        pairs = [self._picked(group, position) for group in self._groups]
        index, y = (torch.cat(column)[:, self.part] for column in zip(*pairs, strict=True))
        levels = self.data.train_x.index_select(0, index.flatten()).unflatten(0, index.shape)
        if any(task.transform is not streams.unchanged for task in self.tasks):
            levels = torch.stack([task.transform(x) for task, x in zip(self.tasks, levels, strict=True)])
        return self._augmented(levels), y

    def _picked(self, group: tuple[int, ...], position: int) -> tuple[Tensor, Tensor]:
        """Return which images seeds number ``group`` see at a step of the task, and their local labels."""
        size, n = self.config.batch, len(self.tasks[group[0]].train)
        epoch, start = divmod(position * size, n)
        if start + size <= n:
            index, y = self._order(group, epoch)
            return index[:, start : start + size], y[:, start : start + size]
        epochs = range(epoch, (start + size - 1) // n + epoch + 1)
        columns = zip(*(self._order(group, e) for e in epochs), strict=True)
        index, y = (torch.cat(column, dim=1)[:, start : start + size] for column in columns)
        return index, y

    def _augmented(self, levels: Tensor) -> Tensor:
        """Return levels ``[S, batch, …]`` randomly changed and standardised; on a CPU one seed at a time."""
        if self.augment == NOTHING:
            return self._normalised(levels)
        draw, (seeds, size) = self._draw(), levels.shape[:2]
        if levels.device.type != "cpu":
            return self._changed(levels.flatten(0, 1), draw).unflatten(0, (seeds, size))
        parts = [draw.part(slice(s * size, (s + 1) * size)) for s in range(seeds)]
        batches = [self.augment.apply(x, part) for x, part in zip(levels, parts, strict=True)]
        return self._normalised(torch.stack(batches) if seeds > 1 else batches[0][None])

    def _prepared(self, levels: Tensor, draw: Draw) -> Tensor:
        return self._normalised(self.augment.apply(levels, draw))

    def _draw(self) -> Draw:
        """Return the random numbers of the step for the images of all seeds, one seed after the other."""
        block, place = divmod(self.step, self._ahead)
        size = self.config.batch
        if block not in self._drawn:
            device = self.config.device
            sources = [generator(seed, AUGMENT, block, device=device) for seed in self.seeds]
            self._drawn = {block: joined([self.augment.draw(self._ahead * size, source) for source in sources])}
        shape = (len(self.seeds), self._ahead, size)
        return Draw(*(t.unflatten(-1, shape)[..., place, self.part].flatten(-2) for t in self._drawn[block]))

    def _normalised(self, levels: Tensor) -> Tensor:
        """Return levels standardised by channel; a floating batch is changed in place."""
        return levels.to(self.config.dtype).sub_(self._shift).mul_(self._factor)

    def _order(self, group: tuple[int, ...], epoch: int) -> tuple[Tensor, Tensor]:
        """Return the images of the task in the order of an epoch, and their local labels, on the device.

        Both are ``[len(group), images]``: the seeds of a group have as many images.
        """
        k = self.step // self.config.steps
        key = (group, k, epoch)
        if key not in self._orders:
            self._orders = {old: order for old, order in self._orders.items() if old[1:] >= (k, epoch - 1)}
            pairs = [self._permuted(s, k, epoch) for s in group]
            index, y = (torch.stack(column).to(self.config.device) for column in zip(*pairs, strict=True))
            self._orders[key] = (index, y)
        return self._orders[key]

    def _permuted(self, s: int, k: int, epoch: int) -> tuple[Tensor, Tensor]:
        task = self.tasks[s]
        order = torch.randperm(len(task.train), generator=generator(self.seeds[s], ORDER, k, epoch))
        return task.train[order], torch.searchsorted(task.active, task.train_y[order])

    def _autocast(self, x: Tensor) -> Tensor:
        if self.config.precision != "bf16":
            return self.forward(x)
        with torch.autocast(torch.device(self.config.device).type, torch.bfloat16):
            return self.forward(x).float()

    def _seed_dropout(self) -> None:
        if self.config.dropout:
            torch.manual_seed(generator(self.seeds[0], DROPOUT, self.step).initial_seed())

    def _edit(self) -> None:
        self._for_all(self.remedy.before_step, self.step)

    def _for_all(self, act: Callable[..., None], *place: int) -> None:
        for network, state in zip(self.networks, self.states, strict=True):
            act(network, state, *place)

    def _note(self, loss: Tensor, active: Tensor, outputs: Tensor, y: Tensor) -> Tensor:
        """Add loss and both accuracies on this batch, before its step, to the averages of the task.

        Returns:
            The loss on the batch of all processes.
        """
        with torch.no_grad():
            truth = torch.gather(self._active[:, 0], 1, y)
            hits = (active.argmax(dim=2) == y), (outputs.argmax(dim=2) == truth)
            means = [loss.detach(), *(hit.double().mean(dim=1) for hit in hits)]
            found = parallel.averaged(torch.stack([mean.double() for mean in means]))
            self.online += found
        return found[0]

    def _stop_if_infinite(self, loss: Tensor, x: Tensor) -> None:
        every = 1 if self.config.device == "cpu" else 25
        if self.step % every or bool(loss.isfinite().all()):
            return
        s = int((~loss.isfinite()).nonzero()[0, 0])
        k, position = divmod(self.step, self.config.steps)
        place = f"step {position} of task {k}, seed {self.seeds[s]}" + (f" (or up to {every} before)" * (every > 1))
        layer = parallel.first_other(first_infinite(self.ensemble.models[s], x[s]), LOSS)
        raise Diverged(
            f"loss: {loss[s].item()} at {place}, first in {layer}; try a smaller lr than {self.config.lr}"
        )

    # ------------------------------------------------------------------ tasks

    def _enter(self, k: int) -> None:
        """Look up task ``k`` of every seed and the outputs that are active."""
        k = min(k, self.config.tasks - 1)
        self.tasks = [stream.task(k) for stream in self.streams]
        for seed, task in zip(self.seeds, self.tasks, strict=True):
            if not len(task.train) or not len(task.test):
                raise ValueError(
                    f"stream: task {k} of seed {seed} ({task.name}) has no images of one of the splits"
                )
        sizes = {len(task.active) for task in self.tasks}
        if len(sizes) > 1:
            raise ValueError(
                f"stack: the seeds have {sorted(sizes)} active outputs in task {k}; they have to agree"
            )
        every = tuple(range(len(self.seeds)))
        alike = len({len(task.train) for task in self.tasks}) == 1
        self._groups = [every] if alike else [(s,) for s in every]
        device = self.config.device
        self._active = torch.stack([task.active for task in self.tasks])[:, None].to(device)

    def _prepare(self, k: int) -> None:
        self.online.zero_()
        for network in self.networks:
            self._reset_head(network, k)
        if k:
            self._for_all(self.remedy.at_task, k)

    def _reset_head(self, network: Network, k: int) -> None:
        if self.config.head == "keep":
            return
        source = int(generator(network.seed, HEAD, k).initial_seed())
        new = head_of(network.fresh(source)) if self.config.head == "fresh" else None
        with torch.no_grad():
            for name, p in head_of(network.model).named_parameters():
                p.copy_(new.get_parameter(name) if new is not None else torch.zeros_like(p))
                for moment in network.moments(p).values() if self.config.protocol == "corrected" else []:
                    moment.zero_()

    def _close(self, k: int) -> None:
        """Measure the end of a task and the averages over its steps."""
        self._measure(k, self.config.steps)
        names = ("online_loss", "online_accuracy", "online_accuracy_unmasked")
        for s, rows in enumerate(self.rows):
            for name, total in zip(names, self.online[:, s].tolist(), strict=True):
                rows.append(row(k, self.config.steps, WHOLE, name, total / self.config.steps))

    # ------------------------------------------------------------------ metrics

    def _measure(self, k: int, position: int) -> None:
        if not leads():
            return
        with self.clock.on("metrics"):
            for s, rows in enumerate(self.rows):
                rows += [row(k, position, *found) for found in self._metrics(s)]
                if self.config.trapped and position == self.config.steps:
                    rows += [row(k, position, *found) for found in self._trapped(s)]

    def _trapped(self, s: int) -> Iterator[tuple[int, str, float]]:
        """Yield what part of network ``s`` is saturated or trapped, on the training images of the metric batch."""
        x, y = self._probe(self.tasks[s], "train")
        yield from trapped(self.ensemble.models[s], x, y, self._active[s, 0])

    def _metrics(self, s: int) -> Iterator[tuple[int, str, float]]:
        """Yield ``(layer, metric, value)`` of network ``s`` on the two metric batches."""
        model, task = self.ensemble.models[s], self.tasks[s]
        for split in ("train", "test"):
            x, y = self._probe(task, split)
            gathered, outputs = layers.gather(model, x.split(CHUNK))
            yield from scores(split, torch.cat(outputs), y, self._active[s, 0])
            if split == "train":
                yield from unit_rows(gathered)
        yield WHOLE, "weight_norm", norm(model.parameters())

    def _probe_loss(self, s: int) -> Tensor:
        """Return the loss of network ``s`` on the training images of the metric batch."""
        x, y = self._probe(self.tasks[s], "train")
        active = self._active[s, 0]
        with torch.no_grad(), evaluating(self.ensemble.models[s]) as model:
            return cross_entropy(model(x)[:, active].double(), torch.searchsorted(active, y))

    def _probe(self, task: Task, split: str) -> tuple[Tensor, Tensor]:
        size = getattr(self.config, f"probe_{split}")
        y: Tensor = getattr(task, f"{split}_y")
        balanced = self.config.protocol == "corrected"
        index = in_turn(y)[:size] if balanced else y.argsort(stable=True)[:size]
        images: Tensor = getattr(self.data, f"{split}_x")
        x = task.transform(images[getattr(task, split)[index].to(images.device)])
        return self._normalised(x), y[index].to(x.device)

    # ------------------------------------------------------------------ keeping

    def _saver(self, folder: Path, every: float, asked: list[int]) -> Callable[[], None]:
        last = time.monotonic()

        def save() -> None:
            nonlocal last
            number = self._asked(asked)
            if leads() and (number or time.monotonic() - last >= every):
                self.save(folder)
                last = time.monotonic()
            if number:
                raise Stopped(self._farewell(number))

        return save

    def _asked(self, signals: Sequence[int]) -> int:
        """Return the signal by which all processes stop at this step, 0 for none."""
        own = signals[0] if signals else 0
        return own if processes() == 1 else parallel.largest(own)

    def _farewell(self, number: int) -> int:
        """Say how to go on; return the exit code."""
        if leads():
            print(
                f"stopped by signal {number} at step {self.step}; the same command goes on, `lop run` with --resume"
            )
        return 128 + number

    def save(self, folder: Path, prefix: str = "step") -> Path:
        """Write a checkpoint below ``folder``."""
        with self.clock.on("checkpoints"):
            rows = [row | {"seed": seed} for seed, rows in zip(self.seeds, self.rows, strict=True) for row in rows]
            return checkpoints.save(
                folder, Checkpoint(self.about(), self.step, self._weights(), self._state(), rows), prefix
            )

    def load(self, checkpoint: Checkpoint) -> None:
        """Put weights, optimizer, remedies, averages and measurements back, and go to the checkpoint's step."""
        with torch.no_grad():
            for name, value in self._weights().items():
                value.copy_(checkpoint.weights[name])
        self.ensemble.optimizer.load_state_dict(checkpoint.state["optimizer"])
        for state, saved in zip(self.states, checkpoint.state["remedies"], strict=True):
            state.update({name: value.to(self.config.device) for name, value in saved.items()})
        self.online.copy_(checkpoint.state["online"])
        self.clock.spent |= checkpoint.state["spent"]
        self.clock.started -= checkpoint.state["seconds"]
        names = ("task", "step", "layer", "metric", "value")
        for seed, rows in zip(self.seeds, self.rows, strict=True):
            rows[:] = [{n: row[n] for n in names} for row in checkpoint.rows if row["seed"] == seed]
        self.step = self.resumed = checkpoint.step
        self._enter(self.step // self.config.steps)

    def _resume(self, folder: Path, allowed: bool) -> None:
        found = parallel.told(lambda: checkpoints.latest(folder, self.about()))
        if found is not None and not allowed:
            raise CheckpointError(f"{folder} holds step {found.step}; add --resume to go on, or remove it")
        if found is not None:
            self.load(found)

    def _weights(self) -> dict[str, Tensor]:
        pairs = zip(self.seeds, self.ensemble.models, strict=True)
        return {f"{seed}.{name}": t for seed, model in pairs for name, t in model.state_dict().items()}

    def _state(self) -> dict[str, Any]:
        spent = {"spent": dict(self.clock.spent), "seconds": time.perf_counter() - self.clock.started}
        state = {"optimizer": self.ensemble.optimizer.state_dict(), "remedies": self.states, "online": self.online}
        return state | spent

    def _keep_failed(self, folder: Path | None) -> str:
        return (
            ""
            if folder is None or not leads()
            else f". The state before this step is in {self.save(folder, 'failed')}"
        )

    def _record(self, s: int) -> records.Record:
        device = self.config.device
        name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
        environment = records.environment(name) | self.git | self.clock.shares()
        environment |= {"threads": torch.get_num_threads(), "stacked": len(self.seeds), "resumed": self.resumed}
        environment["processes"] = processes()
        about = run_identity(self.config, self.seeds[s], self.fingerprint)
        return records.Record(about, pa.Table.from_pylist(self.rows[s]), environment)

    # ------------------------------------------------------------------ networks

    def fresh(self, seed: int) -> nn.Module:
        """Return a network as it starts from ``seed``, on the device."""
        return build(self.config, self.data.shape, self.streams[0].outputs, seed).to(self.config.device)

    def _network(self, s: int) -> Network:
        ensemble = self.ensemble
        return Network(
            ensemble.models[s],
            lambda p: ensemble.moments(s, p),
            Memory(ensemble.optimizer),
            self.fresh,
            self.seeds[s],
            example=torch.zeros(2, *self.data.shape, dtype=self.config.dtype, device=self.config.device),
            probe=lambda: self._probe(self.tasks[s], "train")[0],
            loss=lambda: self._probe_loss(s),
            agree=parallel.averaged,
        )

    def _optimizer(self, parameters: list[Tensor]) -> torch.optim.Optimizer:
        if self.config.optimizer == "adam":
            return torch.optim.Adam(parameters, lr=self.config.lr, fused=True)
        return torch.optim.SGD(parameters, lr=self.config.lr, momentum=self.config.momentum, fused=True)


def build(config: Config, shape: tuple[int, int, int], outputs: int, seed: int) -> nn.Module:
    """Return the network of ``config`` for images of ``shape``.

    With ``clones`` in its ``arch_settings`` every hidden unit is there that many times from the start, which makes
    the network so many times as wide and leaves its function as it is.
    """
    given: dict[str, Any] = {"norm": config.norm, "affine": config.affine, "dropout": config.dropout}
    if config.activation is not None:
        given["activation"] = config.activation
    source = int(generator(seed, INITIAL).initial_seed()) >> 1
    own = dict(config.arch_settings)
    clones = own.pop("clones", 1)
    model = models.build(config.arch, shape, outputs, own, seed=source, dtype=config.dtype, **given)
    return model if clones == 1 else clone(model, clones, example_inputs=torch.zeros(2, *shape, dtype=config.dtype))


def make_stream(config: Config, data: Pixels, seed: int) -> streams.Stream:
    """Return the stream of ``config`` over ``data``."""
    return streams.make(config.stream, data, config.tasks, seed, **dict(config.stream_settings))


def head_of(model: nn.Module) -> nn.Linear:
    """Return the last Linear module."""
    return [module for module in model.modules() if isinstance(module, nn.Linear)][-1]


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT instead of dying by them; only the main thread may."""
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    old = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in old:
        signal.signal(number, lambda given, frame: asked.append(given))
    try:
        yield asked
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


@contextmanager
def _precision(config: Config) -> Iterator[None]:
    """Allow TF32 where it is asked for, and keep the global generator out of the run."""
    before = torch.get_float32_matmul_precision()
    devices = [config.device] if config.device.startswith("cuda") else []
    seeded = torch.random.fork_rng(devices=devices) if config.dropout else contextlib.nullcontext()
    torch.set_float32_matmul_precision("high" if config.precision == "tf32" else "highest")
    try:
        with seeded:
            yield
    finally:
        torch.set_float32_matmul_precision(before)
