"""Frozen units: planted ones are found by the right reason, hold as long as they say, and no more is claimed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.torch_experiments.certificates.frozen.test_bounds import as_network
from theory.certificates import Firmness, certify_frozen
from torch_experiments.certificates.frozen.analysis import RADII, Frozen, frozen_units
from torch_experiments.lab.models import cnn, mlp, resnet18, vit
from torch_experiments.units import trace

DOUBLE = torch.float64
Planted = tuple[nn.Module, Tensor]


def inputs(*shape: int, seed: int = 0) -> Tensor:
    """Return inputs in [−1, 1]."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE) * 2 - 1


def reasons(found: Frozen) -> dict[tuple[str, int], str]:
    """Return the reasons by layer and unit."""
    return {(u.layer, u.unit): str(u.reason) for u in found.units}


@torch.no_grad()
def nonpositive(layer: nn.Module, unit: int, bias: float = -0.1) -> None:
    """Make the weights into a unit negative."""
    layer.weight[unit] = -layer.weight[unit].abs() - 0.01
    layer.bias[unit] = bias


def planted_mlp() -> Planted:
    model = mlp(4, 3, width=8, depth=3, dtype=DOUBLE)
    nonpositive(model.linear2, 5)
    with torch.no_grad():
        model.linear1.bias[2] = -20
    return model, inputs(6, 4)


def planted_cnn() -> Planted:
    model = cnn(8, 3, width=4, depth=2, hidden=6, dtype=DOUBLE)
    nonpositive(model.conv2, 3)
    nonpositive(model.linear, 1, 0.0)
    return model, inputs(3, 3, 8, 8)


def planted_resnet() -> Planted:
    model = resnet18(3, width=4, stages=(2, 1, 1, 1), norm="batch", dtype=DOUBLE).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(generator=torch.Generator().manual_seed(0))
    block = model.stage1[1]
    with torch.no_grad():
        block.conv1.weight[2] = -block.conv1.weight[2].abs()
        block.norm1.weight[2], block.norm1.bias[2] = 0.5, -0.2
        block.norm1.running_mean[2] = 0.3
    return model, inputs(2, 3, 4, 4)


class Functional(nn.Module):
    """Functional activations, in place and not, a skip, a concatenation and a tied layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again = nn.Linear(4, 6), nn.Linear(6, 6)
        self.side, self.head = nn.Linear(6, 5), nn.Linear(11, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return two numbers a sample."""
        h = nn.functional.relu(self.first(x))
        h = h + self.again(h).relu_()
        h = h + torch.relu(self.again(h))
        return self.head(torch.cat([h, nn.functional.relu6(self.side(h))], -1))


def planted_functional() -> Planted:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = Functional().double()
    nonpositive(model.side, 4)
    nonpositive(model.again, 0)
    return model, inputs(5, 4)


PLANTED: dict[str, tuple[Callable[[], Planted], dict[tuple[str, int], str]]] = {
    "mlp": (planted_mlp, {("act1", 2): "interval", ("act2", 5): "sign"}),
    "cnn": (planted_cnn, {("act2", 3): "sign", ("act", 1): "sign"}),
    "resnet": (planted_resnet, {("stage1.1.act1", 2): "sign"}),
    "functional": (
        planted_functional,
        {("relu#2", 0): "sign", ("relu#3", 0): "sign", ("hardtanh", 4): "sign"},
    ),
}


@cache
def certified(name: str) -> tuple[nn.Module, Tensor, Frozen]:
    """Return a planted network that no test changes, its inputs, and its frozen units."""
    model, x = PLANTED[name][0]()
    return model, x, frozen_units(model, x, box=(-1, 1))


@pytest.mark.parametrize("name", PLANTED)
def test_planted_units_are_found_by_their_reason(name: str) -> None:
    expected = PLANTED[name][1]
    found = reasons(certified(name)[2])
    assert expected.items() <= found.items()
    assert list(found.values()).count("sign") == list(expected.values()).count("sign")


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet"])
def test_no_unit_is_missed_that_is_silent_on_the_batch(name: str) -> None:
    model, x, found = certified(name)
    silent = 0
    handles = []

    def count(_module: nn.Module, _args: tuple, h: Tensor) -> None:
        nonlocal silent
        silent += int((h.movedim(1, 0).flatten(1) == 0).all(dim=1).sum())

    for module in model.modules():
        if isinstance(module, nn.ReLU):
            handles.append(module.register_forward_hook(count))
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    assert silent == len(found.units) > 0


def gradients(model: nn.Module, x: Tensor, seed: int) -> dict[str, Tensor]:
    """Return the gradients of a random loss."""
    model.zero_grad()
    y = model(x)
    generator = torch.Generator().manual_seed(seed)
    target = torch.randn(y.shape, generator=generator, dtype=y.dtype)
    (y * target + 0.1 * (y - target) ** 2).sum().backward()
    return {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("name", PLANTED)
def test_claimed_entries_have_no_gradient(name: str) -> None:
    model, x, found = certified(name)
    for seed in range(3):
        for n, g in gradients(model, x, seed).items():
            assert (g[found.entries[n]] == 0).all()
    assert sum(int(m.sum()) for m in found.entries.values()) > 0


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_all_weights_into_and_out_of_dead_units_are_claimed_and_no_others(name: str) -> None:
    """A weight from unit ``u`` to unit ``v`` is held exactly if one of them is dead; a pixel is its channel."""
    model, x, found = certified(name)
    entries = found.entries
    dead = torch.zeros(x.shape[1], dtype=torch.bool)
    with torch.no_grad():
        for layer, module in model.named_children():
            if isinstance(module, nn.Linear | nn.Conv2d):
                W = entries[f"{layer}.weight"]
                dead = dead.repeat_interleave(W.shape[1] // len(dead))
                follower = torch.relu(module(x)).movedim(1, 0).flatten(1)
                after = (follower == 0).all(1) & torch.tensor(layer != "head")
                expected = (after[:, None] | dead).reshape(*W.shape[:2], *[1] * (W.ndim - 2)).expand(W.shape)
                assert torch.equal(W, expected)
                assert torch.equal(entries[f"{layer}.bias"], after)
                dead = after
            x = module(x)


@pytest.mark.parametrize("name", PLANTED)
def test_entries_of_firmer_reasons_have_no_gradient_on_other_data(name: str) -> None:
    model, x, found = certified(name)
    for seed in range(3):
        for n, g in gradients(model, inputs(*x.shape, seed=seed + 1), seed).items():
            assert (g[found.entries_of(Firmness.INTERVAL)[n]] == 0).all()
        for n, g in gradients(model, 50 * inputs(*x.shape, seed=seed + 1), seed).items():
            assert (g[found.entries_of(Firmness.SIGN)[n]] == 0).all()
    fewer, more = found.entries_of(Firmness.SIGN), found.entries
    assert all((~fewer[n] | more[n]).all() for n in more)


def test_observed_units_wake_up_on_other_data_and_their_entries_learn() -> None:
    model, x = planted_mlp()
    found = frozen_units(model, x[:1])
    assert {u.reason for u in found.units} == {Firmness.SIGN, Firmness.OBSERVED}
    g = gradients(model, 9 * inputs(40, 4, seed=2), 0)
    assert any((g[n][m] != 0).any() for n, m in found.entries.items())
    more = frozen_units(model, x[:1], batches=[9 * inputs(40, 4, seed=2)])
    assert len(more.units) < len(found.units)
    kept = {(u.layer, u.unit) for u in more.units}
    assert {(u.layer, u.unit) for u in found.units if u.reason == Firmness.SIGN} <= kept
    assert all(u.radius == 0 for u in found.units if u.reason == Firmness.OBSERVED)


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


class Source(nn.Module):
    """A layer, a function of it, and a layer with units that are non-positive combinations of it."""

    def __init__(self, f: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.f = f
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first, self.second, self.head = nn.Linear(3, 8), nn.Linear(8, 4), nn.Linear(4, 2)
        nonpositive(self.second, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return two numbers a sample."""
        return self.head(self.second(self.f(self.first(x))).relu())


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


def test_a_gradient_at_zero_is_no_frozen_unit() -> None:
    """``clamp(min=0)`` passes gradients at zero, where ReLU does not."""
    for f, reason in ((torch.relu, "sign"), (lambda z: z.clamp(min=0), None)):
        model = Source(torch.relu).double()
        model.forward = lambda x, m=model, g=f: m.head(g(m.second(m.first(x).relu())))  # type: ignore[method-assign]
        with torch.no_grad():
            model.second.weight[1], model.second.bias[1] = 0, 0
        found = reasons(frozen_units(model, inputs(4, 3)))
        assert {found.get((layer, 1)) for layer in ("relu#2", "clamp")} - {None} == {reason} - {None}


@given(seed=st.integers(0, 2**31))
@settings(max_examples=8, deadline=None)
def test_no_weights_within_the_radius_and_no_inputs_in_the_box_revive_a_unit(seed: int) -> None:
    model = mlp(3, 2, width=6, depth=3, seed=seed, dtype=DOUBLE)
    with torch.no_grad():
        for layer in (model.linear1, model.linear2, model.linear3):
            layer.bias -= 0.8 * torch.rand(6, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)
    x = inputs(8, 3, seed=seed)
    found = [u for u in frozen_units(model, x, box=(-1, 1)).units if u.reason == Firmness.INTERVAL]
    for unit in found:
        assert revived(model, unit.layer, unit.unit, unit.radius, seed) <= 0


def revived(model: nn.Module, layer: str, unit: int, radius: float, seed: int, tries: int = 5) -> float:
    """Return the largest output of a ReLU over weights at corners of the ball and corners of the box [−1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    start = [p.detach().clone() for p in model.parameters()]
    worst = 0.0
    for k in range(tries + 1):
        with torch.no_grad():
            for p in model.parameters():
                up = torch.ones(p.shape) if k == 0 else torch.randint(0, 2, p.shape, generator=generator) * 2 - 1
                p += radius * up
            x = torch.randint(0, 2, (64, 3), generator=generator).double() * 2 - 1
            stop = list(dict(model.named_children())).index(layer) + 1
            worst = max(worst, float(model[:stop](x)[:, unit].max()))
        for p, old in zip(model.parameters(), start, strict=True):
            p.data.copy_(old)
    return worst


def test_beyond_the_radius_of_one_layer_the_unit_revives() -> None:
    """For one layer the radius is ``−(Σ |w| + b) / (d + 1)`` on the box [−1, 1]; the grid is a factor 1.68."""
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    with torch.no_grad():
        model[0].bias[1] = -6
    slack = 6 - float(model[0].weight[1].abs().sum().detach())
    (unit,) = [u for u in frozen_units(model, inputs(4, 3), box=(-1, 1)).units if u.reason == Firmness.INTERVAL]
    assert unit.unit == 1
    assert slack / 4 / 1.69 < unit.radius <= slack / 4
    with torch.no_grad():
        model[0].weight += 1.01 * slack / 4 * model[0].weight.sign()
        model[0].bias += 1.01 * slack / 4
        corner = model[0].weight[1].sign()
        assert model[0](corner)[1] > 0


@pytest.mark.parametrize("seed", range(4))
def test_reasons_agree_with_ball_arithmetic_and_radii_up_to_the_grid(seed: int) -> None:
    """Balls are as tight as intervals in the first layer, and wider behind a ReLU: our radius may be larger."""
    model = mlp(3, 2, width=4, depth=2, seed=seed, dtype=DOUBLE)
    with torch.no_grad():
        model.linear1.bias[1] = -2.5
        model.linear2.bias[2] = -1.5
    nonpositive(model.linear2, 0)
    x = inputs(5, 3, seed=seed)
    samples, box = x.numpy().T, np.array([[-1.0, 1.0]] * 3)
    expected = {c.unit: c for c in certify_frozen(as_network(model), box=box, samples=samples)}
    found = {(int(u.layer[3:]), u.unit): u for u in frozen_units(model, x, box=(-1, 1)).units}
    assert {k: c.reason for k, c in expected.items()} == {k: u.reason for k, u in found.items()}
    assert Firmness.INTERVAL in {u.reason for u in found.values()}
    for key, unit in found.items():
        assert unit.radius >= min(expected[key].radius / 1.68, RADII[-1])
        assert unit.radius <= expected[key].radius * (1 + 1e-7 if key[0] == 1 else 1.68)


def test_smooth_activations_are_never_exactly_frozen() -> None:
    model = mlp(3, 2, width=4, depth=1, activation="tanh", dtype=DOUBLE)
    with torch.no_grad():
        model.linear1.bias[0], model.linear1.bias[1] = 40, 4
    x = inputs(5, 3)
    found = {u.unit: u for u in frozen_units(model, x, box=(-1, 1)).units}
    assert set(found) == {0}
    assert not found[0].exact
    assert found[0].reason == Firmness.OBSERVED
    g = gradients(model, x, 0)
    assert (g["linear1.weight"][0] == 0).all()
    loose = frozen_units(model, x, tolerance=0.05)
    assert {u.unit for u in loose.units} == {0, 1}
    assert loose.entries["linear1.weight"].any(dim=1).tolist() == [True, False, False, False]
    assert not loose.entries["head.weight"].any(), "its output is one, not zero"


def test_plateaus_on_both_sides_freeze_but_only_a_zero_output_holds_what_reads_it() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Hardtanh(), nn.Linear(3, 2)).double()
    with torch.no_grad():
        model[0].bias[1] = 9
    x = inputs(5, 3)
    (unit,) = frozen_units(model, x, box=(-1, 1)).units
    assert (unit.unit, unit.reason, unit.zero) == (1, Firmness.INTERVAL, False)
    found = frozen_units(model, x, box=(-1, 1))
    assert found.entries["0.weight"].all(dim=1).tolist() == [False, True, False]
    assert not found.entries["2.weight"].any()


def test_no_unit_of_a_vision_transformer_is_frozen() -> None:
    model, x = vit(16, 4, depth=2, width=16, heads=2).double(), inputs(2, 3, 16, 16)
    found = frozen_units(model, x, box=(-1, 1))
    assert not found.units
    assert found.sizes == {"block1.act": 64, "block2.act": 64}
    assert any("layer_norm" in m.why for m in found.missing)


def test_hugging_face_vision_transformer_has_no_frozen_unit() -> None:
    pytest.importorskip("transformers", reason="transformers is not installed: pip install 'lop-companion[hf]'")
    from transformers.models.vit import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=12,
        num_hidden_layers=1,
        num_attention_heads=3,
        intermediate_size=24,
        image_size=16,
        patch_size=8,
    )
    found = frozen_units(ViTForImageClassification(config).double(), inputs(2, 3, 16, 16), box=(-1, 1))
    assert not found.units
    assert 24 in found.sizes.values()


def test_a_stream_is_not_frozen_because_one_writer_is() -> None:
    model, x = planted_resnet()
    block = model.stage1[1]
    nonpositive_conv = block.conv2.weight
    with torch.no_grad():
        nonpositive_conv[1] = 0
        block.norm2.weight[1], block.norm2.bias[1] = 1.0, -1e3
        block.norm2.running_mean[1] = 0
    found = frozen_units(model, x)
    entries = found.entries_of(Firmness.OBSERVED)
    dead = {(u.layer, u.unit) for u in found.units}
    assert ("stage1.1.act2", 1) in dead
    assert ("stage1.0.act2", 1) not in dead or not entries["stage1.0.conv2.weight"].all()
    assert not entries["stage1.0.conv2.weight"][1].all() or ("stage1.0.act2", 1) in dead


def test_batch_statistics_carry_no_bounds() -> None:
    model, x = planted_resnet()
    model.train()
    found = frozen_units(model, x, box=(-1, 1))
    assert ("stage1.1.act1", 2) not in {k for k, r in reasons(found).items() if r != "observed"}
    assert any(m.layer == "stage1.1.norm1" and "call eval()" in m.why for m in found.missing)
    assert model.training


def test_activations_of_several_operations_and_without_units_are_named() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanhshrink(), nn.Linear(3, 2)).double()
    found = frozen_units(model, inputs(4, 3))
    assert [m.layer for m in found.missing] == ["1"]
    assert not found.sizes


def test_a_path_that_depends_on_numbers_claims_no_entries() -> None:
    model = Source(torch.relu).double()
    plain = frozen_units(model, inputs(4, 3))
    assert any(m.any() for m in plain.entries.values())
    model.f = lambda h: torch.where(h > 0, h, 0 * h)
    with torch.no_grad():
        model.second.weight[1], model.second.bias[1] = 0, -1
    found = frozen_units(model, inputs(4, 3))
    assert ("relu", 1) in reasons(found)
    assert not any(m.any() for m in found.entries.values())
    assert [m.layer for m in found.missing] == ["entries"]


def test_single_units_form_layers_and_whole_layers_are_named() -> None:
    """The chain of F2: input → unit → ReLU unit → output."""
    chain = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1)).double()
    with torch.no_grad():
        chain[1].bias.fill_(-50)
    found = frozen_units(chain, inputs(3, 1), box=(-1, 1))
    assert reasons(found) == {("2", 0): "interval"}
    assert found.whole() == ("2",)
    assert {n for n, m in found.entries.items() if m.all()} == {
        "0.weight",
        "0.bias",
        "1.weight",
        "1.bias",
        "3.weight",
    }


def test_the_report_is_plain_and_counts_add_up() -> None:
    model, x = planted_mlp()
    graph = trace(model, x)
    found = frozen_units(model, x, graph=graph, box=(-1, 1))
    plain = found.to_dict()
    assert len(plain["units"]) == sum(
        n[r] for n in plain["layers"].values() for r in ("sign", "interval", "observed")
    )
    assert plain["entries"]["sign"]["linear2.bias"] == 1
    assert "z ∈ [" in found.units[0].inequality
    assert reasons(found) == reasons(frozen_units(model, x, box=(-1, 1)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tolerance": -1}, "tolerance"),
        ({"radii": (1.0, 0.5)}, "radii"),
        ({"box": (1, -1)}, "lower bound exceeds"),
        ({"box": (-0.1, 0.1)}, "outside"),
        ({"box": (torch.zeros(7), torch.ones(7))}, "do not fit"),
        ({"batches": [inputs(2, 4) * 9], "box": (-1, 1)}, "outside"),
    ],
)
def test_bad_arguments_are_named(options: dict, message: str) -> None:
    model, x = planted_mlp()
    with pytest.raises(ValueError, match=message):
        frozen_units(model, x, **options)


def test_a_recurrent_network_has_units_at_every_step_and_shared_weights_are_held_only_if_all_are_frozen() -> None:
    torch.manual_seed(0)
    model = nn.RNN(3, 4, nonlinearity="relu", batch_first=True).double()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p[1] = -50.0 if "bias" in name else 0.0
    x = inputs(2, 3, 3)
    found = frozen_units(model, x, box=(-1, 1))
    assert set(found.sizes) == {"relu", "relu#2", "relu#3"}
    assert {(layer, 1) for layer in found.sizes} <= set(reasons(found))
    assert found.entries["weight_ih_l0"][1].all()
    model.zero_grad()
    model(x)[0].sum().backward()
    for name, p in model.named_parameters():
        assert (p.grad[found.entries[name]] == 0).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet"])
def test_a_gpu_gives_the_same_certificates(name: str) -> None:
    model, x = PLANTED[name][0]()
    expected = certified(name)[2]
    found = frozen_units(model.cuda(), x.cuda(), box=(-1, 1))
    assert reasons(found) == reasons(expected)
    assert all(torch.equal(m.cpu(), expected.entries[n]) for n, m in found.entries.items())


def test_the_graph_of_another_model_is_refused() -> None:
    model, x = planted_mlp()
    other, _ = planted_mlp()
    with pytest.raises(ValueError, match="graph"):
        frozen_units(model, x, graph=trace(other, x))


class StraightThrough(torch.autograd.Function):
    """Forward a ReLU, backward the identity."""

    @staticmethod
    def forward(_ctx: Any, z: Tensor) -> Tensor:
        return z.clamp(min=0)

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


@pytest.mark.parametrize("f", [StraightThrough.apply, lambda z: z.clamp(min=0)])
def test_no_entry_is_claimed_where_torch_computes_a_gradient(f: Callable[[Tensor], Tensor]) -> None:
    model = Source(f).double()
    model.first.bias.data[0] = -50
    found = frozen_units(model, inputs(6, 3))
    claimed = int(found.entries["first.weight"][0].sum())
    assert claimed == (0 if f == StraightThrough.apply else 3)
    told = any("torch.autograd.Function" in missing.why for missing in found.missing)
    assert told == (f == StraightThrough.apply)


def test_a_sample_without_batch_axis_is_observed() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).double()
    model[0].bias.data[0] = -50
    assert ("1", 0) in reasons(frozen_units(model, inputs(1, 4)[0]))


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
