"""Processes of their own for tests, forked from one that has loaded torch: that takes seconds, and happens once."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch
from torch import distributed

from torch_experiments.support.processes import leave
from torch_experiments.support.torch_private import COMPILER

PRELOADED = ["torch_experiments.lab.campaign.engines", "sklearn.datasets", COMPILER]  # as by `engines.Local`


def in_group(rank, store, work, arguments):
    """Run ``work`` as one of two processes."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", rank=rank, world_size=2, store=distributed.FileStore(store, 2))
    try:
        return work(*arguments[rank])
    finally:
        leave()


@pytest.fixture(scope="session")
def forks():
    """Return a context of processes that have imported what a run needs."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


@pytest.fixture(scope="session")
def second_process(forks):
    with ProcessPoolExecutor(1, forks) as pool:
        yield pool


@pytest.fixture
def in_two_processes(second_process, tmp_path):
    """Run a function of a module in this process and another one, with arguments for each; return both results."""

    def both(work, *arguments):
        store = str(tmp_path / "store")
        other = second_process.submit(in_group, 1, store, work, arguments)
        return [in_group(0, store, work, arguments), other.result(timeout=90)]

    return both
