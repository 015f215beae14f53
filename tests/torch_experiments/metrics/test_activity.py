"""Which units are dead."""

import torch

from torch_experiments.metrics import activity


def test_dead_is_silent_on_every_sample():
    a = torch.tensor([[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, -1.0]])
    assert activity.share(activity.dead(a.abs().sum(dim=0))) == 0.5
