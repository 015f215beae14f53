import pytest
import torch

from torch_experiments.support.threads import flushed, one_thread


def test_the_number_of_threads_is_restored_whatever_happens():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(ZeroDivisionError), one_thread():
            1 / (torch.get_num_threads() - 1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_numbers_below_the_smallest_normal_one_are_zero_inside_alone():
    tiny, one = torch.tensor([1e-40]), torch.tensor([1.0])
    with flushed():
        assert float(tiny * one) == 0
    assert float(tiny * one) > 0
