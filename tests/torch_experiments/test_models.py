"""The networks: order of modules, reproducible weights, errors."""

import pytest
import torch
from torch import nn

from torch_experiments.models import ACTIVATIONS, mlp


def test_the_blocks_are_linear_norm_activation_dropout():
    kinds = [type(m) for m in mlp(12, 3, width=4, depth=2, norm="batch", dropout=0.1)]
    block = [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Dropout]
    assert kinds == [nn.Flatten, *block, *block, nn.Linear]


def test_the_default_is_five_layers_of_128_on_images():
    model = mlp(3 * 8 * 8, 10)
    widths = [m.out_features for m in model if isinstance(m, nn.Linear)]
    assert widths == [128] * 5 + [10]
    assert model(torch.zeros(2, 3, 8, 8)).shape == (2, 10)


def test_weights_depend_on_the_seed_alone():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    one, same, other = (mlp(4, 2, width=3, depth=1, seed=s).linear1.weight for s in (7, 7, 8))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(before, torch.random.get_rng_state())


def test_weights_are_those_of_torch_in_law():
    layer = mlp(100, 2, width=400, depth=1).linear1
    assert layer.weight.abs().max() <= 0.1
    assert layer.weight.detach().std() == pytest.approx(0.1 / 3**0.5, rel=0.02)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_is_one_argument_away(activation):
    model = mlp(4, 2, width=3, depth=1, activation=activation, norm="layer", affine=False)
    assert type(model.act1) is ACTIVATIONS[activation]
    assert model.norm1.weight is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"norm": "group"}, r"norm: got 'group'; allowed are 'none', 'batch', 'layer'"),
        ({"activation": "rleu"}, r"activation: got 'rleu'; allowed are .*'relu'"),
        ({"depth": 0}, r"depth: got 0; it has to be at least 1"),
        ({"width": -1}, r"width: got -1"),
    ],
)
def test_a_wrong_argument_is_named(given, message):
    with pytest.raises(ValueError, match=message):
        mlp(4, 2, **given)
