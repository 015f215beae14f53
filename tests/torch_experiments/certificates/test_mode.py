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
