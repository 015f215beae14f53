"""Copies that train while the originals stay as they are."""

import pytest
import torch
from torch import nn

from torch_experiments import remedies
from torch_experiments.certificates.audit import audit
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
