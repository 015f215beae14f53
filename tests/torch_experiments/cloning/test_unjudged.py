"""Where copies are not looked for is named, and sums that overflow find none."""

import pytest
import torch
from torch import nn

from torch_experiments.cloning.partition import coarsest_blocks


def grouped():
    """Four groups of two channels; the first two channels are copies, within one group."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=4), nn.ReLU(), nn.Conv2d(8, 6, 1)]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(96, 3)).double()
    with torch.no_grad():
        model[2].weight[1], model[2].bias[1] = model[2].weight[0], model[2].bias[0]
        model[4].weight[:, 1] = model[4].weight[:, 0]
    return model, torch.randn(4, 3, 8, 8).double()


def test_where_copies_are_not_looked_for_is_named():
    found = coarsest_blocks(*grouped())
    assert not found.copied()
    assert "within a head or group" in found.unjudged["2"]
    assert (
        coarsest_blocks(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), torch.randn(5, 3)).unjudged
        == {}
    )


@pytest.mark.parametrize("options", [{"num_layers": 2}, {"bidirectional": True}])
def test_stacked_recurrent_layers_are_named(options):
    class Reads(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.GRU(3, 4, batch_first=True, **options)
            self.out = nn.LazyLinear(2)

        def forward(self, x):
            return self.out(self.cell(x)[0][:, -1])

    model, x = Reads().double(), torch.randn(8, 5, 3).double()
    model(x)
    assert "stacked layers" in coarsest_blocks(model, x).unjudged["cell"]


@pytest.mark.parametrize("size", [1e160, 1e-160])
def test_sums_that_would_overflow_find_no_copies(size):
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    with torch.no_grad():
        for p in model.parameters():
            p *= size
    assert coarsest_blocks(model, torch.randn(4, 5).double()).dimension == sum(
        p.numel() for p in model.parameters()
    )


def test_weights_that_are_not_finite_claim_no_copies_and_are_named():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.out = nn.Linear(3, 4), nn.Linear(4, 2)
            self.limit = nn.Parameter(torch.full((4,), float("inf")))

        def forward(self, x):
            return self.out(torch.minimum(self.first(x), self.limit))

    found = coarsest_blocks(Masked().double(), torch.randn(5, 3).double())
    assert not found.groups or not any(profile.copied for profile in found.groups.values())
    assert any("NaN or infinity" in why for why in found.unjudged.values())


class Masked(nn.Module):
    """A mask of booleans that is a buffer, as of causal attention."""

    def __init__(self):
        super().__init__()
        self.map, self.head = nn.Linear(3, 4), nn.Linear(4, 2)
        self.register_buffer("mask", torch.tensor([True, True, False, True]))

    def forward(self, x):
        return self.head(torch.where(self.mask, self.map(x).relu(), 0.0))


def test_booleans_count_as_weights():
    model, x = Masked().double(), torch.randn(5, 3).double()
    with torch.no_grad():
        model.map.weight[:], model.map.bias[:], model.head.weight[:] = 1.0, 0.5, 2.0
    assert coarsest_blocks(model, x).groups["map"].block.tolist() in ([0, 0, 1, 0], [1, 1, 0, 1])
