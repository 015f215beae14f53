"""Claim C7 in training: the clone's loss curve is its base's under rates times ``n_j / n_i``, and only then."""

import pytest
import torch

from claims.evidence import witness
from torch_experiments.lab.experiments.e01_cloning import Config, load_task, train_base
from torch_experiments.lab.images import pixels
from torch_experiments.lab.models import mlp
from torch_experiments.lab.quotient import base_rates, loss_curves

STEPS = 500


@pytest.fixture(scope="module")
def data():
    return pixels.load("digits").floats(torch.float64)


def batches(data, steps=STEPS, size=32):
    order = torch.Generator().manual_seed(0)
    index = torch.randint(len(data.train_y), (steps, size), generator=order)
    return [(data.train_x[i], data.train_y[i]) for i in index]


def gap(curves):
    base, twin = curves
    return float(((base - twin) / base).abs().max())


def network(norm="none", activation="relu"):
    return mlp(64, 10, width=16, depth=3, norm=norm, activation=activation, dtype=torch.float64)


@pytest.mark.claim("C7", "training")
@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("factor", [2, 3])
def test_a_clone_follows_its_base_with_the_quotient_rates(data, norm, factor):
    curves = loss_curves(network(norm), batches(data), factor=factor, lr=0.05)
    assert gap(curves) <= 1e-9
    assert curves[0][-50:].mean() < 0.7 * curves[0][0]
    witness(residual=gap(curves), instances=STEPS)


@pytest.mark.control("C7")
def test_with_uniform_rates_the_curves_part(data):
    curves = loss_curves(network(), batches(data), lr=0.05, rates="uniform")
    assert gap(curves) > 0.01
    assert curves[0][0] == pytest.approx(float(curves[1][0]), rel=1e-12)
    witness(residual=gap(curves), instances=STEPS)


@pytest.mark.claim("C7", "training")
def test_a_trained_base_is_followed_as_well(data):
    config = Config(arch_settings=(("width", 32),), base_epochs=3, dtype="float64")
    base = train_base(config, 0, load_task(config))
    curves = loss_curves(base, batches(data), factor=2, lr=0.01)
    assert gap(curves) <= 1e-9
    witness(residual=gap(curves), instances=STEPS)


def test_the_rates_are_ratios_of_block_sizes():
    groups = base_rates(mlp(3, 2, width=4, depth=2, norm="batch"), 3, lr=6.0)
    weights_biases_and_norms = [2.0, 2.0, 2.0, 2.0, 6.0, 2.0, 2.0, 2.0, 18.0, 6.0]
    assert [group["lr"] for group in groups] == pytest.approx(weights_biases_and_norms)


def test_unknown_rates_are_named():
    with pytest.raises(ValueError, match=r"rates: got 'fast'; allowed are 'quotient', 'uniform'"):
        loss_curves(network(), [], rates="fast")


def test_the_base_is_left_alone(data):
    base = network("batch")
    before = {name: value.clone() for name, value in base.state_dict().items()}
    loss_curves(base, batches(data, steps=3))
    assert all(torch.equal(before[name], value) for name, value in base.state_dict().items())
