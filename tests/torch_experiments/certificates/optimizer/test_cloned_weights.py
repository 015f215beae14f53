"""The verdict on copies under every update rule and every state, against real steps."""

import pytest
from torch.nn.functional import mse_loss

from tests.torch_experiments.certificates.optimizer.training import (
    SHIPPED,
    WITH_DECAY,
    built,
    check,
    draw,
    optim,
    rng,
    start,
    train,
)
from tests.torch_experiments.strategies import rounded
from torch_experiments import clone, layout
from torch_experiments.certificates.optimizer.update_rules import FACTS
from torch_experiments.certificates.optimizer.verdicts import optimizer_verdict
from torch_experiments.cloning.exact import residuals
from torch_experiments.lab.models import mlp
from torch_experiments.lab.optimizer_table import MANIFOLDS

# By kind of clones (identical, RE ∩ CE, scaled, signed): k kept, c clones kept and coset left, x left, u unknown,
# v clones unknown and coset left.
SAYS = {
    "k": ("kept", "kept"),
    "c": ("kept", "left"),
    "x": ("left", "left"),
    "u": ("unknown",) * 2,
    "v": ("unknown", "left"),
}


PLAIN = dict.fromkeys(SHIPPED, "kkxk") | {"SGD": "kkkk", "ASGD": "kckk", "Muon": "kuxk", "LBFGS": "uuuu"}


DECAY = dict.fromkeys(WITH_DECAY, "kxxk") | {
    "SGD": "kckk",
    "ASGD": "kckk",
    "AdamW": "kcxk",
    "Adafactor": "kcxk",
    "Muon": "kvxk",
}


@pytest.mark.claim("C9", "property")
@pytest.mark.parametrize("name", SHIPPED)
def test_the_verdict_on_every_optimizer_of_torch_is_what_training_shows(name):
    for letter, manifold in zip(PLAIN[name], MANIFOLDS, strict=True):
        model, place = start(manifold)
        assert check(model, place, built(name, model)) == SAYS[letter], manifold


@pytest.mark.claim("C9", "property")
@pytest.mark.parametrize("name", WITH_DECAY)
def test_the_verdict_on_decay_is_what_training_shows(name):
    for letter, manifold in zip(DECAY[name], MANIFOLDS, strict=True):
        model, place = start(manifold)
        assert check(model, place, built(name, model, weight_decay=0.1)) == SAYS[letter], manifold


VARIANTS = {
    "momentum": ("SGD", {"momentum": 0.9}),
    "Nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}),
    "dampening": ("SGD", {"momentum": 0.9, "dampening": 0.5}),
    "ascent": ("SGD", {"maximize": True, "lr": 1e-3}),
    "AMSGrad": ("Adam", {"amsgrad": True}),
    "centred": ("RMSprop", {"centered": True, "momentum": 0.5}),
    "NAdam, decoupled": ("NAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    "RAdam, decoupled": ("RAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
}


@pytest.mark.claim("C9", "property")
@pytest.mark.parametrize("variant", VARIANTS)
def test_settings_that_matter_are_read(variant):
    name, changes = VARIANTS[variant]
    expected = "kkkk" if name == "SGD" else "kcxk" if "decoupled" in variant else "kkxk"
    for letter, manifold in zip(expected, MANIFOLDS, strict=True):
        model, place = start(manifold)
        assert check(model, place, built(name, model, **changes)) == SAYS[letter], manifold


@pytest.mark.parametrize("name", sorted(set(SHIPPED) - {"LBFGS", "Muon"}))
def test_the_state_of_a_kept_run_is_read_as_kept(name):
    for manifold in ("RE ∩ CE, not constant", "signed (tanh)"):
        model, place = start(manifold)
        optimizer = built(name, model)
        train(model, optimizer, 5)
        assert optimizer_verdict(model, optimizer, place).clones == "kept"


def test_decay_in_a_momentum_buffer_keeps_the_clones():
    model, place = start("RE ∩ CE, not constant")
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=0.1)
    train(model, optimizer, 5)
    optimizer.param_groups[0]["weight_decay"] = 0.0
    found = optimizer_verdict(model, optimizer, place)
    assert (found.clones, found.coset) == ("kept", "left")
    assert "momentum_buffer is off" in found.reasons[0].sentence
    assert check(model, place, optimizer) == ("kept", "left")


def test_of_two_copies_coupled_decay_keeps_the_equations_and_of_three_it_does_not():
    for factor, expected in ((2, ("kept", "left")), (3, ("left", "left"))):
        model, place = start("RE ∩ CE, not constant", factor)
        optimizer = built("Adam", model, weight_decay=0.1)
        assert check(model, place, optimizer) == expected
        if factor == 2:
            assert optimizer_verdict(model, optimizer, place).clones == "kept", "with state of its own"


def test_rates_may_differ_between_parameters_and_parameters_may_be_left_out():
    for manifold in MANIFOLDS:
        model, place = start(manifold)
        groups = [{"params": [model.linear1.weight], "lr": 0.1}, {"params": [model.head.weight, model.head.bias]}]
        optimizer = optim.SGD(groups, lr=0.01, momentum=0.5)
        model.head.bias.requires_grad_(False)
        assert check(model, place, optimizer) == ("kept", "kept")
        said = {
            name
            for r in optimizer_verdict(model, optimizer, place).reasons
            if "not trained" in r.sentence
            for name in r.where
        }
        assert {"linear2.weight", "linear1.bias"} <= said


def states(name):
    """Yield the names of state tensors that the facts list and a run of this optimizer has."""
    model, _ = start()
    optimizer = built(name, model, **EXTRA.get(name, {}))
    train(model, optimizer, 3)
    state = optimizer.state[model.linear2.weight] or optimizer.state[model.linear1.weight]
    return [key for key in (*FACTS[SHIPPED[name]].odd, *FACTS[SHIPPED[name]].even) if key in state]


EXTRA = {"SGD": {"momentum": 0.9}, "RMSprop": {"momentum": 0.9, "centered": True}, "Adam": {"amsgrad": True}}


TENSORS = [
    ("SGD", "momentum_buffer"),
    *(("Adam", key) for key in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")),
    *(("RMSprop", key) for key in ("momentum_buffer", "grad_avg", "square_avg")),
    *((name, key) for name in ("AdamW", "NAdam", "RAdam", "SparseAdam") for key in ("exp_avg", "exp_avg_sq")),
    *(("Adamax", key) for key in ("exp_avg", "exp_inf")),
    *(("Adadelta", key) for key in ("square_avg", "acc_delta")),
    *(("Rprop", key) for key in ("prev", "step_size")),
    *(("Adafactor", key) for key in ("row_var", "col_var")),
    *(("Muon", key) for key in ("momentum_buffer",)),
    ("Adagrad", "sum"),
]


def test_every_state_tensor_of_the_facts_is_tried():
    tried = {(name, key) for name, key in TENSORS}
    for name in set(SHIPPED) - {"LBFGS", "ASGD"}:
        assert {(name, key) for key in states(name)} <= tried


@pytest.mark.parametrize(("name", "key"), TENSORS)
def test_state_that_tells_copies_apart_parts_them(name, key):
    model, place = start("identical clones")
    optimizer = built(name, model, **EXTRA.get(name, {}))
    train(model, optimizer, 8)
    assert optimizer_verdict(model, optimizer, place).clones == "kept", "control: its own state is on the blocks"
    state = optimizer.state[model.linear2.weight]
    size = state[key].abs().max()
    state[key] = size * (1 + draw(*state[key].shape).abs() if key not in ("prev",) else draw(*state[key].shape))
    assert check(model, place, optimizer, left=1e-5) == ("left", "left")


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_state_on_the_blocks_keeps_the_clones_whatever_its_size(name):
    for manifold in ("RE ∩ CE, not constant", "signed (tanh)"):
        model, place = start(manifold)
        optimizer = built(name, model, **EXTRA.get(name, {}))
        train(model, optimizer, 3)
        own = place.placements["linear2.weight"]
        state = optimizer.state[model.linear2.weight]
        for key in ("momentum_buffer", "exp_avg"):
            if key in state:
                on = draw(12, 12)
                for dim, profile in enumerate(own.profiles):
                    on = profile.project(on, dim)
                state[key] = on
        assert check(model, place, optimizer) == ("kept", "kept")


def test_state_that_the_settings_do_not_use_is_ignored():
    model, place = start()
    optimizer = built("SGD", model, momentum=0.9)
    train(model, optimizer, 2)
    optimizer.state[model.linear2.weight]["momentum_buffer"] = draw(12, 12)
    optimizer.param_groups[0]["momentum"] = 0.0
    assert check(model, place, optimizer) == ("kept", "kept")


def test_zero_sum_moments_of_adam_are_unknown_to_the_clones_and_leave_the_coset():
    model, place = start("identical clones")
    optimizer = built("Adam", model)
    train(model, optimizer, 3)
    x = draw(12, 12)
    for dim, profile in enumerate(place.placements["linear2.weight"].profiles):
        x = x - profile.project(x, dim)
    optimizer.state[model.linear2.weight]["exp_avg"] += 0.1 * x
    assert check(model, place, optimizer) == ("unknown", "left")


def test_history_of_lbfgs_off_the_blocks_is_seen():
    model, place = start()
    optimizer = built("LBFGS", model)
    train(model, optimizer, 2)
    assert optimizer_verdict(model, optimizer, place).clones == "unknown"
    optimizer.state[model.linear1.weight]["old_stps"][0] += draw(sum(p.numel() for p in model.parameters()))
    found = optimizer_verdict(model, optimizer, place)
    assert found.clones == "left"
    assert "old_stps" in found.reasons[0].sentence


def test_buffers_of_rounding_size_do_not_part_clones_under_a_linear_rule():
    model, place = start()
    optimizer = built("SGD", model, momentum=0.9)
    train(model, optimizer, 2)
    optimizer.state[model.linear2.weight]["momentum_buffer"] = 1e-16 * draw(12, 12)
    assert check(model, place, optimizer) == ("kept", "kept")


def test_a_gradient_that_is_rounding_alone_is_seen_before_adam_makes_steps_of_it():
    """BatchNorm removes the biases before it: their gradients are rounding, in float32 1e-9, about Adam's ε."""
    base = mlp(5, 3, width=4, depth=2, norm="batch").train()
    model, place = clone(base, 3, "equitable", rng()).train(), layout(base, 3)
    double = clone(base.double(), 3, "equitable", rng())
    x, y, generator = draw(16, 5).float(), draw(16, 3, seed=1).float(), rng(1)

    def backward(net):
        """Plant the rounding, which another processor may not have."""
        mse_loss(net(x.to(net.head.weight)), y.to(net.head.weight)).backward()
        for bias in (net.linear1.bias, net.linear2.bias):
            bias.grad = rounded(bias.grad, generator, ulps=0.01)

    backward(model)
    adam, sgd = optim.Adam(model.parameters(), lr=0.01), optim.SGD(model.parameters(), lr=0.01)
    assert optimizer_verdict(model, sgd, place).clones == "kept", "control: a linear rule does not feel it"
    found = optimizer_verdict(model, adam, place)
    assert found.clones == "left"
    assert {name for r in found.reasons if r.verdict == "left" for name in r.where} <= {
        "linear1.bias",
        "linear2.bias",
    }
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for _ in range(20):
        adam.zero_grad()
        backward(model)
        adam.step()
    assert max(r.rows for r in residuals(model, place, before)) > 1e-5
    backward(double)
    adam = optim.Adam(double.parameters(), lr=0.01)
    assert optimizer_verdict(double, adam, place).clones == "kept", "control: 1e-17 is far below ε"
