"""What is edited behind a closure is edited after each of its evaluations."""

import pytest
import torch
from torch import nn

from torch_experiments.support.closures import with_edit


@pytest.mark.parametrize("named", [False, True])
def test_a_closure_is_followed_by_the_edit_and_keeps_its_result(named):
    calls = []
    closure = lambda: calls.append("closure") or 3.0  # noqa: E731
    args, kwargs = (("optimizer",), {"closure": closure, "x": 1}) if named else (("optimizer", closure, 1), {})
    changed, others = with_edit(args, kwargs, lambda: calls.append("edit"))
    edited = others["closure"] if named else changed[1]
    assert (edited(), edited()) == (3.0, 3.0)
    assert calls == ["closure", "edit"] * 2
    assert (changed[0], others["x"] if named else changed[2]) == ("optimizer", 1)


@pytest.mark.parametrize(("args", "kwargs"), [(("o",), {}), (("o", None), {}), (("o",), {"closure": None})])
def test_without_a_closure_nothing_is_changed(args, kwargs):
    assert with_edit(args, kwargs, print) is None


def test_the_gradients_of_lbfgs_are_edited_in_every_evaluation():
    weight, seen = nn.Parameter(torch.ones(1)), []
    optimizer = torch.optim.LBFGS([weight], lr=0.1, max_iter=4)
    optimizer.register_step_pre_hook(lambda _, args, kwargs: with_edit(args, kwargs, lambda: seen.append(1)))

    def closure():
        optimizer.zero_grad()
        loss = (weight**4).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert len(seen) == optimizer.state[weight]["func_evals"] > 1
