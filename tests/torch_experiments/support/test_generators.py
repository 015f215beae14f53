"""Random numbers depend on a seed and a place alone."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from torch_experiments.support.generators import generator

places = st.lists(st.integers(-(2**70), 2**70), min_size=1, max_size=4)


@given(places)
def test_the_same_place_has_the_same_numbers_whatever_was_drawn(place):
    first = torch.rand(3, generator=generator(*place))
    torch.rand(3)
    assert torch.equal(first, torch.rand(3, generator=generator(*place)))


def test_neighbours_have_streams_of_their_own():
    near = [generator(seed, task, step) for seed in range(5) for task in range(5) for step in range(5)]
    draws = torch.stack([torch.randn(2000, generator=source, dtype=torch.float64) for source in near])
    correlations = torch.corrcoef(draws).fill_diagonal_(0)
    assert float(correlations.abs().max()) < 6 / 2000**0.5


def test_the_order_of_a_place_counts():
    seeds = {generator(*place).initial_seed() for place in ((0, 1), (1, 0), (0, 0, 1), (0, 1, 0), (1,), (0,))}
    assert len(seeds) == 6
