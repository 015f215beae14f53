"""What the arithmetic of this machine does to copies: looked at on a copy, and never mixed with what is proved."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from torch_experiments import certify, clone, remedies
from torch_experiments.certificates.audit import audit
from torch_experiments.certificates.optimizer import OptimizerVerdict
from torch_experiments.certificates.rounding import LARGEST, measured_growth
from torch_experiments.certificates.seen import Seen


def task(dtype=torch.float32, width=8, factor=2, mode="equal"):
    """Return a cloned network, a batch and targets."""
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(6, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 3))
    x, y = torch.randn(64, 6).to(dtype), torch.randn(64, 3).to(dtype)
    return clone(base.to(dtype), factor, mode, example_inputs=x), x, y


def certified(model, x, y, optimizer, **settings):
    return certify(model, x, optimizer, targets=y, parts=("frozen", "optimizer", "stability"), **settings)


def test_nothing_of_model_and_optimizer_moves():
    model, x, y = task()
    optimizer = torch.optim.Adam(model.parameters())
    before = copy.deepcopy(model.state_dict())
    state = torch.random.get_rng_state()
    found = certified(model, x, y, optimizer)
    assert found.rounding.steps == 2
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not optimizer.state
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_promise_is_about_exact_arithmetic_and_the_machine_has_a_line_of_its_own():
    model, x, y = task()
    found = certified(model, x, y, torch.optim.SGD(model.parameters(), 0.1))
    assert found.optimizer.clones == "kept"
    assert found.rounding.arithmetic.startswith("float32 on cpu")
    assert found.rounding.held
    assert found.rounding.gap < 1e-5
    text = " ".join(str(found).replace("│", " ").split())
    assert "in exact arithmetic, under SGD" in text
    assert "on this machine: float32 on cpu" in text


def test_bits_that_part_are_seen():
    model, x, y = task()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    assert certified(model, x, y, optimizer).rounding.equal in (True, False)
    with torch.no_grad():  # one more bit in one weight: copies up to rounding, not bit for bit
        model[0].weight[1, 0] = torch.nextafter(model[0].weight[1, 0], torch.tensor(9.0))
    model[0].weight.register_hook(lambda g: g)
    seen = certified(model, x, y, optimizer).rounding
    assert seen.gap > 0


def test_copies_are_called_bit_equal_where_nothing_departs():
    model, x, y = task(mode="equitable")
    model[0].requires_grad_(False)  # of which copies share all, bit for bit; the weights between them depart
    seen = certified(model, x, y, torch.optim.SGD(model.parameters(), 0.1)).rounding
    assert seen.gap > 1e-10
    for equal in (True, False, None):
        assert f"copies are {seen.gap:.1e} of their layer apart" in str(replace(seen, equal=equal))
    assert "copies are bit-equal" in str(replace(seen, equal=True, gap=0.0))


def test_entries_that_low_precision_leaves_where_they_are_are_counted():
    model, x, y = task(torch.bfloat16)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.where(p.abs() < 0.5, 1.0, p))  # a step of 1e-4 is far below half of their spacing
    found = certified(model, x, y, torch.optim.AdamW(model.parameters(), 1e-4))
    assert found.rounding.still == found.rounding.reached > 0
    assert "did not move" in str(found)
    fast = certified(model, x, y, torch.optim.AdamW(model.parameters(), 0.1))
    assert fast.rounding.still == 0


def test_a_promise_that_real_steps_contradict_is_taken_back(monkeypatch):
    believed = OptimizerVerdict("AdamW", "kept", "kept", "kept", ())
    monkeypatch.setattr("torch_experiments.certificates.seen.optimizer_verdict", lambda *_, **__: believed)
    model, x = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 1)), torch.randn(8, 6)
    with torch.no_grad():
        model[0].bias[0] = -100.0
    found = certified(model, x, torch.randn(8, 1), torch.optim.AdamW(model.parameters(), weight_decay=0.1))
    assert (found.optimizer.clones, found.optimizer.frozen) == ("kept", "left")  # decay moves what has no gradient
    assert not found.rounding.held
    assert "contradict" in found.optimizer.reasons[0].sentence
    assert "against the promise: " in " ".join(str(found).split())


@pytest.mark.parametrize(
    ("prepare", "word"),
    [
        (lambda model, optimizer: optimizer.register_step_post_hook(lambda *_: None), "hooks of its own"),
        (lambda model, optimizer: remedies.L2().on(model, optimizer).attach(), "hooks of its own"),
    ],
)
def test_where_a_copy_would_not_be_alone_no_step_is_taken_and_the_reason_is_said(prepare, word):
    model, x, y = task()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    prepare(model, optimizer)
    seen = certified(model, x, y, optimizer).rounding
    assert seen.steps == 0
    assert word in seen.refused


def test_networks_that_are_too_dear_to_copy_are_left_alone(monkeypatch):
    assert LARGEST > 10**8
    monkeypatch.setattr("torch_experiments.certificates.rounding.LARGEST", 10)
    model, x, y = task()
    assert "more than 10 entries" in certified(model, x, y, torch.optim.SGD(model.parameters())).rounding.refused


def test_growth_is_measured_where_there_is_enough_to_see():
    assert measured_growth([1e-9 * 1.5**k for k in range(32)], 0.0) == pytest.approx(1.5)
    assert measured_growth([1e-9] * 10, 0.0) is None  # too short
    assert measured_growth([0.0] * 40, 0.0) is None  # nothing has parted
    assert measured_growth([1e-8] * 40, 1e-8) is None  # apart from the beginning, and not growing


def test_low_precision_that_parts_copies_contradicts_no_sentence_about_exact_arithmetic():
    """Under autocast equitable weights are rounded to bfloat16, so that their sums are no longer equal."""
    model, x, y = task(torch.float32, factor=3, mode="equitable")
    with torch.autocast("cpu", torch.bfloat16):
        optimizer = torch.optim.NAdam(model.parameters(), 0.02)
        seen = audit(model, x, optimizer, targets=y, steps=60)
    assert seen.rounding.arithmetic.startswith("bfloat16 and float32 on cpu")
    assert seen.held, str(seen)
    assert seen.rounding.gap > 1e-3  # which in float64 would be a contradiction
    exact = audit(model, x, torch.optim.NAdam(model.parameters(), 0.02), targets=y, steps=60)
    assert {f.held for f in exact.findings if f.about == "clones"} == {True}


def test_a_loss_that_reads_the_weights_leaves_their_gradients_alone():
    model, x, y = task()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def loss(output):
        return (output - y).square().mean() + 0.1 * sum(p.square().sum() for p in model.parameters())

    certify(model, x, optimizer, loss=loss)
    audit(model, x, optimizer, loss=loss, steps=2)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("drop", [nn.Dropout(0.5), None], ids=["module", "function"])
def test_steps_of_a_network_that_draws_take_draws_of_their_own(drop):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.drop, self.last = nn.Linear(6, 8), drop, nn.Linear(8, 3)

        def forward(self, x):
            h = torch.tanh(self.first(x))
            h = nn.functional.dropout(h, 0.5, self.training) if self.drop is None else self.drop(h)
            return self.last(h)

    torch.manual_seed(0)
    model, x, y = Net(), torch.randn(64, 6), torch.randn(64, 3)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    seen = Seen.of(model, x, None, lambda out: (out - y).square().mean())
    calls = []
    model.register_forward_pre_hook(lambda *_: calls.append(None))
    verdict = seen.verdict(optimizer, None)
    seen.rounding(optimizer, y, None, None, verdict, None)
    assert len(calls) == 2


def test_what_the_optimizer_does_not_move_has_not_stood_still_for_rounding():
    model, x, y = task()
    some = torch.optim.SGD([{"params": model[0].parameters(), "lr": 0.0}, {"params": model[2].parameters()}], 0.1)
    assert certified(model, x, y, some).rounding.still == 0
