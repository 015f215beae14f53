"""Saturated softmaxes of policies and attention are named, others are not; what rounding makes of them (F4)."""

import pytest
import torch
from torch import distributions, nn

from torch_experiments import certify
from torch_experiments.certificates.frozen.softmaxes import Softmax, sentences


class Policy(nn.Module):
    """Four actions, by their logits."""

    def __init__(self, size):
        super().__init__()
        self.body, self.head, self.size = nn.Linear(3, 8), nn.Linear(8, 4), size

    def forward(self, x):
        h = torch.tanh(self.body(x))
        return distributions.Categorical(logits=self.size * self.head(h)).logits


class Chosen(Policy):
    def forward(self, x):
        return (self.size * self.head(torch.tanh(self.body(x)))).softmax(-1)


class Attends(nn.Module):
    """Causal attention, whose first row has one choice."""

    def __init__(self, size):
        super().__init__()
        self.embed, self.size, self.head = nn.Linear(3, 8), size, nn.Linear(8, 2)

    def forward(self, x):
        h = self.embed(x)
        q = self.size * h[:, None]
        mixed = nn.functional.scaled_dot_product_attention(q, h[:, None], h[:, None], is_causal=True)
        return self.head(torch.relu(mixed[:, 0]))


def noted(model, x):
    return certify(model, x, parts=("frozen",)).frozen.softmaxes


@pytest.mark.parametrize("kind", [Policy, Chosen])
def test_a_saturated_policy_is_named_and_passes_hardly_any_gradient(kind):
    torch.manual_seed(0)
    x = torch.randn(200, 3)
    (mild,), (wild,) = noted(kind(1.0), x), noted(kind(1e3), x)
    assert (mild.rows, mild.saturated) == (wild.rows, 200) == (200, 0) or wild.saturated > 190
    assert mild.saturated == 0 < wild.saturated
    said = [note for note in certify(kind(1e3), x, parts=("frozen",)).notes if note.startswith("softmax")]
    assert len(said) == 1
    assert "rows are saturated" in said[0]
    assert not any(note.startswith("softmax") for note in certify(kind(1.0), x, parts=("frozen",)).notes)

    def chosen(size):
        torch.manual_seed(1)
        model = Policy(size)
        logits = model(x)
        logits.gather(1, logits.argmax(1, keepdim=True)).mean().backward()
        return float(model.head.weight.grad.norm()) / size

    assert chosen(1e3) < 1e-2 * chosen(1.0)


def test_attention_to_one_key_is_saturated_and_a_row_of_one_choice_is_not_counted():
    torch.manual_seed(0)
    x = torch.randn(6, 5, 3)
    for size, saturated in ((1.0, False), (1e3, True)):
        (found,) = noted(Attends(size), x)
        assert found.rows == 6 * 4  # of 5 positions the first attends to itself alone
        assert (found.share > 0.5) == saturated


def test_a_constant_shift_or_an_empty_share_is_no_saturation():
    assert Softmax("a", 0, 0, 0.0).share == 0
    assert sentences([Softmax("a", 4, 2, 20.0)]) == []
    torch.manual_seed(0)
    model, x = Chosen(1.0), torch.randn(20, 3)
    before = noted(model, x)
    with torch.no_grad():
        model.head.bias += 1000.0
    (after,) = noted(model, x)
    assert after.saturated == 0
    assert after.gap == pytest.approx(before[0].gap, abs=1e-3)


class Energy(Policy):
    def forward(self, x):
        return (self.size * self.head(torch.tanh(self.body(x)))).logsumexp(-1, keepdim=True)


def test_a_sum_of_exponentials_is_no_softmax():
    torch.manual_seed(0)
    assert noted(Energy(1e3), torch.randn(20, 3)) == ()


class Routed(nn.Module):
    """One of two softmaxes runs, as a number made of weights decides."""

    def __init__(self):
        super().__init__()
        self.gate, self.mild, self.wild = nn.Linear(3, 1), nn.Linear(3, 4), nn.Linear(3, 4)

    def forward(self, x):
        if self.gate(x).sum().detach().item() > 0:
            return (1e3 * self.wild(x)).softmax(-1)
        return self.mild(x).softmax(-1)


def test_nothing_is_noted_where_weights_decide_what_runs():
    torch.manual_seed(0)
    assert noted(Routed(), torch.randn(20, 3)) == ()


ENDS = {torch.float32: (24, 150), torch.float64: (53, 1075), torch.bfloat16: (8, 134)}  # powers of two


@pytest.mark.parametrize("dtype", ENDS, ids=str)
def test_rounding_makes_the_gradient_of_a_choice_zero_from_the_stated_gaps_on(dtype):
    """`log π_m` of two logits: its gradient in the largest is 1 − π_m, in the other −π."""
    one, whole = (k * 0.6931471805599453 for k in ENDS[dtype])

    def gradient(gap):
        z = torch.tensor([gap, 0.0], dtype=dtype, requires_grad=True)
        z.log_softmax(0)[0].backward()
        return z.grad.tolist()

    assert gradient(1.05 * one)[0] == 0.0 > gradient(1.05 * one)[1]
    assert gradient(0.9 * one)[0] > 0
    assert gradient(1.02 * whole)[1] == 0.0
    assert gradient(0.97 * whole)[1] < 0
