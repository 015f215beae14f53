"""Diagnostics against naive loops, closed forms and planted units, on modules and functions."""

import io
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from theory import rank as exact
from torch_experiments import clone, diagnose
from torch_experiments.cloning.layouts import profile
from torch_experiments.diagnostics import METRICS, unit_metric
from torch_experiments.diagnostics.probe import Probe
from torch_experiments.diagnostics.registry import chosen
from torch_experiments.diagnostics.result import SHOWN, About, Diagnosis
from torch_experiments.lab.models import cnn, mlp, resnet18, vit
from torch_experiments.metrics import scores
from torch_experiments.support.generators import generator


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=generator(seed), dtype=dtype)


class Given(nn.Module):
    """An activation of given pre-activations: the input itself."""

    def __init__(self, activation=None, units=1):
        super().__init__()
        self.activation = activation or nn.ReLU()
        self.head = nn.Linear(units, 2, dtype=torch.float64)

    def forward(self, z):
        return self.head(self.activation(z))


def measured(z, activation=None, **options):
    found = diagnose(Given(activation, z.shape[1]), z, **options)
    return found["activation"]


# ---- naive oracles -------------------------------------------------------------------------------------------


def naive(z, h, slope, steepest):
    """Return the unit metrics by loops over the columns of values and units."""
    n, C = h.shape
    size = [sum(abs(h[i, u]) for i in range(n)) / n for u in range(C)]
    flat = [[abs(slope(z[i, u])) <= 0.01 * steepest for i in range(n)] for u in range(C)]
    entropy = 0.0
    shift = []
    linear = twins = later = 0
    for u in range(C):
        p = sum(z[i, u] > 0 for i in range(n)) / n
        entropy -= sum(q * math.log2(q) for q in (p, 1 - p) if q > 0) / C
        shift.append(abs(np.mean(z[:, u])) / np.std(z[:, u]))
        if np.std(h[:, u]) > 0:
            linear += np.corrcoef(z[:, u], h[:, u])[0, 1] ** 2 >= 0.999
        others = [v for v in range(C) if v != u and np.std(h[:, v]) > 0 and np.std(h[:, u]) > 0]
        twins += any(abs(np.corrcoef(h[:, u], h[:, v])[0, 1]) >= 0.95 for v in others)
        norms = [np.linalg.norm(h[:, v]) for v in range(C)]
        later += any(norms[u] * norms[v] > 0 and h[:, u] @ h[:, v] >= 0.95 * norms[u] * norms[v] for v in range(u))
    return {
        "dead_fraction": sum(s == 0 for s in size) / C,
        "nearly_silent_fraction": sum((h[:, u] != 0).sum() <= 0.05 * n for u in range(C)) / C,
        "dormant_fraction": sum(s <= 0.025 * sum(size) / C for s in size) / C,
        "dormant_fraction_0.1": sum(s <= 0.1 * sum(size) / C for s in size) / C,
        "frozen_fraction": sum(map(sum, flat)) / (n * C),
        "saturated_fraction": sum(map(all, flat)) / C,
        "linearised_fraction": linear / C,
        "sign_entropy": entropy,
        "preactivation_shift": np.mean(shift),
        "duplicate_fraction": twins / C,
        "later_duplicate_fraction": later / C,
    }


def planted(seed=0):
    """Return pre-activations of 60 samples with dead, silent, dormant, linear, and duplicate units."""
    z = normal(60, 12, seed=seed)
    z[:, 0] = -z[:, 0].abs() - 0.1  # dead
    z[:, 1] = torch.where(torch.arange(60) < 2, 1.0, -1.0) + 0.1 * z[:, 1]  # nearly silent
    z[:, 2] *= 0.01  # dormant
    z[:, 3] = z[:, 3].abs() + 0.1  # always active
    z[:, 5] = 2 * z[:, 4]  # a copy for ReLU
    return z


ACTIVATIONS = {
    "relu": (nn.ReLU(), lambda z: float(z > 0), 1.0),
    "tanh": (nn.Tanh(), lambda z: 1 - np.tanh(z) ** 2, 1.0),
    "leaky": (nn.LeakyReLU(0.001), lambda z: 1.0 if z > 0 else 0.001, 1.0),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_unit_metrics_are_those_of_naive_loops(name):
    activation, slope, steepest = ACTIVATIONS[name]
    z = planted() * (3 if name == "tanh" else 1)
    found = measured(z, activation)
    for metric, value in naive(z.numpy(), activation(z).numpy(), slope, steepest).items():
        assert found[metric] == pytest.approx(value, rel=1e-9), metric


def test_planted_units_are_counted_and_no_others():
    found = measured(planted())
    assert found["dead_fraction"] == pytest.approx(1 / 12)
    assert found["nearly_silent_fraction"] == pytest.approx(2 / 12)
    assert found["dormant_fraction"] == pytest.approx(2 / 12)
    assert found["linearised_fraction"] == pytest.approx(1 / 12)
    assert found["duplicate_fraction"] == pytest.approx(2 / 12)
    healthy = measured(normal(300, 12))
    assert [healthy[m] for m in ("dead_fraction", "dormant_fraction", "duplicate_fraction")] == [0, 0, 0]


@pytest.mark.parametrize("mean", [0.0, 3.0])
def test_ranks_are_those_of_the_values(mean):
    h = normal(80, 7) * torch.linspace(1, 0.1, 7, dtype=torch.float64) + mean
    h = torch.cat([h, h[:, :2]], dim=1)
    found = measured(h, nn.Hardtanh(-50, 50))
    for kind, a in (("raw", h.numpy()), ("centred", (h - h.mean(dim=0)).numpy())):
        C = a.T @ a
        assert found[f"shannon_rank_{kind}"] == pytest.approx(exact.shannon_rank(C), rel=1e-6)
        assert found[f"renyi2_rank_{kind}"] == pytest.approx(exact.renyi2_rank(C), rel=1e-6)
        assert found[f"stable_rank_{kind}"] == pytest.approx(exact.stable_rank(C), rel=1e-6)
        assert found[f"roy_vetterli_rank_{kind}"] == pytest.approx(exact.roy_vetterli_rank(a), rel=1e-6)
        assert found[f"srank_{kind}"] == exact.srank(a)
        assert found[f"hard_rank_{kind}"] == 7


def test_ranks_of_fewer_values_than_units_are_those_of_the_products_of_values():
    z = normal(20, 50)
    found = measured(z)
    sigma = scores.spectrum(z.relu())
    assert found["shannon_rank_centred"] == pytest.approx(scores.shannon_rank(sigma), rel=1e-9)
    assert found["hard_rank_centred"] == 19


def test_linearity_of_gaussian_inputs_is_that_of_the_hermite_expansion():
    z = normal(200_000, 1)
    h = z.relu()
    r2 = np.corrcoef(z[:, 0], h[:, 0])[0, 1] ** 2
    assert r2 == pytest.approx(exact.linear_share("relu"), abs=5e-3)
    assert measured(z)["linearised_fraction"] == 0
    assert measured(0.02 * z, nn.Tanh())["linearised_fraction"] == 1
    assert measured(z, nn.Tanh())["linearised_fraction"] == 0


# ---- gradients -----------------------------------------------------------------------------------------------


def test_norms_and_loss_are_those_of_autograd():
    model = mlp(6, 3, width=5, depth=2, dtype=torch.float64)
    x, y = normal(40, 6), torch.arange(40) % 3
    found = diagnose(model, x, y)
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    assert found[""]["loss"] == pytest.approx(float(loss.detach()))
    for name, layer in (("linear1", model.linear1), ("head", model.head), ("", model)):
        slopes = torch.cat([p.grad.flatten() for p in layer.parameters()])
        weights = torch.cat([p.detach().flatten() for p in layer.parameters()])
        assert found[name]["gradient_norm"] == pytest.approx(float(slopes.norm()), rel=1e-12)
        assert found[name]["weight_norm"] == pytest.approx(float(weights.norm()), rel=1e-12)
    assert "gradient_norm" not in diagnose(model, x)[""]


def test_published_saturation_depends_on_the_scale_of_the_loss_and_ours_does_not():
    model = mlp(6, 3, width=16, depth=1, dtype=torch.float64)
    x, y = normal(40, 6), torch.arange(40) % 3
    h = model.act1(model.linear1(x)).detach().requires_grad_()
    F.cross_entropy(model.head(h), y).backward()
    still = [
        np.mean([abs(h.grad[i, u]) < 1e-4 * max(h[:, u].abs().mean().item(), 1e-12) for i in range(40)]) > 0.99
        for u in range(16)
    ]
    found = diagnose(model, x, y)["act1"]
    assert found["jl25_saturated_fraction"] == pytest.approx(np.mean(still))
    scaled = diagnose(model, x, y, loss=lambda out, y: 1e-9 * F.cross_entropy(out, y))["act1"]
    assert scaled["jl25_saturated_fraction"] > found["jl25_saturated_fraction"]
    assert scaled["saturated_fraction"] == found["saturated_fraction"]


def test_scores_of_cloning_are_one_for_copies_and_the_published_one_a_fifth_for_independent_pairs():
    a = normal(500, 200)
    pairs = profile(200, 2)
    copies = measured(a.repeat_interleave(2, dim=1), nn.Hardtanh(-9, 9), profiles={"activation": pairs})
    assert copies["forward_cloning_score"] == pytest.approx(1)
    assert copies["jl25_cloning_r2"] == pytest.approx(1)
    apart = measured(normal(500, 400), nn.Hardtanh(-9, 9), profiles={"activation": pairs})
    assert apart["forward_cloning_score"] == pytest.approx(0, abs=0.01)
    assert apart["jl25_cloning_r2"] == pytest.approx(1 - 2 / math.sqrt(2 * math.pi), abs=0.01)
    with pytest.raises(ValueError, match=r"profiles.*400 units.*200"):
        measured(a, profiles={"activation": pairs})


def test_clones_of_a_network_score_one_forward_and_backward_until_they_are_parted():
    wide = clone(mlp(6, 3, width=8, depth=2, dtype=torch.float64), 2)
    x, y = normal(60, 6), torch.arange(60) % 3
    pairs = {name: profile(8, 2) for name in ("act1", "act2")}
    names = ("forward_cloning_score", "backward_cloning_score", "jl25_cloning_r2")
    found = diagnose(wide, x, y, metrics=names, profiles=pairs)
    assert [found[layer][name] for layer in pairs for name in names] == pytest.approx([1] * 6)
    with torch.no_grad():
        wide.linear1.weight += 0.3 * normal(*wide.linear1.weight.shape, seed=3)
    parted = diagnose(wide, x, y, metrics=names, profiles=pairs)
    assert parted["act1"]["backward_cloning_score"] == pytest.approx(1)
    assert max(parted["act1"]["forward_cloning_score"], parted["act1"]["jl25_cloning_r2"]) < 0.9


# ---- the network as a whole ----------------------------------------------------------------------------------


def small():
    model = mlp(4, 3, width=5, depth=1, activation="tanh", dtype=torch.float64)
    return model, normal(12, 4), torch.arange(12) % 3


def dense_hessian(model, x, y):
    names = [name for name, _ in model.named_parameters()]
    sizes = [p.numel() for p in model.parameters()]
    flat = torch.cat([p.detach().flatten() for p in model.parameters()])

    def loss(flat):
        parts = flat.split(sizes)
        given = {n: part.view_as(p) for n, part, p in zip(names, parts, model.parameters(), strict=True)}
        return F.cross_entropy(torch.func.functional_call(model, given, x), y)

    return torch.func.jacrev(torch.func.jacrev(loss))(flat)


def test_sharpness_and_rank_of_the_hessian_are_those_of_the_dense_one():
    model, x, y = small()
    eigenvalues = torch.linalg.eigvalsh(dense_hessian(model, x, y))
    probe = Probe(model, type_batch(x, y), F.cross_entropy, steps=43, directions=60)
    assert METRICS["sharpness"].function(probe) == pytest.approx(float(eigenvalues[-1]), rel=1e-8)
    q = (eigenvalues.abs() / eigenvalues.abs().sum()).numpy()
    expected = math.exp(-sum(v * math.log(v) for v in q if v > 0))
    assert METRICS["hessian_shannon_rank"].function(probe) == pytest.approx(expected, rel=0.1)
    assert expected < 0.7 * len(q)
    assert METRICS["sharpness"].function(probe) > 1.05 * float(eigenvalues[-2])


def type_batch(x, y):
    from torch_experiments.diagnostics.batches import Batch

    return Batch(x, y)


def test_a_linear_function_has_no_curvature():
    model, x = nn.Linear(3, 1), torch.ones(4, 3)
    probe = Probe(model, type_batch(x, x[:, :1]), lambda output, _: output.mean())
    assert METRICS["sharpness"].function(probe) == METRICS["hessian_shannon_rank"].function(probe) == 0


def test_gradient_and_kernel_metrics_are_those_of_explicit_jacobians():
    model, x, y = small()
    found = diagnose(model, x, y, metrics="full")[""]
    rows = []
    for i in range(12):
        model.zero_grad()
        F.cross_entropy(model(x[i : i + 1]), y[i : i + 1]).backward()
        rows.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    G = torch.stack(rows)
    assert found["gradient_diversity"] == pytest.approx(float(G.square().sum() / G.sum(dim=0).square().sum()))
    unit = G / G.norm(dim=1, keepdim=True)
    pairs = (unit @ unit.T)[~torch.eye(12, dtype=torch.bool)]
    assert found["gradient_cosine"] == pytest.approx(float(pairs.mean()))
    J = torch.cat([torch.cat([r.flatten(1) for r in one], dim=1) for one in jacobians(model, x)]).detach()
    assert found["ntk_rank"] == np.linalg.matrix_rank(J.numpy(), tol=1e-6)
    sigma = torch.linalg.svdvals(J)
    assert found["ntk_shannon_rank"] == pytest.approx(scores.shannon_rank(sigma), rel=1e-9)


def jacobians(model, x):
    for k in range(len(x)):
        given = dict(model.named_parameters())
        full = torch.func.jacrev(lambda p, k=k: torch.func.functional_call(model, p, x[k : k + 1])[0])(given)
        yield list(full.values())


def test_kernel_of_copied_samples_has_the_rank_of_one_of_them():
    model, x, y = small()
    found = diagnose(model, x[:1].expand(12, -1), y * 0, metrics=["ntk_rank", "gradient_diversity"])
    assert found[""]["ntk_rank"] == 3
    assert found[""]["gradient_diversity"] == pytest.approx(1 / 12)


# ---- what is seen --------------------------------------------------------------------------------------------


class Functional(nn.Module):
    def __init__(self, in_place=False):
        super().__init__()
        self.one, self.two = nn.Linear(6, 5), nn.Linear(5, 4)
        self.in_place = in_place

    def forward(self, x):
        x = F.relu(self.one(x), inplace=self.in_place)
        return torch.tanh(self.two(x)).relu()


def test_functions_are_activations_too_in_order_and_by_name():
    found = diagnose(Functional(), normal(9, 6, dtype=torch.float32), normal(9, 4, seed=1))
    assert [name for name in found if "dead_fraction" in found[name]] == ["relu", "tanh", "relu#2"]
    assert found["tanh"]["dead_fraction"] == 0
    assert "jl25_saturated_fraction" in found["relu"]


def test_operations_in_place_are_measured_before_they_overwrite():
    torch.manual_seed(0)
    plain, over = Functional(), Functional(in_place=True)
    over.load_state_dict(plain.state_dict())
    x = normal(30, 6, dtype=torch.float32)
    assert diagnose(plain, x, x[:, :4]) == diagnose(over, x, x[:, :4])
    shared = nn.Sequential(nn.Linear(6, 5), nn.ReLU(inplace=True))
    assert 0 < diagnose(shared, x)["1"]["sign_entropy"] <= 1


class Overwriting(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.one, self.act = nn.Linear(6, 50, dtype=torch.float64), act

    def forward(self, x):
        return self.act(self.one(x)).mul_(0)


def test_what_happens_to_an_output_later_does_not_matter():
    found = diagnose(Overwriting(nn.GELU()), normal(20, 6))
    assert found["act"]["hard_rank_raw"] == 20
    assert found["act"]["dead_fraction"] == 0
    model, x, y = Overwriting(nn.GELU()), normal(20, 6), normal(20, 50, seed=1)
    with torch.inference_mode():
        assert "gradient_norm" in diagnose(model, x, y)["one"]


def test_a_module_used_twice_is_two_layers():
    act = nn.ReLU()
    model = nn.Sequential(nn.Linear(6, 5), act, nn.Linear(5, 7), act)
    assert list(diagnose(model, normal(9, 6, dtype=torch.float32)).about.kept) == ["1", "1#2"]


@pytest.mark.parametrize(
    ("model", "layers", "units", "values"),
    [
        (mlp(192, 5, width=7, depth=2), ["act1", "act2"], 7, [6, 6]),
        (cnn(8, 5, width=4, depth=2, hidden=6), ["act1", "act2", "act"], None, [384, 96, 6]),
        (resnet18(5, width=4, stages=(1, 1)), 5, None, None),
        (vit(8, 5, patch=4, width=8, depth=2, heads=2), ["block1.act", "block2.act"], 32, [30, 30]),
    ],
)
def test_units_are_channels_and_features_and_positions_are_values(model, layers, units, values):
    found = diagnose(model, normal(6, 3, 8, 8, dtype=torch.float32))
    assert not found.about.notes
    assert len(found.about.kept) == (layers if isinstance(layers, int) else len(layers))
    if values:
        assert list(found.about.kept) == layers
        assert list(found.about.values.values()) == values
    assert units is None or found[layers[0]]["hard_rank_raw"] <= units


class Flattened(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4 * 36, 2)

    def forward(self, x):
        return self.head(F.relu(self.conv(x).flatten(1)))


def test_pixels_of_flattened_channels_are_positions():
    found = diagnose(Flattened(), normal(5, 3, 8, 8, dtype=torch.float32))
    assert found.about.values == {"relu": 5 * 36}
    assert found["relu"]["hard_rank_raw"] <= 4


def test_a_channel_that_speaks_on_one_pixel_is_not_dead():
    model = nn.Sequential(nn.Conv2d(1, 3, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 10_000, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, -1.0, 1.0]).reshape(3, 1, 1, 1))
    x = torch.zeros(4, 1, 100, 100)
    x[2, 0, 57, 31] = 1
    found = diagnose(model, x, positions=20)
    assert found["1"]["dead_fraction"] == pytest.approx(1 / 3)
    assert found["1"]["nearly_silent_fraction"] == 1
    assert found.about.kept == {"1": 80}
    assert found.about.values == {"1": 40_000}


def test_outputs_are_units_and_tokens_of_the_input_positions():
    model = nn.Sequential(nn.Linear(6, 9), nn.Sigmoid())
    found = diagnose(model, normal(5, 7, 6, dtype=torch.float32))
    assert not found.about.notes
    assert found.about.values == {"1": 35}


class Untraceable(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Linear(6, 5)

    def forward(self, x):
        h = self.one(x)
        return F.relu(h) if h.sum() > -1e9 else h


def test_a_rule_of_thumb_is_named_and_never_silent():
    found = diagnose(Untraceable(), normal(9, 6, dtype=torch.float32))
    assert len(found.about.notes) == 1
    assert "'relu'" in found.about.notes[0]
    assert "TraceError" in found.about.notes[0]
    assert "rule of thumb" in rendered(found)


def test_the_table_keeps_every_name_whole_at_eighty_columns():
    values = dict.fromkeys(SHOWN, 0.06789)
    found = Diagnosis({"transformer.h.10.mlp.act": values}, About(9, 0, {}, {}, (), 0.0))
    words = {part for name in SHOWN for part in name.removesuffix("_fraction").split("_")}
    for width, whole in ((80, True), (40, False)):
        page = rendered(found, width)
        assert all(word in page for word in words) == whole
        assert ("…" not in page) == whole


def rendered(found, width=150):
    from rich.console import Console

    console = Console(record=True, width=width, file=io.StringIO())
    console.print(found)
    return console.export_text()


def test_blocks_are_measured_on_demand():
    model = vit(8, 5, patch=4, width=8, depth=2, heads=2)
    x = normal(6, 3, 8, 8, dtype=torch.float32)
    found = diagnose(model, x, layers=["block1"])
    assert list(found.about.kept) == ["block1.act", "block1", "block2.act"]
    assert "sign_entropy" not in found["block1"]
    with pytest.raises(ValueError, match="layers: got 'block9'"):
        diagnose(model, x, layers=["block9"])


@pytest.mark.filterwarnings("ignore")
def test_models_of_hugging_face_are_followed():
    transformers = pytest.importorskip("transformers")
    tiny = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12}
    image = transformers.ViTForImageClassification(transformers.ViTConfig(image_size=8, patch_size=4, **tiny))
    found = diagnose(image, {"pixel_values": torch.randn(6, 3, 8, 8)}, torch.arange(6) % 2)
    assert not found.about.notes
    assert list(found.about.values.values()) == [30, 30]
    assert {"loss", "gradient_norm"} < set(found[""])
    text = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=11, n_embd=8, n_layer=2, n_head=2))
    words = torch.randint(11, (5, 7))
    found = diagnose(text, {"input_ids": words, "labels": words})
    assert not found.about.notes
    assert [name.endswith("mlp.act") for name in found.about.kept] == [True, True]
    assert found[""]["loss"] == pytest.approx(float(text.eval()(input_ids=words, labels=words).loss), rel=1e-5)


# ---- batches -------------------------------------------------------------------------------------------------


def test_a_stream_is_one_batch():
    model = cnn(8, 5, width=4, depth=1, hidden=6, dtype=torch.float64)
    x, y = normal(50, 3, 8, 8), torch.arange(50) % 5
    whole = diagnose(model, x, y, gradient_samples=20)
    pairs = diagnose(model, [(x[:20], y[:20]), (x[20:27], y[20:27]), (x[27:], y[27:])], gradient_samples=20)
    parallel = diagnose(model, iter([x[:30], x[30:]]), iter([y[:30], y[30:]]), gradient_samples=20)
    for found in (pairs, parallel, diagnose(model, (x, y), gradient_samples=20)):
        assert found.about.samples == 50
        for layer, metrics in whole.items():
            assert found[layer] == pytest.approx(metrics, rel=1e-7), layer


def test_fewer_samples_are_spread_over_the_batch():
    x = normal(1000, 6, dtype=torch.float32)
    model = mlp(6, 3, width=5, depth=1)
    assert diagnose(model, x).about.samples == 512
    assert diagnose(model, x, samples=100).about.samples == 100
    assert diagnose(model, [x, x]).about.samples == 2000
    assert diagnose(model, [x, x], samples=1100).about.samples == 1100


def test_half_precision_comes_close_to_single():
    model = mlp(20, 3, width=16, depth=2)
    x, y = normal(200, 20, dtype=torch.float32), torch.arange(200) % 3
    single = diagnose(model, x, y)
    inputs = diagnose(model, x.bfloat16(), y)
    half = diagnose(model.bfloat16(), x.bfloat16(), y)
    for found in (inputs, half):
        assert found["act2"]["dead_fraction"] == single["act2"]["dead_fraction"]
        assert found["act1"]["shannon_rank_centred"] == pytest.approx(
            single["act1"]["shannon_rank_centred"], rel=0.05
        )
        assert found[""]["gradient_norm"] == pytest.approx(single[""]["gradient_norm"], rel=0.1)


@pytest.mark.gpu
def test_a_gpu_finds_what_the_cpu_does():
    model = cnn(8, 5, width=4, depth=1, hidden=6, dtype=torch.float64)
    x, y = normal(50, 3, 8, 8), torch.arange(50) % 5
    here = diagnose(model, x, y, metrics="full")
    there = diagnose(model.cuda(), x.cuda(), y.cuda(), metrics="full")
    for layer, metrics in here.items():
        assert there[layer] == pytest.approx(metrics, rel=1e-6), layer
    with pytest.raises(ValueError, match="an input on cpu"):
        diagnose(model, x)


def test_the_network_is_left_as_it_was():
    model = mlp(6, 3, width=5, depth=2, norm="batch", dropout=0.5).train()
    model.act1.eval()
    x, y = normal(40, 6, dtype=torch.float32), torch.arange(40) % 3
    F.cross_entropy(model(x), y).backward()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    slopes = [p.grad.clone() for p in model.parameters()]
    modes = [m.training for m in model.modules()]
    state = torch.get_rng_state()
    data = torch.utils.data.TensorDataset(x, y)
    diagnose(model, torch.utils.data.DataLoader(data, batch_size=10, shuffle=True))
    first, again = diagnose(model, x, y, metrics="full"), diagnose(model, x, y, metrics="full")
    assert first == again
    assert torch.equal(state, torch.get_rng_state())
    assert modes == [m.training for m in model.modules()]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), slopes, strict=True))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_values_that_are_not_finite_are_traced_to_the_first_layer():
    model = mlp(6, 3, width=5, depth=3)
    with torch.no_grad():
        model.linear2.weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"layer 'linear2': its output holds nan or inf"):
        diagnose(model, normal(9, 6, dtype=torch.float32))
    with torch.no_grad():
        model.linear2.weight[0, 0] = 0
        model.head.bias[0] = torch.inf
    with pytest.raises(ValueError, match="layer 'head'"):
        diagnose(model, normal(9, 6, dtype=torch.float32))


def test_bad_input_is_named():
    model, x, _ = small()
    with pytest.raises(ValueError, match="batch: got 1 sample"):
        diagnose(model, x[:1])
    with pytest.raises(ValueError, match="positions: got 0; it has to be at least 1"):
        diagnose(model, x, positions=0)
    with pytest.raises(ValueError, match="batch: holds no sample"):
        diagnose(model, [])
    with pytest.raises(TypeError, match="batch: got int"):
        diagnose(model, 3)
    with pytest.raises(ValueError, match=r"metrics: got 'rank'; allowed are 'fast', 'full'"):
        diagnose(model, x, metrics=["rank"])


def test_a_result_is_a_mapping_a_table_and_a_picture():
    model, x, y = small()
    found = diagnose(model, x, y, metrics=["dead_fraction", "weight_norm"])
    assert found["act1"] == {"dead_fraction": 0.0}
    table = found.to_table()
    assert table.column_names == ["layer", "metric", "value"]
    assert table.num_rows == sum(map(len, found.values()))
    assert "act1" in rendered(found)
    with pytest.raises(KeyError, match="sign_entropy"):
        found.mean("sign_entropy")


def test_a_metric_of_ones_own_is_a_few_lines(monkeypatch):
    monkeypatch.setattr("torch_experiments.diagnostics.registry.METRICS", registered := dict(METRICS))

    @unit_metric("This test.")
    def largest_mean(s):
        return float((s.moments.total / s.moments.n).max())

    assert "largest_mean" in registered
    assert "largest_mean" not in METRICS
    z = normal(30, 4)
    assert measured(z)["largest_mean"] == pytest.approx(float(z.relu().mean(dim=0).max()))


def test_every_metric_has_a_source_and_a_docstring_and_full_is_fast_and_more():
    assert all(metric.source for metric in METRICS.values())
    assert set(chosen("fast")) < set(chosen("full")) == set(METRICS)
    assert {m.name for m in METRICS.values() if not m.fast} == set(chosen("full")) - set(chosen("fast"))


@given(seed=st.integers(0, 2**31), samples=st.integers(2, 40), units=st.integers(1, 12), cut=st.integers(1, 39))
def test_metrics_depend_neither_on_the_order_of_units_and_samples_nor_on_cuts_of_a_stream(
    seed, samples, units, cut
):
    z = normal(samples, units, seed=seed)
    found = measured(z)
    order, shuffle = (torch.randperm(n, generator=generator(seed)) for n in (units, samples))
    moved = measured(z[shuffle][:, order])
    model = Given(None, units)
    cut = min(cut, samples - 1)
    parts = diagnose(model, [z[:cut], z[cut:]])["activation"]
    for name in set(found) - {"later_duplicate_fraction"}:
        assert moved[name] == pytest.approx(found[name], rel=1e-6, abs=1e-9), name
        assert parts[name] == pytest.approx(found[name], rel=1e-6, abs=1e-9), name
    for kind in ("raw", "centred"):
        names = ("stable_rank", "renyi2_rank", "shannon_rank", "hard_rank")
        ranks = [found[f"{name}_{kind}"] for name in names]
        assert all(low <= high * (1 + 1e-6) for low, high in itertools.pairwise(ranks))
        assert found[f"shannon_rank_{kind}"] <= found[f"roy_vetterli_rank_{kind}"] * (1 + 1e-6)
