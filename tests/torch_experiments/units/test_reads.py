"""Answers that decide nothing are told from branches by giving the other one; numbers of weights stay refused."""

import pytest
import torch
from torch import distributions, nn

from torch_experiments import TraceError, certify, clone, diagnose, remedies
from torch_experiments.certificates.display import copies
from torch_experiments.certificates.seen import entries
from torch_experiments.cloning.widen import gap, outputs
from torch_experiments.units import trace


class Asks(nn.Module):
    """Asks something of its hidden features before it goes on."""

    def __init__(self, ask):
        super().__init__()
        self.first, self.last, self.ask = nn.Linear(4, 8), nn.Linear(8, 2), ask

    def forward(self, x):
        h = torch.relu(self.first(x))
        return self.last(self.ask(h))


def checked(h):
    assert not torch.isnan(h).any()
    if not torch.isfinite(h).all():
        raise ValueError(f"not finite: {h.sum()}")  # a message that runs operations of its own
    return h


def counted(h):
    if (h > 1e9).any():
        counted.large = True
    return h


def branching(h):
    return h.tanh() if (h > 0).all() else h.sin()


def skipping(h):
    return h * 2 if (h > 9e9).any() else h


def endless(h):
    while (h > 9e9).any():
        h = h * 1.5
    return h


@pytest.mark.parametrize("ask", [checked, counted])
def test_answers_that_decide_nothing_are_noted(ask):
    torch.manual_seed(0)
    model, x = Asks(ask), torch.randn(12, 4)
    with torch.no_grad():
        model.first.weight[3], model.first.bias[3], model.last.weight[:, 3] = (
            model.first.weight[1],
            model.first.bias[1],
            model.last.weight[:, 1],
        )
        model.first.bias[2] = -100.0
    found = certify(model, x)
    assert copies(found.blocks)["first"]["copies"] == [[1, 3]]
    assert [unit.unit for unit in found.frozen.units] == [2]
    assert any("asks for numbers that weights have made; the answers decide nothing" in n for n in found.notes)
    assert clone(model, 2, example_inputs=x).first.out_features == 16


def scaled(h):
    return h * h.abs().max().item()


@pytest.mark.parametrize("ask", [branching, skipping, endless, scaled])
def test_answers_that_decide_what_runs_are_refused(ask):
    with pytest.raises(TraceError, match="reads a number out of a tensor, so the path may depend on the data"):
        trace(Asks(ask), torch.randn(12, 4))
    assert list(trace(Asks(ask), torch.randn(12, 4), one_path=True).decided) == [""]


class Routed(nn.Module):
    """Experts, of which one that no row is sent to does not run."""

    def __init__(self):
        super().__init__()
        self.first, self.gate, self.last = nn.Linear(4, 8), nn.Linear(8, 3), nn.Linear(8, 2)
        self.experts = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

    def forward(self, x):
        h = torch.relu(self.first(x))
        score, chosen = self.gate(h).softmax(-1).max(-1)
        out = torch.zeros_like(h)
        for k, expert in enumerate(self.experts):
            if (chosen == k).any():
                out[chosen == k] = expert(h[chosen == k]) * score[chosen == k, None]
        return self.last(out)


def test_a_path_that_weights_choose_is_certified_for_the_batch_alone():
    torch.manual_seed(0)
    model, x = Routed(), torch.randn(40, 4)
    with torch.no_grad():
        readers = [layer.weight.T for layer in (model.gate, *model.experts)]
        for tensor in (model.first.weight, model.first.bias, *readers):
            tensor[3] = tensor[1]
        model.first.bias[2] = -100.0
    found = certify(model, x, torch.optim.SGD(model.parameters(), 0.1), parts=("frozen", "optimizer"))
    assert copies(found.blocks)["first"]["copies"] == [[1, 3]]
    assert [unit.unit for unit in found.frozen.units if unit.layer == "relu"] == [2]
    assert found.optimizer.clones == "unknown"
    assert any("so this is about the path of this batch" in note for note in found.notes)
    with pytest.raises(TraceError, match="reads a number"):
        clone(model, 2, example_inputs=x)


def test_arguments_that_torch_checks_decide_nothing():
    def encoded(net, h):
        return h + nn.functional.one_hot(h.argmax(-1), 8)

    model = Asks(lambda h: encoded(None, h))
    assert not trace(model, torch.randn(12, 4)).decided


def test_a_batch_that_takes_another_path_than_its_first_samples_is_traced_as_a_whole():
    class Padded(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, x, mask):
            h = torch.relu(self.first(x))
            return self.last(h if mask.all() else torch.relu(h * mask - 0.1))

    mask = torch.ones(40, 1)
    mask[30:] = 0
    assert certify(Padded(), (torch.randn(40, 4), mask)).frozen is not None


def test_numbers_of_inputs_are_noted_once_a_layer():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, x, mask):
            h = torch.relu(self.first(x))
            assert not torch.isnan(x).any()
            return self.last(h if mask.all() else h * mask)

    found = certify(Masked(), (torch.randn(12, 4), torch.ones(12, 1)), parts=())
    assert [note for note in found.notes if note.startswith("path")] == [
        "path: the network: reads numbers of inputs, so this holds where the answers are the same"
    ]


POLICIES = {
    "normal": lambda net, h: distributions.Normal(net.mean(h), net.spread.exp().expand_as(net.mean(h))),
    "categorical": lambda net, h: distributions.Categorical(logits=net.mean(h)),
    "beta": lambda net, h: distributions.Beta(net.mean(h).exp(), 1 + net.mean(h).exp()),
    "several": lambda net, h: distributions.MultivariateNormal(net.mean(h), torch.diag_embed(net.spread.exp())),
    "squashed": lambda net, h: distributions.TransformedDistribution(
        distributions.Normal(net.mean(h), net.spread.exp()), [distributions.TanhTransform(cache_size=1)]
    ),
}


class Policy(nn.Module):
    """A policy as in CleanRL: no forward, arguments of distributions checked."""

    def __init__(self, kind):
        super().__init__()
        self.body, self.mean, self.value = nn.Linear(4, 8), nn.Linear(8, 2), nn.Linear(8, 1)
        self.spread, self.kind = nn.Parameter(torch.zeros(2)), kind

    def get_action_and_value(self, x):
        h = torch.relu(self.body(x))
        policy = POLICIES[self.kind](self, h)
        action = policy.rsample() if policy.has_rsample else policy.sample()
        return action, policy.log_prob(action), self.value(h)

    def distribution(self, x):
        return POLICIES[self.kind](self, torch.relu(self.body(x)))


@pytest.mark.parametrize("kind", POLICIES)
@pytest.mark.parametrize("check", [True, False])
def test_policies_are_certified_cloned_diagnosed_and_freed(kind, check, monkeypatch):
    # torch.compile, used once, turns argument checks off for the whole process (findings/compiled_distributions.sh)
    monkeypatch.setattr(distributions.Distribution, "_validate_args", check)
    torch.manual_seed(0)
    model, x, call = Policy(kind), torch.randn(16, 4), "get_action_and_value"
    assert not any(len(v["copies"]) for v in copies(certify(model, x, call=call, parts=()).blocks).values())
    with torch.no_grad():
        for weights in (model.body.weight, model.body.bias, model.mean.weight.T, model.value.weight.T):
            weights[3] = weights[1]
        model.body.bias[2] = -100.0
    found = certify(model, x, call=call, parts=("frozen",))
    assert copies(found.blocks)["body"]["copies"] == [[1, 3]]
    assert ("relu", 2) in {(unit.layer, unit.unit) for unit in found.frozen.units}
    assert bool(entries(found.frozen)["body.weight"][2].all())
    wide = clone(model, 2, example_inputs=x, call=call)
    assert "forward" not in vars(wide)
    assert wide.body.out_features == 16
    assert diagnose(model, x, call=call)["relu"]["dead_fraction"] == 0.125
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    freed = remedies.Escape().on(model, optimizer, example_inputs=x, call=call, fresh=lambda seed: Policy(kind))
    assert 2 in freed.apply()["body"]


@pytest.mark.parametrize("kind", ["normal", "categorical"])
def test_a_distribution_that_is_returned_is_its_parameters(kind):
    found = certify(Policy(kind), torch.randn(16, 4), call="distribution", parts=())
    assert found.parameters >= 4 * 8 + 8 + 8 * 2 + 2


class Ragged(nn.Module):
    """A recurrent network on samples of several lengths, which it packs, and pads again."""

    def __init__(self):
        super().__init__()
        self.embed, self.cells, self.head = nn.Linear(3, 5), nn.GRU(5, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(self.embed(x), lengths, batch_first=True, enforce_sorted=False)
        return self.head(nn.utils.rnn.pad_packed_sequence(self.cells(packed)[0], batch_first=True)[0])


def test_packed_sequences_are_followed():
    torch.manual_seed(0)
    model = Ragged().double()
    x, other = (
        {"x": torch.randn(4, 6, 3).double(), "lengths": torch.tensor(lengths)}
        for lengths in ([6, 2, 4, 3], [5, 6, 1, 2])
    )
    wide = clone(model, 2, example_inputs=x)
    assert wide.cells.hidden_size == 8
    assert wide.embed.out_features == 10
    assert gap(outputs(model, other), outputs(wide, other)) < 1e-12
