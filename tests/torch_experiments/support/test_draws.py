import torch
from torch import nn

from torch_experiments.support.draws import seeded


def test_draws_are_those_of_the_seed_and_the_state_is_as_before():
    torch.manual_seed(7)
    expected = torch.randn(3)
    torch.manual_seed(7)
    drawn = []
    for seed in (1, 2, 1):
        with seeded(nn.ReLU(), seed):
            drawn.append(torch.randn(5))
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])
    assert torch.equal(torch.randn(3), expected)
