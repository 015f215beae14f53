"""Claim C9: which rules keep which clones, for every optimizer that torch ships, and known rules that must fail."""

import math

import pytest
import torch

from claims.evidence import witness
from torch_experiments.lab import optimizer_table
from torch_experiments.lab import rules as update_rules
from torch_experiments.lab.optimizer_table import MANIFOLDS
from torch_experiments.lab.rules import Rule
from torch_experiments.support.loading import shipped

LINEAR = ("SGD", "SGD, momentum", "SGD, Nesterov", "SGD, clipped by norm", "Shampoo")
ODD = (
    *("Adadelta", "Adafactor", "Adagrad", "Adam", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop", "SparseAdam"),
    *("sign-SGD", "SGD, clipped by value", "Adam, AMSGrad"),
)
SLOW = 3 * optimizer_table.KEPT  # room for a last digit on machines with other kernels

# Per kind of clones: identical, equitable, scaled, signed. ✓ kept, ✗ broken at once, c equations kept and coset
# left, r kept in exact arithmetic while rounding may grow, b broken by rounding (bfloat16) or by the norm's eps.
PATTERN = (
    dict.fromkeys(LINEAR, "✓✓✓✓")
    | dict.fromkeys(ODD, "✓✓✗✓")
    | dict.fromkeys(("SGD, weight decay", "SGD, momentum, weight decay", "ASGD"), "✓c✓✓")
    | {"AdamW": "✓c✗✓", "Adam, coupled L2": "✓✗✗✓", "LBFGS": "rrrr"}
    | {"Muon": "✓rb✓", "Muon, weight decay": "✓cb✓", "Muon in float64": "rrrr"}
    | {"BatchNorm, SGD": "✓✓b✓", "BatchNorm with eps → 0, SGD": "✓✓✓✓", "LayerNorm, SGD": "✓r✗✗"}
)
NEGATIVES = ("SGD, gradient noise", "SGD, dropout on clones", "SGD, unequal rates per unit")
RULES = {rule.name: rule for rule in update_rules.rules()}


def rows(rule, manifold, **settings):
    return optimizer_table.follow(RULES[rule], MANIFOLDS[manifold], **settings)


def last(found, which):
    return found[-1][which]


def early(found, which):
    return max(row[which] for row in found if row["step"] <= optimizer_table.EARLY)


def kept(found):
    assert max(last(found, "equations"), last(found, "coset")) <= SLOW
    return max(last(found, "equations"), last(found, "coset"))


def broken(found):
    assert early(found, "coset") >= optimizer_table.LEFT or math.isnan(early(found, "coset"))
    return 0.0


def coset_left(found):
    assert last(found, "equations") <= SLOW
    assert early(found, "coset") >= optimizer_table.LEFT
    return last(found, "equations")


def kept_up_to_rounding(found):
    first = max(found[0]["equations"], found[0]["coset"])
    assert first <= 1e-14
    assert max(found[3]["equations"], found[3]["coset"]) <= 1e-12
    return first


def broken_by_rounding(found):
    assert optimizer_table.verdict(found, "coset") in "⚠✗"
    assert last(found, "coset") > 1e-9
    return 0.0


CHECKS = {"✓": kept, "✗": broken, "c": coset_left, "r": kept_up_to_rounding, "b": broken_by_rounding}


@pytest.mark.claim("C9", "property")
@pytest.mark.parametrize("rule", PATTERN)
def test_a_rule_keeps_and_breaks_what_the_theory_says(rule):
    for kind, manifold in zip(PATTERN[rule], MANIFOLDS, strict=True):
        found = rows(rule, manifold, factor=3, steps=64 if rule == "LBFGS" else 300)
        witness(residual=CHECKS[kind](found), instances=found[-1]["step"])


@pytest.mark.claim("C9", "property")
@pytest.mark.parametrize("rule", ["SGD, momentum", "Adam", "RMSprop"])
@pytest.mark.parametrize("factor", [4, 5])
def test_more_copies_and_other_seeds_change_nothing(rule, factor):
    for kind, manifold in zip(PATTERN[rule], MANIFOLDS, strict=True):
        found = rows(rule, manifold, factor=factor, steps=64, seed=factor)
        witness(residual=CHECKS[kind](found), instances=found[-1]["step"])


@pytest.mark.control("C9")
@pytest.mark.parametrize("rule", NEGATIVES)
@pytest.mark.parametrize("manifold", MANIFOLDS)
def test_noise_dropout_and_unequal_rates_leave_every_manifold(rule, manifold):
    found = rows(rule, manifold, steps=optimizer_table.EARLY)
    assert optimizer_table.verdict(found, "equations") == "✗"
    assert optimizer_table.verdict(found, "coset") == "✗"
    witness(residual=last(found, "coset"), instances=optimizer_table.EARLY)


def test_every_optimizer_of_torch_has_a_row():
    names = {kind.__name__ for kind in shipped()}
    assert {"SGD", "Adam", "Muon", "LBFGS", "SparseAdam", "Adafactor", "ASGD"} <= names
    assert "Optimizer" not in names
    assert names <= {rule.optimizer.__name__ for rule in update_rules.rules()}
    assert {*PATTERN, *NEGATIVES} == set(RULES), "a row without an expectation"


def test_a_new_optimizer_gets_a_row_by_itself(monkeypatch):
    class Fresh(torch.optim.SGD):
        pass

    monkeypatch.setattr(torch.optim, "Fresh", Fresh, raising=False)
    assert "Fresh" in {rule.name for rule in update_rules.rules()}


def test_two_copies_hide_the_failure_of_adam_with_coupled_decay():
    """With two copies the part outside block-constant is ±p on every block, on which an odd rule acts alike."""
    hidden = rows("Adam, coupled L2", "RE ∩ CE, not constant", factor=2, steps=50)
    seen = rows("Adam, coupled L2", "RE ∩ CE, not constant", factor=3, steps=50)
    assert last(hidden, "equations") <= optimizer_table.KEPT
    assert last(seen, "equations") >= optimizer_table.LEFT


def test_muon_fails_at_the_first_step_for_bfloat16_and_not_for_its_mathematics():
    half, full = (rows(name, "scaled (ReLU)", steps=1) for name in ("Muon", "Muon in float64"))
    assert last(half, "coset") > 1e-4
    assert last(full, "coset") < 1e-14


def test_an_exact_clone_stays_bit_identical_in_its_rows():
    generator = torch.Generator().manual_seed(0)
    rule = RULES["Adam"]
    model, _ = optimizer_table.start_on(MANIFOLDS["identical clones"], rule, 3, generator)
    optimizers = update_rules.optimizers_of(rule, model)
    for _ in range(100):
        optimizer_table._step(model, optimizers, update_rules.unchanged, generator)
    rows_of_a_block = model.linear1.weight.detach().reshape(4, 3, -1)
    assert (rows_of_a_block - rows_of_a_block[:, :1]).abs().max() <= 1e-15


def fake(*values, which="coset"):
    steps = [1, optimizer_table.EARLY, 300]
    return [{"step": s, "equations": 0.0, "coset": 0.0} | {which: v} for s, v in zip(steps, values, strict=True)]


@pytest.mark.parametrize(
    ("values", "sign"),
    [
        ((1e-16, 1e-16, 1e-15), "✓"),
        ((1e-16, 1e-14, 0.1), "⚠"),
        ((1e-5, 2e-3, 0.1), "✗"),
        ((0.1, 0.1, 1e-16), "✗"),
        ((1e-16, 1e-16, float("nan")), "✗"),
        ((1e-16, 1e-16, float("inf")), "✗"),
    ],
)
def test_the_verdict_tells_growth_from_failure(values, sign):
    assert optimizer_table.verdict(fake(*values), "coset") == sign


def test_the_table_is_tidy_and_prints():
    chosen = [RULES["SGD"], RULES["SGD, weight decay"], RULES["SGD, gradient noise"]]
    measured = optimizer_table.table(chosen, steps=32)
    assert measured.column_names == ["rule", "manifold", "step", "equations", "coset"]
    assert len(optimizer_table.cells(measured)) == 12
    head, _, *body = optimizer_table.markdown(measured).splitlines()
    assert head == "| rule | identical clones | RE ∩ CE, not constant | scaled (ReLU) | signed (tanh) |"
    assert [line.split(" | ")[0] for line in body] == [f"| {rule.name}" for rule in chosen]
    assert body[0].count("✓") == 4
    assert "equations ✓, coset ✗" in body[1]
    assert body[2].count("✗") == 4


def test_runs_are_reproducible_and_leave_the_global_generator_alone():
    state = torch.random.get_rng_state()
    one, same = (rows("SGD, dropout on clones", "signed (tanh)", steps=8) for _ in range(2))
    assert one == same
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_rule_can_be_added_in_one_line():
    found = optimizer_table.follow(
        Rule("lazy", torch.optim.SGD, {"lr": 0.0}), MANIFOLDS["identical clones"], steps=4
    )
    assert [row["step"] for row in found] == [1, 2, 4]
    assert last(found, "coset") == 0
