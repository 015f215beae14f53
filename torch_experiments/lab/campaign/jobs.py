"""One run of a grid as something that can be sent to another process or machine, and how an attempt at it ended."""

from __future__ import annotations

import traceback
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from torch_experiments.lab import runs
from torch_experiments.lab.training import Config, Stopped
from torch_experiments.lab.training.checkpoints import InUse

State = Literal["done", "skipped", "refused", "failed", "lost", "in use", "stopped"]


@dataclass(frozen=True)
class Job:
    """A run: one configuration and one seed, or several seeds at once.

    Attributes:
        label: of the cell, for people.
        config, seed: what is run.
        out: folder of the records and checkpoints, seen from every machine of the grid under this path.
        log: file that gets what the run prints and the tracebacks of its errors.
        threads: of torch on the CPU.
        checkpoint_every: seconds.
        more: further seeds, trained at once with the first (`lab.training.ensemble`).
        records: names of the records that it makes, without suffix; that of the log if empty.
    """

    label: str
    config: Config
    seed: int
    out: Path
    log: Path
    threads: int = 1
    checkpoint_every: float = 120.0
    more: tuple[int, ...] = ()
    records: tuple[str, ...] = ()

    @property
    def seeds(self) -> str:
        """Return the seeds for people."""
        return ",".join(map(str, (self.seed, *self.more)))

    @property
    def finished(self) -> bool:
        """Return whether all its records exist."""
        return all((self.out / f"{name}.parquet").exists() for name in self.records or (self.log.stem,))


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended.

    Attributes:
        state: ``"done"``; ``"skipped"``, since its record exists; ``"refused"``, as a value is wrong; ``"failed"``
            by another error; ``"lost"`` with its process; ``"in use"`` by another process; ``"stopped"`` by a
            signal, its state saved.
        about: one line on what went wrong.
    """

    state: State
    about: str = ""

    @property
    def settled(self) -> bool:
        """Return whether the record exists."""
        return self.state in ("done", "skipped")

    @property
    def retried(self) -> bool:
        """Return whether another attempt may end otherwise."""
        return self.state in ("failed", "lost")


def attempt(job: Job) -> Outcome:
    """Return how ``job`` ended, after running it here from its last checkpoint on; errors go to its log."""
    torch.set_num_threads(job.threads)
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("a") as log, redirect_stdout(log), redirect_stderr(log):
        return _settled(job)


def _settled(job: Job) -> Outcome:
    try:
        seeds, stack = (job.seed, *job.more), bool(job.more)
        run = runs.kind(job.config).run
        run(job.config, seeds, job.out, stack=stack, checkpoint_every=job.checkpoint_every)
    except (Stopped, KeyboardInterrupt):
        return Outcome("stopped")
    except InUse as error:
        return Outcome("in use", str(error))
    except ValueError as error:
        traceback.print_exc()
        return Outcome("refused", str(error))
    except Exception as error:
        traceback.print_exc()
        return Outcome("failed", last_line(error))
    return Outcome("done")


def last_line(error: BaseException) -> str:
    """Return the kind of an error and the last line of its message."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[-1].strip()}"
