"""Replaced units against traces computed by hand, and the law that nobody hears them."""

import math

import pytest
import torch
from torch import nn

from tests.torch_experiments.remedies.by_hand import ARCHS, ONE, begun, network, passed, three_units
from torch_experiments import remedies
from torch_experiments.remedies import ContinualBackprop, ReDo
from torch_experiments.support.generators import generator


def test_continual_backprop_follows_the_trace_computed_by_hand():
    """Contributions are 3, 2, 1.5; with η = 1/2 and maturity 1 unit 2 goes at step 1, unit 1 at step 2."""
    model = three_units()
    net, remedy = network(model), ContinualBackprop(rate=0.5, maturity=1, decay=0.5)
    state = begun(remedy, net)
    utility, age, account = (state[f"linear1.{name}"] for name in ("utility", "age", "account"))
    passed(remedy, net, state, 0)
    assert utility.tolist() == [1.5, 1.0, 0.75]
    assert (age.tolist(), float(account)) == ([1, 1, 1], 0)
    passed(remedy, net, state, 1)
    assert utility.tolist() == [2.25, 1.5, 0]
    assert (age.tolist(), float(account)) == ([2, 2, 0], 0.5)
    assert model.head.weight.tolist() == [[3, 1, 0]]
    assert model.linear1.weight[2].item() != 3
    passed(remedy, net, state, 2)
    assert utility.tolist() == [2.625, 0, 0]
    assert (age.tolist(), float(account)) == ([3, 0, 1], 0.5)
    assert model.head.weight.tolist() == [[3, 0, 0]]
    assert model.linear1.weight[0].item() == 1


def test_utilities_are_compared_after_bias_correction():
    """A young unit of contribution 3 has u = 1.5 after one step, below 2 · (1 − 1/2⁴) of an old one: the old
    one goes.
    """
    model = three_units()
    net, remedy = network(model), ContinualBackprop(rate=0.5, maturity=0, decay=0.5)
    state = begun(remedy, net)
    state["linear1.utility"].copy_(torch.tensor([0.0, 2 * (1 - 0.5**3), 9.0]))
    state["linear1.age"].copy_(torch.tensor([0.0, 3.0, 3.0]))
    passed(remedy, net, state, 0)
    assert model.head.weight.tolist() == [[3, 0, 0.5]]


def test_the_rate_is_an_expectation_and_not_a_minimum():
    remedy = ContinualBackprop(rate=1e-3, maturity=10)
    net = network(three_units())
    state = begun(remedy, net)
    births = 0
    for step in range(1000):
        before = state["linear1.age"].clone()
        passed(remedy, net, state, step)
        births += int((state["linear1.age"] <= before).sum())
    assert births == math.floor(1e-3 * 3 * 990)


@pytest.mark.parametrize("threshold", [0.025, 0.0])
def test_redo_recycles_what_is_far_below_the_mean(threshold):
    """Sizes are 1, 0.02 and 3: the second is below 0.025 times the mean 1.34, none is below 0."""
    model = three_units()
    model.linear1.weight.data[1] = 0.02
    net, remedy = network(model), ReDo(every=2, threshold=threshold)
    state = begun(remedy, net)
    passed(remedy, net, state, 0)
    assert model.head.weight.tolist() == [[3, 1, 0.5]]
    passed(remedy, net, state, 1)
    recycled = threshold > 0
    assert model.head.weight.tolist() == [[3, 0 if recycled else 1, 0.5]]
    assert (model.linear1.weight[1].item() != 0.02) == recycled
    for p in (model.linear1.weight, model.linear1.bias):
        assert [[bool(row.any()) for row in m] == [True, not recycled, True] for m in net.moments(p).values()] == [
            True
        ] * 2
    assert [m[0].tolist().count(0) for m in net.moments(model.head.weight).values()] == [int(recycled)] * 2
    assert model.linear1.weight[[0, 2]].flatten().tolist() == [1, 3]


def test_sizes_are_of_training_passes_only():
    net, remedy = network(three_units()), ReDo(every=1)
    state = begun(remedy, net)
    net.model.train()(ONE)
    net.model.eval()(100 * ONE)
    assert state["linear1.size"].tolist() == [1, 2, 3]


@pytest.mark.parametrize(("eta", "replaced"), [(0.3, True), (0.2, False)])
def test_self_normalised_resets_follow_the_trace_computed_by_hand(eta, replaced):
    """Unit 2 fires at once, then is silent twice: p = 1/2 and (1 − p)² = 1/4. The others fire at 2 and 3."""
    model = three_units()
    model.linear1.weight.data[1] = -2
    net, remedy = network(model), remedies.SelfNormalizedReset(eta, least=1, most=100)
    state = begun(remedy, net)
    passed(remedy, net, state, 0, -ONE)
    read = lambda name: state[f"linear1.{name}"].tolist()  # noqa: E731
    assert (read("intervals"), read("length"), read("silence")) == ([0, 1, 0], [0, 1, 0], [1, 0, 1])
    passed(remedy, net, state, 1)
    assert (read("intervals"), read("length"), read("silence")) == ([1, 1, 1], [2, 1, 2], [0, 1, 0])
    passed(remedy, net, state, 2)
    unit = (0, 0, 0) if replaced else (1, 1, 2)
    assert (read("intervals"), read("length"), read("silence")) == tuple(
        [a, b, a] for a, b in zip((2, 3, 0), unit, strict=True)
    )
    assert model.head.weight.tolist() == [[3, 0 if replaced else 1, 0.5]]


def test_a_unit_that_never_fires_is_reset_after_the_longest_silence():
    model = three_units()
    model.linear1.weight.data[1] = -2
    net, remedy = network(model), remedies.SelfNormalizedReset(0.01, least=1, most=4)
    state = begun(remedy, net)
    for step in range(3):
        passed(remedy, net, state, step)
    assert model.head.weight.tolist() == [[3, 1, 0.5]]
    passed(remedy, net, state, 3)
    assert model.head.weight.tolist() == [[3, 0, 0.5]]


LAYERS = {"mlp": 2, "cnn": 3, "resnet18": 2, "vit": 1}


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("arch", ARCHS)
def test_a_replaced_unit_is_not_heard_and_its_neighbour_is(arch, norm):
    model = ARCHS[arch](norm, 0)
    x = torch.randn(7, 3, 8, 8, generator=generator(0), dtype=torch.float64)
    net = network(model, fresh=lambda seed: ARCHS[arch](norm, seed), example=x)
    assert len(net.layers) == LAYERS[arch]
    for layer in net.layers:
        remedies.replace(net, {layer.name: torch.tensor([1])}, 0)
        sums = layer.out_sums(model)
        assert sums[1] == 0
        assert sums[2] > 0
        (edge,) = layer.group.incoming
        weight = model.get_parameter(edge.parameter)
        model.eval()
        before = model(x)
        for unit, heard in ((1, False), (2, True)):
            kept = weight.detach().clone()
            with torch.no_grad():
                weight[unit] += 3
            assert torch.allclose(model(x), before, atol=1e-12) != heard
            with torch.no_grad():
                weight.copy_(kept)


def test_norms_of_a_replaced_unit_are_neutral():
    model = ARCHS["mlp"]("batch", 0)
    net = network(model, fresh=lambda seed: ARCHS["mlp"]("batch", seed))
    names = ("weight", "bias", "running_mean", "running_var")
    for name in names:
        getattr(model.norm1, name).data.fill_(5)
    remedies.replace(net, {"linear1": torch.tensor([3])}, 0)
    assert [getattr(model.norm1, n)[3].item() for n in names] == [1, 0, 0, 1]
    assert model.norm1.weight[2].item() == 5


def test_a_network_without_hidden_units_is_named():
    with pytest.raises(TypeError, match=r"Linear has no hidden units that can be replaced"):
        ContinualBackprop().begin(network(nn.Linear(3, 2), example=torch.ones(2, 3)))
