"""Planted copies are all found and nothing else, on every architecture; a random network has none."""

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from tests.torch_experiments.cloning.test_exact import ARCHITECTURES, IMAGES, base_of
from tests.torch_experiments.cloning.test_modulewise import ATTENTION, TOKENS, network, randn, rng
from torch_experiments import clone, layout, residuals
from torch_experiments.cloning.chains import expand, profiles
from torch_experiments.cloning.partition import coarsest_blocks, relative
from torch_experiments.lab.models import mlp


def same_partition(one, other):
    """Return whether two labellings group the same indices."""
    pairs = torch.unique(torch.stack([one, other]), dim=1).shape[1]
    return pairs == len(one.unique()) == len(other.unique())


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_planted_copies_are_found_and_nothing_else(arch, norm):
    model, x = base_of(arch, norm), randn(*IMAGES)
    assert coarsest_blocks(model, x).copied() == {}
    assert coarsest_blocks(model, x).free_fraction == 1
    for factor, mode in ((2, "equal"), (3, "equitable")):
        twin, place = clone(model, factor, mode, rng(), example_inputs=x), layout(model, factor, example_inputs=x)
        found = coarsest_blocks(twin, x)
        for name, labels in found.labels.items():
            for label, profile in zip(labels, place.placements[name].profiles, strict=True):
                assert same_partition(label, profile.block), name
        assert found.dimension == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("kind", ATTENTION)
def test_copied_heads_are_found(kind):
    model, x = network(nn.Linear(4, 6), ATTENTION[kind](), nn.Linear(6, 3)), randn(*TOKENS)
    found = coarsest_blocks(clone(model, 2, "equitable", rng(), example_inputs=x), x)
    assert found.dimension == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("mode", ["rows", "columns", "broken"])
def test_broken_clones_are_no_clones(mode):
    """Rows or columns alone are not enough: between two hidden layers no copy survives."""
    model, x = network(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)), randn(6, 4)
    assert coarsest_blocks(clone(model, 2, mode, rng(), example_inputs=x), x).free_fraction == 1


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("noise", [0.0, 1e-6, 1e-4])
def test_a_few_copies_are_found_up_to_the_tolerance(share, noise):
    """The first units of a wide layer are copied onto the last ones, with noise on the incoming weights."""
    model, x = network(nn.Linear(8, 200), nn.Tanh(), nn.Linear(200, 5)), randn(6, 8)
    count = int(200 * share)
    for parameter in (model[0].weight, model[0].bias):
        copies = parameter.data[:count]
        parameter.data[-count:] = copies + noise * torch.randn(copies.shape, generator=rng(), dtype=torch.float64)
    model[2].weight.data[:, -count:] = model[2].weight.data[:, :count]
    loose = coarsest_blocks(model, x, tolerance=1e-12 + 50 * noise)
    strict = coarsest_blocks(model, x, tolerance=1e-12 + noise / 1e3)
    if noise <= 1e-6:
        assert len(loose.labels["0.weight"][0].unique()) == 200 - count
    assert len(strict.labels["0.weight"][0].unique()) == (200 if noise else 200 - count)


def test_a_wrong_tolerance_is_named():
    with pytest.raises(ValueError, match=r"tolerance: got -1; it has to be 0 or more"):
        coarsest_blocks(network(nn.Linear(4, 5)), randn(2, 4), tolerance=-1)


SCALED = {"positive": "relu", "sign": "tanh"}


def scaled_clone(scales, activation, spread=1.0):
    """Return a three-layer clone whose copies carry scales, and its profiles."""
    base = mlp(5, 3, width=6, depth=3, activation=activation, seed=1, dtype=torch.float64)
    for bias in (p for p in base.parameters() if p.ndim == 1):
        bias.data.normal_(generator=rng())
    axes = profiles(base, 3, scales=scales, generator=rng())
    return base, expand(base, axes, spread=spread, generator=rng()), axes


@pytest.mark.parametrize("spread", [0.0, 1.0])
@pytest.mark.parametrize("scales", SCALED)
def test_scaled_and_signed_copies_are_found_with_their_scales(scales, spread):
    base, twin, axes = scaled_clone(scales, SCALED[scales], spread)
    found = coarsest_blocks(twin, randn(4, 5), scaled=True)
    assert found.dimension == sum(p.numel() for p in base.parameters())
    for label, scale, profile in zip(
        *(x["linear2.weight"] for x in (found.labels, found.scales)), axes[2:0:-1], strict=True
    ):
        assert same_partition(label, profile.block)
        torch.testing.assert_close(scale, relative(profile.scale, profile.block), rtol=1e-9, atol=0)
    assert max(max(r.rows, r.columns) for r in residuals(twin, found.layout())) < 1e-9
    assert coarsest_blocks(twin, randn(4, 5)).dimension > found.dimension


@pytest.mark.parametrize(("scales", "activation"), [("positive", "tanh"), ("positive", "gelu"), ("sign", "relu")])
def test_scales_that_the_activation_does_not_carry_are_no_clones(scales, activation):
    base, twin, _ = scaled_clone(scales, activation)
    found, plain = (coarsest_blocks(twin, randn(4, 5), scaled=s).dimension for s in (True, False))
    assert found == plain > sum(p.numel() for p in base.parameters())


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_looking_for_scales_finds_plain_copies_and_no_others(arch):
    model, x = base_of(arch, "none"), randn(*IMAGES)
    assert coarsest_blocks(model, x, scaled=True).free_fraction == 1
    twin = clone(model, 2, "equitable", rng(), example_inputs=x)
    assert coarsest_blocks(twin, x, scaled=True).dimension == sum(p.numel() for p in model.parameters())


def test_channels_of_a_convolution_may_carry_scales():
    """Channel 1 is 3 times channel 0, into and out of it; its flattened pixels are read by a Linear layer."""
    model = network(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3))
    model[0].weight.data[1], model[0].bias.data[1] = 3 * model[0].weight.data[0], 3 * model[0].bias.data[0]
    out = model[4].weight.data.view(3, 4, 4)
    out[:, 1] = 3 * out[:, 0]
    found = coarsest_blocks(model, randn(2, 2, 6, 6), scaled=True)
    assert found.copied() == {"0.weight": 3, "0.bias": 3}
    torch.testing.assert_close(found.scales["0.weight"][0], torch.tensor([1, 3, 1, 1]).double())
    out[:, 1] *= -1
    assert coarsest_blocks(model, randn(2, 2, 6, 6), scaled=True).copied() == {}


def test_two_activations_multiplied_carry_no_scale():
    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 4).double(), nn.Linear(4, 2).double()

        def forward(self, x):
            h = self.a(x)
            return self.b(h * h)

    model = Gate()
    model.a.weight.data[1], model.a.bias.data[1] = 2 * model.a.weight.data[0], 2 * model.a.bias.data[0]
    model.b.weight.data[:, 1] = 2 * model.b.weight.data[:, 0]
    assert coarsest_blocks(model, randn(4, 3), scaled=True).free_fraction == 1


class Planted(nn.Module):
    """Two layers with a function between them; unit 1 of the first is ``scale`` times unit 0, in and out."""

    def __init__(self, between, scale=1.0, **own):
        super().__init__()
        self.a, self.b, self.between = nn.Linear(4, 6), nn.Linear(6, 3), between
        for name, value in own.items():
            setattr(self, name, value)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            for p in (self.a.weight, self.a.bias, self.b.weight):
                nn.init.normal_(p)
        for rows in (self.a.weight.data, self.a.bias.data, self.b.weight.data.T):
            rows[1] = scale * rows[0]
        self.double()

    def forward(self, x):
        return self.b(self.between(self, self.a(x)))


def copied(model, **options):
    return coarsest_blocks(model, randn(5, 4), **options).copied()


SHIFTED = {
    "a number": (lambda m, h: (h + 1.0).relu(), {}),
    "a constant tensor": (lambda m, h: (h + torch.tensor(1.0)).relu(), {}),
    "one parameter for all": (lambda m, h: (h + m.c).relu(), {"c": nn.Parameter(torch.ones(1))}),
    "one buffer for all": (lambda m, h: (h - m.c).relu(), {"c": nn.Buffer(torch.ones(1))}),
    "one activation for all": (
        lambda m, h: (h + h.new_ones(5, 4) @ m.c).relu(),
        {"c": nn.Parameter(torch.arange(1.0, 5)[:, None])},
    ),
    "an expanded activation": (
        lambda m, h: (h + (h.new_ones(5, 4) @ m.c).expand_as(h)).relu(),
        {"c": nn.Parameter(torch.arange(1.0, 5)[:, None])},
    ),
    "a ratio to units": (lambda m, h: torch.ones(1, dtype=h.dtype) / h, {}),
    "a slope a unit": (
        lambda m, h: nn.functional.prelu(h, m.c),
        {"c": nn.Parameter(torch.tensor([0.2, 0.4, 0.1, 0.2, 0.3, 0.5]))},
    ),
}


@pytest.mark.parametrize("name", SHIFTED)
def test_what_is_added_to_all_units_alike_carries_no_scale(name):
    between, own = SHIFTED[name]
    assert copied(Planted(between, 2.0, **own), scaled=True) == {}


KEPT = {
    "a bias": (lambda m, h: h.relu(), {}),
    "adding itself": (lambda m, h: (h + 2 * h).relu(), {}),
    "one gain": (lambda m, h: m.c * h.relu(), {"c": nn.Parameter(torch.ones(1))}),
    "one slope": (lambda m, h: nn.functional.prelu(h, m.c), {"c": nn.Parameter(torch.ones(1) / 4)}),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_scales_with_the_units_carries_a_scale(name):
    between, own = KEPT[name]
    assert copied(Planted(between, 2.0, **own), scaled=True) == {"a.weight": 5, "a.bias": 5}


BUFFERS = {
    "mask": lambda m, h: h.relu() * m.c,
    "positions": lambda m, h: (h + m.c).relu(),
    "truth values": lambda m, h: h.relu().masked_fill(m.c > 0.5, 0.0),
}


@pytest.mark.parametrize("name", BUFFERS)
def test_units_with_other_buffers_are_no_copies(name):
    assert copied(Planted(BUFFERS[name], c=nn.Buffer(torch.tensor([1, 0, 1, 1, 1, 1.0])))) == {}
    assert copied(Planted(BUFFERS[name], c=nn.Buffer(torch.tensor([1, 1, 1, 0, 1, 1.0]))))["a.weight"] == 5


@pytest.mark.parametrize("training", [True, False])
def test_running_statistics_tell_units_apart_in_eval_mode_alone(training):
    model = Planted(lambda m, h: m.norm(h).relu(), norm=nn.BatchNorm1d(6)).train(training)
    assert len(copied(model)) > 0
    model.norm.running_mean[1] = 1.0
    assert bool(copied(model)) == training


@pytest.mark.parametrize("which", ["into", "out of"])
@pytest.mark.parametrize("factor", [1e9, 1e-9])
def test_one_unit_of_another_size_hides_no_difference(which, factor):
    """Units 0 and 1 differ by 1 % on one side; unit 3 has weights a billion times as large or small."""
    model = Planted(lambda m, h: h.relu())
    rows = (model.a.weight.data, model.a.bias.data) if which == "into" else (model.b.weight.data.T,)
    assert copied(model, scaled=True)["a.weight"] == 5
    for part in rows:
        part[1, ...] = part[0] * (1 + 0.01 * torch.arange(part[0].numel()).reshape(part[0].shape))
    for part in (model.a.weight.data, model.a.bias.data) if factor < 1 else rows:
        part[3] *= factor
    if which == "into":
        rows[1][1] += 0.01
    assert copied(model, scaled=True) == {}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_wide_random_network_of_half_precision_has_no_copies(dtype):
    layers = (nn.Linear(16, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
    model = network(*layers).to(dtype)
    assert coarsest_blocks(model, randn(4, 16).to(dtype), tolerance=2e-2, scaled=True).copied() == {}


class Joined(nn.Module):
    """The sum of two readings of one layer, ``w · [h, h]``."""

    def __init__(self):
        super().__init__()
        self.a, self.b = network(nn.Linear(4, 6))[0], network(nn.Linear(12, 3))[0]
        for rows in (self.a.weight.data, self.a.bias.data, self.b.weight.data.T, self.b.weight.data.T[6:]):
            rows[1] = rows[0]

    def forward(self, x):
        h = self.a(x).relu()
        return self.b(torch.cat([h, h], 1))


def test_copies_in_a_concatenation_have_equal_columns_in_every_part():
    model = Joined()
    assert copied(model) == {"a.weight": 5, "a.bias": 5}
    model.b.weight.data[:, 1] += 1.0
    model.b.weight.data[:, 7] -= 1.7
    assert copied(model) == {}


class Elementwise(nn.Module):
    """Two hidden layers with copies; the weights between are equitable, and pass through ``f`` before use."""

    def __init__(self, f):
        super().__init__()
        self.f, self.a, self.c = f, network(nn.Linear(4, 6))[0], network(nn.Linear(6, 3))[0]
        for rows in (self.a.weight.data, self.a.bias.data, self.c.weight.data.T):
            rows[1::2] = rows[::2]
        ones = torch.ones(2, 2, dtype=torch.float64)
        zero_sums = torch.tensor([[1.0, -1], [-1, 1]], dtype=torch.float64)
        self.w = nn.Parameter(torch.kron(randn(3, 3), ones) + torch.kron(randn(3, 3, seed=1), zero_sums))

    def forward(self, x):
        return self.c(nn.functional.linear(self.a(x).tanh(), self.f(self.w)).tanh())


def test_weights_that_pass_through_a_function_have_to_be_equal_not_their_sums():
    assert copied(Elementwise(lambda w: w.detach()))["a.weight"] == 3
    assert copied(Elementwise(lambda w: w.abs())) == {}
    constant = Elementwise(lambda w: w.abs())
    constant.w.data = torch.kron(randn(3, 3), torch.ones(2, 2, dtype=torch.float64))
    assert copied(constant)["a.weight"] == 3


def test_complex_weights_are_named():
    model = nn.Sequential(nn.Linear(4, 5, dtype=torch.complex128), nn.Linear(5, 2, dtype=torch.complex128))
    found = coarsest_blocks(model, randn(3, 4).to(torch.complex128))
    assert not any(profile.copied for profile in found.groups.values())
    assert "is torch.complex128; store its real and imaginary part as two parameters" in found.unjudged["0"]


def test_complex_buffers_beside_other_units_hide_none():
    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 2)
            self.register_buffer("angles", torch.polar(torch.ones(4, 1), torch.rand(4, 1)))

        def forward(self, x):
            turned = torch.view_as_real(torch.view_as_complex(x.reshape(-1, 4, 1, 2)) * self.angles)
            return self.last(torch.tanh(self.first(turned.flatten(2).sum(2))))

    model = Turned()
    with torch.no_grad():
        for tensor in (model.first.weight, model.first.bias, model.last.weight.T):
            tensor[3] = tensor[1]
    found = coarsest_blocks(model, torch.randn(3, 8))
    block = found.groups["first"].block.tolist()
    assert block[1] == block[3]
    assert len(set(block)) == 5


def test_a_layer_whose_weight_is_computed_is_traced():
    model = network(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    prune.l1_unstructured(model[0], "weight", 0.3)
    assert copied(model) == {}
