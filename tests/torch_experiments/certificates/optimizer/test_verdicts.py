"""The verdict on an optimizer, against real steps of every optimizer of torch on clones and frozen weights."""

import dataclasses
import inspect
import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import mse_loss
from torch.optim.optimizer import register_optimizer_step_pre_hook

from claims.evidence import witness
from claims.ledger import load
from tests.torch_experiments.strategies import rounded
from theory.certificates import Firmness
from torch_experiments import clone, layout
from torch_experiments.certificates.frozen.analysis import frozen_units
from torch_experiments.certificates.optimizer.update_rules import FACTS
from torch_experiments.certificates.optimizer.verdicts import optimizer_verdict
from torch_experiments.cloning.chains import chain_layout, expand, profiles
from torch_experiments.cloning.exact import residuals
from torch_experiments.cloning.partition import coarsest_blocks
from torch_experiments.lab.models import mlp
from torch_experiments.lab.optimizer_table import MANIFOLDS, SETTINGS
from torch_experiments.support.loading import shipped
from torch_experiments.support.noise import GradientNoise

KEPT, LEFT = 3e-12, 1e-3
optim = torch.optim
SHIPPED = {kind.__name__: kind for kind in shipped()}
WITH_DECAY = [name for name, kind in SHIPPED.items() if "weight_decay" in inspect.signature(kind).parameters]


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


def start(manifold="identical clones", factor=3, norm="none", activation=None, **options):
    """Return a clone with two hidden layers and where its copies lie."""
    kind = MANIFOLDS[manifold]
    base = mlp(
        5, 3, width=4, depth=2, norm=norm, activation=activation or kind.activation, dtype=torch.float64, **options
    )
    axes = profiles(base, factor, scales=kind.scales, generator=rng())
    return expand(base, axes, spread=kind.spread, generator=rng()), chain_layout(base, axes)


def built(name, model, **changes):
    """Return an optimizer with the settings of the table, without decay unless asked for."""
    settings = dict(SETTINGS.get(name, {}))
    if name in WITH_DECAY:
        settings["weight_decay"] = 0.0
    parameters = [p for p in model.parameters() if p.ndim == 2 or name != "Muon"]
    return SHIPPED[name](parameters, **settings | changes)


def train(model, optimizer, steps, seed=1):
    """Take steps on fresh random data; gradients are sparse for SparseAdam."""
    generator = rng(seed)
    for _ in range(steps):
        x = torch.randn(16, 5, generator=generator, dtype=torch.float64)
        y = torch.sin(x[:, :3] + 2 * x[:, -3:])

        def closure(x=x, y=y):
            model.zero_grad()
            loss = mse_loss(model(x), y)
            loss.backward()
            for p in model.parameters() if isinstance(optimizer, optim.SparseAdam) else ():
                p.grad = p.grad.to_sparse()
            return loss.item()

        if isinstance(optimizer, optim.LBFGS):
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()


def measured(model, place, optimizer, steps=30):
    """Return the largest violation of the equations, and the largest distance from the coset, after training."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train(model, optimizer, steps)
    found = residuals(model, place, before)
    return max(max(r.rows, r.columns) for r in found), max(r.coset for r in found)


def agrees(verdict, residual, left=LEFT):
    """Check a verdict against a residual, and return it for the evidence; nothing is asked of ``"unknown"``."""
    assert verdict != "kept" or residual <= KEPT
    assert verdict != "left" or residual >= left or math.isnan(residual)
    return residual if verdict == "kept" else 0.0


def check(model, place, optimizer, left=LEFT, **options):
    """Check the verdict on clones against training, and return it."""
    found = optimizer_verdict(model, optimizer, place, **options)
    equations, coset = measured(model, place, optimizer)
    witness(residual=max(agrees(found.clones, equations, left), agrees(found.coset, coset, left)))
    return found.clones, found.coset


# ------------------------------------------------------------------------------------------------ rules and clones

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


# ----------------------------------------------------------------------------------------------------------- state


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


# --------------------------------------------------------------------------------------- modules, hooks, subclasses


@pytest.mark.parametrize(
    ("manifold", "norm", "expected"),
    [
        ("identical clones", "batch", ("kept", "kept")),
        ("signed (tanh)", "batch", ("kept", "kept")),
        ("scaled (ReLU)", "batch", ("left", "left")),
        ("identical clones", "layer", ("kept", "kept")),
        ("signed (tanh)", "layer", ("left", "left")),
        ("scaled (ReLU)", "layer", ("left", "left")),
    ],
)
def test_norms_keep_and_break_what_training_shows(manifold, norm, expected):
    model, place = start(manifold, norm=norm)
    optimizer = optim.SGD(model.train().parameters(), lr=0.05)
    left = 1e-7 if norm == "batch" else LEFT
    assert check(model, place, optimizer, left=left) == expected


def test_a_batch_norm_without_eps_keeps_scales():
    model, place = start("scaled (ReLU)", norm="batch")
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.eps = 1e-30
    assert check(model, place, optim.SGD(model.parameters(), lr=0.05)) == ("kept", "kept")


def test_group_norm_breaks_signs_and_rms_norm_is_unknown():
    for norm, expected in ((nn.GroupNorm(1, 4), "left"), (nn.RMSNorm(4), "unknown")):
        base = nn.Sequential(nn.Linear(5, 4), norm, nn.Tanh(), nn.Linear(4, 3)).double()
        axes = profiles(base, 3, scales="sign", generator=rng())
        model, place = expand(base, axes), chain_layout(base, axes)
        assert check(model, place, optim.SGD(model.parameters(), lr=0.05))[0] == expected


@pytest.mark.parametrize(
    ("manifold", "activation"), [("scaled (ReLU)", "tanh"), ("signed (tanh)", "relu"), ("signed (tanh)", "gelu")]
)
def test_activations_that_do_not_commute_with_scales_part_the_copies(manifold, activation):
    model, place = start(manifold, activation=activation)
    assert check(model, place, optim.SGD(model.parameters(), lr=0.05)) == ("left", "left")


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_homogeneous_activations_keep_scales(activation):
    model, place = start("scaled (ReLU)", activation=activation)
    assert check(model, place, optim.SGD(model.parameters(), lr=0.05)) == ("kept", "kept")


def test_dropout_parts_copies_while_it_is_on():
    model, place = start(dropout=0.1)
    optimizer = optim.SGD(model.parameters(), lr=0.05)
    assert check(model.eval(), place, optimizer) == ("kept", "kept")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        assert check(model.train(), place, optimizer) == ("left", "left")
    worst = optimizer_verdict(*start(dropout=0.1)[:1], None, place).reasons[0]
    assert worst.where == ("drop1", "drop2")
    assert worst.rests_on == ("M2", "C9")


def test_dropout_on_features_that_have_no_copies_is_harmless():
    base = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3), nn.Dropout(0.1)).double().train()
    model, place = clone(base, 3), layout(base, 3)
    optimizer = optim.SGD(model.parameters(), lr=0.05)
    with torch.random.fork_rng(devices=[]):
        assert check(model, place, optimizer) == ("kept", "kept")


def test_dropout_that_the_trace_did_not_see_is_unknown():
    model, place = start()
    model.spare = nn.Dropout(0.1)
    found = optimizer_verdict(model.train(), None, place)
    assert (found.clones, found.reasons[0].where) == ("unknown", ("spare",))


class FunctionalDropout(nn.Module):
    def __init__(self, body, p):
        super().__init__()
        self.body, self.p = body, p

    def forward(self, x):
        return nn.functional.dropout(self.body(x), self.p, self.training)


@pytest.mark.parametrize("certified", [False, True])
def test_functional_dropout_is_unknown_while_it_is_on(certified):
    x = torch.ones(2, 5).double()
    layer = FunctionalDropout(nn.Sequential(nn.Linear(5, 4), nn.ReLU()), 0.1)
    base = nn.Sequential(layer, nn.Linear(4, 3)).double()
    model, place = clone(base, 2, example_inputs=x), layout(base, 2, example_inputs=x)
    if certified:
        place = coarsest_blocks(model, x).layout()
    for training, expected in ((True, "unknown"), (False, "kept")):
        assert optimizer_verdict(model.train(training), None, place).clones == expected


def test_gradient_noise_parts_copies():
    for sigma, decay, expected in ((0.1, 1.0, "left"), (0.1, 0.0, "left"), (0.0, 1.0, "kept")):
        model, place = start()
        optimizer = optim.SGD(model.parameters(), lr=0.05)
        optimizer.register_step_pre_hook(GradientNoise(sigma, decay, generator=rng()))
        assert check(model, place, optimizer)[0] == expected
    model, place = start()
    spent = GradientNoise(0.1, 0.0)
    spent.steps = 1
    optimizer = optim.SGD(model.parameters(), lr=0.05)
    optimizer.register_step_pre_hook(spent)
    assert check(model, place, optimizer)[0] == "kept"


def test_hooks_that_nobody_knows_are_unknown():
    model, place = start()

    def spy(*_):
        pass

    for register in (
        lambda o: o.register_step_pre_hook(spy),
        lambda o: o.register_step_post_hook(spy),
        lambda o: register_optimizer_step_pre_hook(spy),
        lambda o: model.linear2.weight.register_hook(spy),
        lambda o: model.linear2.weight.register_post_accumulate_grad_hook(spy),
    ):
        optimizer = optim.SGD(model.parameters(), lr=0.05)
        handle = register(optimizer)
        assert optimizer_verdict(model, optimizer, place).clones == "unknown"
        handle.remove()
        assert optimizer_verdict(model, optimizer, place).clones == "kept"


class Renamed(optim.SGD):
    """A subclass that changes nothing."""


class Changed(optim.SGD):
    """A subclass with a step of its own."""

    def step(self, closure=None):
        """Halve the rate of odd units."""
        return super().step(closure)


class Own(optim.Optimizer):
    """No optimizer of torch."""

    def __init__(self, parameters):
        super().__init__(parameters, {"lr": 0.1})

    def step(self, closure=None):
        """Do nothing."""


def test_subclasses_are_known_as_far_as_they_step_like_their_base():
    model, place = start()
    masks = {"linear1.bias": torch.ones(12, dtype=torch.bool)}
    for optimizer, expected in (
        (Renamed(model.parameters(), lr=0.1), "kept"),
        (Changed(model.parameters(), lr=0.1), "unknown"),
        (Own(model.parameters()), "unknown"),
    ):
        found = optimizer_verdict(model, optimizer, place, masks)
        assert (found.clones, found.frozen) == (expected, expected)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    optim.lr_scheduler.StepLR(optimizer, 1)
    assert optimizer_verdict(model, optimizer, place).clones == "kept"
    optimizer.step = lambda closure=None: None
    assert optimizer_verdict(model, optimizer, place).clones == "unknown"


# ---------------------------------------------------------------------------------------------------------- frozen

SIZE = (6, 5)


class Dead:
    """A Linear layer of which two units are dead, trained on random gradients that are zero on them."""

    def __init__(self, seed=0, value=-0.5):
        self.model = nn.Linear(5, 6, bias=False, dtype=torch.float64)
        self.weight = self.model.weight
        self.weight.data = draw(*SIZE, seed=seed)
        self.dead = torch.zeros(SIZE, dtype=torch.bool)
        self.dead[:2] = True
        self.weight.data[self.dead] = value * draw(*SIZE, seed=seed + 1).abs()[self.dead]

    def masks(self):
        return {"weight": self.dead}

    def train(self, optimizer, steps, seed=0):
        """Return the paths of the dead weights, shape [steps + 1, dead]."""
        path, generator = [self.weight.detach()[self.dead].clone()], rng(seed)
        for _ in range(steps):
            grad = torch.randn(SIZE, generator=generator, dtype=torch.float64).masked_fill(self.dead, 0)
            self.weight.grad = grad.to_sparse() if isinstance(optimizer, optim.SparseAdam) else grad
            optimizer.step(lambda: 0.0) if isinstance(optimizer, optim.LBFGS) else optimizer.step()
            path.append(self.weight.detach()[self.dead].clone())
        return torch.stack(path)


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
BOUNDED = [
    ("SGD", {"lr": 0.1, "momentum": 0.9}, True),
    ("SGD", {"lr": 0.1, "momentum": 0.7, "nesterov": True}, True),
    ("RMSprop", {"lr": 0.01, "momentum": 0.8}, True),
    ("Adam", {"lr": 0.01}, False),
    ("Adam", {"lr": 0.01, "betas": (0.5, 0.5)}, False),
    ("Adam", {"lr": 0.01, "amsgrad": True}, False),
    ("AdamW", {"lr": 0.01, "weight_decay": 0.0, "eps": 1e-3}, False),
    ("Adamax", {"lr": 0.01}, False),
    ("NAdam", {"lr": 0.01}, False),
]


def alive_first(name, settings, steps=3, seed=5):
    """Return dead units that had gradients in their last steps of life, so that buffers are not zero."""
    case = Dead()
    optimizer = SHIPPED[name](case.model.parameters(), **settings)
    generator = rng(seed)
    for _ in range(steps):
        case.weight.grad = torch.randn(SIZE, generator=generator, dtype=torch.float64)
        optimizer.step()
    return case, optimizer


@pytest.mark.claim("F2d", "property")
@pytest.mark.parametrize(("name", "settings", "exact"), BOUNDED)
def test_buffers_carry_frozen_weights_as_far_as_the_bound_says(name, settings, exact):
    case, optimizer = alive_first(name, settings)
    found = optimizer_verdict(case.model, optimizer, None, case.masks())
    assert found.frozen == "left"
    said = float(found.reasons[0].sentence.rpartition("at most ")[2])
    path = case.train(optimizer, 400)
    far = float((path[-1] - path[0]).abs().max())
    assert 0 < far <= said * 1.05
    assert not exact or far == pytest.approx(said, rel=0.05)
    assert exact or said < 4 * far, "the bound is of use"
    witness(residual=far / said)


def test_where_the_second_moment_fades_faster_the_bound_is_that_of_epsilon():
    case, optimizer = alive_first("Adam", {"lr": 0.01, "betas": (0.9, 0.5)})
    found = optimizer_verdict(case.model, optimizer, None, case.masks())
    said = float(found.reasons[0].sentence.rpartition("at most ")[2])
    path = case.train(optimizer, 400)
    assert 1e3 < float((path[-1] - path[0]).abs().max()) < said < 1e8


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


def test_noise_spares_a_parameter_that_is_frozen_as_a_whole():
    case = Dead()
    optimizer = optim.SGD(case.model.parameters(), lr=0.1)
    optimizer.register_step_pre_hook(GradientNoise(0.1, generator=rng()))
    assert optimizer_verdict(case.model, optimizer, None, case.masks()).frozen == "left"
    whole = {"weight": torch.ones(SIZE, dtype=torch.bool)}
    assert optimizer_verdict(case.model, optimizer, None, whole).frozen == "kept"
    assert not torch.equal(*case.train(optimizer, 1))
    case.dead = whole["weight"]
    assert torch.equal(*case.train(optimizer, 1))


def test_frozen_weights_that_are_not_trained_are_kept():
    case = Dead()
    other = nn.Linear(2, 2, dtype=torch.float64)
    both = nn.Sequential(case.model, other)
    masks = {"0.weight": case.dead}
    optimizer = optim.SGD(other.parameters(), lr=0.1, weight_decay=0.1)
    assert optimizer_verdict(both, optimizer, None, masks).frozen == "kept"
    optimizer = optim.SGD(both.parameters(), lr=0.1, weight_decay=0.1)
    assert optimizer_verdict(both, optimizer, None, masks).frozen == "left", "control"
    case.weight.requires_grad_(False)
    assert optimizer_verdict(both, optimizer, None, masks).frozen == "kept"


# --------------------------------------------------------------------------------------------- the cone of F2b


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


# ------------------------------------------------------------------------------------------------------- the result


def test_gradient_flow_keeps_clones_and_frozen_weights():
    model, place = start()
    found = optimizer_verdict(model, None, place, {"linear1.bias": torch.ones(12, dtype=torch.bool)})
    assert (found.optimizer, found.clones, found.coset, found.frozen) == ("gradient flow", *["kept"] * 3)


def test_float32_clones_are_judged_with_float32_rounding():
    base = mlp(5, 3, width=4, depth=2)
    model, place = clone(base, 3, "equitable", rng()), layout(base, 3)
    optimizer = optim.Adam(model.parameters())
    assert optimizer_verdict(model, optimizer, place).coset == "kept"
    optimizer.param_groups[0]["weight_decay"] = 0.1
    assert optimizer_verdict(model, optimizer, place).clones == "left"


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["SGD", "Adam", "Muon"])
def test_a_gpu_gives_the_same_verdicts(name):
    masks = {"linear2.weight": torch.arange(12)[:, None].expand(12, 12) < 3}
    for manifold in MANIFOLDS:
        found = []
        for device in ("cpu", "cuda"):
            model, place = start(manifold)
            optimizer = built(name, model.to(device))
            mse_loss(model(draw(16, 5).to(device)), draw(16, 3).to(device)).backward()
            optimizer.step()
            found.append(optimizer_verdict(model, optimizer, place, masks))
        assert found[0].clones == found[1].clones
        assert found[0].coset == found[1].coset
        assert found[0].frozen == found[1].frozen


def test_reasons_are_plain_ordered_and_rest_on_claims_of_the_ledger():
    ledger = load()
    model, place = start("RE ∩ CE, not constant", dropout=0.1)
    optimizer = optim.Adam(model.parameters(), weight_decay=0.1)
    optimizer.register_step_pre_hook(GradientNoise(0.1))
    train(model.eval(), optim.SGD(model.parameters(), lr=0.01), 2)
    found = optimizer_verdict(model.train(), optimizer, place, {"linear1.bias": torch.ones(12, dtype=torch.bool)})
    assert {claim for reason in found.reasons for claim in reason.rests_on} <= set(ledger)
    order = [("left", "unknown", "kept").index(reason.verdict) for reason in found.reasons]
    assert order == sorted(order)
    plain = dataclasses.asdict(found)
    assert plain["optimizer"] == "Adam: lr 0.001, betas (0.9, 0.999), weight_decay 0.1"
    assert all(isinstance(v, str | tuple) for reason in plain["reasons"] for v in reason.values())
    assert len(found.reasons) < 20, "equal reasons are one"


def test_every_optimizer_of_torch_has_facts():
    assert set(FACTS) == set(shipped())


def refused(match, *args, **options):
    with pytest.raises(ValueError, match=match):
        optimizer_verdict(*args, **options)


def test_errors_name_what_was_given_and_the_fix():
    model, place = start()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    base = mlp(5, 3, width=4, depth=2, dtype=torch.float64)
    refused("of the clone, not of its base", base, None, place)
    refused("holds no parameter of the model", model, optim.SGD(base.parameters(), lr=0.1), place)
    refused("no parameter of the model; keys", model, optimizer, place, {"nobody": torch.ones(1, dtype=torch.bool)})
    refused("bool mask of shape", model, optimizer, place, {"head.bias": torch.ones(7, dtype=torch.bool)})
    refused("bool mask of shape", model, optimizer, place, {"head.bias": torch.ones(3)})
    optimizer.param_groups[0]["lr"] = torch.ones(2)
    refused("lr is a tensor", model, optimizer, place, {"linear1.bias": torch.ones(12, dtype=torch.bool)})
    broken = clone(base, 3, "rows", rng())
    refused("violate the equations", broken, None, layout(base, 3))
