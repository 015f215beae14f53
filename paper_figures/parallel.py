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
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple, TypeVar

import torch

T = TypeVar("T")
PRELOAD = ["paper_figures.registry"]  # what all of them import
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

    ``act`` runs in processes of their own, with one thread for torch. When the iterator is closed, or an error or
    Ctrl-C ends it, the processes under way get SIGTERM.

    Raises:
        Lost: A process was killed.
        BaseException: What ``act`` raised.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    waiting, running = list(names), dict[Any, tuple[str, BaseProcess]]()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                here, there = context.Pipe(duplex=False)
                process = context.Process(target=_child, args=(there, partial(act, waiting[0])))
                process.start()
                there.close()
                running[here] = waiting.pop(0), process
            for source in wait(list(running)):
                name, ended = running.pop(source)
                value, printed = _received(source, name, ended)
                yield name, value, printed
    finally:
        _stop([process for _, process in running.values()])


def _received(source: Any, name: str, process: BaseProcess) -> tuple[Any, str]:
    try:
        answer: Answer = source.recv()
    except EOFError:
        process.join()
        raise Lost(f"figure {name!r}: its process ended with exit code {process.exitcode}") from None
    process.join()
    if answer.error is not None:
        raise answer.error
    return answer.value, answer.printed


def _stop(processes: Sequence[BaseProcess]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(PATIENCE)
        process.kill()


def _child(target: Connection, act: Callable[[], object]) -> None:
    """Answer with ``act()``, deaf to the terminal's Ctrl-C, and end with the process that asked for it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()
    torch.set_num_threads(1)
    printed, value, error = io.StringIO(), None, None
    with redirect_stdout(printed), redirect_stderr(printed):
        try:
            value = act()
        except BaseException as found:
            found.add_note(traceback.format_exc())
            error = found
    target.send(Answer(value, error, printed.getvalue()))


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
