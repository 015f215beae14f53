"""The ends of the normal Hessian of real networks, and the escape from a cloned manifold that they predict."""

import copy
import dataclasses
import functools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.autograd.functional import hessian
from torch.func import functional_call
from torch.nn.functional import cross_entropy, mse_loss

from claims.evidence import witness
from simulate.stability import classify
from tests.torch_experiments.certificates.clones import cloned, network, randn, rng
from theory.manifolds import cloned_manifold
from theory.network import Network, SquaredError
from theory.partitions import coarsest_equitable_partition
from torch_experiments import clone, layout
from torch_experiments.certificates.manifold import places
from torch_experiments.certificates.stability import NormalHessian, growth_factor, stability
from torch_experiments.cloning.chains import chain_layout, expand, profiles
from torch_experiments.cloning.layouts import Layout
from torch_experiments.lab.models import cnn, mlp, vit


def data(inputs=3, outputs=2, samples=12):
    return randn(samples, inputs), randn(samples, outputs, seed=1)


def scaled(activation, scales):
    """Return a clone whose copies have scales, and where they lie."""
    base = network(activation)
    axes = profiles(base, 3, scales=scales, generator=rng())
    return expand(base, axes, spread=1.0, generator=rng()), chain_layout(base, axes)


def dense_hessian(model, objective):
    """Return the Hessian over all parameters, in the order of ``named_parameters``."""
    names, values = zip(*model.named_parameters(), strict=True)
    sizes = [v.numel() for v in values]

    def of(flat):
        parts = [p.reshape(v.shape) for p, v in zip(flat.split(sizes), values, strict=True)]
        return objective(lambda x: functional_call(model, dict(zip(names, parts, strict=True)), (x,)))

    return hessian(of, torch.cat([v.detach().reshape(-1) for v in values])).numpy()


def normal_basis(model, place):
    """Return an orthonormal basis of the normal space: cells spelt out entry by entry."""
    columns, start = [], 0
    size = sum(p.numel() for p in model.parameters())
    for name, parameter in model.named_parameters():
        axes = place.placements[name].profiles
        cells = {}
        for index in np.ndindex(*parameter.shape):
            key = tuple(int(axis.block[i]) for axis, i in zip(axes, index, strict=True))
            entry = start + int(np.ravel_multi_index(index, parameter.shape))
            weight = math.prod(float(axis.scale[i]) for axis, i in zip(axes, index, strict=True))
            cells.setdefault(key, []).append((entry, weight))
        for members in cells.values():
            entries, weights = (np.array(part) for part in zip(*members, strict=True))
            rest = np.linalg.qr(np.column_stack([weights, np.eye(len(weights))]))[0][:, 1 : len(weights)]
            for column in rest.T:
                columns.append(np.zeros(size))
                columns[-1][entries] = column
        start += parameter.numel()
    return np.array(columns).T


def dense_ends(model, place, objective):
    B = normal_basis(model, place)
    values = np.linalg.eigvalsh(B.T @ dense_hessian(model, objective) @ B)
    return values[0], values[-1], B.shape[1]


SETTINGS = {
    "identical, 2 copies": lambda: cloned(),
    "identical, 3 copies, ReLU": lambda: cloned("relu", 3),
    "RE ∩ CE, 3 copies": lambda: cloned("softplus", 3, "equitable"),
    "scaled": lambda: scaled("relu", "positive"),
    "signed": lambda: scaled("tanh", "sign"),
}


@pytest.mark.claim("C10", "property")
@pytest.mark.parametrize("kind", SETTINGS)
def test_the_ends_are_those_of_the_dense_normal_hessian(kind):
    model, place = SETTINGS[kind]()
    x, y = data()
    found = stability(model, place, lambda: mse_loss(model(x), y), iterations=400)
    low, high, codimension = dense_ends(model, place, lambda f: mse_loss(f(x), y))
    gap = max(abs(found.lowest - low), abs(found.highest - high)) / (high - low)
    assert gap <= 1e-10
    assert found.codimension == codimension
    assert max(found.residuals) <= 1e-7 * (high - low)
    assert (found.kind, found.certified) == ("saddle", True)
    witness(residual=gap)


@pytest.mark.control("C10")
def test_the_ends_of_the_whole_hessian_are_others():
    model, place = cloned()
    x, y = data()
    found = stability(model, place, lambda: mse_loss(model(x), y))
    whole = np.linalg.eigvalsh(dense_hessian(model, lambda f: mse_loss(f(x), y)))
    assert whole[-1] > 2 * found.highest


def closed_form_ends(base, copies, x, y):
    """Return the ends over the units of ``[[a A/n, B], [Bᵀ, 0]]``, with a bias as one more input (C10 (ii))."""
    W, a = base.linear1, base.head.weight.detach().numpy()
    inputs = np.column_stack([x.numpy(), np.ones(len(x))])
    z = inputs @ np.column_stack([W.weight.detach().numpy(), W.bias.detach().numpy()]).T
    error = 2 * (base(x) - y).detach().numpy() / y.numel()
    relu = isinstance(base.act1, nn.ReLU)
    slope = (z > 0) * 1.0 if relu else 1 - np.tanh(z) ** 2
    bend = 0 * z if relu else -2 * np.tanh(z) * slope
    values = []
    for k in range(z.shape[1]):
        B = inputs.T @ (slope[:, k : k + 1] * error)
        A = inputs.T @ ((bend[:, k] * (error @ a[:, k]))[:, None] * inputs)
        values.append(np.linalg.eigvalsh(np.block([[A / copies, B], [B.T, np.zeros((B.shape[1],) * 2)]])))
    return min(v[0] for v in values), max(v[-1] for v in values)


@pytest.mark.claim("C10", "property")
@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("copies", [2, 3])
def test_for_one_hidden_layer_the_ends_are_the_closed_form(activation, copies):
    base = network(activation, depth=1)
    x, y = data()
    model, place = clone(base, copies, "equitable" if copies > 2 else "equal", rng()), layout(base, copies)
    found = stability(model, place, lambda: mse_loss(model(x), y), iterations=200)
    low, high = closed_form_ends(base, copies, x, y)
    assert found.lowest == pytest.approx(low, rel=1e-10)
    assert found.highest == pytest.approx(high, rel=1e-10)
    witness(residual=max(abs(found.lowest - low), abs(found.highest - high)))
    other = closed_form_ends(base, copies + 1, x, y)[0]
    assert activation == "relu" or abs(found.lowest - other) > 1e-3 * abs(low), "control: another number of copies"


@pytest.mark.claim("C10", "property")
def test_the_relu_rate_is_the_largest_gradient_of_a_base_unit_over_its_weight():
    base = network("relu", depth=1, outputs=1)
    x, y = data(outputs=1)
    model, place = clone(base, 2), layout(base, 2)
    mse_loss(base(x), y).backward()
    slopes = torch.cat([base.linear1.weight.grad, base.linear1.bias.grad[:, None]], 1).norm(dim=1)
    rates = slopes / base.head.weight.detach().abs().squeeze(0)
    found = stability(model, place, lambda: mse_loss(model(x), y))
    assert found.rate == pytest.approx(float(rates.max()), rel=1e-10)
    assert found.highest == pytest.approx(found.rate, rel=1e-10), "the spectrum is symmetric"
    assert float(rates.max()) > 1.01 * float(rates.min())
    witness(residual=abs(found.rate - float(rates.max())))


def test_the_type_is_that_of_the_exact_theory():
    base = network(depth=2, outputs=1)
    for layer in (base.linear1, base.linear2, base.head):
        layer.bias = None
    x, y = data(outputs=1)
    model, place = clone(base, 2), layout(base, 2)
    matrices = [p.detach().numpy() for p in model.parameters()]
    net = Network.layered(matrices, "tanh")
    manifold = cloned_manifold(net, coarsest_equitable_partition(net, 1e-12), 1e-12)
    exact = classify(net, manifold, x.numpy().T, SquaredError(y.numpy().T))
    found = stability(model, place, lambda: (model(x) - y).square().sum() / 2, iterations=200)
    assert (found.kind, found.certified) == (exact.kind, exact.certified)
    assert found.lowest == pytest.approx(exact.lowest, rel=1e-9)
    assert found.highest == pytest.approx(exact.highest, rel=1e-9)


@functools.cache
def critical(decay=0.0):
    """Return a base whose clone (two copies) is a critical point of the loss with ``decay ‖clone‖²/2``, and data.

    The clone's weights are the base's, twice, and half of the base's weights into the output, twice.
    """
    base = network(depth=1, outputs=1, width=2)
    x = randn(40, 3)
    y = torch.sin(2 * x[:, :1]) + x[:, 1:2] * x[:, 2:]
    rule = torch.optim.LBFGS(
        base.parameters(), max_iter=3000, tolerance_grad=1e-13, tolerance_change=0, line_search_fn="strong_wolfe"
    )
    shares = (2, 2, 0.5, 1)

    def closure():
        rule.zero_grad()
        size = sum(c * p.square().sum() for c, p in zip(shares, base.parameters(), strict=True))
        loss = mse_loss(base(x), y) + decay * size / 2
        loss.backward()
        return loss

    rule.step(closure)
    assert max(float(p.grad.abs().max()) for p in base.parameters()) < 1e-7
    return base, x, y


def grown(model, place, optimizer, x, y, steps):
    """Train, and return the distance from the manifold after every step."""
    own, sizes = places(model, place), []
    for _ in range(steps):
        optimizer.zero_grad()
        mse_loss(model(x), y).backward()
        optimizer.step()
        sizes.append(math.sqrt(sum(float(p.normal(p.parameter.detach()).square().sum()) for p in own.values())))
    return sizes


def perturbed(model, place, size, seed=3):
    generator = rng(seed)
    with torch.no_grad():
        for p in places(model, place).values():
            draw = torch.randn(p.parameter.shape, generator=generator, dtype=torch.float64)
            p.parameter.add_(size * p.normal(draw))


RULES = {
    "plain": {"lr": 0.3},
    "momentum": {"lr": 0.05, "momentum": 0.9},
    "Nesterov": {"lr": 0.05, "momentum": 0.9, "nesterov": True},
    "decay": {"lr": 0.3, "weight_decay": 0.01},
    "decay, momentum": {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01},
}


@pytest.mark.claim("C10", "training")
@pytest.mark.parametrize("rule", RULES)
def test_the_measured_growth_is_the_predicted_one(rule):
    """At a critical point, from a random perturbation, as soon as the fastest direction has outgrown the others."""
    base, x, y = critical(RULES[rule].get("weight_decay", 0.0))
    model, place = clone(base, 2), layout(base, 2)
    optimizer = torch.optim.SGD(model.parameters(), **RULES[rule])
    found = stability(model, place, lambda: mse_loss(model(x), y), optimizer=optimizer)
    perturbed(model, place, 1e-10)
    sizes = grown(model, place, optimizer, x, y, round(12 / math.log(found.growth)))
    measured = math.log(sizes[-1] / sizes[-21]) / 20
    assert measured == pytest.approx(math.log(found.growth), rel=0.03)
    assert 1e-7 < sizes[-1] < 1e-3
    witness(residual=abs(measured / math.log(found.growth) - 1))


def follow_lowest(model, place, x, y, size):
    """Perturb along the lowest eigenvector, found densely."""
    B = normal_basis(model, place)
    A = B.T @ dense_hessian(model, lambda f: mse_loss(f(x), y)) @ B
    v = torch.from_numpy(B @ np.linalg.eigh(A)[1][:, 0])
    with torch.no_grad():
        for p, part in zip(model.parameters(), v.split([p.numel() for p in model.parameters()]), strict=True):
            p.add_(size * part.reshape(p.shape))


@pytest.mark.control("C10")
def test_without_momentum_in_the_formula_the_prediction_is_far_off():
    base, x, y = critical()
    model, place = clone(base, 2), layout(base, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    found = stability(model, place, lambda: mse_loss(model(x), y), optimizer=optimizer)
    assert math.log(found.growth) > 5 * math.log(growth_factor(found.lowest, 0.05))


def test_the_escape_takes_as_many_steps_as_predicted():
    base, x, y = critical()
    model, place = clone(base, 2), layout(base, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    found = stability(model, place, lambda: mse_loss(model(x), y), optimizer=optimizer, start=1e-7)
    weights = math.sqrt(sum(float(p.detach().square().sum()) for p in model.parameters() if p.numel() > 1))
    follow_lowest(model, place, x, y, 1e-7 * weights)
    sizes = grown(model, place, optimizer, x, y, round(1.3 * found.steps))
    measured = next(k for k, size in enumerate(sizes, 1) if size > 0.01 * weights)
    assert measured == pytest.approx(found.steps, rel=0.05)
    assert found.time == pytest.approx(0.3 * found.steps, rel=0.05)


def test_ascent_escapes_along_the_highest_eigenvalue():
    base, x, y = critical()
    model, place = clone(base, 2), layout(base, 2)
    up = torch.optim.SGD(model.parameters(), lr=0.1, maximize=True)
    found = stability(model, place, lambda: mse_loss(model(x), y), optimizer=up)
    assert found.growth == pytest.approx(1 + 0.1 * found.highest, rel=1e-12)
    assert found.growth - 1 > 1.02 * 0.1 * -found.lowest


@given(
    h=st.floats(-5, -1e-3),
    rate=st.floats(1e-3, 1),
    momentum=st.floats(0, 0.99),
    nesterov=st.booleans(),
)
def test_the_growth_factor_is_the_spectral_radius_of_a_step(h, rate, momentum, nesterov):
    buffer = np.array([h, momentum])
    deviation = np.array([1.0, 0.0]) - rate * (np.array([h, 0]) + momentum * buffer if nesterov else buffer)
    radius = max(abs(np.linalg.eigvals(np.array([deviation, buffer]))))
    assert growth_factor(h, rate, momentum, nesterov) == pytest.approx(radius, rel=1e-9)


def test_to_leading_order_momentum_multiplies_the_rate():
    exact, leading = growth_factor(-1.0, 1e-5, 0.9) - 1, 1e-5 / (1 - 0.9)
    assert exact == pytest.approx(leading, rel=1e-3)
    assert growth_factor(-1.0, 0.1, 0.9) - 1 < 0.5 * 0.1 / (1 - 0.9), "control: not at large rates"


def test_rates_that_no_eigenvalue_tells_are_none_with_the_reason():
    model, place = cloned()
    x, y = data()
    first, rest = [model.linear1.weight], [p for p in model.parameters() if p is not model.linear1.weight]
    sgd = torch.optim.SGD
    cases = {
        "no optimizer": None,
        "Adam rescales": torch.optim.Adam(model.parameters()),
        "2 settings": sgd([{"params": first, "lr": 0.1}, {"params": rest, "lr": 0.2}], lr=0.1),
        "not in the optimizer": sgd(rest, lr=0.1),
        "dampened": sgd(model.parameters(), lr=0.1, momentum=0.9, dampening=0.5),
        "no normal direction": sgd(model.parameters(), lr=0.0),
        "no normal direction grows": sgd(model.parameters(), lr=0.1, weight_decay=10.0),
    }
    for said, optimizer in cases.items():
        found = stability(model, place, lambda: mse_loss(model(x), y), optimizer=optimizer)
        assert (found.growth, found.steps) == (None, None)
        assert said in found.reason
        assert found.rate == -found.lowest


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_curvature_that_is_rounding_alone_is_degenerate(dtype):
    """Targets are the network's outputs up to rounding, so that the residual, and with it ``b``, is rounding."""
    base = network(depth=1).to(dtype)
    x = data()[0].to(dtype)
    model, place = clone(base, 2), layout(base, 2)
    y = base(x).detach()
    found = stability(model, place, lambda: mse_loss(model(x), y * (1 + 4 * torch.finfo(dtype).eps)))
    assert (found.kind, found.certified, found.rate) == ("degenerate", False, 0.0)
    assert found.lowest < 0 < found.highest, "control: without noise it would be called a saddle"
    assert found.noise < 1e-3


def test_the_noise_bounds_what_rounding_does_in_float32():
    model, place = cloned(factor=3, mode="equitable", width=8)
    x, y = data()
    exact = stability(model, place, lambda: mse_loss(model(x), y))
    single = copy.deepcopy(model).float()
    found = stability(single, place, lambda: mse_loss(single(x.float()), y.float()))
    assert 0 < abs(found.lowest - exact.lowest) <= found.noise
    assert 0 < abs(found.highest - exact.highest) <= found.noise


def dead_units():
    """Return a ReLU network with two dead units in its second layer, and the masks of their weights."""
    model = network("relu", width=4)
    with torch.no_grad():
        model.linear2.weight[:2] = -1.0
        model.linear2.bias[:2] = 0.0
    dead = torch.arange(4) < 2
    return model, {"linear2.weight": dead[:, None].expand(4, 4).clone(), "linear2.bias": dead}


def test_frozen_weights_are_flat_normal_directions():
    model, masks = dead_units()
    x, y = data()
    found = stability(model, None, lambda: mse_loss(model(x), y), frozen=masks)
    assert (found.kind, found.codimension, found.lowest, found.highest) == ("degenerate", 10, 0.0, 0.0)
    live = {name: ~mask for name, mask in masks.items()}
    assert stability(model, None, lambda: mse_loss(model(x), y), frozen=live).highest > 1e-3, "control"


ARCHITECTURES = {
    "cnn": lambda norm: cnn(16, 5, width=2, hidden=4, norm=norm, dtype=torch.float64),
    "vit": lambda norm: vit(16, 5, width=6, heads=3, depth=1, norm=norm, dtype=torch.float64),
}


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_products_are_the_differences_of_gradients_in_networks_with_norms_and_attention(arch, norm):
    base, x = ARCHITECTURES[arch](norm), randn(4, 3, 16, 16)
    y = torch.arange(4)
    model, place = clone(base, 2, "equitable", rng(), example_inputs=x), layout(base, 2, example_inputs=x)
    own = places(model, place)
    product = NormalHessian(own, lambda: cross_entropy(model(x), y))
    v = product.random(rng())
    found = product.product(v)

    def slope(step):
        other = copy.deepcopy(model)
        with torch.no_grad():
            for name, part in zip(own, v.split([p.parameter.numel() for p in own.values()]), strict=True):
                parameter = other.get_parameter(name)
                parameter.add_(step * part.reshape(parameter.shape))
        grads = torch.autograd.grad(cross_entropy(other(x), y), [other.get_parameter(name) for name in own])
        return torch.cat([g.reshape(-1) for g in grads])

    difference = product.normal((slope(1e-6) - slope(-1e-6)) / 2e-6)
    assert float((found - difference).norm()) <= 1e-4 * float(found.norm())
    whole = stability(model, place, lambda: cross_entropy(model(x), y), iterations=20)
    assert (whole.kind, whole.certified) == ("saddle", True)
    assert whole.lowest <= float(v @ found) <= whole.highest


@pytest.mark.gpu
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_gpu_finds_the_same_ends(arch):
    base, x = ARCHITECTURES[arch]("layer"), randn(4, 3, 16, 16)
    model, place = clone(base, 2, "equitable", rng(), example_inputs=x), layout(base, 2, example_inputs=x)
    y = torch.arange(4)
    expected = stability(model, place, lambda: cross_entropy(model(x), y))
    model.cuda()
    x, y = x.cuda(), y.cuda()
    mask = torch.zeros(5, dtype=torch.bool)
    found = stability(model, place, lambda: cross_entropy(model(x), y), frozen={"head.bias": mask})
    assert (found.kind, found.codimension) == (expected.kind, expected.codimension)
    assert found.lowest == pytest.approx(expected.lowest, rel=1e-4)
    assert found.highest == pytest.approx(expected.highest, rel=1e-4)


@pytest.mark.claim("C10", "property")
def test_zero_sum_changes_of_outgoing_weights_have_no_curvature():
    model, place = cloned()
    x, y = data()
    own = places(model, place)
    product = NormalHessian(own, lambda: mse_loss(model(x), y))
    sizes = [p.parameter.numel() for p in own.values()]
    for seed in range(5):
        v = torch.zeros(sum(sizes), dtype=torch.float64)
        head = dict(zip(own, v.split(sizes), strict=True))["head.weight"].view(2, 3, 2)
        head[:] = randn(2, 3, 2, seed=seed)
        loose = abs(float(v @ product.whole.product(v)))
        head -= head.mean(2, keepdim=True)
        assert torch.allclose(product.normal(v), v)
        q = abs(float(v @ product.whole.product(v)))
        assert q <= 1e-15 < 1e-3 < loose
        witness(residual=q)


def test_a_run_leaves_the_model_and_the_random_state_alone():
    base = mlp(3, 2, width=3, depth=2, norm="batch", dropout=0.2, dtype=torch.float64)
    model, place = clone(base, 2), layout(base, 2)
    x, y = data()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    one, same = (stability(model.train(), place, lambda: mse_loss(model(x), y)) for _ in range(2))
    assert one == same
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(p.grad is None for p in model.parameters())
    assert model.training


def test_parameters_that_need_no_gradient_are_left_out():
    model, place = cloned()
    x, y = data()
    whole = stability(model, place, lambda: mse_loss(model(x), y))
    model.head.requires_grad_(False)
    part = stability(model, place, lambda: mse_loss(model(x), y))
    assert whole.codimension - part.codimension == 2 * 3
    assert part.lowest > whole.lowest


def test_a_loss_that_is_linear_in_the_weights_has_no_curvature():
    base = nn.Sequential(nn.Linear(3, 2, dtype=torch.float64), nn.Identity(), nn.Linear(2, 1, dtype=torch.float64))
    model, place = clone(base, 2), layout(base, 2)
    found = stability(model, place, lambda: model[0].weight.sum())
    assert (found.kind, found.lowest, found.highest, found.noise) == ("degenerate", 0.0, 0.0, 0.0)


def test_the_result_is_plain():
    model, place = cloned()
    x, y = data()
    found = dataclasses.asdict(stability(model, place, lambda: mse_loss(model(x), y)))
    assert all(isinstance(v, str | float | int | bool | tuple | type(None)) for v in found.values())


def refused(match, model, place, loss, **options):
    with pytest.raises(ValueError, match=match):
        stability(model, place, loss, **options)


def test_errors_name_what_was_given_and_the_fix():
    model, place = cloned()
    x, y = data()
    base = network()

    def loss():
        return mse_loss(model(x), y)

    refused("no direction is normal", base, None, lambda: mse_loss(base(x), y))
    refused("no direction is normal", base, Layout(1, {}), lambda: mse_loss(base(x), y))
    refused("it is nan", model, place, lambda: mse_loss(model(x), y * float("nan")))
    refused("does not depend", model, place, lambda: mse_loss(base(x), y))
    refused("does not depend", model, place, lambda: loss().detach())
    refused("scalar", model, place, lambda: model(x))
    refused("scalar", model, place, lambda: 1.0)
    refused("iterations: got 1", model, place, loss, iterations=1)
    refused("start: got 0.5", model, place, loss, start=0.5)
    refused("of the clone, not of its base", base, place, lambda: mse_loss(base(x), y))
    refused("no parameter of the model", model, place, loss, frozen={"nobody": torch.ones(1, dtype=torch.bool)})
    refused("bool mask", model, place, loss, frozen={"head.bias": torch.ones(2)})


def test_a_network_off_the_manifold_has_no_type():
    model, place = cloned()
    x, y = data()
    with torch.no_grad():
        model.linear2.weight[0, 0] += 0.01
    refused("layer 'linear2'", model, place, lambda: mse_loss(model(x), y))
    stability(model, place, lambda: mse_loss(model(x), y), tolerance=0.1)


def test_a_model_without_trained_clones_is_refused():
    model, place = cloned()
    x, y = data()
    refused("requires_grad_", model.requires_grad_(False), place, lambda: mse_loss(model(x), y))
