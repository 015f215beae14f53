"""Replaceable units of any module: found from the trace, observed at the input of their reader."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.torch_experiments.heads import NETWORKS, made
from torch_experiments.lab.models import cnn, mlp, resnet18, vit
from torch_experiments.units.hidden import Survey, observe, replaceable, survey


class Branches(nn.Module):
    """Two branches with functional activations, concatenated in front of one reader."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.head = nn.Linear(3, 4), nn.Linear(3, 5), nn.Linear(9, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return two numbers a sample."""
        return self.head(torch.cat([F.relu(self.left(x)), torch.tanh(self.right(x))], dim=1))


class Gated(nn.Module):
    """A residual stream and a gated layer: two maps of one input write the same units."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(3, 4), nn.Linear(4, 2)
        self.gate, self.up, self.down = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Return two numbers a sample."""
        x = self.stem(x)
        return self.head(x + self.down(F.silu(self.gate(x)) * self.up(x)))


class Twins(nn.Module):
    """Two towers whose units are multiplied and summed, beside a reader of one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.read = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return two numbers a sample and the products of all pairs of samples."""
        a, b = self.one(x).relu(), self.two(x).relu()
        return torch.cat([self.read(a), a @ b.T], dim=1)


def names(found: Survey) -> list[tuple[str, int, str]]:
    return [(layer.name, layer.units, layer.reader) for layer in found.layers]


def means(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    layers = survey(model, x).layers
    return observe(model, layers, x, lambda _, h: h.abs().mean(dim=0))[0]


def test_functional_activations_and_concatenations_are_observed_at_the_reader() -> None:
    model, x = Branches().double(), torch.randn(5, 3, dtype=torch.float64)
    found = means(model, x)
    torch.testing.assert_close(found["left"], model.left(x).relu().mean(0), rtol=1e-14, atol=0)
    torch.testing.assert_close(found["right"], model.right(x).tanh().abs().mean(0), rtol=1e-14, atol=0)


def test_channels_are_observed_over_pixels_before_and_behind_a_flatten() -> None:
    model, x = cnn(8, 5, width=4, depth=2, hidden=6, dtype=torch.float64), torch.randn(3, 3, 8, 8).double()
    found = means(model, x)
    first = model.pool1(model.act1(model.conv1(x)))
    second = model.pool2(model.act2(model.conv2(first)))
    torch.testing.assert_close(found["conv1"], first.mean(dim=(0, 2, 3)), rtol=1e-13, atol=0)
    torch.testing.assert_close(found["conv2"], second.mean(dim=(0, 2, 3)), rtol=1e-13, atol=0)
    torch.testing.assert_close(
        found["linear"], model.act(model.linear(second.flatten(1))).mean(0), rtol=1e-13, atol=0
    )


def test_out_sums_are_those_of_a_loop() -> None:
    model, x = cnn(8, 5, width=4, depth=2, hidden=6, dtype=torch.float64), torch.zeros(2, 3, 8, 8).double()
    for layer in survey(model, x).layers:
        weight = model.get_parameter(layer.place.parameter).detach()
        for unit in range(layer.units):
            columns = [k for k in range(weight.shape[1]) if int(layer.place.unit[k]) == unit]
            expected = sum(float(weight[:, k].abs().sum()) for k in columns)
            assert float(layer.out_sums(model)[unit]) == pytest.approx(expected, rel=1e-13)


def test_streams_are_left_out_with_a_reason_and_gated_layers_are_not() -> None:
    found = survey(Gated(), torch.randn(2, 3))
    assert names(found) == [("gate", 6, "down")]
    assert [edge.parameter for edge in found.layers[0].group.incoming] == ["gate.weight", "up.weight"]
    assert set(found.skipped) == {"stem"}
    assert "residual stream" in found.skipped["stem"]


def test_a_stream_that_is_read_only_at_its_end_is_a_stream() -> None:
    found = survey(resnet18(5, width=4, stages=(1, 1)), torch.randn(2, 3, 8, 8))
    assert names(found) == [("stage1.0.conv1", 4, "stage1.0.conv2"), ("stage2.0.conv1", 8, "stage2.0.conv2")]
    assert len(found.skipped) == 2


def test_units_in_a_product_of_activations_are_left_out() -> None:
    found = survey(Twins(), torch.randn(2, 3))
    assert names(found) == []
    assert "product of activations" in found.skipped["one"]


def test_heads_are_units_on_request_only() -> None:
    model, x = vit(8, 5, patch=4, width=8, depth=1, heads=2), torch.randn(2, 3, 8, 8)
    assert names(survey(model, x)) == [("block1.linear1", 32, "block1.linear2")]
    assert ("block1.attention.qkv", 2, "block1.attention.proj") in names(survey(model, x, heads=True))


@pytest.mark.parametrize(("norm", "coupled"), [("none", ""), ("batch", ""), ("layer", "norm1")])
def test_a_norm_over_the_units_is_named(norm: str, coupled: str) -> None:
    model = mlp(3, 2, width=4, depth=1, norm=norm)
    assert survey(model, torch.randn(2, 3)).layers[0].coupled == coupled


def test_weights_with_two_uses_are_no_single_maps() -> None:
    tied = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    assert set(survey(tied, torch.randn(2, 4)).columns) == {"0.weight", "2.weight", "4.weight"}
    tied[4].weight = tied[2].weight
    assert set(survey(tied, torch.randn(2, 4)).columns) == {"0.weight"}


def test_a_network_without_units_says_why() -> None:
    with pytest.raises(TypeError, match="Linear has no hidden units that can be replaced"):
        replaceable(nn.Linear(3, 2), survey(nn.Linear(3, 2), torch.randn(2, 3)))


class Summed(nn.Module):
    """Hidden units that a linear map reads, and a sum without weights if asked for."""

    def __init__(self, summed: bool) -> None:
        super().__init__()
        self.first, self.second, self.summed = nn.Linear(4, 6), nn.Linear(6, 3), summed

    def forward(self, x):
        h = self.first(x).relu()
        return self.second(h) + (h.sum(1, keepdim=True) if self.summed else 0)


@pytest.mark.parametrize("summed", [True, False])
def test_units_that_are_added_up_without_weights_are_not_replaceable(summed):
    found = survey(Summed(summed), torch.ones(3, 4))
    assert bool(found.layers) != summed
    assert any("without weights" in why for why in found.skipped.values()) == summed


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_units_that_other_heads_read_are_replaceable_with_all_examples(name: str) -> None:
    model, examples, _ = made(name)
    found, alone = survey(model, examples), survey(model, examples[0])
    assert {layer.name for layer in alone.layers} <= {layer.name for layer in found.layers}
    assert alone.unread
    assert not found.unread


def test_edges_and_readers_of_all_heads_are_known() -> None:
    model, examples, _ = made("tasks")
    (body, deep) = survey(model, examples).layers
    assert [edge.parameter for edge in deep.group.outgoing] == [f"heads.{k}.weight" for k in range(3)]
    assert [layer.reader for layer in deep.of_readers()] == ["heads.0", "heads.1", "heads.2"]
    assert [layer.reader for layer in body.of_readers()] == ["deep"]


def test_values_are_those_of_all_examples() -> None:
    model, examples, _ = made("tasks")
    x = examples[0][0]
    several = [(x, 0), (-x, 1), (2 * x[:4], 2)]
    found, outputs = observe(model, survey(model, several).layers, several, lambda _, h: h)
    h = model.body(torch.cat([x, -x, 2 * x[:4]]))
    assert torch.equal(found["body.0"], h)
    assert torch.equal(found["deep"], F.relu(model.deep(h)))
    assert [len(y) for y in outputs] == [6, 6, 4]


def test_streams_are_streams_in_a_list_of_examples_too() -> None:
    model, x = Gated(), torch.ones(3, 3)
    for given in (x, [(x,), (2 * x,)]):
        found = survey(model, given)
        assert [layer.units for layer in found.layers] == [6]
        assert "residual stream" in found.skipped["stem"]
