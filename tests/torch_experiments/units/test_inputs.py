"""Inputs in any nesting, slices of them, and the first module that is not finite."""

import pytest
import torch
from torch import nn

from torch_experiments.units.inputs import (
    call,
    each,
    evaluating,
    finite,
    first_samples,
    flatten,
    is_examples,
    not_finite,
    sample_count,
    samples_between,
)

NAN, INF = float("nan"), float("inf")


class Block(nn.Module):
    """A module that overflows by itself, with modules before and after that do not."""

    def __init__(self, scale=INF):
        super().__init__()
        self.before, self.after, self.scale = nn.Linear(2, 3), nn.Linear(3, 2), scale

    def forward(self, x):
        return self.scale * self.before(x).square().add(1)


class Two(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.block, self.head = Block(scale), nn.Linear(3, 1)

    def forward(self, x):
        return self.head(self.block(x))


@pytest.mark.parametrize(("scale", "found"), [(INF, "block"), (NAN, "block"), (1.0, "")])
def test_the_first_module_that_is_not_finite_is_the_innermost_that_returns_it(scale, found):
    assert not_finite(Two(scale), torch.ones(4, 2)) == found


def test_looking_for_it_leaves_modes_hooks_and_gradients_alone():
    model = Two(INF).train()
    model.head.eval()
    not_finite(model, torch.ones(4, 2))
    with pytest.raises(RuntimeError):
        not_finite(model, torch.ones(4, 3))
    assert (model.training, model.block.training, model.head.training) == (True, True, False)
    assert not any(m._forward_hooks for m in model.modules())
    assert all(p.grad is None for p in model.parameters())


def test_attention_is_looked_into():
    """Fused kernels of an encoder layer in eval mode would hide the modules within."""
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True).eval()
    layer.linear1.bias.data[0] = NAN
    assert not_finite(layer, torch.ones(2, 3, 4)) == "linear1"


@pytest.mark.parametrize(
    ("item", "known"),
    [
        (torch.ones(2), True),
        (torch.tensor([1, 2]), True),
        ({"a": [torch.ones(1), torch.tensor(INF)]}, False),
        (torch.tensor([complex(0, NAN)]), False),
        ([None, "text", 3.0], True),
    ],
)
def test_finite_looks_at_all_numbers_of_all_tensors(item, known):
    assert finite(item) == known


def test_nested_inputs_keep_their_shape():
    given = {"x": (torch.zeros(5, 2), [torch.zeros(5)]), "scale": 2.0, "none": None}
    found = each(given, lambda x: x + 1)
    assert isinstance(found["x"], tuple)
    assert isinstance(found["x"][1], list)
    assert (found["scale"], found["none"]) == (2.0, None)
    assert [float(x.sum()) for x in flatten(found)] == [10, 5]


def test_samples_are_slices_and_what_shares_no_axis_stays_whole():
    x, y = torch.arange(9.0).reshape(9, 1), torch.arange(9)
    assert [len(t) for t in flatten(samples_between([x, y], 2, 5))] == [3, 3]
    assert torch.equal(first_samples([x, y], 7)[1], y[:7])
    for given in (x[:3], [x, y[:4]]):
        assert first_samples(given, 7) is given
    assert (sample_count(torch.tensor(1.0)), sample_count([])) == (0, 0)


def test_a_model_is_called_with_a_tensor_positions_or_keywords():
    model, x = nn.Bilinear(2, 2, 1), torch.ones(3, 2)
    assert torch.equal(call(model, [x, x]), call(model, {"input1": x, "input2": x}))


def test_modes_come_back_after_an_error():
    model = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
    with pytest.raises(RuntimeError), evaluating(model):
        nn.Linear(2, 1)(torch.ones(1, 3))
    assert [m.training for m in model] == [True, False]


class Tasked(nn.Module):
    def forward(self, x, task=0):
        return x + task


class Paired(nn.Module):
    def forward(self, pair):
        return pair[0] + pair[1]


@pytest.mark.parametrize(
    ("model", "several"),
    [
        (Tasked(), lambda x: [(x, 0), (x, 1)]),
        (Tasked(), lambda x: [{"x": x}, (x,), {"x": x, "task": 2}]),
        (nn.Identity(), lambda x: [x, x]),
    ],
)
def test_a_list_of_examples_is_called_one_by_one(model, several):
    x = torch.ones(3, 2)
    assert is_examples(model, several(x))
    found = call(model, several(x))
    assert [len(y) for y in found] == [3] * len(found)
    assert all(torch.equal(y, call(model, one)) for y, one in zip(found, several(x), strict=True))


@pytest.mark.parametrize(
    ("model", "given"),
    [
        (nn.Bilinear(2, 2, 1), lambda x: [x, x]),
        (nn.MultiheadAttention(2, 1), lambda x: [x, x, x]),
        (nn.LSTM(2, 2), lambda x: [x, (x[:1, :2], x[:1, :2])]),
        (Paired(), lambda x: [(x, x)]),
        (Tasked(), lambda x: (x, 1)),
        (Tasked(), lambda x: [x]),
    ],
)
def test_a_list_of_positional_arguments_stays_one(model, given):
    x = torch.ones(3, 2)
    assert not is_examples(model, given(x))
    assert not isinstance(call(model, given(x)), list)


def test_what_a_network_raises_is_noted_with_its_inputs():
    for inputs, said in ((torch.ones(5, 3), "(5, 3) float32"), ({"input": torch.ones(2, 3)}, "(2, 3) float32")):
        with pytest.raises(RuntimeError) as caught:
            call(nn.Linear(4, 2), inputs)
        assert caught.value.__notes__ == [f"inputs: Linear was called with {said}; does it run on them?"]
