"""What is measured on the networks of a run."""

import torch

from tests.torch_experiments.lab.training.settings import MLP
from torch_experiments.lab.training import build
from torch_experiments.lab.training.measures import first_infinite, in_turn


def test_where_the_first_nan_is():
    model = build(MLP, (1, 8, 8), 10, 0)
    x = torch.zeros(2, 1, 8, 8)
    assert first_infinite(model, x) == "the loss"
    assert first_infinite(model, x / 0) == "the input"
    with torch.no_grad():
        model.linear2.bias[3] = torch.inf
    assert first_infinite(model, x) == "the parameters of linear2"
    model.linear1.bias.data.fill_(3e38)
    model.linear1.weight.data.fill_(3e38)
    assert first_infinite(model, x + 1) == "the output of linear1"


def test_balanced_batches_take_every_class_in_turn():
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    assert in_turn(labels).tolist() == [0, 3, 5, 1, 4, 2]
    assert sorted(in_turn(labels).tolist()) == [0, 1, 2, 3, 4, 5]
