"""Groups of units: what feeds them, what reads them, and what else belongs to them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from torch_experiments.cloning import coarsest_blocks
from torch_experiments.lab.models import cnn, resnet18, vit
from torch_experiments.units import trace
from torch_experiments.units.groups import Group, choose, groups


class Mixed(nn.Module):
    """Two branches that are concatenated, read by one layer, and normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(3, 4), nn.Linear(3, 5, bias=False)
        self.norm, self.head = nn.BatchNorm1d(9), nn.Linear(9, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return two numbers a sample."""
        return self.head(self.norm(torch.cat([self.left(x).relu(), self.right(x).tanh()], dim=1)))


def named(model: nn.Module, x: Tensor) -> dict[str, Group]:
    """Return the groups by name."""
    return {group.name: group for group in groups(trace(model, x))}


def test_a_concatenation_holds_two_groups_one_after_the_other() -> None:
    found = named(Mixed(), torch.randn(2, 3))
    (left,), (right,) = found["left"].outgoing, found["right"].outgoing
    assert left.parameter == right.parameter == "head.weight"
    assert left.dim == right.dim == 1
    assert left.unit.tolist() == [0, 1, 2, 3, -1, -1, -1, -1, -1]
    assert right.unit.tolist() == [-1, -1, -1, -1, 0, 1, 2, 3, 4]


def test_biases_norms_and_statistics_are_the_units_own() -> None:
    found = named(Mixed(), torch.randn(2, 3))
    own = {edge.parameter for edge in found["left"].own}
    assert own == {"left.bias", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"}
    assert "left.bias" not in {edge.parameter for edge in found["right"].own}


def test_flattened_channels_have_one_column_a_pixel() -> None:
    found = named(cnn(16, 4, channels=3), torch.randn(2, 3, 16, 16))
    (edge,) = found["conv3"].outgoing
    assert edge.unit.tolist() == torch.arange(256).repeat_interleave(4).tolist()


def test_a_residual_stream_is_one_group_with_many_writers() -> None:
    found = named(resnet18(4, width=4), torch.randn(2, 3, 16, 16))
    assert {edge.parameter for edge in found["conv"].incoming} == {
        "conv.weight",
        "stage1.0.conv2.weight",
        "stage1.1.conv2.weight",
    }
    assert [edge.parameter for edge in found["stage1.0.conv1"].incoming] == ["stage1.0.conv1.weight"]


def test_silencing_the_columns_out_of_a_unit_hides_it() -> None:
    torch.manual_seed(0)
    model, x = vit(16, 4, depth=1, width=16, heads=2).double(), torch.randn(2, 3, 16, 16, dtype=torch.float64)
    group = named(model, x)["block1.linear1"]
    weights = dict(model.named_parameters())
    for edge in group.outgoing:
        weights[edge.parameter].data.movedim(edge.dim, 0)[edge.unit == 3] = 0
    before = model(x)
    for edge in (*group.incoming, *group.own):
        weights[edge.parameter].data.movedim(edge.dim, 0)[edge.unit == 3] += 1
    torch.testing.assert_close(model(x), before, rtol=0, atol=0)
    weights["block1.linear1.weight"].data[4] *= -5
    assert (model(x) - before).abs().max() > 1e-6


class Turned(nn.Module):
    """Heads of eight features, of which rotary angles turn the first four (as in Phi and GPT-NeoX)."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(6, 24) for _ in range(3))
        self.out = nn.Linear(24, 6)

    def forward(self, x: Tensor, angles: Tensor) -> Tensor:
        """Return as many features as come in."""
        q, k, v = (layer(x).view(*x.shape[:2], 3, 8).transpose(1, 2) for layer in (self.q, self.k, self.v))
        q, k = (torch.cat([turned(h[..., :4], angles), h[..., 4:]], dim=-1) for h in (q, k))
        return self.out((torch.softmax(q @ k.transpose(-1, -2), -1) @ v).transpose(1, 2).flatten(2))


def turned(h: Tensor, angles: Tensor) -> Tensor:
    """Return features turned by angles."""
    return h * angles.cos() + torch.cat([-h[..., 2:], h[..., :2]], dim=-1) * angles.sin()


class Turning(nn.Module):
    """Two layers of attention with one set of angles."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.one, self.other, self.head = nn.Linear(5, 6), Turned(), Turned(), nn.Linear(6, 2)
        self.register_buffer("rates", torch.tensor([1.0, 0.1]).double())

    def forward(self, x: Tensor) -> Tensor:
        """Return two numbers a token."""
        half = torch.arange(x.shape[1], dtype=x.dtype)[:, None] * self.rates
        angles, h = torch.cat([half, half], dim=-1), self.embed(x).tanh()
        return self.head(h + self.other(h + self.one(h, angles), angles))


def test_of_heads_that_are_turned_in_part_heads_alone_are_copied() -> None:
    torch.manual_seed(0)
    model, x = Turning().double(), torch.randn(3, 4, 5).double()
    assert {atom.size for atom in choose(trace(model, x), "heads")} == {3, 6}
    assert not coarsest_blocks(model, x, scaled=True).copied()
