"""Verification of clones: what the sums of weights see, what samples see, and wrong clones that must be caught."""

import copy
import dataclasses
import itertools

import numpy as np
import pytest
import torch
from torch import nn

from tests.torch_experiments.cloning.test_exact import ARCHITECTURES, IMAGES, Layer, base_of, hugging_face
from tests.torch_experiments.cloning.test_modulewise import network, randn, rng
from torch_experiments import TraceError, clone, layout, trace, verify
from torch_experiments.cloning import make_plan
from torch_experiments.cloning.verification import sum_deviations
from torch_experiments.cloning.widen import SAMPLES, evaluated, filled, gap, layout_of, outputs
from torch_experiments.units.inputs import sample_count


def pair(arch="cnn", norm="layer", mode="equal", factor=2, dtype=torch.float64, **options):
    """Return base, clone, layout and inputs."""
    model, x = base_of(arch, norm, dtype), randn(*IMAGES).to(dtype)
    twin = clone(model, factor, mode, rng(), example_inputs=x, **options)
    return model, twin, layout(model, factor, example_inputs=x, **options), x


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("mode", ["equal", "equitable", "rows"])
@pytest.mark.parametrize(
    ("arch", "norm"), [("mlp", "batch"), ("cnn", "layer"), ("resnet18", "batch"), ("vit", "layer")]
)
def test_clones_are_found_to_be_clones(arch, norm, mode, dtype):
    model, twin, place, x = pair(arch, norm, mode, 3, dtype)
    found = verify(twin, model, place, x)
    assert found.kept
    assert found.off == []
    assert found.samples == len(x)
    assert {name.rpartition(".")[0] for name, _ in model.named_parameters()} == set(found.weights)
    assert found.activations.keys() == {name for name, _ in model.named_modules() if name}


@pytest.mark.parametrize("mode", ["columns", "broken"])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_rows_that_are_not_equitable_are_found(arch, mode):
    model, twin, place, x = pair(arch, "none", mode)
    found = verify(twin, model, place, x)
    assert not found.kept
    assert max(found.weights.values()) > 1e-3
    assert found.function > 1e-3


def scale(name, by):
    def tamper(twin):
        twin.get_parameter(name).data[1] *= by

    return tamper


def reset_norm(twin):
    nn.init.ones_(twin.norm1.weight)


def reset_statistics(twin):
    twin.norm1.reset_running_stats()


def side_by_side(twin):
    """Order copies as one whole layer after the other."""
    weight = twin.conv2.weight
    weight.data = weight.data[:, [*range(0, weight.shape[1], 2), *range(1, weight.shape[1], 2)]]


def nan(twin):
    twin.conv2.bias.data[0] = torch.nan


WRONG = {
    "a weight": ("layer", scale("conv2.weight", 1.001), "conv2"),
    "a bias": ("layer", scale("conv2.bias", 1.001), "conv2"),
    "NaN": ("layer", nan, "conv2"),
    "affine parameters of a norm that are not copied": ("layer", reset_norm, "norm1"),
    "running statistics that are not copied": ("batch", reset_statistics, "norm1"),
    "copies in another order": ("layer", side_by_side, "conv2"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_clone_is_caught_and_the_layer_named(kind):
    norm, tamper, layer = WRONG[kind]
    model, twin, place, x = pair("cnn", norm)
    tamper(twin)
    found = verify(twin, model, place, x)
    assert not found.kept
    assert found.off[0] == layer
    assert next(name for name, off in found.activations.items() if not off <= 1e-9) == layer


def test_a_weight_out_of_a_unit_that_is_dead_on_the_samples_is_caught():
    model, x = network(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)), randn(9, 4)
    model[0].weight.data[2] = 0
    model[0].bias.data[2] = -1
    twin, place = clone(model, example_inputs=x), layout(model, example_inputs=x)
    twin[2].weight.data[0, 4] += 1
    found = verify(twin, model, place, x, samples="all")
    assert found.function <= found.tolerance
    assert max(found.activations.values()) <= found.tolerance
    assert found.off == ["2"]


def test_logits_that_grow_with_the_head_are_caught_by_samples_alone():
    """Features of heads are copied and queries and keys are not rescaled: logits times √2, weights as planned."""
    model, right, place, x = pair("vit", attention="features")
    plan = make_plan(trace(model, x), 2, "features")
    wrong = filled(model, copy.deepcopy(right), layout_of(plan))
    found = verify(wrong, model, layout_of(plan), x)
    assert max(found.weights.values()) == 0
    assert found.off[0] == "block1.attention.proj"
    assert found.function > 1e-4
    assert verify(right, model, place, x).kept


def test_a_wrong_rule_is_caught_when_it_clones(monkeypatch):
    """Noise whose sums do not vanish: the outputs of the equal clone are right, the sums of the result are not."""
    monkeypatch.setattr("torch_experiments.cloning.widen.noise", lambda wide, *_: 0.1 * torch.ones_like(wide))
    with pytest.raises(TraceError, match=r"layer 'conv1': its weights, summed over copies, differ .* by .*e-0"):
        pair("cnn", mode="equitable")


def test_sums_are_those_of_a_naive_loop():
    model, factor = network(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)), 3
    twin, place = clone(model, factor), layout(model, factor)
    for parameter in twin.parameters():
        parameter.data += 0.1 * randn(*parameter.shape)
    found, wanted = sum_deviations(twin, model, place), {}
    for name, inner, outer in (("0", 1, factor), ("2", factor, 1)):
        W, V = (net.get_submodule(name).weight.detach().numpy() for net in (twin, model))
        off = [
            sum(W[v, j * inner + k] for k in range(inner)) - V[v // outer, j]
            for v, j in itertools.product(range(len(W)), range(V.shape[1]))
        ]
        b, c = (net.get_submodule(name).bias.detach().numpy() for net in (twin, model))
        bias = max(abs(b[v] - c[v // outer]) for v in range(len(b))) / np.abs(c).max()
        wanted[name] = max(np.abs(off).max() / np.abs(V).max(), bias)
    assert found == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("kind", ["GPT2LMHeadModel", "ViTForImageClassification"])
def test_strangers_are_verified_and_powers_of_outputs_matter(kind):
    """With tied weights the last norm's output is divided by the factor; without its power it would seem wrong."""
    model, x = hugging_face(kind)
    twin, place = clone(model, example_inputs=x), layout(model, example_inputs=x)
    assert verify(twin, model, place, x).kept
    plain = {name: where._replace(exponent=0) for name, where in place.outputs.items()}
    wrong = verify(twin, model, dataclasses.replace(place, outputs=plain), x)
    assert wrong.off == (["transformer.ln_f", "transformer"] if kind == "GPT2LMHeadModel" else [])


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("place", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_a_gap_is_infinite_for_numbers_that_are_not_finite_anywhere(place, bad):
    f, g = [randn(3), randn(4)], [randn(3), randn(4)]
    assert gap(f, g) < torch.inf
    (f, g)[place[0]][place[1]][1] = bad
    assert gap(f, g) == torch.inf


def test_a_gap_is_relative_to_the_largest_output():
    f, g = [torch.tensor([1.0, -4.0]), torch.tensor([[2.0]])], [torch.tensor([1.5, -4.0]), torch.tensor([[1.0]])]
    assert gap(f, g) == 0.25
    assert gap([torch.zeros(2)], [torch.zeros(2)]) == 0
    assert gap([torch.zeros(2)], [torch.ones(2)]) == torch.inf
    assert gap(f[:1], g) == torch.inf
    assert gap([1j * f[0]], [1j * g[0]]) == 0.125


class Rare(nn.Module):
    """A function that depends on the width, for large inputs only."""

    def forward(self, x):
        return torch.where(x.abs() > 100, torch.sin(x + x.shape[1]), x)


def test_what_only_a_rare_sample_shows_needs_all_samples():
    model, x = Layer(Rare()).double(), randn(30, 4)
    x[20] *= 1e6
    twin, place = clone(model, example_inputs=x), layout(model, example_inputs=x)
    assert verify(twin, model, place, x).samples == SAMPLES
    assert verify(twin, model, place, x).kept
    found = verify(twin, model, place, x, samples="all")
    assert found.samples == 30
    assert found.off == ["act.function", "act", "last"]
    with pytest.raises(TraceError, match=r"the clone runs but computes something else"):
        clone(model, example_inputs=x, samples="all")


@pytest.mark.parametrize(
    ("samples", "sizes"), [(1, [1]), (7, [7]), (8, [4, 4]), (16, [5, 5, 6]), ("all", [5, 6, 6, 6])]
)
def test_samples_run_in_parts_of_one_size_or_two(samples, sizes):
    model, x = base_of("cnn"), randn(23, 3, 16, 16)
    parts, found = evaluated(model, x, samples)
    assert [sample_count(part) for part in parts] == sizes
    assert gap(outputs(model, x[: sum(sizes)]), [torch.cat(found)]) <= 1e-14
    named, _ = evaluated(Layer(nn.Tanh()).double(), {"x": randn(23, 4)}, samples)
    assert [sample_count(part) for part in named] == sizes


class Fixed(nn.Module):
    """A network that takes batches of ten."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x, shift=0.0):
        return self.two(self.one(x).tanh().view(10, -1)) + shift


@pytest.mark.parametrize("shift", [None, randn(3)])
def test_inputs_that_are_no_batch_stay_whole(shift):
    x = randn(10, 4)
    model, inputs = Fixed().double(), (x,) if shift is None else (x, shift)
    twin, place = clone(model, example_inputs=inputs), layout(model, example_inputs=inputs)
    found = verify(twin, model, place, inputs)
    assert found.kept
    assert found.samples == (10 if shift is None else 0)


def test_a_module_whose_axes_are_not_as_traced_is_left_out():
    class Mixed(nn.Module):
        """Samples and units in one axis, between two maps."""

        def __init__(self):
            super().__init__()
            self.one, self.flat, self.two = nn.Linear(4, 6), nn.Flatten(0), nn.Linear(6, 3)

        def forward(self, x):
            return self.two(self.flat(self.one(x)).unflatten(0, (len(x), -1)))

    model, x = Mixed().double(), randn(6, 4)
    twin, place = clone(model, example_inputs=x), layout(model, example_inputs=x)
    assert verify(twin, model, place, x).activations.keys() == {"one", "flat", "two"}
    assert verify(twin, model, place, randn(5, 4)).activations.keys() == {"one", "two"}


CALLS = {
    "clone": lambda model, x: clone(model, example_inputs=x, samples=0),
    "layout": lambda model, x: layout(model, example_inputs=x, samples=0),
    "verify": lambda model, x: verify(model, model, layout(model), x, samples=0),
}


@pytest.mark.parametrize("call", CALLS)
def test_no_sample_is_an_error(call):
    model = network(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    with pytest.raises(ValueError, match=r"samples: got 0; give at least 1, or 'all'"):
        CALLS[call](model, randn(9, 4))


def test_networks_and_hooks_are_left_alone():
    model, twin, place, x = pair("vit")
    before = copy.deepcopy(twin.state_dict())
    verify(twin.train(), model, place, x)
    assert twin.training
    assert all(torch.equal(before[name], value) for name, value in twin.state_dict().items())
    assert not any(m._forward_hooks for net in (twin, model) for m in net.modules())


def test_a_network_that_is_no_clone():
    model, _, place, x = pair("cnn")
    assert verify(model, model, place, x).off[0] == "conv1"
    plain = clone(base_of("cnn", "none"), example_inputs=x)
    with pytest.raises(ValueError, match=r"twin: has no 'norm1.weight'.*; pass the layout of this base"):
        verify(plain, model, place, x)
