"""Which rows are saturated: by the mass beside the largest, not by the gap, and not where choices are masked."""

import pytest
import torch

from torch_experiments.units.softmaxes import masked, rows_of


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


@pytest.mark.parametrize("gap", [50.0, 8000.0, 9500.0, 1e5, 1e8])
def test_a_gap_however_wide_is_no_mask(gap):
    rows = rows_of(torch.tensor([[gap, 0.0, 1.0], [gap, 0.0, -gap]]).double())
    assert rows.saturated.tolist() == [True, True]
    assert rows.gap.tolist() == [gap - 1, gap]


@pytest.mark.parametrize("scale", [1e3, 1e5, 1e7, 1e12])
def test_logits_that_diverge_are_all_counted(scale):
    z = scale * torch.randn(96, 6, generator=torch.Generator().manual_seed(0))
    assert len(rows_of(z).gap) == 96
    assert not masked(z).any()
    assert not masked(z - 2 * scale).any()  # a shift of all


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("fill", [-1e4, -65504.0, -1e8, -1e9, torch.finfo(torch.bfloat16).min, -torch.inf])
@pytest.mark.parametrize("added", [False, True])
def test_masks_are_told_added_or_written_and_what_is_left_decides(added, fill, dtype):
    hidden = torch.arange(5) > torch.arange(5)[:, None]
    scores = (torch.randn(8, 5, 5, generator=torch.Generator().manual_seed(0)) * 30).clamp(-200, 200).to(dtype)
    scores[:, 1, :2] = torch.tensor([1.0, 0.0])
    mask = torch.zeros(5, 5).masked_fill(hidden, fill).to(dtype)
    z = scores + mask if added else torch.where(hidden, mask, scores)
    assert masked(z).equal(hidden.expand_as(z))
    assert masked(z.float()).equal(hidden.expand_as(z))  # cast up before the softmax
    rows = rows_of(z)
    assert len(rows.gap) == 8 * 4
    assert not rows.saturated[::4].any()


def test_a_written_fill_is_told_beside_logits_that_diverge():
    z = 1e5 * torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    z[:, 3:] = -1e4
    assert masked(z).equal(torch.zeros_like(z).bool().index_fill(1, torch.tensor([3, 4, 5]), True))
