"""The order of copies: a tiled clone is the interleaved one with its units permuted, in every kind of layer."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.torch_experiments.cloning.test_modulewise import (
    ATTENTION,
    CONVOLUTIONS,
    FEATURES,
    GATES,
    IMAGE,
    TOKENS,
    Gate,
    Heads,
    Last,
    network,
    randn,
    rng,
    train,
    worst,
)
from torch_experiments import clone, layout, verify
from torch_experiments.cloning import cloned_residual
from torch_experiments.cloning.widen import gap, outputs


def convolutions(kind):
    body = CONVOLUTIONS[kind]
    return network(*body, nn.Tanh(), nn.Conv2d(body[-1].out_channels, 3, 1)), randn(*IMAGE)


def gates(kind):
    function, width = GATES[kind]
    return network(nn.Conv2d(3, 8, 3), Gate(function), nn.Conv2d(width, 3, 1)), randn(*IMAGE)


def attention(kind):
    return network(nn.Linear(4, 6), ATTENTION[kind](), nn.Linear(6, 3)), randn(*TOKENS)


def flattened():
    body = [nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 5), nn.Tanh()]
    return network(*body, nn.Linear(5, 3)), randn(*IMAGE)


KINDS = (
    {f"convolutions, {kind}": lambda kind=kind: convolutions(kind) for kind in CONVOLUTIONS}
    | {f"attention, {kind}": lambda kind=kind: attention(kind) for kind in ATTENTION}
    | {kind: lambda kind=kind: gates(kind) for kind in GATES}
    | {
        kind.__name__: lambda kind=kind: (network(Last(kind), nn.Linear(3, 2)), randn(*TOKENS))
        for kind in (nn.LSTM,)
    }
    | {"flattened channels": flattened}
)


def permuted(model, mine, other):
    """Return a copy of ``model``, laid out as ``mine``, whose units lie as ``other`` says."""
    found = copy.deepcopy(model)
    tensors = dict(found.named_parameters()) | dict(found.named_buffers())
    for name, place in mine.placements.items():
        for dim, (one, two) in enumerate(zip(place.profiles, other.placements[name].profiles, strict=True)):
            source = torch.empty_like(one.block)
            source[two.block.argsort(stable=True)] = one.block.argsort(stable=True)
            tensors[name].data = tensors[name].detach().index_select(dim, source)
    return found


def same(one, other):
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(name == again and torch.equal(x, y) for (name, x), (again, y) in pairs)


@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_tiled_clone_is_the_interleaved_one_with_its_units_permuted(kind, factor):
    model, x = KINDS[kind]()
    places = {order: layout(model, factor, example_inputs=x, order=order) for order in ("interleaved", "tiled")}
    twins = {order: clone(model, factor, example_inputs=x, order=order) for order in places}
    assert same(permuted(twins["interleaved"], *places.values()), twins["tiled"])
    assert not same(twins["interleaved"], twins["tiled"])
    assert verify(twins["tiled"], model, places["tiled"], x, samples="all").kept
    assert gap(outputs(twins["interleaved"], x), outputs(twins["tiled"], x)) <= 1e-12


@pytest.mark.parametrize("kind", ["convolutions, groups", "attention, nn.MultiheadAttention", "flattened channels"])
def test_a_tiled_clone_stays_on_its_manifold(kind):
    model, x = KINDS[kind]()
    twin = clone(model, 3, "equitable", rng(), example_inputs=x, order="tiled").train()
    place, start = layout(model, 3, example_inputs=x, order="tiled"), copy.deepcopy(twin.state_dict())
    train(twin, x)
    assert worst(twin, place, x, start) <= 1e-9
    assert worst(twin, layout(model, 3, example_inputs=x), x, start) > 1e-3, "the layout of another order fits none"


@pytest.mark.parametrize("mode", ["equal", "equitable", "rows", "columns", "broken"])
def test_every_mode_has_both_orders(mode):
    model, x = network(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)), randn(*FEATURES)
    twin, place = clone(model, 2, mode, rng(), example_inputs=x, order="tiled"), layout(model, 2, order="tiled")
    assert verify(twin, model, place, x).kept == (mode in ("equal", "equitable", "rows"))
    found = cloned_residual(twin, 2, order="tiled")
    kept = {side: max(getattr(r, side) for r in found) < 1e-12 for side in ("rows", "columns")}
    assert kept == {side: mode in ("equal", "equitable", side) for side in kept}


def test_features_of_heads_are_tiled_within_their_head():
    model, x = Heads().double(), randn(2, 5, 6)
    twin = clone(model, 2, example_inputs=x, attention="features", order="tiled")
    place = layout(model, 2, example_inputs=x, attention="features", order="tiled")
    assert gap(outputs(model, x), outputs(twin, x)) <= 1e-12
    assert place.placements["q.weight"].profiles[0].block.tolist() == [0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5]


def test_channels_are_tiled_whole():
    model, x = flattened()
    block = layout(model, 2, example_inputs=x, order="tiled").placements["4.weight"].profiles[1].block
    assert block.tolist() == 2 * list(range(36))


@given(st.integers(2, 5), st.integers(2, 4), st.integers(0, 2**31))
def test_the_copies_of_a_chain_lie_at_i_plus_a_multiple_of_the_width(units, factor, seed):
    model = network(nn.Linear(3, units), nn.ReLU(), nn.Linear(units, 2), seed=seed)
    twin, x = clone(model, factor, order="tiled"), randn(*FEATURES)[:, :3]
    assert torch.equal(twin[0].weight, model[0].weight.repeat(factor, 1))
    assert torch.equal(twin[0].bias, model[0].bias.repeat(factor))
    assert torch.equal(twin[2].weight, (model[2].weight / factor).repeat(1, factor))
    assert gap(outputs(model, x), outputs(twin, x)) <= 1e-12


@pytest.mark.parametrize("function", [clone, layout])
def test_another_order_is_named(function):
    with pytest.raises(ValueError, match=r"order: got 'side by side'; allowed are 'interleaved', 'tiled'"):
        function(network(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1)), order="side by side")
