"""A clone computes its base, is on its manifold, has gradients of the predicted form, and stays there."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from tests.torch_experiments.strategies import UNCOUPLED, batch, networks, rounded
from theory.tolerances import float32_identity, float64_identity
from torch_experiments.cloning.chains import cloned_residual, expand, linears, profiles
from torch_experiments.cloning.exact import clone, residuals
from torch_experiments.cloning.layouts import profile
from torch_experiments.lab.experiments.e01_cloning import function_gap
from torch_experiments.lab.models import mlp
from torch_experiments.metrics.layers import backward_scores, forward_scores

MODES = ("equal", "equitable")
factors = st.integers(2, 4)
seeds = st.integers(0, 2**31)


def basis(profile):
    """Return ``Q [units, blocks]`` with ``QᵀQ = I``."""
    Q = torch.zeros(len(profile.block), int(profile.block.max()) + 1, dtype=torch.float64)
    Q[torch.arange(len(profile.block)), profile.block] = profile.scale
    return Q / Q.norm(dim=0)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def worst(model, axes, start=None):
    found = residuals(model, axes, start)
    return max(max(r.rows, r.columns, r.coset if start else 0.0) for r in found)


@given(networks(), factors, st.sampled_from(MODES), seeds)
def test_a_clone_computes_the_function_of_its_base(base, factor, mode, seed):
    x, _ = batch(base)
    assert function_gap(base, clone(base, factor, mode, rng(seed)), x) <= 1e-12


@given(networks(), factors, seeds)
def test_a_clone_computes_the_function_of_its_base_in_training_mode(base, factor, seed):
    x, _ = batch(base)
    twin = clone(base, factor, "equitable", rng(seed))
    f, g = base.train()(x), twin.train()(x)
    assert (f - g).abs().max() <= 1e-12 * f.abs().max()
    for (name, mine), theirs in zip(base.named_buffers(), twin.buffers(), strict=True):
        copied = mine.repeat_interleave(factor) if mine.ndim else mine
        assert torch.allclose(copied, theirs, rtol=1e-12, atol=1e-12), name


@given(networks(dtype=torch.float32), factors, st.sampled_from(MODES))
def test_a_clone_computes_the_function_of_its_base_in_float32(base, factor, mode):
    x, _ = batch(base)
    assert function_gap(base, clone(base, factor, mode, rng()), x) <= float32_identity()


@given(networks(), factors, seeds)
def test_equitable_clones_are_equitable_and_equal_clones_block_constant(base, factor, seed):
    equal, equitable = (cloned_residual(clone(base, factor, m, rng(seed)), factor) for m in MODES)
    assert all(max(r.rows, r.columns, r.coset) <= float64_identity() for r in equal)
    assert all(max(r.rows, r.columns) <= float64_identity() for r in equitable)
    between_hidden = [r.coset for r in equitable[1:-1]]
    assert all(coset > 0.01 for coset in between_hidden)


@given(networks(norms=UNCOUPLED), st.integers(2, 4), seeds)
def test_gradients_on_the_manifold_are_tangent_to_it(base, factor, seed):
    x, y = batch(base)
    twin, axes = clone(base, factor, "equitable", rng(seed)), profiles(base, factor)
    cross_entropy(twin.eval()(x), y).backward()
    for (_, layer), source, target in zip(linears(twin), axes[:-1], axes[1:], strict=True):
        G, Qi, Qj = layer.weight.grad, basis(target), basis(source)
        assert (G - Qi @ (Qi.T @ G @ Qj) @ Qj.T).norm() <= float64_identity() * max(1, float(G.norm()))


@given(networks(norms=("none",), activations=("relu", "leaky_relu")), st.integers(2, 4), seeds)
def test_positive_scales_keep_a_homogeneous_network(base, factor, seed):
    axes = profiles(base, factor, scales="positive", generator=rng(seed))
    twin, (x, y) = expand(base, axes, spread=1.0, generator=rng(seed)), batch(base)
    assert function_gap(base, twin, x) <= 1e-12
    assert worst(twin, axes) <= float64_identity()
    values = [s.value for s in forward_scores(twin, x, axes[1:-1]) + backward_scores(twin, x, y, axes[1:-1])]
    assert all(v == pytest.approx(1, abs=1e-9) for v in values if v == v)


@given(networks(norms=UNCOUPLED, activations=("tanh",)), st.integers(2, 4), seeds)
def test_signs_keep_an_odd_network(base, factor, seed):
    axes = profiles(base, factor, scales="sign", generator=rng(seed))
    twin, (x, _) = expand(base, axes, spread=1.0, generator=rng(seed)), batch(base)
    assert function_gap(base, twin, x) <= 1e-12
    assert all(len(p.scale.unique()) == 2 for p in axes[1:-1])


@pytest.mark.parametrize(("activation", "scales"), [("gelu", "positive"), ("tanh", "positive"), ("relu", "sign")])
def test_scales_change_a_network_that_is_not_equivariant_under_them(activation, scales):
    base = mlp(4, 3, width=5, depth=2, activation=activation, dtype=torch.float64)
    twin = expand(base, profiles(base, 3, scales=scales, generator=rng()))
    assert function_gap(base, twin, batch(base)[0]) > 1e-3


def trained(base, twin, optimizer, steps=200):
    """Train ``twin`` on random data and return its state before."""
    start = {name: value.clone() for name, value in twin.state_dict().items()}
    rule = getattr(torch.optim, optimizer)(twin.parameters(), lr=0.01)
    for step in range(steps):
        x, y = batch(base, seed=step)
        rule.zero_grad()
        cross_entropy(twin(x), y).backward()
        rule.step()
    return start


@pytest.mark.parametrize(
    ("norm", "optimizer"),
    [("none", "SGD"), ("batch", "SGD"), ("layer", "SGD"), ("none", "Adam"), ("layer", "Adam")],
)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("factor", [2, 3])
def test_a_clone_stays_a_clone_in_training(norm, optimizer, mode, factor):
    base = mlp(6, 4, width=5, depth=3, norm=norm, dtype=torch.float64)
    twin = clone(base, factor, mode, rng())
    start = trained(base, twin, optimizer)
    assert worst(twin, profiles(base, factor), start) <= 1e-12
    assert (twin.head.weight - start["head.weight"]).norm() > 0.01


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("dtype", "kept", "parted"), [(torch.float32, 1e-4, 1e-2), (torch.float64, 1e-12, 1e-10)])
def test_before_batch_norm_adam_turns_the_rounding_of_a_bias_into_steps(dtype, kept, parted, mode):
    """The gradient of a bias that BatchNorm removes is rounding alone; Adam divides it by its own size.

    The copies' biases part under Adam and not under SGD, the weights and the activations under neither.
    """
    base = mlp(6, 4, width=5, depth=3, norm="batch", dtype=dtype)
    axes, generator = profiles(base, 3), rng(1)
    found = {}
    for optimizer in ("SGD", "Adam"):
        twin = clone(base, 3, mode, rng())
        removed = [(name, layer) for name, layer in linears(twin) if layer is not twin.head]
        for _, layer in removed:
            layer.bias.register_hook(lambda gradient: rounded(gradient, generator))
        start = trained(base, twin, optimizer)
        found[optimizer] = worst(twin, axes, start)
        for state in (start, twin.state_dict()):
            for name, _ in removed:
                state[f"{name}.bias"].zero_()
        assert worst(twin, axes, start) <= kept
    assert found["SGD"] <= kept
    assert found["Adam"] > parted


def test_the_residuals_are_those_of_the_definition():
    """Compare with sums over blocks, written out, for a network that is nowhere near a clone."""
    model, n = mlp(3, 2, width=6, depth=2, dtype=torch.float64), 3
    found = cloned_residual(model, n)[1]
    W, b = model.linear2.weight.detach(), model.linear2.bias.detach()
    rows = torch.stack([W[:, :3].sum(1) / n**0.5, W[:, 3:].sum(1) / n**0.5, b], dim=1)
    off = torch.cat([rows[:3] - rows[:3].mean(0), rows[3:] - rows[3:].mean(0)])
    assert found.rows == pytest.approx(float(off.norm() / rows.norm()), rel=1e-12)
    columns = torch.stack([W[:3].sum(0), W[3:].sum(0)], dim=1)
    off = torch.cat([columns[:3] - columns[:3].mean(0), columns[3:] - columns[3:].mean(0)])
    whole = columns.square().sum() + b[:3].sum() ** 2 + b[3:].sum() ** 2
    assert found.columns == pytest.approx(float(off.norm() / whole.sqrt()), rel=1e-12)
    constant = W.reshape(2, 3, 2, 3).mean(dim=(1, 3)).repeat_interleave(3, 0).repeat_interleave(3, 1)
    off_b = b - b.reshape(2, 3).mean(1).repeat_interleave(3)
    distance = ((W - constant).square().sum() + off_b.square().sum()).sqrt()
    assert found.coset == pytest.approx(float(distance / (W.square().sum() + b.square().sum()).sqrt()), rel=1e-12)


def test_a_perturbed_clone_is_off_its_manifold():
    twin = clone(mlp(3, 2, width=4, depth=2, dtype=torch.float64))
    start = {name: value.clone() for name, value in twin.state_dict().items()}
    twin.linear2.weight.data[0, 0] += 0.1
    found = cloned_residual(twin, 2, start)
    assert found[1].rows > 1e-3
    assert found[1].columns > 1e-3
    assert found[1].coset > 1e-3
    assert found[0].coset == 0


def test_copies_lie_side_by_side_and_inputs_and_outputs_are_not_copied():
    base = mlp(3, 2, width=4, depth=1)
    axes = profiles(base, 3)
    assert axes[1].block.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert [len(p.block) for p in axes] == [3, 12, 2]
    wide = clone(base, 3)
    assert torch.equal(wide.linear1.weight, base.linear1.weight.repeat_interleave(3, 0))
    assert torch.equal(wide.head.weight, base.head.weight.repeat_interleave(3, 1) / 3)
    assert torch.equal(wide.linear1.bias, base.linear1.bias.repeat_interleave(3))


def test_cloning_leaves_the_base_alone_and_keeps_its_mode():
    base = mlp(3, 2, width=4, depth=2, norm="batch").eval()
    state = {name: value.clone() for name, value in base.state_dict().items()}
    twin = clone(base)
    assert not twin.training
    nn.init.zeros_(twin.linear1.weight)
    twin.norm1.running_mean.fill_(5)
    twin.head.bias.data.fill_(5)
    assert all(torch.equal(state[name], value) for name, value in base.state_dict().items())


def test_layers_without_bias_are_cloned():
    base = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Tanh(), nn.Linear(4, 2, bias=False)).double()
    twin, x = clone(base, 3), torch.randn(5, 3, dtype=torch.float64, generator=rng())
    assert function_gap(base, twin, x) <= 1e-12
    assert all(max(r[1:]) <= float64_identity() for r in cloned_residual(twin, 3, twin.state_dict()))


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (nn.Bilinear(2, 2, 2), TypeError, r"model: got Bilinear; a chain is an nn.Sequential"),
        (nn.Sequential(nn.ReLU()), TypeError, r"without nn.Linear"),
    ],
)
def test_scaled_clones_are_those_of_chains(model, error, message):
    with pytest.raises(error, match=message):
        expand(model, [])


@pytest.mark.parametrize("scales", ["one", "positive", "sign"])
def test_tiled_profiles_are_the_interleaved_ones_permuted(scales):
    base = mlp(3, 2, width=4, depth=2, activation="relu" if scales == "positive" else "tanh", dtype=torch.float64)
    axes = {
        order: profiles(base, 3, scales=scales, order=order, generator=rng()) for order in ("interleaved", "tiled")
    }
    for one, two in zip(*axes.values(), strict=True):
        assert torch.equal(one.scale[one.block.argsort(stable=True)], two.scale[two.block.argsort(stable=True)])
    assert axes["tiled"][1].block.tolist() == 3 * [0, 1, 2, 3]
    x = torch.randn(5, 3, generator=rng(), dtype=torch.float64)
    twin = expand(base, axes["tiled"], spread=1.0, generator=rng())
    assert function_gap(base, twin, x) <= 1e-12
    assert worst(twin, axes["tiled"]) <= 1e-12


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda base: clone(base, 0), r"factor: got 0; it has to be at least 2"),
        (lambda base: clone(base, 1), r"factor: got 1; it has to be at least 2"),
        (lambda base: profile(3, 0), r"factor: got 0; it has to be at least 1"),
        (lambda base: clone(base, 2, "same"), r"mode: got 'same'; allowed are 'equal', 'equitable'"),
        (lambda base: expand(base, profiles(base)[:-1]), r"profiles: got 2; the model needs 3"),
        (lambda base: profile(3, 2, scales="negative"), r"scales: got 'negative'; allowed are 'one'"),
        (lambda base: cloned_residual(base, 3), r"factor: got 3, which does not divide a width of 4"),
    ],
)
def test_a_wrong_argument_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(mlp(3, 2, width=4, depth=1))
