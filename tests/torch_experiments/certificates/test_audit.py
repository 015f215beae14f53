import copy

import pytest
import torch
from torch import nn

import lop
from torch_experiments import certify, clone
from torch_experiments.certificates.audit import audit


def planted(dtype=torch.float64):
    """Return a network with a unit that is dead for all data, one that is dead on the batch, and a batch."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)).to(dtype)
    with torch.no_grad():
        model[2].weight[0], model[2].bias[0], model[0].bias[3] = -0.1, -0.1, -100.0
    return model, torch.randn(64, 6).to(dtype), torch.randn(64, 3).to(dtype)


RULES = {
    "SGD": ({"lr": 0.1}, "kept"),
    "Adam": ({}, "kept"),
    "AdamW": ({}, "left"),
    "LBFGS": ({"lr": 0.1, "max_iter": 2}, "kept"),
}


@pytest.mark.parametrize("name", RULES)
def test_every_sentence_is_followed_by_real_steps_and_nothing_of_the_original_moves(name):
    settings, promised = RULES[name]
    model, x, y = planted()
    optimizer = getattr(torch.optim, name)(model.parameters(), **settings)
    before = copy.deepcopy(model.state_dict())
    found = audit(model, x, optimizer, targets=y, steps=12)
    assert found.held, str(found)
    assert found.steps == 12
    assert found.after < found.before
    assert {f.promised for f in found.findings if f.about == "frozen"} == {promised}
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert not optimizer.state
    assert all(p.grad is None for p in model.parameters())


def test_a_sentence_that_is_false_is_found():
    model, x, y = planted()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    certificate = certify(model, x, optimizer, targets=y, parts=("frozen", "optimizer"))
    optimizer.param_groups[0]["weight_decay"] = 0.1  # the certificate does not know of it
    found = audit(model, x, optimizer, targets=y, steps=3, certificate=certificate)
    (wrong,) = [f for f in found.findings if f.held is False]
    assert (wrong.about, wrong.promised, wrong.steps) == ("frozen", "kept", 1)
    said = str(found)
    assert "DID NOT HOLD frozen: " in said
    assert "(promised: kept; 1 step, off by at most " in said
    assert said.count("\non this machine: float64 on cpu, 3 real steps") == 1


def test_copies_that_noise_parts_are_found_and_those_of_adam_stay():
    base, x, y = planted()
    twin = clone(base, 2, example_inputs=x)
    optimizer = torch.optim.Adam(twin.parameters())
    found = audit(twin, x, optimizer, targets=y, steps=8)
    assert found.held
    assert {f.about for f in found.findings} >= {"clones", "coset"}
    certificate = certify(twin, x, optimizer, targets=y, parts=("frozen", "optimizer"))
    draw = torch.Generator().manual_seed(0)

    def noisy(own, *_):
        for group in own.param_groups:
            for p in group["params"]:
                p.grad += 0.1 * torch.randn(p.shape, generator=draw, dtype=p.dtype)

    optimizer.register_step_pre_hook(noisy)
    found = audit(twin, x, optimizer, targets=y, steps=8, certificate=certificate)
    assert [f.held for f in found.findings if f.about == "clones"] == [False]


def test_units_that_training_revives_are_not_called_kept():
    class Revived(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.v, self.y1, self.y2 = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 1), nn.Linear(4, 1)

        def forward(self, x):
            h = self.a(x).relu()
            return self.y1(h) + self.y2(self.v(h).relu())

    torch.manual_seed(0)
    model, x = Revived().double(), torch.rand(64, 3).double()
    with torch.no_grad():
        model.a.weight.fill_(0.5)
        model.v.weight[0], model.v.bias[0] = 1.0, -6.0
        model.y1.weight.fill_(0.2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    found = audit(model, x, optimizer, targets=4 * torch.ones(64, 1).double(), steps=20)
    (frozen,) = [f for f in found.findings if f.about == "frozen"]
    assert frozen.promised == "unknown"
    assert frozen.size > 0, "it revives, so kept would be false"
    assert found.held


def test_waiting_gradients_and_divergence_are_told():
    model, x, y = planted()
    (model(x) - y).square().mean().backward()
    found = audit(model, x, torch.optim.SGD(model.parameters(), 0.1), targets=y, steps=2)
    assert any("waited in .grad" in note for note in found.notes)
    found = audit(model, x, torch.optim.SGD(model.parameters(), 1e300), targets=y, steps=9)
    assert any("diverged" in note for note in found.notes)
    assert found.steps < 9


def test_wrong_arguments_are_refused():
    model, x, _ = planted()
    with pytest.raises(ValueError, match="steps"):
        lop.audit(model, x, torch.optim.SGD(model.parameters(), 0.1), steps=0)
    with pytest.raises(ValueError, match="no parameter of the model"):
        lop.audit(model, x, torch.optim.SGD(nn.Linear(1, 1).parameters(), 0.1))
