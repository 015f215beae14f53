"""Sizes that a clone has to have: of a configuration, in slices and checks, and of many layers at once."""

import itertools
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from torch_experiments.cloning import clone
from torch_experiments.cloning.sizes import TRIES, stopped
from torch_experiments.cloning.widen import gap, outputs
from torch_experiments.units.graph import TraceError


class Fused(nn.Module):
    """Attention that reads the number of its heads from a configuration when it cuts queries, keys and values."""

    def __init__(self):
        super().__init__()
        self.config, self.size = SimpleNamespace(heads=4, words=4, limit=1), 3
        self.embed, self.qkv, self.out = nn.Linear(5, 7), nn.Linear(7, 36), nn.Linear(12, 2)

    def forward(self, x):
        width = self.config.heads * self.size
        both = self.qkv(self.embed(x).relu())
        q, k, v = (
            part.unflatten(-1, (-1, self.size)).transpose(1, 2)
            for part in (both[..., :width], both[..., width : 2 * width], both[..., 2 * width :])
        )
        h = torch.softmax(q @ k.transpose(-1, -2) / self.size**0.5, dim=-1) @ v
        return self.out(h.transpose(1, 2).flatten(2))


class Checked(nn.Module):
    """A layer that checks how many channels it gets, and returns at most as many as it has."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.inputs, self.outputs, self.map = inputs, outputs, nn.Linear(inputs, outputs)

    def forward(self, x):
        if x.shape[-1] != self.inputs:
            raise ValueError(f"got {x.shape[-1]} channels, not {self.inputs}")
        return self.map(x).relu()[..., : self.outputs]


class Stage(nn.Module):
    """A layer with three integers of one value, of which two are sizes, and of its own class."""

    def __init__(self, width):
        super().__init__()
        self.width, self.period, self.parts = width, width, width
        self.map, self.back = nn.Linear(3, width), nn.Linear(width, 3)

    def forward(self, x):
        h = self.map(x).tanh().view(-1, self.parts, 1)
        assert self.period < 8
        return x + self.back(h.view(-1, self.width))


def stages():
    """Five stages of different widths: fifteen integers, 2¹⁵ choices."""
    return nn.Sequential(*(Stage(width) for width in (4, 5, 6, 7, 4)), nn.Linear(3, 2))


def build_checked():
    return nn.Sequential(Checked(5, 6), Checked(6, 7), nn.Linear(7, 2))


CASES = {"configuration": (Fused, (3, 4, 5)), "checks": (build_checked, (6, 5)), "stages": (stages, (6, 3))}


@pytest.mark.parametrize("name", CASES)
def test_the_clone_has_the_sizes_that_it_needs(name):
    build, shape = CASES[name]
    torch.manual_seed(0)
    model, x = build().double(), torch.randn(shape).double()
    wide = clone(model, 2, example_inputs=x)
    other = torch.randn(shape).double()
    assert gap(outputs(model, other), outputs(wide, other)) < 1e-12
    assert sum(p.numel() for p in wide.parameters()) > 1.5 * sum(p.numel() for p in model.parameters())


def test_only_what_is_read_changes_in_a_configuration():
    model, x = Fused().double(), torch.randn(3, 4, 5).double()
    wide = clone(model, 2, example_inputs=x)
    assert (wide.config.heads, wide.config.words, wide.config.limit) == (8, 4, 1)
    assert (model.config.heads, wide.size) == (4, 3)


def test_the_stages_have_more_choices_than_are_tried():
    integers = [value for module in stages() for value in vars(module).values() if type(value) is int]
    assert len(list(itertools.product(*((value, 2 * value) for value in integers)))) > TRIES


class Formula(nn.Module):
    """It computes a size from another one, which no integer can make right."""

    def __init__(self):
        super().__init__()
        self.map, self.head = nn.Linear(3, 6), nn.Linear(6, 2)

    def forward(self, x):
        return self.head(self.map(x).relu().view(-1, 6))


def test_a_size_that_is_no_integer_is_named():
    with pytest.raises(TraceError, match=r"does not run at its new size.*6 in "):
        clone(Formula(), 2, example_inputs=torch.randn(4, 3))


def test_where_a_network_stops_is_told():
    model = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.ReLU(), nn.Linear(5, 1)))
    stop = stopped(model, lambda: model(torch.ones(1, 3)))
    assert stop.running == ("", "1", "1.1")
    assert stop.returned == ("0", "1.0")
    assert sorted(stop.suspects, key=stop.suspects.get) == ["1.1", "1", "", "1.0", "0"]
    assert stopped(model[0], lambda: model[0](torch.ones(1, 3))) is None


class Angles(nn.Module):
    """Heads of as many features as heads, each feature with a rate that is kept twice: as it is, and as it was."""

    def __init__(self, changed):
        super().__init__()
        self.qkv, self.out, self.heads = nn.Linear(5, 48), nn.Linear(16, 2), 4
        self.gain = nn.Parameter(torch.ones(4, 1))
        self.register_buffer("rates", torch.tensor([1.0, 0.5, 0.2, 0.1]))
        self.register_buffer("original", self.rates + changed)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(2)
        h = torch.softmax(torch.einsum("bshd,bthd->bhst", q * self.rates * self.gain, k), -1) @ v.transpose(1, 2)
        return self.out(h.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("attention", ["heads", "features"])
def test_a_buffer_that_repeats_another_is_copied_like_it(attention):
    x = torch.randn(3, 4, 5)
    wide = clone(Angles(0.0), 2, example_inputs=x, attention=attention)
    assert torch.equal(wide.original, wide.rates)
    assert len(wide.rates) == {"heads": 4, "features": 8}[attention]


def test_a_buffer_that_nothing_reads_or_repeats_is_named():
    with pytest.raises(TraceError, match="no operation reads original"):
        clone(Angles(1.0), 2, example_inputs=torch.randn(3, 4, 5))
