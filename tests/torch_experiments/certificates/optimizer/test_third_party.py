"""Optimizers of other packages are recognised by name: Lion is judged by its step, others by what was measured."""

import copy
import re

import pytest
import torch

from tests.docs.pages import read
from tests.torch_experiments.certificates.optimizer.training import Dead, check, optim, start
from torch_experiments.certificates.optimizer.third_party import JUDGED, LIONS
from torch_experiments.certificates.optimizer.update_rules import facts_of
from torch_experiments.certificates.optimizer.verdicts import optimizer_verdict
from torch_experiments.lab.rounding_table import Setting, dead_rows, gaps
from torch_experiments.lab.rules import Rule


class Lion(optim.Optimizer):
    """Lion (Chen et al. 2023), with decay beside the step."""

    __module__ = "lion_pytorch.lion_pytorch"

    def __init__(self, parameters, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.0, **settings):
        super().__init__(parameters, {"lr": lr, "betas": betas, "weight_decay": weight_decay} | settings)

    @torch.no_grad()
    def step(self, closure=None):
        """Take a step."""
        for group in self.param_groups:
            (one, two), lr, decay = group["betas"], group["lr"], group["weight_decay"]
            decoupled = group.get("weight_decouple", True)
            for p in group["params"]:
                if p.grad is None:
                    continue
                m = self.state[p].setdefault("exp_avg", torch.zeros_like(p))
                gradient = p.grad if decoupled else p.grad + decay * p
                p.mul_(1 - lr * decay if decoupled else 1.0).sub_(lr * torch.sign(m.lerp(gradient, 1 - one)))
                m.lerp_(gradient, 1 - two)


def named(package, name, step=None):
    """Return an optimizer class that passes for one of a package."""
    body = {"__module__": f"{package}.somewhere"} | ({} if step is None else {"step": step})
    return type(name, (optim.SGD,), body | {"step": step or (lambda self, closure=None: None)})


@pytest.mark.parametrize(
    ("manifold", "settings", "clones", "coset"),
    [
        ("identical clones", {}, "kept", "kept"),
        ("signed (tanh)", {}, "kept", "kept"),
        ("scaled (ReLU)", {}, "left", "left"),
        ("RE ∩ CE, not constant", {}, "kept", "kept"),
        ("identical clones", {"weight_decay": 0.1}, "kept", "kept"),
        ("RE ∩ CE, not constant", {"weight_decay": 5.0}, "kept", "left"),
        ("RE ∩ CE, not constant", {"weight_decay": 5.0, "weight_decouple": False}, "left", "left"),
    ],
)
def test_the_verdict_on_lion_is_what_training_shows(manifold, settings, clones, coset):
    model, place = start(manifold)
    assert check(model, place, Lion(model.parameters(), lr=0.01, **settings)) == (clones, coset)


def test_lion_leaves_dead_rows_as_long_as_their_momentum_is_zero():
    case = Dead()
    optimizer = Lion(case.model.parameters(), lr=0.1)
    assert optimizer_verdict(case.model, optimizer, None, case.masks()).frozen == "kept"
    path = case.train(optimizer, 20)
    assert torch.equal(path[0], path[-1])

    optimizer.state[case.weight]["exp_avg"][case.dead] = 1e-6
    found = optimizer_verdict(case.model, optimizer, None, case.masks())
    assert found.frozen == "left"
    assert found.reasons[0].sentence == "Lion: 10 frozen weights have momentum left (up to 1e-06)"
    path = case.train(optimizer, 20)
    assert float((path[0] - path[-1]).abs().min()) == pytest.approx(2.0), "full steps, however small the momentum"
    optimizer.state[case.weight]["exp_avg"][case.dead] = -1e-6
    assert optimizer_verdict(case.model, optimizer, None, sign_frozen=case.masks()).frozen == "unknown"


def test_a_lion_that_is_another_is_unknown():
    model, _ = start()

    class Tamed(Lion):
        __module__ = "somebody"

        def step(self, closure=None):
            """Do nothing."""

    class Renamed(Lion):
        __module__ = "somebody"

    class Stranger(Lion):
        __module__ = "somebody"
        step = Lion.step

    assert facts_of(Renamed(model.parameters())).step == "odd"
    assert facts_of(Tamed(model.parameters())) is None
    assert facts_of(Lion(model.parameters(), use_gc=True)) is None, "centred gradients feel their row"
    assert facts_of(named("somebody", "Lion")(model.parameters(), lr=0.1)) is None
    assert {("lion_pytorch", "Lion"), ("pytorch_optimizer", "Lion")} == set(LIONS)


@pytest.mark.parametrize(("package", "name"), JUDGED)
def test_measured_rules_are_recognised_by_package_and_class(package, name):
    model, place = start()
    masks = {name: torch.ones_like(p, dtype=torch.bool) for name, p in model.named_parameters() if "1" in name}
    found = optimizer_verdict(model, named(package, name)(model.parameters(), lr=0.1), place, masks)
    judged = JUDGED[package, name]
    assert (found.clones, found.frozen) == (judged.clones[0], judged.frozen[0])
    said = {r.about: r.sentence for r in found.reasons if r.rests_on}
    assert said["clones"] == f"{name}: {judged.clones[1]}"
    assert said["frozen"] == f"{name}: {judged.frozen[1]}"
    vectors = [r for r in found.reasons if r.sentence == f"{name}: what it does to vectors was not measured"]
    assert all(w.endswith("bias") for r in vectors for w in r.where)
    assert optimizer_verdict(model, named("somebody", name)(model.parameters(), lr=0.1), place).clones == "unknown"


def test_heavyball_rounds_bfloat16_at_random():
    model, place = start()
    adam = named("heavyball", "AdamW")
    assert optimizer_verdict(model, adam(model.parameters(), lr=0.1), place).clones == "unknown"
    half = copy.deepcopy(model).bfloat16()
    found = optimizer_verdict(half, adam(half.parameters(), lr=0.1), place)
    assert found.clones == "left"
    assert "rounds bfloat16 weights at random" in found.reasons[0].sentence


def test_the_sentences_have_the_versions_and_numbers_of_the_table():
    table = read("docs/optimizers.md").split("<!-- packages:begin -->")[1].split("<!-- packages:end -->")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()[2:]]
    rows = {(package, rule): numbers for package, rule, *numbers in cells}
    for (package, name), judged in JUDGED.items():
        for (_, said), column in ((judged.clones, 1), (judged.frozen, 3)):
            rule, where = re.search(r"measured with (\w+) of (.+?)\)", said).groups()
            assert (package, name) == (where.split()[0], rule)
            found = rows[where, rule][column].split(", ")
            number = re.search(r"up to (\d+) %", said)
            after = 0 if "after two steps" in said else -1
            assert number is None or int(number[1]) == round(100 * float(found[after].replace("%", "e-2")))


@pytest.mark.parametrize(("package", "name"), [known for known in JUDGED if JUDGED[known].frozen[0] == "left"])
def test_where_a_package_is_installed_its_rule_does_what_is_said(package, name):
    module = pytest.importorskip(package, reason=f"{package} is not installed: pip install {package}")
    if package == "heavyball":
        module.utils.compile_mode = None
    rule = Rule(name, getattr(module, name), {"weight_decay": 0.0})
    assert gaps(rule, Setting("float32", 2, "interleaved", 12, 0))[0] > 1e-5
    assert dead_rows(rule) > 0.01
    model = Dead().model.float()
    masks = {"weight": torch.eye(6, 5) > 0}
    assert optimizer_verdict(model, rule.optimizer(model.parameters()), None, masks).frozen == "left"
