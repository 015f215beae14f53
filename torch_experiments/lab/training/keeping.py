"""What is kept of a run: checkpoints, from which it goes on bit for bit, and its records at the end.

Between two steps the state of a run is its weights, what else it says is its state (optimizer, remedies, averages
of the task, what its data come from), the measurements, and the number of the step.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import torch
from torch import Tensor

from torch_experiments.lab import records
from torch_experiments.lab.training import checkpoints, parallel
from torch_experiments.lab.training.checkpoints import Checkpoint, CheckpointError
from torch_experiments.lab.training.clock import Clock, synchronise
from torch_experiments.support.processes import leads, processes
from torch_experiments.support.threads import flushed

Progress = Callable[[int], None]
MEASURING, STARTING = "measuring", "starting"  # stages in which a run may be stopped at once
COLUMNS = ("task", "step", "layer", "metric", "value")


class Kept(Protocol):
    """What a run offers, so that it is trained, saved, resumed and recorded here.

    Attributes:
        config: has the fields ``experiment`` and ``device``.
        seeds: one record each.
        step: steps taken.  resumed: at which of them this process began.
        rows: measurements so far, one list a seed.
        clock, git: where the time goes, and the state of the code.
        stage: `MEASURING` while weights and state are those of the end of a step, `STARTING` in the first step of a
            process, which may compile for minutes; else empty: stops wait for the end of the step.
    """

    config: Any
    seeds: tuple[int, ...]
    step: int
    resumed: int
    rows: list[list[dict[str, Any]]]
    clock: Clock
    git: dict[str, Any]
    stage: str

    @property
    def done(self) -> bool:
        """Return whether all steps are taken."""

    def advance(self) -> None:
        """Take one step."""

    def precisely(self) -> AbstractContextManager[None]:
        """Return the context in which steps are taken."""

    def go_to(self, step: int) -> None:
        """Go on at ``step``."""

    def identity(self, seed: int) -> dict[str, Any]:
        """Return what identifies the record of a seed."""

    def weights(self) -> dict[str, Tensor]:
        """Return the weights by name."""

    def state(self) -> dict[str, Any]:
        """Return what else has to survive."""

    def restore(self, weights: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Put weights and state back, in place."""


class Diverged(ArithmeticError):
    """The loss of a run is not finite; the message says when, where first, and where the state was saved."""


class Interrupted(BaseException):
    """A signal came in a stage that does not wait for its end."""


class Stopped(SystemExit):
    """A signal asked the run to end; it was saved."""


@dataclass(frozen=True)
class Keep:
    """Where and how often a run is saved, and whether it may go on from a checkpoint."""

    out: Path
    every: float = 120.0
    resume: bool = True


def finish_all(
    begin: Callable[[Sequence[int]], Kept],
    identity: Callable[[int], Mapping[str, Any]],
    seeds: Sequence[int],
    out: str | Path | None = None,
    *,
    stack: bool = False,
    resume: bool = True,
    progress: Progress = lambda steps: None,
    checkpoint_every: float = 120.0,
) -> list[records.Record]:
    """Return the records of all seeds in order; ``begin`` makes a run of some of them, the others are read.

    ``identity`` says by what the record of a seed is known; the other arguments are those of `loop.run`.
    """
    finished = parallel.told(
        lambda: {s: records.find(out, identity(s)) if out is not None else None for s in seeds}
    )
    missing = [seed for seed in seeds if finished[seed] is None]
    groups = [missing] if stack and missing else [[seed] for seed in missing]
    keep = Keep(Path(out), checkpoint_every, resume) if out is not None else None
    for group in groups:
        with flushed():
            found = finish(begin(group), keep, progress)
        finished |= dict(zip(group, found, strict=True))
    return [record for record in finished.values() if record is not None]


def finish(run: Kept, keep: Keep | None = None, progress: Progress = lambda steps: None) -> list[records.Record]:
    """Return the records of a run, one a seed, after training what is left; see `loop.run`."""
    if keep is None:
        _train(run, progress)
        return parallel.told(lambda: records_of(run))
    with _locked(folder_of(run, keep.out)) as folder:
        found = parallel.told(lambda: _found(run, keep.out)) or _finished(run, folder, keep, progress)
        if leads():
            shutil.rmtree(folder, ignore_errors=True)
    return found


def about(run: Kept) -> dict[str, Any]:
    """Return the identity of a run: that of its first seed, with the list of all seeds."""
    return run.identity(run.seeds[0]) | {"seeds": list(run.seeds)}


def folder_of(run: Kept, out: Path) -> Path:
    """Return the folder of a run's checkpoints below ``out``."""
    return out / f"{run.config.experiment}-{records.key(about(run))}.run"


def save(run: Kept, folder: Path, prefix: str = "step") -> Path:
    """Write a checkpoint below ``folder`` and return its path."""
    with run.clock.on("checkpoints"):
        rows = [row | {"seed": seed} for seed, rows in zip(run.seeds, run.rows, strict=True) for row in rows]
        state = run.state() | run.clock.state()
        return checkpoints.save(folder, Checkpoint(about(run), run.step, run.weights(), state, rows), prefix)


def restore(run: Kept, checkpoint: Checkpoint) -> None:
    """Put weights, state and measurements back, and go to the checkpoint's step."""
    run.restore(checkpoint.weights, checkpoint.state)
    run.clock.go_on(checkpoint.state)
    for seed, rows in zip(run.seeds, run.rows, strict=True):
        rows[:] = [{name: row[name] for name in COLUMNS} for row in checkpoint.rows if row["seed"] == seed]
    run.go_to(checkpoint.step)


def records_of(run: Kept) -> list[records.Record]:
    """Return the records of a run that is at its end, one a seed."""
    device = run.config.device
    synchronise(device)
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    environment = records.environment(name) | run.git | run.clock.shares()
    environment |= {"threads": torch.get_num_threads(), "stacked": len(run.seeds), "resumed": run.resumed}
    environment["processes"] = processes()
    tables = map(pa.Table.from_pylist, run.rows)
    return [records.Record(*pair, environment) for pair in zip(map(run.identity, run.seeds), tables, strict=True)]


def _finished(run: Kept, folder: Path, keep: Keep, progress: Progress) -> list[records.Record]:
    start = run.step
    _resume(run, folder, keep.resume)
    progress(run.step - start)
    with _signals(run) as asked:
        _train(run, progress, Saver(run, folder, keep.every, asked))
        found = parallel.told(lambda: [_saved(keep.out, record) for record in records_of(run)])
    if asked:  # after the last step: it is for whoever called
        signal.raise_signal(asked[0])
    return found


def _train(run: Kept, progress: Progress, saver: Saver | None = None) -> None:
    with run.precisely():
        while not run.done:
            try:
                run.advance()
            except Diverged as error:
                raise Diverged(f"{error}{saver.failed() if saver else ''}") from None
            except Interrupted:
                if saver:
                    saver.interrupted()
                raise
            progress(1)
            if saver:
                saver.after_step()


class Saver:
    """Saves a run every so many seconds, and when a signal asks for its end.

    Attributes:
        asked: the signals so far.
    """

    def __init__(self, run: Kept, folder: Path, every: float, asked: list[int]) -> None:
        self.run, self.folder, self.every, self.asked = run, folder, every, asked
        self.last = time.monotonic()

    def after_step(self) -> None:
        """Save if it is time.

        Raises:
            Stopped: if a process of the run was asked to end; all stop at this step.
        """
        number = self._signal()
        if leads() and (number or time.monotonic() - self.last >= self.every):
            save(self.run, self.folder)
            self.last = time.monotonic()
        if number:
            raise Stopped(self._farewell(number))

    def interrupted(self) -> None:
        """Save where a measurement was interrupted; before the end of a first step nothing is new.

        Raises:
            Stopped: always.
        """
        if self.run.stage == MEASURING:
            save(self.run, self.folder)
        raise Stopped(self._farewell(self.asked[0])) from None

    def failed(self) -> str:
        """Save the state before a step that failed; return where, for the message."""
        return f". The state before this step is in {save(self.run, self.folder, 'failed')}" if leads() else ""

    def _signal(self) -> int:
        """Return the signal by which all processes stop at this step, 0 for none."""
        own = self.asked[0] if self.asked else 0
        return own if processes() == 1 else parallel.largest(own)

    def _farewell(self, number: int) -> int:
        """Say how to go on; return the exit code."""
        if leads():
            place = f"stopped by signal {number} at step {self.run.step}"
            print(f"{place}; the same command goes on, `lop run` with --resume")
        return 128 + number


@contextmanager
def _locked(folder: Path) -> Iterator[Path]:
    """Hold ``folder`` for all processes of a run by the first one."""
    with contextlib.ExitStack() as stack:
        parallel.told(lambda: str(stack.enter_context(checkpoints.locked(folder))))
        yield folder


def _resume(run: Kept, folder: Path, allowed: bool) -> None:
    found = parallel.told(lambda: checkpoints.latest(folder, about(run)))
    if found is not None and not allowed:
        raise CheckpointError(f"{folder} holds step {found.step}; add --resume to go on, or remove it")
    if found is not None:
        restore(run, found)


def _found(run: Kept, out: Path) -> list[records.Record]:
    """Return the records, if another process has finished all of them meanwhile."""
    pairs = [records.find(out, run.identity(seed)) for seed in run.seeds]
    found = [record for record in pairs if record is not None]
    return found if len(found) == len(run.seeds) else []


def _saved(out: Path, record: records.Record) -> records.Record:
    records.save(out, record)
    return record


@contextmanager
def _signals(run: Kept) -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT instead of dying by them; only the main thread may.

    The first one interrupts a measurement and a first step, which may last longer than who asks will wait. Of
    several processes none is: the others would wait for it.
    """
    asked: list[int] = []

    def ask(number: int, frame: Any) -> None:
        asked.append(number)
        if run.stage and len(asked) == 1 and processes() == 1:
            raise Interrupted

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    old = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in old:
        signal.signal(number, ask)
    try:
        yield asked
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
