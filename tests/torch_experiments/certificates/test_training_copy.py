"""Copies that train while the originals stay as they are."""

import pytest
import torch
from torch import nn

from torch_experiments import remedies
from torch_experiments.certificates.audit import audit
from torch_experiments.certificates.oracle import reach
from torch_experiments.certificates.training_copy import TrainingCopy, copied


def test_copies_of_optimizers_keep_hooks_state_and_schedules():
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    calls = []
    optimizer.register_step_post_hook(lambda own, *_: calls.append(own))
    plan = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    twin, rule, (schedule,), notes = copied(model, optimizer, [plan])
    assert not notes
    twin(torch.ones(1, 2)).sum().backward()
    rule.step()
    assert calls == [rule]
    assert schedule.optimizer is rule
    assert set(rule.param_groups[0]["params"]) == set(twin.parameters())
    assert optimizer.state == {}


def test_gradients_after_a_step_are_those_of_where_it_began():
    model, x = nn.Linear(2, 1), torch.randn(9, 2)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4)
    run = TrainingCopy(model, optimizer, (), x, lambda y: (y - 3).square().mean())
    for _ in range(2):
        expected = torch.autograd.grad((run.model(x) - 3).square().mean(), list(run.model.parameters()))
        assert run.step()
        assert all(torch.equal(p.grad, g) for p, g in zip(run.model.parameters(), expected, strict=True))


def test_hooks_that_hold_the_original_are_left_out_and_named():
    model, x, y = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), torch.randn(64, 6), torch.randn(64, 3)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def spoil(*_):
        model[0].weight.data.zero_()

    optimizer.register_step_post_hook(spoil)
    found = audit(model, x, optimizer, targets=y, steps=2)
    assert model[0].weight.any()
    assert any("spoil" in note for note in found.notes)


def test_hooks_that_hold_the_original_at_a_distance_are_left_out_too():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)), torch.randn(8, 3)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    bound = remedies.L2Init(0.1).on(model, optimizer).attach()
    found = audit(model, x, optimizer, steps=3)
    assert bound.steps == 0
    assert all(p.grad is None for p in model.parameters())
    assert sum("holds the network itself" in note for note in found.notes) == 2


def test_a_step_that_was_replaced_by_one_of_the_original_is_refused():
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    plain = optimizer.step
    optimizer.step = lambda closure=None: plain(closure)
    before = model.weight.detach().clone()
    with pytest.raises(ValueError, match="its step was replaced by a function that holds the original"):
        audit(model, torch.randn(4, 3), optimizer, steps=2)
    assert torch.equal(model.weight, before)


class Counted(nn.Module):
    """A network that counts its passes."""

    def __init__(self, *layers):
        super().__init__()
        self.layers, self.passes = nn.Sequential(*layers), 0

    def forward(self, x):
        self.passes += 1
        return self.layers(x)


def begun(model, optimizer, x):
    """Return copies that took two steps: one that was told the gradients of the first, and one that was not."""

    def loss(y):
        return y.square().mean()

    known = reach(model, x, loss).gradients
    runs = [TrainingCopy(model, optimizer, (), x, loss) for _ in range(2)]
    runs[0].begin_with(known)
    for run in runs:
        run.model.passes = 0
        assert run.step()
        assert run.step()
    return runs


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("rule", [torch.optim.SGD, torch.optim.Adam, torch.optim.Adafactor, torch.optim.Rprop])
def test_a_first_step_with_known_gradients_is_the_step_to_the_bit_and_runs_no_pass(rule, waits):
    torch.manual_seed(0)
    x = torch.randn(16, 3)
    middle = nn.GELU(), nn.Unflatten(1, (2, 4)), nn.LayerNorm(4), nn.Flatten()
    model = Counted(nn.Linear(3, 8), *middle, nn.Linear(8, 2))
    if waits:  # as after a step of a loop that clears gradients at its head
        model(x).sum().backward()
    told, untold = begun(model, rule(model.parameters(), 0.1), x)
    assert (told.model.passes, untold.model.passes) == (1, 2)
    for p, q in zip(told.model.parameters(), untold.model.parameters(), strict=True):
        assert torch.equal(p, q)
        assert torch.equal(p.grad, q.grad)


@pytest.mark.parametrize(
    ("layer", "rule"),
    [(nn.BatchNorm1d(4), torch.optim.SGD), (nn.Identity(), torch.optim.LBFGS)],
    ids=["buffers", "closure"],
)
def test_a_first_step_that_needs_more_than_gradients_runs_as_ever(layer, rule):
    torch.manual_seed(0)
    model = Counted(nn.Linear(3, 4), layer, nn.Linear(4, 2))
    told, untold = begun(model, rule(model.parameters(), 0.1), torch.randn(16, 3))
    assert told.model.passes == untold.model.passes
    for p, q in zip(told.model.parameters(), untold.model.parameters(), strict=True):
        assert torch.equal(p, q)


def test_sparse_gradients_are_taken_from_a_pass():
    model = Counted(nn.Embedding(5, 3, sparse=True))
    told, untold = begun(model, torch.optim.SparseAdam(model.parameters(), 0.1), torch.tensor([[0, 2]]))
    assert told.model.passes == untold.model.passes == 2
