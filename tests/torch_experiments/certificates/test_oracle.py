import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from torch_experiments import certify, clone
from torch_experiments.certificates import oracle
from torch_experiments.certificates.certificate import copies
from torch_experiments.certificates.oracle import draws, left_alone, reach, unread_outputs


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

    model = Checkpointed().double()
    found = reach(model, batch())
    assert all(bool(mask.all()) for mask in found.masks.values())
    assert not found.custom
    with torch.no_grad():
        model.first.weight[1] = model.first.bias[1] = 0  # so that columns of `rest` are left for the second pass
    marks = [torch.ones_like(p) for p in model.parameters()]
    for p, mark in zip(model.parameters(), marks, strict=True):
        p.grad = mark
    found = reach(model, batch())
    assert not found.masks["rest.weight"][:, 1].any()
    assert all(
        p.grad is mark and bool((mark == 1).all()) for p, mark in zip(model.parameters(), marks, strict=True)
    )


@pytest.mark.parametrize("frozen", [False, True])
def test_gradients_that_are_not_kept_are_computed_again(monkeypatch, frozen):
    def model():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 2)).double()
        with torch.no_grad():
            net[0].bias[1] = -50 if frozen else 0
        return net

    kept = reach(model(), batch())
    monkeypatch.setattr(oracle, "KEPT", 0)
    net = model()
    found = reach(net, batch())
    assert not found.gradients
    again = found.gradients_of(["3.weight", "0.bias"])
    assert list(again) == ["3.weight", "0.bias"]
    assert all(torch.equal(again[name], kept.gradients[name]) for name in again)
    assert found.masks.keys() == kept.masks.keys()
    assert all(torch.equal(found.masks[name], kept.masks[name]) for name in found.masks)
    assert all(p.grad is None for p in net.parameters())
    assert found.gradients_of([]) == {}


def test_certificates_are_the_same_where_gradients_are_not_kept(monkeypatch):
    wide, x = clone(mlp(), 2), batch()
    optimizer = torch.optim.Adam(wide.parameters())
    before = certify(wide, x, optimizer).to_dict()
    monkeypatch.setattr(oracle, "KEPT", 0)
    after = certify(wide, x, optimizer).to_dict()
    assert before | {"seconds": 0} == after | {"seconds": 0}


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


def test_an_overflowing_gradient_is_named():
    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 1))
    with torch.no_grad():
        net[0].weight.fill_(1e-25)
        net[2].weight.fill_(1e25)
    x = torch.full((4, 3), 1e25)
    assert reach(net, x).overflow == ("0.weight",)
    assert any(
        "NaN or infinity" in note and "0.weight" in note for note in certify(net, x, parts=("frozen",)).notes
    )


class Pair(nn.Module):
    """Returns what it computes and the hidden units that it computes it from."""

    def __init__(self):
        super().__init__()
        self.first, self.out = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x):
        h = torch.tanh(self.first(x))
        return {"logits": self.out(h), "hidden": h}


@pytest.mark.parametrize(
    ("loss", "unread"),
    [
        (None, set()),
        (lambda output: output["logits"].square().mean(), {1}),
        (lambda output: output["hidden"][:, 0].mean(), {0}),
        (lambda output: output["logits"].mean() + output["hidden"].mean(), set()),
    ],
)
def test_outputs_that_the_loss_does_not_read_are_told(loss, unread):
    assert unread_outputs(Pair(), torch.randn(5, 4), loss) == unread


def test_a_loss_that_the_network_returns_is_read():
    class WithLoss(Pair):
        def forward(self, x):
            found = super().forward(x)
            return found["logits"], found["logits"].square().mean()

    assert unread_outputs(WithLoss(), torch.randn(5, 4), lambda output: output[1]) == {0}


def test_units_that_are_returned_beside_what_the_loss_reads_may_be_copies():
    torch.manual_seed(0)
    net, x = Pair().double(), torch.randn(9, 4).double()
    with torch.no_grad():
        net.first.weight[3], net.first.bias[3] = net.first.weight[1], net.first.bias[1]
        net.out.weight[:, 3] = net.out.weight[:, 1]
    read = certify(net, x, loss=lambda output: output["logits"].square().mean(), parts=())
    also = certify(net, x, loss=lambda output: output["logits"].mean() + output["hidden"].square().mean(), parts=())
    assert read.dimension == read.parameters - 7
    assert copies(read.blocks)["first"]["copies"] == [[1, 3]]
    assert also.dimension == also.parameters  # the loss tells the two apart
    before = net.first.weight[[1, 3]].clone()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for _ in range(5):
        optimizer.zero_grad()
        net(x)["logits"].square().mean().backward()
        optimizer.step()
    assert torch.equal(net.first.weight[1], net.first.weight[3])
    assert not torch.equal(net.first.weight[[1, 3]], before)


class Region(nn.Module):
    """Regions that are recomputed on the way back, beside layers that keep tensors; ``b`` may be ``a``."""

    def __init__(self, shared, sign=1):
        super().__init__()
        self.i, self.a, self.h, self.sign = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 3), sign
        self.b = self.a if shared else nn.Linear(4, 4)

    def forward(self, x):
        x = torch.tanh(self.i(x))
        if self.sign < 0:
            x = checkpoint(self.a, x, use_reentrant=True) - checkpoint(self.b, x, use_reentrant=True)
        else:
            x = checkpoint(lambda t: torch.tanh(self.a(t)), x, use_reentrant=True)
            x = checkpoint(lambda t: torch.tanh(self.b(t)), x, use_reentrant=True) + self.a(x)
        return torch.tanh(self.h(x))


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # of passes without gradients
@pytest.mark.parametrize("with_loss", [False, True])
@pytest.mark.parametrize(("shared", "sign"), [(False, 1), (True, 1), (True, -1)])
def test_regions_that_share_weights_have_the_gradients_of_backward(shared, sign, with_loss):
    torch.manual_seed(0)
    model, x = Region(shared, sign).double(), batch()

    def loss(output):
        return output.square().sum()

    found = reach(model, x, loss if with_loss else None)
    loss(model(x)).backward()
    for name, p in model.named_parameters():
        assert torch.equal(found.masks[name], p.grad != 0)
        if with_loss:
            torch.testing.assert_close(found.gradients[name], p.grad)
    certify(model, x, torch.optim.SGD(model.parameters(), 0.1), targets=torch.zeros(8, 3).double())


def test_an_optimizer_in_the_backward_pass_is_not_run():
    model, x = Region(False).double(), batch()
    before = [p.detach().clone() for p in model.parameters()]
    rules = {p: torch.optim.SGD([p], 0.1) for p in model.parameters()}
    for p in model.parameters():
        p.register_post_accumulate_grad_hook(lambda q: rules[q].step())
    assert "would run the hooks (an optimizer, say) of i.weight" in reach(model, x).refused
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    plain = mlp()
    for p in plain.parameters():
        p.register_post_accumulate_grad_hook(lambda q: pytest.fail("ran"))
    assert not reach(plain, x).refused
