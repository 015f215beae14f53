"""The loss on new data is the mean over its samples, and nothing is disturbed."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from tests.torch_experiments.diagnostics.samples import network, task
from torch_experiments.diagnostics.validation import CHUNK, mean_loss


def test_it_is_the_mean_over_all_samples_of_chunks_and_streams():
    model, (x, y) = network(), task(samples=CHUNK + 44)
    expected = pytest.approx(float(cross_entropy(model(x), y).detach()), rel=1e-5)
    assert mean_loss(model, (x, y)) == expected
    assert mean_loss(model, [(x[:100], y[:100]), (x[100:], y[100:])]) == expected
    assert mean_loss(model, (x, y), lambda output, y: 2 * cross_entropy(output, y)) == pytest.approx(
        2 * float(cross_entropy(model(x), y).detach()), rel=1e-5
    )


def test_modes_random_states_and_gradients_stay():
    model, (x, y) = network(norm="batch", dropout=0.5).train(), task()
    buffers, state = {name: b.clone() for name, b in model.named_buffers()}, torch.get_rng_state()
    assert mean_loss(model, (x, y)) == mean_loss(model, (x, y))
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(b, buffers[name]) for name, b in model.named_buffers())
    assert all(p.grad is None for p in model.parameters())


class Labelled(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = network()

    def forward(self, x, labels=None):
        logits = self.net(x)
        return {"logits": logits} | ({} if labels is None else {"loss": cross_entropy(logits, labels)})


def test_a_loss_may_come_with_the_output():
    model, (x, y) = Labelled(), task()
    assert mean_loss(model, {"x": x, "labels": y}) == pytest.approx(mean_loss(model.net, (x, y)), rel=1e-6)
    with pytest.raises(ValueError, match=r"validation: has no targets .* give \(inputs, targets\)"):
        mean_loss(model, {"x": x})


def test_no_samples_are_refused():
    with pytest.raises(ValueError, match="validation: holds no sample"):
        mean_loss(network(), [])
