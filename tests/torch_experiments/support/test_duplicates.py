"""Networks whose weights are computed by hooks are copied after passes with gradients, as others are."""

import copy

import pytest
import torch
from torch import nn

from torch_experiments.support.duplicates import duplicate, for_weights


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.parametrize("wrap", [nn.utils.weight_norm, nn.utils.spectral_norm])
def test_a_network_is_copied_after_a_pass_and_the_copy_is_its_own(wrap):
    model, x = nn.Sequential(wrap(nn.Linear(3, 4)), nn.ReLU(), nn.Linear(4, 2)).eval(), torch.randn(5, 3)
    model[0].train()
    model(x).sum().backward()
    with pytest.raises(RuntimeError, match="graph leaves"):
        copy.deepcopy(model)
    other = duplicate(model).eval()
    model.eval()
    assert torch.equal(other(x), model(x))
    own = {p.data_ptr() for p in model.parameters()}
    assert not own & {p.data_ptr() for p in other.parameters()}
    before = model(x).detach()
    with torch.no_grad():
        for p in other.parameters():
            p.add_(1)
    assert not torch.allclose(other(x), before)
    assert torch.equal(model(x), before)


def test_what_is_made_once_and_not_in_every_pass_is_not_cut_off():
    model = nn.Linear(2, 1)
    model.scale = model.bias * 2
    with pytest.raises(RuntimeError, match="graph leaves"):
        duplicate(model)


class Noting(nn.Module):
    """A module that keeps its last output, as it is, in a container and in an object, as policies do."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x):
        self.last = self.layer(x)
        self.all = {"last": [self.last]}
        self.distribution = torch.distributions.Categorical(logits=self.last)
        return self.last


def test_parameters_are_copied_whatever_a_module_has_noted():
    model, x = Noting(), torch.randn(4, 3)
    model(x)
    with pytest.raises(RuntimeError, match="graph leaves"):
        duplicate(model)
    other = for_weights(model)
    assert torch.equal(other.layer.weight, model.layer.weight)
    assert other.layer.weight is not model.layer.weight
    assert other.all["last"][0] is other.last
    assert not other.distribution.logits.requires_grad
    assert model.last.requires_grad


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.parametrize("wrap", [nn.utils.weight_norm, nn.utils.spectral_norm])
def test_parameters_behind_computed_weights_are_copied(wrap):
    model = nn.Sequential(wrap(nn.Linear(3, 4)))
    model(torch.randn(5, 3)).sum().backward()
    named = dict(model.named_parameters())
    assert {name: p.shape for name, p in for_weights(model).named_parameters()} == {
        n: p.shape for n, p in named.items()
    }
