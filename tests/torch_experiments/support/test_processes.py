"""Sums over processes: of one alone here, of two under torchrun in `lab/training/test_parallel.py`."""

import pytest
import torch
from torch import distributed

from torch_experiments.support import processes


@pytest.fixture(params=["none", "one"])
def group(request, tmp_path):
    """Be without a group of processes, and alone in one."""
    if request.param == "one":
        distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    yield
    if request.param == "one":
        processes.leave()


@pytest.mark.usefixtures("group")
def test_one_process_has_what_it_gave():
    x = torch.arange(4.0)
    assert (processes.processes(), processes.leads()) == (1, True)
    assert torch.equal(processes.summed({"x": x})["x"], x)
    assert processes.summed({}) == {}
    assert torch.equal(processes.joined(x[:, None]), x[:, None])
    assert processes.agreed(False) is False
    assert processes.total(iter([1, 2.5])) == [1.0, 2.5]
