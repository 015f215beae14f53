"""Entries that the example did not read are no units: a clone agrees with its base on longer inputs too."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.torch_experiments.heads import NETWORKS, made
from torch_experiments import certify, clone
from torch_experiments.certificates.certificate import copies
from torch_experiments.units import trace
from torch_experiments.units.unread import unread_like

LONGEST, WIDTH = 16, 12


class Text(nn.Module):
    """Tokens whose places come from a table that is cut to their number."""

    def __init__(self, place: str) -> None:
        super().__init__()
        self.place, self.embed = place, nn.Embedding(30, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))
        self.out = nn.Linear(WIDTH, 5)
        if place in ("rows", "turned", "split"):
            self.table = nn.Parameter(torch.randn(LONGEST, WIDTH))
        if place == "ids":
            self.table = nn.Embedding(LONGEST, WIDTH)
            self.register_buffer("ids", torch.arange(LONGEST)[None])
        if place == "causal":
            self.register_buffer("mask", torch.ones(LONGEST, LONGEST).tril().bool()[None])
        if place == "angles":
            self.register_buffer("cos", torch.randn(LONGEST, 1))

    def forward(self, tokens):
        x, length = self.embed(tokens), tokens.shape[1]
        if self.place == "rows":
            x = x + self.table[:length]
        if self.place == "turned":
            x = x + self.table.t()[:, :length].t()[None]
        if self.place == "split":
            x = x + self.table.split([length, LONGEST - length])[0]
        if self.place == "ids":
            x = x + self.table(self.ids[:, :length])
        if self.place == "causal":
            scores = (x @ x.transpose(1, 2)).masked_fill(~self.mask[:, :length, :length], -1e9)
            x = x + F.softmax(scores, -1) @ x
        if self.place == "angles":
            x = x * self.cos[:length]
        return self.out(x + self.mlp(x))


@pytest.mark.parametrize("place", ["rows", "turned", "split", "ids", "causal", "angles"])
def test_a_clone_agrees_on_longer_inputs_than_its_example(place):
    torch.manual_seed(0)
    model = Text(place).double()
    short, long = torch.randint(30, (3, 6)), torch.randint(30, (3, 15))
    wide = clone(model, 2, example_inputs=short)
    with torch.no_grad():
        assert float((model(long) - wide(long)).abs().max()) < 1e-12
    mine, theirs = (dict(m.named_buffers()) | {"table": getattr(m, "table", None)} for m in (model, wide))
    for name in ("ids", "mask", "cos"):
        assert name not in mine or torch.equal(mine[name], theirs[name])
    assert wide.mlp[0].weight.shape == (4 * WIDTH, 2 * WIDTH)


def test_unread_positions_are_no_copies_and_their_entries_are_listed():
    model = Text("rows").double()
    nn.init.zeros_(model.table)  # the usual initial value: all rows are equal
    found = certify(model, torch.randint(30, (3, 6)), parts=("frozen",))
    assert not any(part["copies"] for part in copies(found.blocks).values())
    (line,) = [part for part in found.unreached if part.parameter == "table"]
    assert line.entries == (LONGEST - 6) * WIDTH
    assert "no sample reads" in line.why


def test_parts_that_are_computed_with_stay_units():
    class Halves(nn.Module):
        def __init__(self):
            super().__init__()
            self.both, self.out = nn.Linear(3, 8), nn.Linear(4, 2)

        def forward(self, x):
            one, other = self.both(x).chunk(2, -1)
            return self.out(one * other.sigmoid())

    assert [axis.size for axis in trace(Halves(), torch.ones(2, 3)).free()] == [4]


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_parameters_that_no_example_reads_are_named(name):
    model, examples, unread = made(name)
    sizes = {n for p in model.parameters() for n in p.shape}
    assert set(unread.split(", ")) <= set(unread_like(trace(model, examples[0]), sizes))
    assert unread_like(trace(model, examples), sizes) == []
