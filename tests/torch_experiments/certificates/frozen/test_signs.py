"""Units that are dead for all data by the signs of their weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.torch_experiments.certificates.frozen.planted import (
    PLANTED,
    Source,
    inputs,
    nonpositive,
    planted_mlp,
    reasons,
)
from theory.certificates import Firmness
from torch_experiments.certificates.frozen.analysis import frozen_units

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1),
    "momentum": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, 0.05),
    "decay": lambda p: torch.optim.SGD(p, 0.1, weight_decay=0.1),
}


@pytest.mark.parametrize("rule", OPTIMIZERS)
@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet"])
def test_units_frozen_by_sign_survive_training_on_any_data(name: str, rule: str) -> None:
    model, x = PLANTED[name][0]()
    first = frozen_units(model, x)
    before = {k for k, r in reasons(first).items() if r == "sign"}
    start = {n: p.detach().clone() for n, p in model.named_parameters()}
    held = first.entries_of(Firmness.SIGN)
    optimizer = OPTIMIZERS[rule](model.parameters())
    for step in range(50 if name != "resnet" else 10):
        optimizer.zero_grad()
        (model(3 * inputs(*x.shape, seed=step)) - 1).square().clamp(max=1e4).mean().backward()
        optimizer.step()
    assert before <= {k for k, r in reasons(frozen_units(model, x)).items() if r == "sign"}
    moved = {n: p.detach() != start[n] for n, p in model.named_parameters()}
    assert any(m.any() for m in moved.values())
    assert rule == "decay" or not any((m & held[n]).any() for n, m in moved.items())


def test_a_unit_whose_weight_is_positive_or_whose_input_may_be_negative_has_no_sign() -> None:
    for spoil in ("weight", "bias", "input"):
        model, x = planted_mlp()
        with torch.no_grad():
            if spoil == "weight":
                model.linear2.weight[5, 3] = 1e-9
            if spoil == "bias":
                model.linear2.bias[5] = 1e-9
        if spoil == "input":
            model.act1 = nn.Tanh()
        assert ("act2", 5) not in {k for k, r in reasons(frozen_units(model, x)).items() if r == "sign"}


def test_a_unit_that_a_dead_one_upstream_holds_has_no_sign() -> None:
    """Its positive weight reads a unit that is dead as long as that unit's own weights keep their signs."""
    layers = [nn.Linear(3, 8), nn.Sigmoid(), nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2), nn.ReLU()]
    model = nn.Sequential(*layers).double()
    nonpositive(model[2], 0)
    nonpositive(model[4], 1)
    with torch.no_grad():
        model[4].weight[1, 0] = 1
    found = reasons(frozen_units(model, inputs(5, 3)))
    assert found["3", 0] == "sign"
    assert found["5", 1] == "observed"


SOURCES: dict[str, tuple[Callable[[Tensor], Tensor], bool]] = {
    "relu6": (nn.functional.relu6, True),
    "sigmoid": (torch.sigmoid, True),
    "softplus": (nn.functional.softplus, True),
    "square": (lambda h: h**2, True),
    "product with itself": (lambda h: h * h, True),
    "exp": (torch.exp, True),
    "softmax": (lambda h: h.softmax(-1), True),
    "sum of two": (lambda h: h.relu() + h.sigmoid(), True),
    "concatenation": (lambda h: torch.cat([h.relu()[:, :4], h.abs()[:, 4:]], 1), True),
    "dropout": (lambda h: nn.functional.dropout(h.relu(), 0.5, False), True),
    "concatenation with tanh": (lambda h: torch.cat([h.relu()[:, :4], h.tanh()[:, 4:]], 1), False),
    "gelu": (nn.functional.gelu, False),
    "elu": (nn.functional.elu, False),
    "difference": (lambda h: h.relu() - h.sigmoid(), False),
    "normalised": (lambda h: nn.functional.layer_norm(h.relu(), (8,)), False),
}


@pytest.mark.parametrize("name", SOURCES)
def test_signs_pass_what_cannot_be_negative_and_nothing_else(name: str) -> None:
    f, nonnegative = SOURCES[name]
    found = frozen_units(Source(f).double(), inputs(4, 3))
    last = [u for u in found.units if u.reason == Firmness.SIGN]
    assert len(last) == int(nonnegative)


def test_nonnegative_inputs_are_a_promise_that_signs_may_use() -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)).double()
    nonpositive(model[0], 2)
    x = inputs(6, 4)
    assert ("1", 2) in reasons(frozen_units(model, x.abs(), nonnegative_inputs=True))
    assert reasons(frozen_units(model, x.abs(), nonnegative_inputs=True))["1", 2] == "sign"
    assert reasons(frozen_units(model, x.abs())).get(("1", 2)) == "observed"
    with pytest.raises(ValueError, match="nonnegative_inputs"):
        frozen_units(model, x, nonnegative_inputs=True)


class Twice(nn.Module):
    """A layer that reads any numbers, and ``again`` reads what it made of them; unit 0 is dead the second time."""

    def __init__(self, tied: bool) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first, self.again, self.head = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 3)
        nonpositive(self.again, 0)
        if tied:
            self.first = self.again
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        """Return three numbers a sample."""
        return self.head(self.again(self.first(x).relu()).relu())


@pytest.mark.parametrize("tied", [True, False])
def test_signs_of_weights_that_serve_elsewhere_certify_nothing(tied: bool) -> None:
    found = frozen_units(Twice(tied), inputs(40, 5))
    assert any(u.reason == Firmness.SIGN and u.unit == 0 for u in found.units) != tied


def test_a_unit_that_shares_its_weights_is_revived_by_training() -> None:
    model, x = Twice(tied=True), inputs(64, 5)
    model.again.weight.data[0] *= 0.05
    model.again.bias.data[0] *= 0.05
    before = {(u.layer, u.unit) for u in frozen_units(model, x).units}
    rule = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(400):
        rule.zero_grad()
        ((model(x) - 3 * x[:, :3]) ** 2).mean().backward()
        rule.step()
    assert ("relu#2", 0) in before - {(u.layer, u.unit) for u in frozen_units(model, x).units}


class Shifted(nn.Module):
    """Dead by signs, but for a bias that all units share."""

    def __init__(self, entries: int) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(3, 8), nn.Linear(8, 4), nn.Linear(4, 2)
        self.shift = nn.Parameter(torch.full((entries,), -0.1))
        nonpositive(self.second, 1)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        """Return two numbers a sample."""
        return self.head((self.second(self.first(x).relu()) + self.shift).relu())


@pytest.mark.parametrize("entries", [1, 4])
def test_a_bias_that_units_share_certifies_none_of_them(entries: int) -> None:
    found = frozen_units(Shifted(entries), inputs(40, 3))
    assert any(u.reason == Firmness.SIGN and u.unit == 1 for u in found.units) == (entries == 4)
