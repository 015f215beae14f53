"""The optimizers of a run: what each is, that runs resume with them, and settings that cannot be."""

import dataclasses

import pytest
import torch
from torch import nn

from tests.torch_experiments.lab.training.settings import DATA, MLP, resumed, to_the_end
from torch_experiments.lab.campaign.grids import stackable
from torch_experiments.lab.models import mlp
from torch_experiments.lab.training import Config, Run, keeping, optimizers


def descended(make, steps=3):
    """Return the parameters of a network after some steps of an optimizer on one batch."""
    model = mlp(4, 3, width=5, depth=2)
    optimizer = make(list(model.parameters()))
    x, y = torch.linspace(-1, 1, 32).view(8, 4), torch.arange(8) % 3
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return [p.detach() for p in model.parameters()]


@pytest.mark.parametrize(
    ("name", "options", "theirs"),
    [
        ("adam", {"betas": (0.9, 0.9)}, lambda p: torch.optim.Adam(p, 0.01, betas=(0.9, 0.9))),
        ("adamw", {"weight_decay": 0.1}, lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1)),
        ("adamw", {}, lambda p: torch.optim.AdamW(p, 0.01)),
        ("rmsprop", {}, lambda p: torch.optim.RMSprop(p, 0.01)),
        ("sgd", {"momentum": 0.5}, lambda p: torch.optim.SGD(p, 0.01, momentum=0.5)),
    ],
)
def test_each_is_torchs(name, options, theirs):
    own = descended(lambda parameters: optimizers.make(name, parameters, 0.01, **options))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(own, descended(theirs), strict=True))


def test_muon_trains_matrices_and_adamw_the_rest():
    options = {"adjust_lr_fn": "match_rms_adamw", "weight_decay": 0.2}
    own = descended(lambda p: optimizers.make("muon", p, 0.01, betas=(0.9, 0.9), weight_decay=0.2))
    matrices = descended(lambda p: torch.optim.Muon([q for q in p if q.ndim == 2], 0.01, **options), steps=1)
    first = descended(lambda p: optimizers.make("muon", p, 0.01, weight_decay=0.2), steps=1)
    rest = descended(lambda p: torch.optim.AdamW([q for q in p if q.ndim == 1], 0.01, weight_decay=0.2), steps=1)
    for mine, muon, adamw in zip(first, matrices, rest, strict=True):
        assert torch.allclose(mine, muon if mine.ndim == 2 else adamw, atol=1e-6)
    assert not torch.equal(own[0], descended(lambda p: optimizers.make("sgd", p, 0.01))[0])


@pytest.mark.parametrize("name", optimizers.OPTIONS)
def test_a_run_resumes_bit_for_bit_and_forgets_when_it_is_told(name, tmp_path):
    config = dataclasses.replace(MLP, optimizer=name, remedy="none", remedy_settings=(), tasks=2, steps=8)
    started = Run(config, [3], DATA)
    for _ in range(6):
        started.advance()
    folder = keeping.folder_of(started, tmp_path)
    folder.mkdir()
    keeping.save(started, folder)
    start, weights, _ = resumed(config, tmp_path)
    expected, _ = to_the_end(Run(config, [3], DATA))
    assert start == 6
    assert all(torch.equal(weights[key], expected[key]) for key in expected)
    view = started.networks.views[0]
    assert all(view.moments(p) for p in view.model.parameters())
    view.memory.clear()
    assert not any(view.moments(p) for p in view.model.parameters())
    started.advance()
    assert all(view.moments(p) for p in view.model.parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer": "adma"}, r"optimizer: got 'adma'; allowed are 'adam', 'sgd', 'adamw', 'rmsprop', 'muon'"),
        ({"betas": (0.9, 1.0)}, r"betas: got \(0.9, 1.0\); two numbers in \[0, 1\) are needed"),
        ({"betas": (0.9, 0.9), "optimizer": "sgd"}, r"betas: 'sgd' does not take it; those that do are 'adam', "),
        ({"weight_decay": 0.1}, r"weight_decay: 'adam' does not take it; those that do are 'adamw', 'muon'"),
        ({"weight_decay": -1.0, "optimizer": "adamw"}, r"weight_decay: got -1.0; it has to be in"),
        ({"momentum": 1.0}, r"momentum: got 1.0; it has to be in \[0, 1\)"),
    ],
)
def test_settings_that_cannot_be_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        Config(**change)


def test_muon_is_not_stacked():
    config = dataclasses.replace(MLP, optimizer="muon", remedy="none", remedy_settings=())
    assert not stackable(config)
    assert stackable(dataclasses.replace(config, optimizer="rmsprop"))
    with pytest.raises(ValueError, match="stack: muon sees one matrix at a time"):
        Run(config, [0, 1], DATA)
