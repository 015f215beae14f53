"""The verdict on an optimizer as a whole: hooks, what is not trained, dtypes, devices, wrong arguments."""

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss
from torch.optim.optimizer import register_optimizer_step_pre_hook

from tests.torch_experiments.certificates.optimizer.training import (
    SIZE,
    Dead,
    built,
    check,
    draw,
    optim,
    rng,
    start,
)
from torch_experiments import clone, layout
from torch_experiments.certificates.optimizer.verdicts import optimizer_verdict
from torch_experiments.lab.models import mlp
from torch_experiments.lab.optimizer_table import MANIFOLDS
from torch_experiments.support.noise import GradientNoise


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
