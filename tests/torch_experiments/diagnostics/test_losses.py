"""Targets that do not fit an output are an error that says what would."""

import pytest
import torch

from torch_experiments.diagnostics.losses import default_loss


@pytest.mark.parametrize(
    ("outputs", "targets"),
    [((6, 3), (6,)), ((6, 4, 3), (6, 4)), ((2, 3, 5, 4), (2, 5, 4)), ((2, 5, 4, 3), (2, 5, 4))],
)
def test_class_numbers_are_one_a_sample_or_position(outputs, targets):
    chosen = torch.zeros(targets, dtype=torch.long)
    assert default_loss(torch.zeros(outputs), chosen) == pytest.approx(torch.tensor(3.0).log().item())


@pytest.mark.parametrize(
    ("outputs", "targets"), [((6, 3), (5,)), ((6, 3), (6, 3)), ((6, 4, 3), (6,)), ((6, 3), (6, 1))]
)
def test_class_numbers_of_another_shape_are_named(outputs, targets):
    with pytest.raises(ValueError, match=r"targets: got class numbers of shape \(.*; give one class a sample"):
        default_loss(torch.zeros(outputs), torch.zeros(targets, dtype=torch.long))


@pytest.mark.parametrize("targets", [(6,), (6, 1), (3,), (5, 3)])
def test_numbers_are_one_an_output_and_never_spread(targets):
    with pytest.raises(ValueError, match=r"targets: got numbers of shape .* for outputs \(6, 3\); give one number"):
        default_loss(torch.zeros(6, 3), torch.zeros(targets))
    assert default_loss(torch.zeros(6, 3), torch.ones(6, 3)) == 1
