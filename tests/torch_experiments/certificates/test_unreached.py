import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from torch_experiments import certify


def largest(h):
    """Return the four largest units of every sample, zero elsewhere."""
    values, places = h.topk(4, -1)
    return torch.zeros_like(h).scatter(-1, places, values)


SPELLED = {  # no functions of one tensor, entry by entry, or written in place
    "topk": largest,
    "ge": lambda h: h * (h >= h.topk(4, -1).values[:, -1:]),
    "mul": lambda h: h.clone().mul_(h > 0),
    "stack": lambda h: torch.stack([h[:, k].clamp(min=0) for k in range(8)], 1),
}


class Net(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.a, self.o, self.f = nn.Linear(5, 8), nn.Linear(8, 3), f

    def forward(self, x):
        return self.o(self.f(self.a(x)))


def reasons(model, x):
    found = certify(model, x, parts=("frozen",))
    assert found.parameters - found.reached >= sum(part.entries for part in found.unreached)
    return {(part.parameter, part.entries): part.why for part in found.unreached}, found


@pytest.mark.parametrize("name", SPELLED)
def test_a_dead_unit_behind_a_spelled_rectifier_is_listed_with_the_operation(name):
    torch.manual_seed(0)
    model, x = Net(SPELLED[name]).double(), torch.randn(32, 5).double()
    with torch.no_grad():
        model.a.bias[2] = -1000.0
    said, found = reasons(model, x)
    assert name in said["a.weight", 5]
    assert name in said["a.bias", 1]
    assert "input is zero" in said["o.weight", 3]
    assert found.free_fraction == pytest.approx(1 - 9 / 75)
    assert any("a.weight" in note for note in found.notes)


def test_rows_of_tokens_padding_and_positions_that_no_sample_reads():
    class Text(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.place = nn.Embedding(20, 6, padding_idx=0), nn.Parameter(torch.randn(16, 6))
            self.out = nn.Linear(6, 3)

        def forward(self, ids):
            return self.out(self.embed(ids) + self.place[: ids.shape[1]])

    said, found = reasons(Text(), torch.tensor([[1, 2, 0], [3, 4, 0]]))
    assert said["embed.weight", 6] == "the row of padding"
    assert said["embed.weight", 90] == "rows that no sample reads"
    assert said["place", 78] == "rows that no sample reads"
    assert found.reached == found.parameters - 6 - 90 - 78


def test_masks_constant_inputs_and_stopped_gradients():
    torch.manual_seed(0)
    layer = prune.custom_from_mask(nn.Linear(5, 8), "weight", (torch.arange(40) % 4 > 0).reshape(8, 5))
    said, _ = reasons(nn.Sequential(layer, nn.Tanh(), nn.Linear(8, 3)), torch.randn(9, 5))
    assert said["0.weight_orig", 10] == "a mask multiplies it by zero"
    x = torch.randn(9, 5)
    x[:, 2] = 0
    said, _ = reasons(Net(torch.tanh), x)
    assert "its input is zero on every sample" in said["a.weight", 8]
    said, found = reasons(Net(lambda h: h.detach()), torch.randn(9, 5))
    assert "stopped" in said["a.weight", 40]
    assert found.free_fraction == pytest.approx(27 / 75)


def test_what_a_certificate_holds_is_not_listed_again():
    torch.manual_seed(0)
    model = Net(torch.relu)
    with torch.no_grad():
        model.a.bias[2] = -1000.0
    said, found = reasons(model, torch.randn(32, 5))
    assert not said
    assert found.reached == found.dimension == found.parameters - 9


def test_a_parameter_of_one_number_has_a_reason():
    class Slope(nn.Module):
        def __init__(self):
            super().__init__()
            self.slope = nn.Parameter(torch.tensor(0.5))

        def forward(self, h):
            return torch.where(h > 0, h, self.slope * h.clamp(min=0))

    said, _ = reasons(Net(Slope()).double(), torch.randn(9, 5).double())
    assert any(name == "f.slope" for name, _ in said)
