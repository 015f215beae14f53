"""Where the runs of a grid take place: processes of this machine, a Slurm cluster by submitit, a Ray cluster.

An engine carries `jobs.attempt` to another process and its outcome back. It decides neither what is run nor what is
tried again; that is `torch_experiments.lab.campaign.grids`. A process that dies, however it dies, makes a lost run
and no more.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from importlib import import_module
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

from torch_experiments.lab.campaign.jobs import Job, Outcome, attempt, last_line
from torch_experiments.support.choices import choose
from torch_experiments.support.torch_private import COMPILER

Options = Mapping[str, Any]
PATIENCE = 60.0  # seconds that a run has to save itself when it is stopped
ARRAY = 500  # jobs in one array; Slurm's usual limit is 1000
SLOW = ("sklearn.datasets", COMPILER)  # what a run imports at its first images and its first step
POLL = 0.5  # seconds between looks at a queue


class Engine(Protocol):
    """What `grids.run` needs; a ticket stands for one attempt."""

    def start(self, jobs: Sequence[Job]) -> list[Any]:
        """Return a ticket for each of ``jobs``, which run as soon as there is room."""

    def ended(self, tickets: Collection[Any]) -> Collection[Any]:
        """Wait until one attempt has ended at least, and return those that have."""

    def outcome(self, ticket: Any) -> Outcome:
        """Return how an attempt ended."""

    def stop(self, tickets: Collection[Any]) -> None:
        """Ask unfinished attempts to save themselves and end; wait for those of this machine."""

    def close(self) -> None:
        """Give back what the engine holds."""


class Local:
    """At most ``workers`` processes of this machine at once, one a run.

    A process of its own for every run is what `concurrent.futures` cannot give: there a killed process breaks the
    whole pool. The processes are forked from one that has imported everything already.
    """

    def __init__(self, workers: int, folder: Path, options: Options) -> None:
        if options:
            raise ValueError(f"options: got {sorted(options)}; the engine 'local' has none")
        self.pool = ThreadPoolExecutor(workers)
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload([__name__, *SLOW])
        self.alive: set[BaseProcess] = set()
        self.stopping = False

    def start(self, jobs: Sequence[Job]) -> list[Future[Outcome]]:
        """Queue the jobs."""
        return [self.pool.submit(self._in_a_process, job) for job in jobs]

    def ended(self, tickets: Collection[Future[Outcome]]) -> Collection[Future[Outcome]]:
        """Wait for the first."""
        return wait(tickets, return_when=FIRST_COMPLETED).done

    def outcome(self, ticket: Future[Outcome]) -> Outcome:
        """Return what the process sent, or how it died."""
        return ticket.result()

    def stop(self, tickets: Collection[Future[Outcome]]) -> None:
        """Send SIGTERM, and SIGKILL to what is alive a minute later."""
        self.stopping = True
        for process in tuple(self.alive):
            process.terminate()
        late = wait(tickets, timeout=PATIENCE).not_done
        for process in tuple(self.alive) if late else ():
            process.kill()

    def close(self) -> None:
        """End the threads that wait for processes."""
        self.pool.shutdown(cancel_futures=True)

    def _in_a_process(self, job: Job) -> Outcome:
        here, there = self.context.Pipe(duplex=False)
        process = self.context.Process(target=_child, args=(there, job))
        if self.stopping:
            return Outcome("stopped")
        process.start()
        self.alive.add(process)
        there.close()
        try:
            return _received(here, process)
        finally:
            self.alive.discard(process)


def _received(source: Connection, process: BaseProcess) -> Outcome:
    try:
        found: Outcome = source.recv()
    except EOFError:
        process.join()
        return Outcome("lost", f"the process ended with {_ending(process.exitcode or 0)}")
    process.join()
    return found


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _child(target: Connection, job: Job) -> None:
    """Run ``job`` in this process, deaf to the terminal's Ctrl-C, and end with the process that asked for it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("a") as log:
        os.dup2(log.fileno(), 2)  # what compiled code says before it ends the process
    target.send(attempt(job))


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


class Slurm:
    """Jobs of a Slurm cluster, in arrays of which ``workers`` run at once; needs the package submitit.

    ``options`` are submitit's parameters, such as ``slurm_partition="gpu"``, ``gpus_per_node=1``, ``mem_gb=16``,
    ``timeout_min=720``; besides ``cluster="local"`` runs the same jobs as processes of this machine. A job that
    Slurm preempts or that exceeds its time is queued again and goes on at its checkpoint.
    """

    def __init__(self, workers: int, folder: Path, options: Options) -> None:
        submitit = needed("submitit", "slurm")
        self.workers, self.lost = workers, _failures_of(submitit)
        given = {"timeout_min": 1440, "cpus_per_task": 1, **options}
        cluster = given.pop("cluster", "slurm")
        try:
            self.executor = submitit.AutoExecutor(folder=folder / "slurm", cluster=cluster)
            self.executor.update_parameters(**given)
        except (RuntimeError, NameError, TypeError, ValueError) as error:
            raise ValueError(f"engine: slurm cannot start ({last_line(error)})") from error

    def start(self, jobs: Sequence[Job]) -> list[Any]:
        """Submit arrays of jobs."""
        parts = [jobs[k : k + ARRAY] for k in range(0, len(jobs), ARRAY)]
        self.executor.update_parameters(slurm_array_parallelism=max(1, self.workers // max(1, len(parts))))
        return [ticket for part in parts for ticket in self._array(part)]

    def ended(self, tickets: Collection[Any]) -> Collection[Any]:
        """Look into the queue until a job has left it."""
        while not (found := [ticket for ticket in tickets if ticket.done()]):
            time.sleep(POLL)
        return found

    def outcome(self, ticket: Any) -> Outcome:
        """Return what the job wrote; it is lost when it wrote nothing."""
        try:
            found: Outcome = ticket.result()
        except self.lost:
            log = ticket.paths.stderr
            return Outcome("lost", f"job {ticket.job_id} left no result (state {ticket.state}); see {log}")
        return found

    def stop(self, tickets: Collection[Any]) -> None:
        """Cancel the jobs; Slurm sends SIGTERM, on which a run saves itself."""
        for ticket in tickets:
            ticket.cancel()

    def close(self) -> None:
        """Nothing is held."""

    def _array(self, jobs: Sequence[Job]) -> list[Any]:
        with self.executor.batch():
            return [self.executor.submit(Requeued(), job) for job in jobs]


class Requeued:
    """`jobs.attempt` as submitit calls it; when it has to leave a machine, it is submitted again as it is."""

    def __call__(self, job: Job) -> Outcome:
        """Run the job."""
        return attempt(job)

    def checkpoint(self, job: Job) -> Any:
        """Return what is to be submitted instead."""
        return needed("submitit", "slurm").helpers.DelayedSubmission(self, job)


class Ray:
    """Tasks of a Ray cluster; needs the package ray.

    Without ``options["address"]`` (``"auto"``, ``"ray://…"``) and without ``RAY_ADDRESS`` a cluster of ``workers``
    CPUs is started on this machine. The other options are those of a task, such as ``num_gpus=0.25``; on a cluster
    that exists, its resources say how many run at once, and its machines share the output folder.
    """

    def __init__(self, workers: int, folder: Path, options: Options) -> None:
        self.ray = needed("ray", "ray")
        given = {"num_cpus": 1, "max_retries": 0, **options}
        address = given.pop("address", os.environ.get("RAY_ADDRESS", "local"))
        about = {"num_cpus": workers * given["num_cpus"], "include_dashboard": False} if address == "local" else {}
        with _own_sigterm():
            self.ray.init(address, logging_level="error", log_to_driver=False, **about)
        self.attempt = self.ray.remote(attempt).options(**given)

    def start(self, jobs: Sequence[Job]) -> list[Any]:
        """Submit tasks."""
        return [self.attempt.remote(job) for job in jobs]

    def ended(self, tickets: Collection[Any]) -> Collection[Any]:
        """Wait for the first."""
        found: list[Any] = self.ray.wait(list(tickets), num_returns=1)[0]
        return found

    def outcome(self, ticket: Any) -> Outcome:
        """Return the task's result; it is lost when its worker or machine died."""
        try:
            found: Outcome = self.ray.get(ticket)
        except self.ray.exceptions.RayError as error:
            return Outcome("lost", f"{type(error).__name__}: {str(error).splitlines()[0]}")
        return found

    def stop(self, tickets: Collection[Any]) -> None:
        """Interrupt the tasks, on which a run saves itself."""
        for ticket in tickets:
            self.ray.cancel(ticket)
        if tickets:
            self.ray.wait(list(tickets), num_returns=len(tickets), timeout=PATIENCE)

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        self.ray.shutdown()


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep the handler of SIGTERM: that of ray ends this process before the runs are asked to save themselves."""
    kept = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, kept)


ENGINES: Mapping[str, Callable[[int, Path, Options], Engine]] = {"local": Local, "slurm": Slurm, "ray": Ray}


def make(name: str, workers: int, folder: Path, options: Options) -> Engine:
    """Return the engine ``name``; ``folder`` is for its own files.

    Raises:
        ValueError: for an unknown name, no workers, options that it does not have, or a package that is missing.
    """
    if workers < 1:
        raise ValueError(f"workers: got {workers}; at least 1 is needed")
    return choose("engine", name, ENGINES)(workers, folder, options)


def needed(package: str, extra: str) -> Any:
    """Return a package that only one engine needs; a ValueError says how to install it."""
    try:
        return import_module(package)
    except ImportError as error:
        install = f"pip install 'lop-companion[{extra}]'"
        raise ValueError(f"engine: {extra!r} needs the package {package}: {install}") from error


def _failures_of(submitit: Any) -> tuple[type[Exception], ...]:
    utils = submitit.core.utils
    return utils.UncompletedJobError, utils.FailedJobError
