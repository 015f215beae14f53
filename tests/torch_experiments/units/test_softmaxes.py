"""Which rows are saturated: by the mass beside the largest, not by the gap, and not where choices are masked."""

import pytest
import torch

from torch_experiments.units.softmaxes import rows_of


@pytest.mark.parametrize(
    ("logits", "saturated"),
    [
        (torch.tensor([[17.0, 0.0]]), True),
        (torch.cat([torch.tensor([17.0]), torch.zeros(49_999)])[None], False),  # 1 - pi is 2e-3
        (torch.cat([torch.tensor([6.0]), torch.zeros(999)])[None].bfloat16(), False),  # pi is 0.29
        (torch.tensor([[7.0, 0.0]]).bfloat16(), True),
        (torch.tensor([[17.0, 0.0]]).double(), False),
        (torch.zeros(1, 3), False),
    ],
)
def test_a_row_is_saturated_where_its_largest_entry_is_1_to_rounding(logits, saturated):
    (found,) = rows_of(logits).saturated.tolist()
    assert found == saturated
    largest = logits.double().softmax(-1).max()
    assert bool(1 - largest <= torch.finfo(logits.dtype).eps / 2) == saturated


FILLS = {
    "infinite": -torch.inf,
    "BERT": -1e4,
    "half": -65504.0,
    "large": -1e9,
    "float32": torch.finfo(torch.float32).min,
}


@pytest.mark.parametrize("name", FILLS)
@pytest.mark.parametrize("shift", [0.0, -30.0, 30.0])
def test_rows_with_one_choice_left_do_not_count(name, shift):
    z = torch.full((2, 3), FILLS[name])
    z[:, 0] = shift + 40.0
    z[1, 1] = shift
    rows = rows_of(z - z.logsumexp(-1, keepdim=True))
    assert rows.saturated.tolist() == [True]
    assert rows.gap.tolist() == pytest.approx([40.0])


def test_masks_of_half_precision_count_as_such_and_what_is_no_number_is_left_out():
    z = torch.tensor([[1.0, torch.finfo(torch.float16).min], [1.0, 0.0]]).half()
    assert len(rows_of(z).gap) == 1
    assert len(rows_of(torch.tensor([[torch.nan, 1.0], [-torch.inf, -torch.inf]])).gap) == 0
