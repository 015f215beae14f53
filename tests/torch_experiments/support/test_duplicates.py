"""Networks whose weights are computed by hooks are copied after passes with gradients, as others are."""

import copy

import pytest
import torch
from torch import nn

from torch_experiments.support.duplicates import duplicate


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
