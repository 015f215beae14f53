"""Remedies against traces computed by hand, and the law that a replaced unit is not heard."""

import math

import pytest
import torch
from torch import nn

from torch_experiments import remedies
from torch_experiments.lab.models import cnn, mlp, resnet18, vit
from torch_experiments.lab.training.ensemble import Separate
from torch_experiments.remedies import NOISE, ContinualBackprop, ReDo
from torch_experiments.remedies.network import Network
from torch_experiments.support.generators import generator
from torch_experiments.support.noise import GradientNoise

ONE = torch.ones(1, 1, dtype=torch.float64)


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.0)


def network(model, seed=0, fresh=None, example=None):
    """Return ``model`` with an Adam of rate 0, after one step, so that its moments are not zero."""
    engine = Separate([model], adam)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    engine.optimizer.step()
    fresh = fresh or (lambda source: mlp(1, 1, width=3, depth=1, seed=source, dtype=torch.float64))
    return Network(model, lambda p: engine.moments(0, p), engine.optimizer.state, fresh, seed, example)


def three_units(outgoing=(3.0, 1.0, 0.5)):
    """Return h = relu([1, 2, 3] x) and y = outgoing · h."""
    model = mlp(1, 1, width=3, depth=1, dtype=torch.float64)
    with torch.no_grad():
        model.linear1.weight.copy_(torch.tensor([[1.0], [2.0], [3.0]]))
        model.linear1.bias.zero_()
        model.head.weight.copy_(torch.tensor([outgoing]))
    return model


def begun(remedy, net):
    state = remedy.begin(net)
    remedy.attach(net, state)
    return state


def passed(remedy, net, state, step, x=ONE):
    net.model.train()(x)
    remedy.after_step(net, state, step)


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


def gradients(remedy, net, step=0, state=None):
    state = remedy.begin(net) if state is None else state
    for p in net.model.parameters():
        p.grad = torch.ones_like(p)
    remedy.before_step(net, state, step)
    return [p.grad for p in net.model.parameters()]


def test_l2_adds_the_weights():
    net = network(three_units())
    found = gradients(remedies.L2(0.1), net)
    assert all(torch.equal(g, 1 + 0.1 * p) for g, p in zip(found, net.model.parameters(), strict=True))


def test_l2_init_adds_the_way_from_the_start():
    net, remedy = network(three_units()), remedies.L2Init(0.1)
    state = remedy.begin(net)
    assert all(torch.equal(g, torch.ones_like(g)) for g in gradients(remedy, net, state=state))
    with torch.no_grad():
        net.model.linear1.weight += 2
    found = gradients(remedy, net, state=state)
    assert found[0].flatten().tolist() == pytest.approx([1.2] * 3)
    assert found[1].tolist() == [1, 1, 1]


def test_noise_is_gradient_noise_and_depends_on_the_step():
    net, remedy = network(three_units()), remedies.Noise(0.5, 0.9, "elementwise")
    noise = GradientNoise(0.5, 0.9, "elementwise", generator(0, NOISE, 7))
    noise.steps = 7
    expected = [torch.nn.Parameter(p.detach().clone()) for p in net.model.parameters()]
    for p in expected:
        p.grad = torch.ones_like(p)
    noise.perturb(expected)
    found = gradients(remedy, net, step=7)
    assert all(torch.equal(g, p.grad) for g, p in zip(found, expected, strict=True))
    assert not torch.equal(gradients(remedy, net, step=8)[0], expected[0].grad)


def test_shrink_and_perturb_mixes_with_a_fresh_network():
    model = three_units()
    old = [p.detach().clone() for p in model.parameters()]
    other = mlp(1, 1, width=3, depth=1, seed=9, dtype=torch.float64)
    net = network(model, fresh=lambda seed: other)
    remedies.ShrinkPerturb(0.4, 0.1).at_task(net, {}, 1)
    triples = zip(model.parameters(), old, other.parameters(), strict=True)
    assert all(torch.allclose(p, 0.4 * q + 0.1 * r) for p, q, r in triples)


def test_resets_forget_the_optimizer_and_fresh_the_weights_too():
    for name in ("optimizer-reset", "fresh"):
        model = three_units()
        other = mlp(1, 1, width=3, depth=1, seed=9, dtype=torch.float64)
        net = network(model, fresh=lambda seed, other=other: other)
        assert net.moments(model.linear1.weight)
        remedies.make(name).at_task(net, {}, 1)
        assert net.moments(model.linear1.weight) == {}
        assert torch.equal(model.linear1.weight, other.linear1.weight) == (name == "fresh")


def test_clipping_keeps_weights_within_kappa_times_their_first_bound():
    """Fan-ins are 1 and 3, so the bounds are 2 and 2/√3."""
    model = three_units()
    model.linear1.bias.data.copy_(torch.tensor([-3.0, 0.5, 2.0]))
    remedies.WeightClipping(2.0).after_step(network(model), {}, 0)
    assert model.linear1.weight.flatten().tolist() == [1, 2, 2]
    assert model.linear1.bias.tolist() == [-2, 0.5, 2]
    assert model.head.weight.flatten().tolist() == [pytest.approx(2 / math.sqrt(3)), 1, 0.5]


def test_spectral_regularisation_follows_the_trace_computed_by_hand():
    """σ² of (1, 2, 3) is 14 and of (3, 1, 1/2) 10.25, so the gradients are 4 λ 13 W and 4 λ 9.25 W; b = (1, 0, 0)
    gets 4 λ b.
    """
    model = three_units()
    model.linear1.bias.data.copy_(torch.tensor([1.0, 0.0, 0.0]))
    model.head.bias.data.zero_()
    found = gradients(remedies.Spectral(0.01), network(model))
    assert found[0].flatten().tolist() == pytest.approx([1 + 0.04 * 13 * w for w in (1, 2, 3)])
    assert found[1].tolist() == pytest.approx([1.04, 1, 1])
    assert found[2].flatten().tolist() == pytest.approx([1 + 0.04 * 9.25 * w for w in (3, 1, 0.5)])
    assert found[3].tolist() == [1]


@pytest.mark.parametrize("power", [2, 3])
def test_the_power_method_follows_the_spectral_penalty(power):
    """The oracle is autograd through all singular values of a kernel, after the weights moved by 1 %."""
    model = ARCHS["cnn"]("none", 0)
    net = network(model, example=torch.zeros(2, 3, 8, 8).double())
    remedy = remedies.Spectral(0.3, power, iterations=3000)
    state = remedy.begin(net)
    with torch.no_grad():
        for k, w in enumerate(model.parameters()):
            w += 0.01 * torch.randn(w.shape, generator=generator(k), dtype=torch.float64)
    found = gradients(remedy, net, state=state)
    for name, g in zip(dict(model.named_parameters()), found, strict=True):
        w = model.get_parameter(name).detach().requires_grad_()
        size = torch.linalg.svdvals(w.flatten(1))[0] ** power - 1 if w.ndim > 1 else w.square().sum() ** (power / 2)
        (expected,) = torch.autograd.grad(0.3 * size**2, w)
        torch.testing.assert_close(g - 1, expected, rtol=1e-8, atol=1e-10)


def test_parseval_regularisation_is_the_gradient_of_its_penalty():
    """By hand for the tall (1, 2, 3): 4 λ (14 − 2) W; by autograd for wide matrices; never for the head."""
    found = gradients(remedies.Parseval(0.01, 2.0), network(three_units()))
    assert found[0].flatten().tolist() == pytest.approx([1 + 0.04 * 12 * w for w in (1, 2, 3)])
    assert all(torch.equal(g, torch.ones_like(g)) for g in found[1:])
    model = mlp(5, 2, width=3, depth=2, dtype=torch.float64)
    found = gradients(remedies.Parseval(0.3, 2.0), network(model))
    W = model.linear1.weight.detach().requires_grad_()
    (expected,) = torch.autograd.grad(0.3 * (W @ W.T - 2 * torch.eye(3).double()).square().sum(), W)
    torch.testing.assert_close(found[0] - 1, expected, rtol=1e-12, atol=0)


def test_syre_decays_towards_its_random_point_and_parts_clones():
    model = three_units()
    with torch.no_grad():
        model.linear1.weight.fill_(2.0)
    net, remedy = network(model), remedies.Syre(0.1, sigma=0.5, spread=0.01)
    state = remedy.begin(net)
    offset, rate = state["linear1.weight.offset"], state["linear1.weight.rate"]
    found = gradients(remedy, net, state=state)[0]
    torch.testing.assert_close(found, 1 + 0.1 * rate * (2 - offset), rtol=1e-14, atol=0)
    assert len(set(found.flatten().tolist())) == 3
    assert len(set(gradients(remedies.L2(0.1), net)[0].flatten().tolist())) == 1
    assert (rate - 1).abs().max() <= 0.01
    assert all(torch.equal(value, remedy.begin(net)[name]) for name, value in state.items())


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


ARCHS = {
    "mlp": lambda norm, seed: mlp(192, 5, width=6, depth=2, norm=norm, seed=seed, dtype=torch.float64),
    "cnn": lambda norm, seed: cnn(8, 5, width=4, depth=2, hidden=6, norm=norm, seed=seed, dtype=torch.float64),
    "resnet18": lambda norm, seed: resnet18(5, width=4, stages=(1, 1), norm=norm, seed=seed, dtype=torch.float64),
    "vit": lambda norm, seed: vit(
        8, 5, patch=4, width=8, depth=1, heads=2, norm=norm, seed=seed, dtype=torch.float64
    ),
}
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


def test_every_remedy_is_made_by_name():
    assert all(isinstance(remedies.make(name), remedies.Remedy) for name in remedies.REMEDIES)
    assert not remedies.make("none").edits_gradients
    assert remedies.make("l2").edits_gradients
    assert remedies.make("cbp").watches
