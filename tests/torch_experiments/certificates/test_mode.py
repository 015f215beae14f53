import random

import numpy
import pytest
import torch
from torch import nn

from torch_experiments import certify, trace
from torch_experiments.certificates.frozen.analysis import frozen_units
from torch_experiments.certificates.mode import Mode, mode_of


def judged(model, x):
    return mode_of(model, trace(model, x), x)


def test_eval_mode_changes_nothing():
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 1)).eval()
    assert judged(model, torch.randn(8, 4)) == Mode()


def test_known_modules_are_told_apart():
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 1))
    found = judged(model, torch.randn(8, 4))
    assert found.restless == {"1"}
    assert found.random == "3"
    assert not found.foreign


class Noisy(nn.Module):
    """Noise in training only: eval mode shows none of it."""

    def forward(self, x):
        return x + torch.randn_like(x) if self.training else x


@pytest.mark.parametrize("layer", [Noisy(), nn.AlphaDropout(0.5)])
def test_what_eval_mode_does_not_show_forbids_certificates_for_all_data(layer):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), layer, nn.Linear(6, 3), nn.ReLU(), nn.Linear(3, 1))
    with torch.no_grad():
        model[3].weight[0], model[3].bias[0] = -0.1, -0.01
    x = torch.randn(64, 4)
    assert judged(model, x).foreign
    assert {str(u.reason) for u in frozen_units(model, x).units} <= {"observed"}
    assert any("sign or interval" in note for note in certify(model, x, parts=("frozen",)).notes)
    assert ("4", 0, "sign") in {(u.layer, u.unit, str(u.reason)) for u in frozen_units(model.eval(), x).units}


def test_a_unit_that_batch_statistics_revive_is_not_frozen():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 1)).double()
    model[1].running_mean[0] = 100.0
    x = torch.randn(64, 4).double()
    assert not certify(model, x, parts=("frozen",)).frozen.units
    assert [u.unit for u in certify(model.eval(), x, parts=("frozen",)).frozen.units] == [0]


def test_a_unit_that_dropout_revives_is_not_frozen():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 1))
    with torch.no_grad():
        model[3].weight[0] = 0.5 * torch.tensor([1.0, -1.2] * 4)
        model[3].bias[0] = -0.35
        model[0].weight.fill_(0.1)
        model[0].bias.fill_(1.0)
    x = torch.rand(64, 4)
    assert ("4", 0) not in {(u.layer, u.unit) for u in certify(model, x, parts=("frozen",)).frozen.units}
    assert ("4", 0) in {(u.layer, u.unit) for u in certify(model.eval(), x, parts=("frozen",)).frozen.units}


class TrainingOnly(nn.Module):
    """Changes what passes, by operations that occur everywhere, in training only."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, x):
        return self.change(x) if self.training else x * 1.0


CHANGES = {
    "shifted": lambda h: h + (-3.0),
    "turned": lambda h: h * -1.0,
    "divided": lambda h: h / -2.0,
    "in place": lambda h: h.clone().mul_(-1.0),
    "alpha dropout": lambda h: nn.functional.alpha_dropout(h, 0.5, True),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_plain_operations_of_training_forbid_certificates_for_all_data(change):
    torch.manual_seed(0)
    layers = [nn.Linear(4, 6), nn.ReLU(), TrainingOnly(change), nn.Linear(6, 3), nn.ReLU(), nn.Linear(3, 1)]
    model, x = nn.Sequential(*layers), torch.randn(64, 4)
    with torch.no_grad():
        model[3].weight[0], model[3].bias[0] = -0.1, -0.01
    found = certify(model, x, torch.optim.SGD(model.parameters(), 0.1), parts=("frozen", "optimizer"))
    assert {str(u.reason) for u in found.frozen.units} <= {"observed"}
    assert any("sign or interval" in note for note in found.notes)
    assert ("4", 0, "sign") in {(u.layer, u.unit, str(u.reason)) for u in frozen_units(model.eval(), x).units}


@pytest.mark.parametrize("drop", [nn.Dropout(0.5), nn.Dropout1d(0.5)])
def test_dropout_masks_leave_signs_certified(drop):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), drop, nn.Linear(6, 3), nn.ReLU(), nn.Linear(3, 1))
    with torch.no_grad():
        model[3].weight[0], model[3].bias[0] = -0.1, -0.01
    x = torch.randn(64, 4)
    assert not judged(model, x).foreign
    assert ("4", 0, "sign") in {(u.layer, u.unit, str(u.reason)) for u in frozen_units(model, x).units}


def test_another_activation_in_training_is_named_and_not_observed():
    torch.manual_seed(0)
    layer = TrainingOnly(lambda h: nn.functional.leaky_relu(h, -1.0))
    model = nn.Sequential(nn.Linear(4, 6), layer, nn.ReLU(), nn.Linear(6, 1))
    found = certify(model, torch.randn(8, 4), parts=("frozen",))
    assert not found.frozen.units
    assert any("not observed" in note and "2" in note for note in found.notes)


class Draws(nn.Module):
    """Noise that no dropout module tells of, in eval mode too; a generator of its own or one that all share."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.own = kind, torch.Generator().manual_seed(3)

    def forward(self, x):
        noise = {
            "torch": lambda: torch.randn_like(x),
            "numpy": lambda: torch.from_numpy(numpy.random.randn(*x.shape)).to(x),  # noqa: NPY002
            "python": lambda: x * (random.random() < 1e-3),
            "own": lambda: torch.randn(x.shape, generator=self.own),
            "none": lambda: torch.zeros_like(x),
        }[self.kind]()
        return x + noise


@pytest.mark.parametrize("kind", ["torch", "numpy", "python", "own", "none"])
@pytest.mark.parametrize("training", [True, False])
def test_a_unit_that_noise_may_revive_is_not_promised(kind, training):
    torch.manual_seed(0)
    random.seed(0)
    numpy.random.seed(0)  # noqa: NPY002
    x = torch.randn(24, 5)
    model = nn.Sequential(Draws(kind), nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 2)).train(training)
    with torch.no_grad():
        model[1].bias[0] = -8.0  # beyond what a few draws reach
    found = certify(model, x, torch.optim.SGD(model.parameters(), 0.1), targets=torch.randn(24, 2))
    assert [(u.layer, u.unit) for u in found.frozen.units] == [("2", 0)]
    assert found.optimizer.frozen == ("kept" if kind == "none" else "unknown")


@pytest.mark.parametrize("wrap", [nn.utils.parametrizations.spectral_norm, nn.utils.spectral_norm])
def test_power_iterations_of_a_spectral_norm_hide_no_dead_unit(wrap):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), wrap(nn.Linear(6, 5)), nn.ReLU(), nn.Linear(5, 2)).train()
    with torch.no_grad():
        model[0].bias[2] = -100.0
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
    found = certify(model, torch.randn(16, 4), parts=("frozen",))
    assert 2 in {unit.unit for unit in found.frozen.units if unit.layer == "1"}
    assert not any("training mode" in note for note in found.notes)
    assert all(torch.equal(buffer, kept[name]) for name, buffer in model.named_buffers())
    assert all(module.training for module in model.modules())
