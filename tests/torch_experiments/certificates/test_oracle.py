import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from torch_experiments.certificates.oracle import draws, left_alone, reach


def mlp(*, dtype=torch.float64):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)).to(dtype)


def batch(dtype=torch.float64):
    return torch.randn(8, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


def test_what_is_reached_is_what_backward_reaches():
    model, x = mlp(), batch()
    with torch.no_grad():
        model[0].bias[1] = -50
    found = reach(model, x)
    model(x).sum().backward()
    for name, p in model.named_parameters():
        assert torch.equal(found.masks[name], p.grad != 0)
    assert not found.masks["0.weight"][1].any()
    assert found.custom == found.refused == ""


def test_a_loss_is_used_where_there_is_one():
    model, x = mlp(), batch()
    found = reach(model, x, lambda output: output[:, 0].square().mean())
    assert found.masks["2.bias"].tolist() == [True, False]
    assert "the loss" in found.passes


def test_gradients_buffers_modes_and_random_numbers_stay():
    model = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, 2)).double()
    model[0].weight.grad = kept = torch.ones_like(model[0].weight)
    mean, state = model[1].running_mean.clone(), torch.get_rng_state()
    found = reach(model, batch())
    assert model.training
    assert draws(model)
    assert torch.equal(model[1].running_mean, mean)
    assert torch.equal(torch.get_rng_state(), state)
    assert model[0].weight.grad is kept
    assert model[3].weight.grad is None
    assert "3 forward passes" in found.passes
    assert not draws(model.eval())


def test_stopped_gradients_are_told_from_zero_ones():
    class Stopped(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.body(x).detach())

    assert reach(Stopped().double(), batch()).stopped == {"body.weight", "body.bias"}


def test_a_backward_pass_of_its_own_is_named():
    model = mlp()
    model[1].register_full_backward_hook(lambda *_: None)
    assert "hook on 1" in reach(model, batch()).custom

    class Own(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.view_as(x)

        @staticmethod
        def backward(ctx, g):
            return 2 * g

    class Layer(nn.Module):
        def forward(self, x):
            return Own.apply(x)

    assert "Own" in reach(nn.Sequential(mlp(), Layer()), batch()).custom


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_networks_are_followed(reentrant):
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.rest = nn.Linear(3, 5), nn.Linear(5, 2)

        def forward(self, x):
            return checkpoint(self.rest, self.first(x), use_reentrant=reentrant)

    found = reach(Checkpointed().double(), batch())
    assert all(bool(mask.all()) for mask in found.masks.values())
    assert not found.custom


def test_low_precision_and_inference_tensors_are_taken():
    model = mlp(dtype=torch.bfloat16)
    with torch.inference_mode():
        found = reach(model, batch(torch.bfloat16))
    assert not found.refused
    assert found.masks["2.bias"].all()


def test_a_network_without_a_gradient_is_refused_with_the_reason():
    assert "no parameter is trained" in reach(mlp().requires_grad_(False), batch()).refused

    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(3, 2)

        def forward(self, x):
            return self.a(x).detach()

    assert "carries no gradient" in reach(Cut().double(), batch()).refused


def test_left_alone_restores_after_an_error():
    model = nn.BatchNorm1d(3).double()
    kept = model.running_mean.clone()

    def fail():
        with left_alone(model):
            model(batch())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.equal(model.running_mean, kept)
