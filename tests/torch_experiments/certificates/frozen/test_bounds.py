"""Bounds hold: on sampled inputs and weights, in exact arithmetic, and against ball arithmetic."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.torch_experiments.certificates.frozen.enclosed import DOUBLE, as_network, bounds_of
from tests.torch_experiments.units.test_activations import ALL
from theory.certificates import preactivation_balls
from torch_experiments.certificates.frozen.bounds import RULES, Bounds, boxed
from torch_experiments.certificates.frozen.intervals import Interval
from torch_experiments.certificates.frozen.replay import Replay
from torch_experiments.lab.models import cnn, mlp, resnet18
from torch_experiments.units import trace


class Attention(nn.Module):
    """One head of attention with a residual, position embeddings and a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.position = nn.Parameter(torch.randn(3, 4))
        self.gate, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return two numbers a token."""
        x = x + self.position
        weights = (self.q(x) @ self.k(x).transpose(-1, -2) / 2).softmax(-1)
        x = x + weights @ self.v(x)
        return self.head(x * self.gate(x).sigmoid())


class Words(nn.Module):
    """Embeddings of tokens, with a mask and powers of features."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.linear = nn.Embedding(5, 4), nn.Linear(4, 3)

    def forward(self, words: Tensor) -> Tensor:
        """Return three numbers a word."""
        x = self.table(words)
        places = torch.arange(x.shape[1])
        x = x.masked_fill((places == 1)[:, None], 0.5)
        y = self.linear(torch.cat([x[..., :2], x.flip(-1)[..., :2]], -1))
        return (y**2 + 1).sqrt() - 0.1 * y**3 + 1 / (y.abs() + 2) + torch.where(y > 0, y, -y).exp().mean(-1, True)


def images() -> nn.Module:
    """Return convolutions of every kind, norms, and pools."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2),
        nn.BatchNorm2d(4),
        nn.MaxPool2d(2, 1),
        nn.ReLU(inplace=True),
        nn.ConvTranspose2d(4, 3, 2, stride=2),
        nn.AvgPool2d(2),
        nn.PReLU(3),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(12, 3),
    )


def moved(model: nn.Module, radius: float, generator: torch.Generator) -> list[Tensor]:
    """Move every weight to a corner of the ball, or inside of it; return the weights as they were."""
    before = [p.detach().clone() for p in model.parameters()]
    for p in model.parameters():
        step = 2 * torch.rand(p.shape, generator=generator, dtype=p.dtype) - 1
        p.data += radius * (step.sign() if torch.rand(1, generator=generator) < 0.5 else step) * (1 - 1e-6)
    return before


def violation(model: nn.Module, x: Tensor, limit: Interval, radius: float, tries: int = 30) -> float:
    """Return how far outputs leave the bounds, for inputs like ``x`` in [−2, 1] and weights in the ball."""
    generator, worst = torch.Generator().manual_seed(1), -torch.inf
    for _ in range(tries):
        before = moved(model, radius, generator)
        inputs = x
        if x.is_floating_point():
            inputs = torch.randint(0, 2, x.shape, generator=generator).to(x) * 3 - 2
            inputs = inputs if torch.rand(1, generator=generator) < 0.5 else inputs * torch.rand(1).to(x)
        with torch.no_grad():
            y = model(inputs).double()
        worst = max(worst, float(torch.maximum(y - limit.hi, limit.lo - y).max()))
        for p, old in zip(model.parameters(), before, strict=True):
            p.data.copy_(old)
    return worst


NETWORKS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "mlp": lambda: (mlp(4, 3, width=6, depth=3), torch.zeros(2, 4)),
    "mlp, GELU": lambda: (mlp(4, 3, width=6, depth=2, activation="gelu"), torch.zeros(2, 4)),
    "mlp, softsign": lambda: (mlp(4, 3, width=6, depth=2, activation="softsign"), torch.zeros(2, 4)),
    "cnn": lambda: (cnn(8, 3, width=2, depth=2, hidden=5), torch.zeros(2, 3, 8, 8)),
    "resnet": lambda: (resnet18(3, width=2, norm="batch"), torch.zeros(2, 3, 8, 8)),
    "images": lambda: (images(), torch.zeros(2, 2, 8, 8)),
    "attention": lambda: (Attention(), torch.zeros(2, 3, 4)),
    "words": lambda: (Words(), torch.randint(5, (2, 3))),
}


def prepared(name: str, dtype: torch.dtype) -> tuple[nn.Module, Tensor]:
    """Return a network with norms off their defaults, and inputs, in a dtype and in eval mode."""
    torch.manual_seed(0)
    model, x = NETWORKS[name]()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            module.weight.data.normal_()
    return model.to(dtype).eval(), x.to(dtype) if x.is_floating_point() else x


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_stay_within_bounds_for_inputs_in_the_box_and_weights_in_the_ball(name, dtype) -> None:
    model, x = prepared(name, dtype)
    for radius in (0.0, 0.05):
        limit = bounds_of(model, x, (-2, 1), radius)
        assert limit.lo.isfinite().all()
        assert violation(model, x, limit, radius) <= 0


@pytest.mark.parametrize("name", ["mlp", "images"])
def test_bounds_of_a_smaller_box_or_ball_are_left(name: str) -> None:
    model, x = prepared(name, DOUBLE)
    assert violation(model, x, bounds_of(model, x, (-0.02, 0.01)), 0.0) > 0
    model, x = prepared(name, DOUBLE)
    x = x * 0
    assert violation(model, x, bounds_of(model, x, (0, 0)), 0.05) > 0


@pytest.mark.parametrize("name", ALL)
def test_activations_stay_within_bounds(name: str) -> None:
    model = nn.Sequential(ALL[name]).double().eval()
    x = torch.linspace(-7, 7, 30, dtype=DOUBLE)
    for low, high in ((-6.0, -1.0), (-1.0, 0.5), (-0.1, 4.0), (-30.0, 30.0)):
        limit = bounds_of(model, x.clamp(low, high), (low, high))
        y = model(torch.linspace(low, high, 3000, dtype=DOUBLE)).detach()
        assert limit.lo[0] <= y.min()
        assert y.max() <= limit.hi[0]
        if name == "threshold, up":
            continue
        spread = float(y.max() - y.min())
        assert limit.hi[0] - limit.lo[0] <= max(1.01 * spread + 1e-3, 2.1 if name == "sin" else 0)


def test_bounds_of_one_linear_map_are_attained() -> None:
    """``z ≤ Σ w⁺ high + w⁻ low + b``, by loops."""
    rng = np.random.default_rng(0)
    W, b, low, high = rng.normal(size=(3, 5)), rng.normal(size=3), -0.5, 2.0
    model = nn.Linear(5, 3).double()
    model.weight.data, model.bias.data = torch.tensor(W), torch.tensor(b)
    limit = bounds_of(model, torch.zeros(1, 5, dtype=DOUBLE), (low, high))
    for i in range(3):
        top = b[i] + sum(W[i, j] * (high if W[i, j] > 0 else low) for j in range(5))
        bottom = b[i] + sum(W[i, j] * (low if W[i, j] > 0 else high) for j in range(5))
        assert 0 <= float(limit.hi[0, i]) - top < 1e-13
        assert 0 <= bottom - float(limit.lo[0, i]) < 1e-13


@pytest.mark.parametrize("width", [3, 5])
def test_bounds_are_those_of_ball_arithmetic(width: int) -> None:
    model = mlp(3, 2, width=width, depth=2, dtype=DOUBLE)
    balls = preactivation_balls(as_network(model), np.array([[-1.0, 2.0]] * 3))
    limit = bounds_of(model, torch.zeros(1, 3, dtype=DOUBLE), (-1, 2))
    for u, ball in enumerate(balls[-3:-1]):
        assert float(limit.hi[0, u]) == pytest.approx(float(ball.upper()), rel=1e-6)
        assert float(limit.lo[0, u]) == pytest.approx(float(ball.lower()), rel=1e-6)


def test_an_operation_without_a_rule_has_no_bounds_and_is_named() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.ReLU())
    x = torch.randn(2, 3)
    graph = trace(model, x)
    inputs = {id(t): b for t, b in zip(graph.given, boxed(graph.given, (-9, 9)), strict=True)}
    domain = Bounds(inputs)
    replay: Replay[Interval] = Replay(graph, domain)
    limit = replay.value(graph.returned[0])
    assert domain.unbounded == {"1": {"native_layer_norm"}}
    assert (limit.lo == 0).all()
    assert (limit.hi == torch.inf).all()


def test_a_wrong_rule_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = prepared("mlp", DOUBLE)
    monkeypatch.setitem(RULES, "addmm", lambda step: RULES["mm"](step._replace(args=step.args[1:])))
    assert violation(model, x, bounds_of(model, x, (0, 0)), 0.0) > 0
