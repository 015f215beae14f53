"""What `diagnose` leaves alone, what it names, and what does not matter."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from tests.torch_experiments.diagnostics.samples import Given, measured, normal, small
from torch_experiments import diagnose
from torch_experiments.lab.models import cnn, mlp
from torch_experiments.support.generators import generator


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
