"""Hooks on the steps of one optimizer, and of the one inside of a wrapper."""

from typing import Any

import pytest
import torch
from torch import nn

from torch_experiments.support.steps import Steps, after_steps, inner


class Wrapper(torch.optim.Optimizer):
    """As Accelerate and Lightning wrap an optimizer: without hooks of its own."""

    def __init__(self, optimizer):
        self.optimizer = optimizer
        self.param_groups = optimizer.param_groups

    def step(self, closure=None):
        return self.optimizer.step(closure)


def one():
    weight = nn.Parameter(torch.zeros(1))
    weight.grad = torch.ones(1)
    return weight


def test_hooks_leave_positional_arguments_after_the_closure():
    class Loud(torch.optim.SGD):
        def step(self, closure: Any = None, loud: int = 0) -> Any:  # type: ignore[override]
            heard.append(loud)
            return super().step(closure)

    heard: list[int] = []
    calls: list[str] = []
    optimizer = Loud([one()], lr=0.1)
    Steps(lambda: calls.append("edit"), lambda: calls.append("after")).register(optimizer)
    optimizer.step(lambda: torch.zeros(()), 3)
    assert (heard, calls) == ([3], ["edit", "after"])


def test_the_optimizer_inside_of_wrappers_is_found():
    sgd = torch.optim.SGD([one()])
    assert inner(Wrapper(Wrapper(sgd))) is sgd


def test_steps_of_all_optimizers_are_followed_as_long_as_the_block_lasts():
    first, second, calls = torch.optim.SGD([one()]), torch.optim.Adam([one()]), []
    with after_steps([Wrapper(first), second], lambda: calls.append("step")):
        first.step()
        second.step(lambda: torch.zeros(()))
        torch.optim.SGD([one()]).step()
    first.step()
    assert calls == ["step", "step"]


def test_hooks_go_when_a_block_fails():
    sgd, calls = torch.optim.SGD([one()]), []
    with pytest.raises(KeyError), after_steps([sgd], lambda: calls.append("step")):
        raise KeyError
    sgd.step()
    assert not calls


@pytest.mark.parametrize("given", ["adam", None, [torch.zeros(1)]])
def test_what_takes_no_steps_is_refused_by_name(given):
    with pytest.raises(TypeError, match=r"optimizer: .* register_step_post_hook"), after_steps([given], print):
        pass
