"""Figures in several processes: what each prints stays together, an interruption ends all of them."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple, TypeVar

import torch

from torch_experiments.lab.campaign.engines import SLOW

T = TypeVar("T")
PATIENCE = 30.0  # seconds that a process has to save its state when it is stopped


class Lost(RuntimeError):
    """A process ended without an answer."""


class Answer(NamedTuple):
    """What a call came to: its value or its error, and what it printed."""

    value: Any
    error: BaseException | None
    printed: str


def spread(act: Callable[[str], T], names: Sequence[str], jobs: int) -> Generator[tuple[str, T, str]]:
    """Yield ``(name, act(name), what it printed)`` for all names, as they end, at most ``jobs`` at a time.

    ``act`` runs in processes forked from one that has imported these figures, with one thread for torch. When the
    iterator is closed, or an error or Ctrl-C ends it, the processes get SIGTERM.

    Raises:
        Lost: A process was killed.
        BaseException: What ``act`` raised.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*(f"paper_figures.{name}" for name in names), *SLOW])
    waiting, workers, busy = iter(names), dict[Any, BaseProcess](), dict[Any, str]()
    try:
        for _, name in zip(range(jobs), waiting, strict=False):
            here, there = context.Pipe()
            workers[here] = process = context.Process(target=_work, args=(there, act))
            process.start()
            there.close()
            _give(here, name, busy)
        while busy:
            for source in wait(list(busy)):
                ended = busy.pop(source)
                value, printed = _received(source, ended, workers[source])
                if following := next(waiting, None):
                    _give(source, following, busy)
                yield ended, value, printed
    finally:
        _stop(list(workers.values()))


def _give(target: Any, name: str, busy: dict[Any, str]) -> None:
    target.send(name)
    busy[target] = name


def _received(source: Any, name: str, process: BaseProcess) -> tuple[Any, str]:
    try:
        answer: Answer = source.recv()
    except EOFError:
        process.join()
        raise Lost(f"figure {name!r}: its process ended with exit code {process.exitcode}") from None
    if answer.error is not None:
        raise answer.error
    return answer.value, answer.printed


def _stop(processes: Sequence[BaseProcess]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(PATIENCE)
        process.kill()


def _work(source: Connection, act: Callable[[str], object]) -> None:
    """Answer every name with ``act``, deaf to the terminal's Ctrl-C, and end with the process that asks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()
    torch.set_num_threads(1)
    while True:
        source.send(_answer(act, source.recv()))


def _answer(act: Callable[[str], object], name: str) -> Answer:
    printed, value, error = io.StringIO(), None, None
    with redirect_stdout(printed), redirect_stderr(printed):
        try:
            value = act(name)
        except BaseException as found:
            found.add_note(traceback.format_exc())
            error = found
    return Answer(value, error, printed.getvalue())


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
