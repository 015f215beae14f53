"""A certificate counts what is trapped, exactly, and never calls a random network trapped."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.torch_experiments.certificates.clones import steps
from tests.torch_experiments.cloning.test_exact import ARCHITECTURES, IMAGES, base_of
from tests.torch_experiments.cloning.test_modulewise import network, randn, rng
from tests.torch_experiments.support.test_steps import Wrapper
from torch_experiments import TraceError, certify, clone, diagnose
from torch_experiments.certificates.audit import audit
from torch_experiments.certificates.certificate import copies
from torch_experiments.cloning.chains import expand, profiles
from torch_experiments.lab.models import mlp


def size(model: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_random_network_is_not_trapped(arch: str) -> None:
    found = certify(base_of(arch, "layer"), randn(*IMAGES), parts=("near", "optimizer"))
    assert not found.trapped
    assert found.dimension == found.parameters
    assert found.parameters - found.reached == sum(part.entries for part in found.unreached)
    assert all(not group["copies"] for group in copies(found.blocks).values())


@pytest.mark.parametrize("mode", ["equal", "equitable"])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_clone_has_the_dimension_of_its_base(arch: str, mode: str) -> None:
    base, x = base_of(arch, "batch"), randn(*IMAGES)
    wide = clone(base, 2, mode, rng(), example_inputs=x)  # type: ignore[arg-type]
    found = certify(wide, x, parts=("optimizer",))
    assert found.parameters == size(wide)
    assert found.dimension == size(base) == found.blocks.dimension
    assert found.optimizer is not None
    assert (found.optimizer.clones, found.optimizer.coset) == ("kept", "kept")


def test_dead_units_hold_their_weights_in_and_out() -> None:
    model, x = network(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), randn(20, 4)
    model[0].bias.data.fill_(9)  # all others live
    model[0].weight.data[2], model[0].bias.data[2] = 0, -1
    found = certify(model, x, torch.optim.SGD(model.parameters(), 0.1), targets=torch.arange(20) % 3)
    assert found.frozen is not None
    (unit,) = found.frozen.units
    assert (unit.layer, unit.unit) == ("1", 2)
    assert "all 20 values" in unit.inequality
    assert found.parameters - found.dimension == 4 + 1 + 3
    assert found.optimizer is not None
    assert found.optimizer.frozen == "kept"
    model[0].bias.data[2] = 1
    assert certify(model, x).dimension == size(model)


def test_dead_clones_are_counted_once() -> None:
    """Two copies of one dead unit: their entries are frozen, not merely tied; nothing is subtracted twice."""
    model, x = network(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), randn(20, 4)
    model[0].bias.data.fill_(9)  # all others live
    for k in (2, 5):
        model[0].weight.data[k], model[0].bias.data[k], model[2].weight.data[:, k] = 0, -1, 0.5
    found = certify(model, x)
    assert copies(found.blocks)["0"]["copies"] == [[2, 5]]
    assert found.parameters - found.dimension == 2 * (4 + 1 + 3)


@pytest.mark.parametrize(
    ("scales", "activation", "kind"),
    [("positive", "relu", "scaled"), ("sign", "tanh", "signed"), ("one", "gelu", "identical")],
)
def test_the_kind_of_copies_is_named_and_decides_what_adam_keeps(scales: str, activation: str, kind: str) -> None:
    base = mlp(5, 3, width=4, depth=2, activation=activation, dtype=torch.float64)
    wide = expand(base, profiles(base, 3, scales=scales, generator=rng()), generator=rng())
    x, y = randn(12, 5), torch.arange(12) % 3
    sgd, adam = torch.optim.SGD(wide.parameters(), 0.01), torch.optim.Adam(wide.parameters(), 0.01)
    found = certify(wide, x, sgd, targets=y, parts=("optimizer", "stability"))
    assert {group["kind"] for group in copies(found.blocks).values()} == {kind}
    assert found.dimension == size(base)
    assert found.optimizer is not None
    assert found.optimizer.clones == "kept"
    other = certify(wide, x, adam).optimizer
    assert other is not None
    assert other.clones == ("left" if kind == "scaled" else "kept")
    assert found.stability is not None
    assert found.stability.kind == "saddle"
    steps(wide, sgd, x, y, 20)
    assert certify(wide, x, parts=()).dimension == size(base)
    steps(wide, adam, x, y, 20)
    assert (certify(wide, x, parts=()).dimension == size(base)) == (kind != "scaled")


def test_float32_copies_are_found_up_to_rounding_and_noise_is_not_forgiven() -> None:
    x = randn(30, 8).float()
    wide = clone(mlp(8, 3, width=32, depth=2), 2, "equitable", rng(), example_inputs=x)
    y = torch.arange(30) % 3
    steps(wide, torch.optim.SGD(wide.parameters(), 0.01), x, y, 5)
    found = certify(wide, x, targets=y)
    assert found.blocks.dimension == size(mlp(8, 3, width=32, depth=2))
    for p in wide.parameters():
        p.data += 1e-3 * torch.randn(p.shape, generator=rng())
    noisy = certify(wide, x)
    assert noisy.blocks.free_fraction == 1
    assert noisy.near
    assert all(len(cluster.units) == 2 and cluster.weights < 0.1 for cluster in noisy.near[:10])


def test_what_was_not_looked_at_is_said() -> None:
    model = network(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    model[0].bias.requires_grad_(False)
    model.spare = nn.Parameter(torch.zeros(2))
    found = certify(model, randn(9, 4), parts=())
    assert found.parameters == size(model) - 6 - 2
    for said in ("not trained (requires_grad is False)", "not read on this batch", "frozen: not asked for"):
        assert any(said in note for note in found.notes)


def test_wrong_arguments_are_named() -> None:
    model, x = network(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), randn(9, 4)
    with pytest.raises(ValueError, match=r"parts: got 'near'; it has to be a collection of frozen, near"):
        certify(model, x, parts="near")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="NaN"):
        certify(model, x * torch.nan)
    for act in (certify, audit):
        with pytest.raises(
            TypeError, match=r"optimizer: got str; give the object that trains, such as torch\.optim"
        ):
            act(model, x, "adam")  # type: ignore[operator]


def test_a_wrapped_optimizer_is_judged_as_the_one_inside() -> None:
    model, x = network(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), randn(9, 4)
    adam = torch.optim.Adam(model.parameters())
    found = certify(model, x, Wrapper(adam), parts=("optimizer",))
    assert found.optimizer is not None
    assert found.optimizer.optimizer.startswith("Adam: ")
    assert audit(model, x, Wrapper(adam), steps=2).steps == 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "inputs: got NoneType; give one batch"),
        (iter([torch.ones(2, 4)]), "inputs: got list_iterator; .* next\\(iter\\(loader\\)\\)"),
        ("x.npy", "inputs: got str"),
        (torch.ones(0, 4), r"inputs: a tensor has shape \(0, 4\), so it holds no numbers"),
    ],
)
def test_inputs_that_hold_no_batch_are_named(given, said):
    with pytest.raises(TraceError, match=said):
        certify(nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)), given)


@pytest.mark.parametrize("examine", [certify, diagnose])
def test_one_sample_without_an_axis_of_samples_is_refused(examine):
    with pytest.raises(ValueError, match=r"no axis of samples .*; give a batch, such as x\[None\]"):
        examine(nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)), torch.randn(4))


def trapped_by_hand(dtype=torch.float32):
    """Unit 3 is a copy of unit 1, unit 2 is dead."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)).to(dtype)
    with torch.no_grad():
        model[0].weight[3], model[0].bias[3] = model[0].weight[1], model[0].bias[1]
        model[2].weight[:, 3] = model[2].weight[:, 1]
        model[0].bias[2] = -100.0
    return model, torch.randn(16, 5).to(dtype)


@pytest.mark.parametrize("runs", [0, 1])
def test_autocast_around_the_call_is_in_force_and_hides_no_weight(runs):
    model, x = trapped_by_hand()
    with torch.autocast("cpu", torch.bfloat16):
        for _ in range(runs):
            model(x)  # leaves casts of the weights in autocast's cache
        found = certify(model, x, torch.optim.SGD(model.parameters(), 0.1))
        assert torch.is_autocast_cache_enabled()
    plain = certify(model, x, torch.optim.SGD(model.parameters(), 0.1))
    for one in (found, plain):
        assert copies(one.blocks)["0"]["copies"] == [[1, 3]]
        assert [unit.unit for unit in one.frozen.units] == [2]
        assert not any("not read" in note for note in one.notes)
    assert (found.parameters, found.dimension) == (plain.parameters, plain.dimension)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_entries_are_told_in_low_precision_as_in_high(dtype):
    found = certify(*trapped_by_hand(dtype), parts=("frozen",))
    held = {name: int(mask.sum()) for name, mask in found.frozen.entries.items()}
    assert held == {"0.weight": 5, "0.bias": 1, "2.weight": 3, "2.bias": 0}


def test_a_norm_of_each_sample_has_no_bounds_and_stops_nothing():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.InstanceNorm2d(8), nn.ReLU(), nn.Conv2d(8, 3, 3))
    found = certify(model, torch.randn(4, 3, 8, 8), box=(-9, 9))
    assert found.frozen is not None
    assert found.frozen.sizes == {"2": 8}


def test_dead_units_of_a_part_without_gradient_need_no_stability():
    class OnFeatures(nn.Module):
        """A head that trains on features which do not."""

        def __init__(self):
            super().__init__()
            self.features, self.beside, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            with torch.no_grad():
                h = torch.relu(self.features(x))
            return self.head(h + self.beside(x))

    torch.manual_seed(0)
    model, x = OnFeatures(), torch.randn(16, 4)
    with torch.no_grad():
        model.features.bias[0] = -50
    found = certify(model, x, torch.optim.SGD(model.parameters(), 0.1), targets=torch.randn(16, 2))
    assert found.stability is None
    assert found.trapped
    assert any("no gradient to the cloned or frozen" in note for note in found.notes)
    assert found.rounding.held
