"""What heads do, by hand: where attention is seen, how far it looks, which heads are idle or copies."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from torch_experiments.diagnostics import METRICS, attention_of, diagnose
from torch_experiments.diagnostics.attending import attend, weights_of
from torch_experiments.metrics.attention import attention_entropy

NAMES = {name for name, metric in METRICS.items() if metric.level == "attention"}
SHARE = 2 - 0.75 * math.log(3) / math.log(2)  # entropy of (3/4, 1/4) over ln 2


class Given(nn.Module):
    """Attention with queries, keys and values ``[heads, tokens, d]`` of its own, by any function of them."""

    def __init__(self, function, q, k, v):
        super().__init__()
        self.function = function
        self.q, self.k, self.v = (nn.Parameter(x.clone()) for x in (q, k, v))

    def forward(self, x):
        q, k, v = (p.expand(len(x), *p.shape) for p in (self.q, self.k, self.v))
        return self.function(q, k, v * x[:, None, None])


def fused(q, k, v, mask=None, **options):
    return F.scaled_dot_product_attention(q, k, v, mask, **options)


def written(q, k, v, mask=None):
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    scores = scores if mask is None else scores + mask
    return scores.softmax(dim=-1, dtype=torch.float64).to(q.dtype) @ v


def einsum(q, k, v):
    weights = torch.einsum("bhqd,bhkd->bhqk", q, k / math.sqrt(q.shape[-1])).softmax(dim=-1)
    return torch.einsum("bhqk,bhkd->bhqd", weights, v)


def two_heads(function=fused):
    """Return two heads of two keys: (3/4, 1/4) in the first, (1/2, 1/2) in the second."""
    q, k = torch.zeros(2, 2, 2), torch.zeros(2, 2, 2)
    q[0, :, 0], k[0, 0, 0] = math.sqrt(2) * math.log(3), 1.0
    torch.manual_seed(0)
    return Given(function, q, k, torch.randn(2, 2, 2))


X = torch.tensor([[1.0], [2.0], [-1.0]])


@pytest.mark.parametrize("function", [fused, written, einsum])
def test_two_keys_of_which_one_has_three_times_the_weight(function):
    heads = attention_of(two_heads(function), X)[""]
    assert heads.entropy.tolist() == pytest.approx([SHARE, 1.0], rel=1e-6)
    found = diagnose(two_heads(function), X)[""]
    assert set(found) >= NAMES
    assert found["attention_entropy"] == pytest.approx((SHARE + 1) / 2, rel=1e-6)
    assert found["lowest_attention_entropy"] == pytest.approx(SHARE, rel=1e-6)


@pytest.mark.parametrize("fill", [-math.inf, -1e4, torch.finfo(torch.float32).min])
@pytest.mark.parametrize("function", [fused, written])
def test_masked_keys_are_none_to_look_at_and_a_query_with_one_key_is_left_out(function, fill):
    model = two_heads(lambda q, k, v: function(q, k, v, mask))
    mask = torch.zeros(2, 2)
    mask[0, 1] = fill
    assert attention_of(model, X)[""].entropy.tolist() == pytest.approx([SHARE, 1.0], rel=1e-6)
    mask[1, 1] = fill
    assert attention_of(model, X)[""].entropy.isnan().all()
    found = diagnose(model, X)[""]
    assert "attention_entropy" not in found
    assert found["idle_head_fraction"] == 0


def test_a_sink_is_a_key_to_look_at_that_has_no_value():
    """Three logits of zero, one of them a sink's: as much entropy as three keys have."""

    def sinking(q, k, v):
        scores = torch.cat([q @ k.transpose(-1, -2), torch.zeros(*q.shape[:-1], 1)], dim=-1)
        return scores.softmax(dim=-1)[..., :-1] @ v

    zero = torch.zeros(2, 2, 2)
    heads = attention_of(Given(sinking, zero, zero, zero + 1), X)[""]
    assert heads.entropy.tolist() == pytest.approx([1.0, 1.0])
    assert heads.values.n == 6


def test_a_causal_mask_is_seen():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 5, 4)
    model = Given(lambda q, k, v: fused(q, k, v, is_causal=True), q, k, v)
    expected = attention_entropy(q[None], k[None], causal=True)
    assert torch.allclose(attention_of(model, X)[""].entropy, expected, atol=1e-6)


def test_a_saturated_head_has_no_entropy():
    model = two_heads()
    with torch.no_grad():
        model.q[0] *= 1e3
    assert attention_of(model, X)[""].entropy.tolist() == pytest.approx([0.0, 1.0])


@pytest.mark.parametrize("scale", [1e3, 1e5, 1e7])
def test_attention_that_diverges_has_no_entropy(scale):
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 6, 4)
    found = diagnose(Given(written, scale * q, k, v), X)[""]
    assert found["attention_entropy"] == pytest.approx(0, abs=0.02)


def test_padding_is_left_out_of_values_and_queries():
    """Whatever stands at padded positions: as of a batch that ends where its tokens do."""
    torch.manual_seed(0)
    attention, x = nn.MultiheadAttention(8, 2, batch_first=True), torch.randn(4, 6, 8)
    pad = (torch.arange(6) >= 3).expand(4, 6)
    x[:, 3:] *= 100

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = attention

        def forward(self, x, pad):
            return self.attention(x, x, x, key_padding_mask=pad, need_weights=False)[0]

    padded, real = (attention_of(Net(), inputs)["attention"] for inputs in ((x, pad), (x[:, :3], pad[:, :3])))
    assert padded.values.n == real.values.n == 12
    for name in ("entropy", "size", "alike"):
        assert torch.allclose(getattr(padded, name), getattr(real, name), atol=1e-6)
    assert torch.allclose(padded.values.spectrum(centred=False), real.values.spectrum(centred=False), rtol=1e-5)


def test_padding_of_another_sequence_is_left_out_of_values_alone():
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 3, 4), torch.randn(2, 5, 4), torch.randn(2, 5, 4)
    mask = torch.zeros(3, 5).masked_fill(torch.arange(5) > 2, -1e9)
    padded = attention_of(Given(lambda q, k, v: written(q, k, v, mask), q, k, v), X)[""]
    real = attention_of(Given(written, q, k[:, :3], v[:, :3]), X)[""]
    assert padded.values.n == real.values.n == 9
    assert torch.allclose(padded.entropy, real.entropy, atol=1e-6)
    assert torch.allclose(padded.size, real.size, atol=1e-6)


@pytest.mark.parametrize("need_weights", [False, True])
def test_attention_with_dropout_is_seen_and_its_entropy_is_that_before(need_weights):
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True, dropout=0.5)

        def forward(self, x):
            return self.attention(x, x, x, need_weights=need_weights)[0]

    model, x = Net(), torch.randn(3, 5, 8)
    dropped = attention_of(model.train(), x)["attention"]
    whole = attention_of(model.eval(), x)["attention"]
    assert torch.equal(dropped.entropy, whole.entropy)
    assert not torch.allclose(dropped.size, whole.size)


def test_a_head_without_values_is_idle_and_its_features_are_dead():
    model = two_heads()
    with torch.no_grad():
        model.v[1] = 0
    found = diagnose(model, X)[""]
    assert found["idle_head_fraction"] == 0.5
    assert found["dead_value_fraction"] == 0.5
    assert found["duplicate_head_fraction"] == 0
    assert found["value_rank"] == pytest.approx(2, abs=0.999)


def test_heads_that_return_multiples_of_each_other_are_duplicates_and_others_are_not():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 3, 6, 4)
    alone = diagnose(Given(fused, q, k, v), X)[""]
    assert alone["duplicate_head_fraction"] == alone["duplicate_value_fraction"] == 0
    for x in (q, k, v):
        x[2] = x[0]
    v[2] *= -3
    found = diagnose(Given(fused, q, k, v), X)[""]
    assert found["duplicate_head_fraction"] == pytest.approx(2 / 3)
    assert found["duplicate_value_fraction"] == pytest.approx(2 / 3)
    assert found["value_rank"] <= 8


def test_a_head_that_returns_a_constant_is_no_copy_of_another():
    model = two_heads()
    with torch.no_grad():
        model.v.fill_(1.0)
    assert not attention_of(model, torch.ones(4, 1))[""].duplicate.any()


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_multihead_attention_of_torch_is_seen_head_by_head(need_weights, batch_first):
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(6, 3, batch_first=batch_first)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = attention

        def forward(self, x):
            x = x if batch_first else x.transpose(0, 1)
            return self.attention(x, x, x, need_weights=need_weights)[0]

    x = torch.randn(4, 5, 6)
    q, k, v = (F.linear(x, w).unflatten(-1, (3, 2)).transpose(1, 2) for w in attention.in_proj_weight.chunk(3))
    heads = attention_of(Net(), x)["attention"]
    assert torch.allclose(heads.entropy, attention_entropy(q, k, causal=False), atol=1e-6)
    returned = F.scaled_dot_product_attention(q, k, v)
    assert torch.allclose(heads.size, returned.norm(dim=-1).mean(dim=(0, 2)).double(), atol=1e-6)


def test_encoder_layers_are_seen_by_name_and_units_are_what_they_were():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model, x = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), torch.randn(6, 5, 8)
    found = diagnose(model, x)
    seen = [name for name, values in found.items() if "attention_entropy" in values]
    assert seen == ["layers.0.self_attn", "layers.1.self_attn"]
    assert all(set(found[name]) >= NAMES for name in seen)
    assert not any("dead_fraction" in found[name] for name in seen)
    alone = diagnose(model, x, metrics=["dead_fraction"])
    assert not any("attention_entropy" in values for values in alone.values())
    assert alone.mean("dead_fraction") == found.mean("dead_fraction")


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_the_class_of_gpt2_is_seen(implementation):
    transformers = pytest.importorskip("transformers", reason="the extra 'hf' is not installed")
    torch.manual_seed(0)
    sizes = {"vocab_size": 11, "n_positions": 8, "n_embd": 12, "n_layer": 2, "n_head": 3}
    config = transformers.GPT2Config(**sizes, attn_implementation=implementation, bos_token_id=0, eos_token_id=0)
    model, x = transformers.GPT2LMHeadModel(config).eval(), torch.randint(11, (4, 8))
    with torch.no_grad():
        for block in model.transformer.h:
            block.attn.c_attn.weight.mul_(20)
    projected = []
    hooks = [
        b.attn.c_attn.register_forward_hook(lambda *args: projected.append(args[-1])) for b in model.transformer.h
    ]
    model(x)
    for hook in hooks:
        hook.remove()
    found = attention_of(model, {"input_ids": x, "use_cache": False})
    assert list(found) == ["transformer.h.0.attn", "transformer.h.1.attn"]
    for heads, qkv in zip(found.values(), projected, strict=True):
        q, k, _ = qkv.unflatten(-1, (3, 3, 4)).permute(2, 0, 3, 1, 4)
        assert torch.allclose(heads.entropy, attention_entropy(q, k, causal=True), atol=1e-5)


def test_a_softmax_that_weighs_nothing_is_no_attention():
    model = nn.Sequential(
        nn.Linear(3, 4), nn.Unflatten(1, (2, 2)), nn.Softmax(dim=-1), nn.Flatten(), nn.Linear(4, 2)
    )
    x = torch.randn(5, 3)
    assert weights_of(model, x) == 0
    assert attention_of(model, x) == {}
    assert not any(NAMES & set(values) for values in diagnose(model, x).values())


def test_attention_that_is_used_twice_has_two_lines():
    one = two_heads()
    model = nn.Sequential(one, nn.Flatten(), nn.Linear(8, 1))
    calls = []
    attend(model, X, lambda seen: calls.append(seen.name))
    attend(nn.ModuleList([one]).append(one)[0], X, lambda seen: calls.append(seen.name))
    assert calls == ["0", ""]
    twice = Given(lambda q, k, v: fused(q, k, fused(q, k, v)), one.q.data, one.k.data, one.v.data)
    assert list(attention_of(twice, X)) == ["", "#2"]


def test_few_samples_are_looked_at_where_there_is_little_room(monkeypatch):
    model, x = two_heads(), torch.arange(1.0, 41.0)[:, None]
    seen = []
    monkeypatch.setattr("torch_experiments.diagnostics.measurement.ROOM", 8 * 5)  # 2 heads × 2 queries × 2 keys
    monkeypatch.setattr(
        "torch_experiments.diagnostics.measurement.attention_of",
        lambda model, inputs: seen.append(len(inputs)) or attention_of(model, inputs),
    )
    assert "attention_entropy" in diagnose(model, x)[""]
    assert seen == [5]
