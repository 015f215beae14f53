"""Frozen units: planted ones are found by the right reason, hold as long as they say, and no more is claimed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.torch_experiments.certificates.frozen.enclosed import as_network
from tests.torch_experiments.certificates.frozen.planted import (
    DOUBLE,
    PLANTED,
    certified,
    gradients,
    inputs,
    nonpositive,
    planted_mlp,
    planted_resnet,
    reasons,
)
from theory.certificates import Firmness, certify_frozen
from torch_experiments.certificates.frozen.analysis import RADII, frozen_units
from torch_experiments.lab.models import mlp, vit
from torch_experiments.units import trace


@pytest.mark.parametrize("name", PLANTED)
def test_planted_units_are_found_by_their_reason(name: str) -> None:
    expected = PLANTED[name][1]
    found = reasons(certified(name)[2])
    assert expected.items() <= found.items()
    assert list(found.values()).count("sign") == list(expected.values()).count("sign")


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
