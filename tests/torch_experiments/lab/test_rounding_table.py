"""Clones under rounding: a rule that keeps them parts them by bits or not at all, whatever the kernels do later."""

import math
from dataclasses import replace

import pytest
import torch

from claims.evidence import witness
from torch_experiments.lab import rounding_table as rounding
from torch_experiments.lab.rounding_table import DTYPES, Parting, Setting
from torch_experiments.lab.rules import Rule, rules
from torch_experiments.support.loading import shipped

KEEPING = {rule.name: rule for rule in rounding.chosen_rules()}
NEGATIVES = {
    rule.name: rule for rule in rules() if rule.name in ("SGD, gradient noise", "SGD, unequal rates per unit")
}
BITS = 1000  # eps: what a step of a rule that divides by small numbers makes of a bit
FEW = [Setting(dtype, *place, 0) for dtype in DTYPES for place in ((2, "tiled", 24), (3, "interleaved", 11))]
STILL = Rule("still", torch.optim.SGD, {"lr": 0.0})


@pytest.mark.claim("C9", "training")
@pytest.mark.parametrize("name", KEEPING)
def test_a_rule_that_keeps_clones_parts_them_by_bits_or_not_at_all(name):
    """In bfloat16 a bit is visible; what is asked of it is that the weights stay finite."""
    for setting in FEW:
        found = rounding.parting(KEEPING[name], setting, steps=8)
        assert (found.parted is None) == (found.last == 0)
        assert math.isfinite(found.last)
        if setting.dtype != "bfloat16":
            assert found.first <= BITS * torch.finfo(DTYPES[setting.dtype]).eps
            witness(residual=found.first if setting.dtype == "float64" else 0.0)


@pytest.mark.control("C9")
@pytest.mark.parametrize("name", NEGATIVES)
def test_a_rule_that_leaves_them_parts_them_at_once_and_by_far(name):
    for dtype in DTYPES:  # side by side: copies that are an even number of units apart have equal rates
        found = rounding.parting(NEGATIVES[name], Setting(dtype, 2, "interleaved", 12, 0), steps=8)
        assert found.parted == 1
        assert found.first > BITS * torch.finfo(torch.float32).eps


def test_rounding_grows_where_copies_are_not_alike_to_the_bit():
    """Copies that differ by one bit at the start come apart under Adam, whatever the kernels."""
    setting = Setting("float32", 3, "interleaved", 11, 0)
    model, place, x, y = rounding.start(setting)
    step = rounding.stepping(KEEPING["Adam"], model, x, y, 0)
    with torch.no_grad():
        model.linear1.weight[0, 0] = torch.nextafter(model.linear1.weight[0, 0], torch.tensor(1.0))
    before = rounding.distance(model, place)
    for _ in range(300):
        step()
    assert 0 < before < 1e-7
    assert rounding.distance(model, place) > 1e3 * before


def test_nothing_parts_copies_that_do_not_move():
    for setting in rounding.settings({2: [5], 3: [4]}):
        assert rounding.parting(STILL, setting, steps=3) == Parting(None, 0.0, 0.0)


def test_the_first_differing_bit_is_seen():
    model, place, *_ = rounding.start(Setting("float32", 2, "tiled", 4, 0))
    same = rounding._copies_of(model, place)
    assert same()
    with torch.no_grad():
        model.linear2.weight[1, 6] = torch.nextafter(model.linear2.weight[1, 6], torch.tensor(2.0))
    assert not same()


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ([Parting(None, 0.0, 0.0)], "="),
        ([Parting(7, 1e-8, 5e-8)], "1/1 from 7: 1e-08 → 5e-08"),
        ([Parting(7, 1e-8, 1e-7), Parting(None, 0.0, 0.0)], "1/2 from 7: 1e-08 → 1e-07 ↑"),
        ([Parting(1, 1e-8, 2e-8), Parting(3, 1e-9, 1e-8)], "2/2 from 1: 1e-08 → 2e-08 ↑"),
        ([Parting(1, 1e-8, math.inf)], "1/1 from 1: 1e-08 → inf ↑"),
    ],
)
def test_a_cell_tells_how_many_parted_when_and_how_far(found, text):
    assert rounding.cell(found) == text


def test_the_table_is_tidy_and_prints():
    measured = rounding.table([STILL, KEEPING["SGD"]], rounding.settings({2: [4], 3: [5]}), steps=2)
    wanted = ["rule", "dtype", "copies", "order", "width", "seed", "steps", "parted", "first", "last"]
    assert measured.column_names == wanted
    assert len(measured) == 2 * 3 * 2 * 2
    pages = rounding.markdown(measured).split("\n\n")
    assert pages[::2] == ["**float64**", "**float32**", "**bfloat16**"]
    for page in pages[1::2]:
        head, _, still, sgd = page.splitlines()
        assert (
            head == "| rule | 2 copies, interleaved | 2 copies, tiled | 3 copies, interleaved | 3 copies, tiled |"
        )
        assert still == "| still | = | = | = | = |"
        assert sgd.startswith("| SGD | ")
    head, _, *body = rounding.by_width(measured).splitlines()
    assert head.startswith("| units | float64, interleaved | float64, tiled | float32, interleaved |")
    assert [line.split(" | ")[0] for line in body] == ["| 4 × 2", "| 5 × 3"]


def test_costly_rules_take_fewer_steps_and_every_shipped_one_is_there():
    assert {kind.__name__ for kind in shipped()} < set(KEEPING)
    few = rounding.table([KEEPING["LBFGS"]], [FEW[0]], steps=40).to_pylist()
    assert few[0]["steps"] == rounding.COSTLY["LBFGS"]


MOVED_BY_DECAY = {"ASGD": {"lambd": 0.0}}


@pytest.mark.parametrize("name", KEEPING)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_no_rule_of_torch_moves_rows_without_gradient_but_by_decay(name, dtype):
    rule = KEEPING[name]
    changes = MOVED_BY_DECAY.get(name, {})
    if "weight_decay" in rule.settings or name in ("AdamW", "Muon"):
        changes = {"weight_decay": 0.0}
    rule = replace(rule, settings={**rule.settings, **changes})
    dead = rounding.dead_rows(rule, dtype, steps=3)
    assert dead == 0 or (name == "Shampoo" and dead < 1e-6), "roots of matrices are not exact"
    decayed = Rule("AdamW", torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.5})
    assert rounding.dead_rows(decayed, dtype, steps=3) > 0


def test_rules_of_packages_are_told_with_what_does_not_run():
    class Refuses(torch.optim.SGD):
        def step(self, closure=None):
            raise RuntimeError("expected scalar type Float but found Double")

    text = rounding.of_packages({"ours 1.0": [STILL, Rule("refuses", Refuses, {"lr": 0.1})]})
    *_, still, refuses = text.splitlines()
    assert still == "| ours 1.0 | still | =, =, = | =, =, = | =, =, = | nan% |"
    assert refuses == "| ours 1.0 | refuses | does not run | does not run | does not run | does not run |"
