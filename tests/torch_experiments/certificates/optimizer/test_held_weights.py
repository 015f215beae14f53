"""The verdict on frozen weights, and on weights that need only keep their sign, against real steps."""

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from claims.evidence import witness
from tests.torch_experiments.certificates.optimizer.training import (
    SHIPPED,
    SIZE,
    WITH_DECAY,
    Dead,
    alive_first,
    built,
    draw,
    optim,
    train,
)
from theory.certificates import Firmness
from torch_experiments.certificates.frozen.analysis import frozen_units
from torch_experiments.certificates.optimizer.update_rules import FACTS
from torch_experiments.certificates.optimizer.verdicts import optimizer_verdict
from torch_experiments.lab.models import mlp


@pytest.mark.claim("F2d", "property")
@pytest.mark.parametrize("name", SHIPPED)
def test_without_state_and_decay_every_rule_keeps_frozen_weights(name):
    case = Dead()
    optimizer = built(name, case.model, **({"lambd": 0.0} if name == "ASGD" else {}))
    found = optimizer_verdict(case.model, optimizer, None, case.masks())
    assert (found.frozen, found.clones) == ("kept", "kept")
    path = case.train(optimizer, 20)
    assert torch.equal(path[0], path[-1])
    witness()


@pytest.mark.claim("F2d", "property")
@pytest.mark.parametrize("name", WITH_DECAY)
def test_decay_moves_frozen_weights(name):
    case = Dead()
    optimizer = built(name, case.model, weight_decay=0.1)
    found = optimizer_verdict(case.model, optimizer, None, case.masks())
    assert found.frozen == "left"
    assert found.reasons[0].rests_on == ("F2d",)
    path = case.train(optimizer, 1)
    assert not bool((path[0] == path[1]).any())
    zero = Dead(value=0.0)
    optimizer = built(name, zero.model, weight_decay=0.1, **({"lambd": 0.0} if name == "ASGD" else {}))
    assert optimizer_verdict(zero.model, optimizer, None, zero.masks()).frozen == "kept", "control: zero stays zero"
    assert not bool(zero.train(optimizer, 3).any())
    witness()


def test_the_average_of_asgd_shrinks_weights_by_its_default():
    case = Dead()
    assert optimizer_verdict(case.model, optim.ASGD(case.model.parameters()), None, case.masks()).frozen == "left"


CARRY = {
    "SGD": {"momentum": 0.9},
    "RMSprop": {"momentum": 0.9},
    "Adam": {},
    "AdamW": {},
    "Adamax": {},
    "NAdam": {},
    "RAdam": {},
}


@pytest.mark.parametrize("name", CARRY)
def test_buffers_that_are_zero_on_frozen_weights_keep_them(name):
    case, optimizer = alive_first(
        name, CARRY[name] | {"lr": 0.01} | ({"weight_decay": 0.0} if name == "AdamW" else {})
    )
    for key in FACTS[SHIPPED[name]].carries:
        optimizer.state[case.weight][key][case.dead] = 0.0
    assert optimizer_verdict(case.model, optimizer, None, case.masks()).frozen == "kept"
    path = case.train(optimizer, 20)
    assert torch.equal(path[0], path[-1])


@pytest.mark.parametrize("name", ["Adagrad", "Adadelta", "Rprop", "Adafactor"])
def test_memory_that_moves_nothing_is_no_reason(name):
    case, optimizer = alive_first(name, {"lr": 0.01})
    assert optimizer_verdict(case.model, optimizer, None, case.masks()).frozen == "kept"
    path = case.train(optimizer, 20)
    assert torch.equal(path[0], path[-1])


def test_muon_spares_whole_dead_units_only():
    case = Dead()
    optimizer = built("Muon", case.model)
    part = case.dead.clone()
    part[:, 2:] = False
    assert optimizer_verdict(case.model, optimizer, None, case.masks()).frozen == "kept"
    assert optimizer_verdict(case.model, optimizer, None, {"weight": part}).frozen == "left"
    case.dead = part
    path = case.train(optimizer, 2)
    assert not torch.equal(path[0], path[-1])


def by_sign(case, optimizer):
    return optimizer_verdict(case.model, optimizer, None, case.masks(), sign_frozen=case.masks()).frozen


@pytest.mark.claim("F2b", "property")
@given(
    rate=st.sampled_from([0.01, 0.1, 0.5]),
    decay=st.sampled_from([0.0, 0.001, 0.1, 1.0, 3.0]),
    momentum=st.sampled_from([0.0, 0.3, 0.9]),
    push=st.sampled_from([0.0, 0.05, 1.0, -1.0]),
    seed=st.integers(0, 5),
)
def test_the_sign_survives_sgd_exactly_when_the_closed_form_says(rate, decay, momentum, push, seed):
    """``(1 − √μ)²`` against ``ηλ``, with buffers: each unit's path is followed for 500 steps."""
    assume(abs(rate * decay - (1 - math.sqrt(momentum)) ** 2) > 0.05 * (1 - math.sqrt(momentum)) ** 2)
    case = Dead(seed)
    optimizer = optim.SGD(case.model.parameters(), lr=rate, momentum=momentum, weight_decay=decay)
    if momentum:
        optimizer.state[case.weight]["momentum_buffer"] = -push * draw(*SIZE, seed=seed + 7).abs()
    expected = by_sign(case, optimizer)
    path = case.train(optimizer, 500)
    assert expected == ("kept" if float(path.max()) <= 0 else "left")
    witness()


@pytest.mark.claim("F2b", "property")
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("AdamW", {"lr": 0.1, "weight_decay": 0.5}),
        ("Adafactor", {"lr": 0.1, "weight_decay": 0.5}),
        ("NAdam", {"lr": 0.1, "weight_decay": 0.5, "decoupled_weight_decay": True}),
        ("ASGD", {"lr": 0.1, "lambd": 0.5, "weight_decay": 0.2}),
        ("Muon", {"lr": 0.1, "weight_decay": 0.5}),
    ],
)
def test_decoupled_decay_keeps_the_sign_and_not_the_value(name, settings):
    case = Dead()
    optimizer = SHIPPED[name](case.model.parameters(), **settings)
    assert by_sign(case, optimizer) == "kept"
    assert optimizer_verdict(case.model, optimizer, None, case.masks()).frozen == "left"
    path = case.train(optimizer, 50)
    assert float(path.max()) < 0
    assert not torch.equal(path[0], path[-1])
    witness()


@pytest.mark.control("F2b")
def test_decay_beyond_one_changes_the_sign():
    case = Dead()
    optimizer = optim.AdamW(case.model.parameters(), lr=2.0, weight_decay=0.6)
    assert by_sign(case, optimizer) == "left"
    assert float(case.train(optimizer, 1)[-1].min()) > 0


@pytest.mark.claim("F2b", "property")
def test_adam_with_coupled_decay_carries_small_weights_past_zero():
    case = Dead()
    settings = {"lr": 0.1, "weight_decay": 0.5, "eps": 1e-3}
    reach = 0.1 - 1e-3 / 0.5
    optimizer = optim.Adam(case.model.parameters(), **settings)
    small = int((case.weight[case.dead].abs() < reach).sum())
    found = optimizer_verdict(case.model, optimizer, None, sign_frozen=case.masks())
    assert found.frozen == "left"
    assert f"moves {small} weights" in found.reasons[0].sentence
    before, after = case.train(optimizer, 1)
    assert int((after > 0).sum()) == small > 0
    assert torch.equal(after > 0, before.abs() < reach)
    large = Dead(value=-0.5)
    large.weight.data[large.dead] -= reach
    assert by_sign(large, optim.Adam(large.model.parameters(), **settings)) == "unknown"
    assert float(large.train(optim.Adam(large.model.parameters(), **settings), 1).max()) <= 0
    witness()


def test_buffers_that_push_down_or_not_far_enough_keep_the_sign():
    for sign, size, expected in ((1.0, 1.0, "kept"), (-1.0, 1e-6, "kept"), (-1.0, 1.0, "unknown")):
        case = Dead()
        case.weight.data[case.dead] -= 0.1
        optimizer = optim.Adam(case.model.parameters(), lr=0.1)
        case.train(optimizer, 1)
        optimizer.state[case.weight]["exp_avg"][case.dead] = sign * size
        optimizer.state[case.weight]["exp_avg_sq"][case.dead] = 1e-2
        assert by_sign(case, optimizer) == expected
        highest = float(case.train(optimizer, 200).max())
        assert expected != "kept" or highest <= 0
        assert expected == "kept" or highest > 0
    case, optimizer = alive_first("AdamW", {"lr": 0.01, "weight_decay": 0.1})
    case.weight.data[case.dead] = -1.0
    assert by_sign(case, optimizer) == "unknown"


def test_positive_weights_are_judged_like_their_mirror_images():
    for push, expected in ((1e-3, "kept"), (100.0, "left")):
        found = []
        for sign in (1, -1):
            case = Dead(value=-0.5 * sign)
            optimizer = optim.SGD(case.model.parameters(), lr=0.1, momentum=0.5, weight_decay=0.1)
            case.train(optimizer, 1)
            optimizer.state[case.weight]["momentum_buffer"][case.dead] = -sign * push * 0.01
            case.weight.data[case.dead] -= sign * 0.01
            found.append(by_sign(case, optimizer))
            path = sign * case.train(optimizer, 300)
            assert (float(path.max()) <= 0) == (expected == "kept")
        assert found == [expected] * 2


def test_what_no_claim_covers_is_unknown():
    case = Dead()
    nesterov = optim.SGD(case.model.parameters(), lr=0.1, momentum=0.5, nesterov=True, weight_decay=0.1)
    assert by_sign(case, nesterov) == "unknown"
    assert by_sign(case, optim.RMSprop(case.model.parameters(), weight_decay=0.1)) == "unknown"
    nesterov.param_groups[0]["weight_decay"] = 0.0
    assert by_sign(case, nesterov) == "kept"


def dead_for_all_data():
    """Return a network with two dead units in its second layer, and what `frozen_units` says of it."""
    model = mlp(5, 3, width=4, depth=2, dtype=torch.float64)
    with torch.no_grad():
        for tensor in (model.linear2.weight, model.linear2.bias):
            tensor[:2] = -0.5 * (0.1 + draw(*tensor[:2].shape).abs())
    return model, frozen_units(model, draw(8, 5))


@pytest.mark.claim("F2b", "training")
@pytest.mark.parametrize(
    ("name", "settings", "held", "signed"),
    [
        ("SGD", {"lr": 0.1}, "kept", "kept"),
        ("SGD", {"lr": 0.1, "weight_decay": 0.1}, "left", "kept"),
        ("AdamW", {"lr": 0.1, "weight_decay": 0.1}, "left", "kept"),
        ("Adam", {"lr": 0.1, "weight_decay": 0.1}, "left", "left"),
    ],
)
def test_the_masks_of_a_frozen_certificate_are_judged_as_training_shows(name, settings, held, signed):
    model, certificate = dead_for_all_data()
    optimizer = SHIPPED[name](model.parameters(), **settings)
    masks = certificate.entries_of(Firmness.SIGN)
    assert {n for n, mask in masks.items() if mask.any()} == {"linear2.weight", "linear2.bias", "head.weight"}
    assert optimizer_verdict(model, optimizer, None, masks).frozen == held
    assert optimizer_verdict(model, optimizer, None, masks, sign_frozen=masks).frozen == signed
    before, dead = model.linear2.weight.detach()[:2].clone(), []
    for step in range(30):
        train(model, optimizer, 1, seed=step)
        found = frozen_units(model, draw(8, 5)).units
        dead.append({0, 1} <= {u.unit for u in found if u.layer == "act2" and u.reason == Firmness.SIGN})
    assert all(dead) == (signed == "kept")
    assert torch.equal(before, model.linear2.weight[:2]) == (held == "kept")
    witness(instances=30)


WITHOUT_FLOOR = {
    "Adam": {"eps": 0.0},
    "AdamW": {"eps": 1e-50, "weight_decay": 0.0},  # rounds to zero in float32
    "Adamax": {"eps": 0.0},
    "NAdam": {"eps": 0.0},
    "RAdam": {"eps": 0.0},
    "RMSprop": {"eps": 0.0},
    "Adagrad": {"eps": 0.0},
    "Adadelta": {"eps": 0.0},
    "Adafactor": {"eps": (0.0, 1e-3)},
}


@pytest.mark.parametrize("name", WITHOUT_FLOOR)
def test_nothing_over_nothing_is_no_promise(name):
    torch.manual_seed(0)
    model = torch.nn.Linear(5, 6)
    dead = torch.zeros(6, 5, dtype=torch.bool)
    dead[0] = True
    optimizer = built(name, model, lr=0.01, **WITHOUT_FLOOR[name])
    found = optimizer_verdict(model, optimizer, None, {"weight": dead})
    assert found.frozen == "left"
    assert "NaN" in found.reasons[0].sentence
    for _ in range(8):  # RAdam divides from the sixth step on
        model.weight.grad = torch.where(dead, 0.0, torch.randn(6, 5))
        optimizer.step()
    assert bool(model.weight[0].isnan().all())


def test_a_second_moment_that_remembers_is_no_zero():
    model = torch.nn.Linear(5, 6)
    optimizer = optim.Adagrad(model.parameters(), eps=0.0, initial_accumulator_value=0.1)
    dead = torch.zeros(6, 5, dtype=torch.bool)
    dead[0] = True
    assert optimizer_verdict(model, optimizer, None, {"weight": dead}).frozen == "kept"


def test_a_cycle_that_begins_at_rate_zero_is_no_rest():
    case = Dead()
    still = optim.SGD(case.model.parameters(), 0.0, weight_decay=0.1)
    assert optimizer_verdict(case.model, still, None, case.masks()).frozen == "kept"
    optimizer = optim.SGD(case.model.parameters(), 0.0, weight_decay=0.1)
    cycle = optim.lr_scheduler.CyclicLR(optimizer, 0.0, 0.1, step_size_up=5)
    assert optimizer_verdict(case.model, optimizer, None, case.masks()).frozen == "left"
    before = case.weight.detach().clone()
    for _ in range(3):
        case.train(optimizer, 1)
        cycle.step()
    assert bool((case.weight != before)[case.dead].all())
