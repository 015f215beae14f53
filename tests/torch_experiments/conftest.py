"""A second process for tests of `torch.distributed`: it loads torch once, not once a test."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch
from torch import distributed

from torch_experiments.support.processes import leave


def in_group(rank, store, work, arguments):
    """Run ``work`` as one of two processes."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", rank=rank, world_size=2, store=distributed.FileStore(store, 2))
    try:
        return work(*arguments[rank])
    finally:
        leave()


@pytest.fixture(scope="session")
def second_process():
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.fixture
def in_two_processes(second_process, tmp_path):
    """Run a function of a module in this process and another one, with arguments for each; return both results."""

    def both(work, *arguments):
        store = str(tmp_path / "store")
        other = second_process.submit(in_group, 1, store, work, arguments)
        return [in_group(0, store, work, arguments), other.result(timeout=90)]

    return both
