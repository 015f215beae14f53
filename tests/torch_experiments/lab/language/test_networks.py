"""Character models: none looks ahead, norms are there or not, seeds decide, and the GPT of Hugging Face fits in."""

import sys

import pytest
import torch
from torch import nn

from torch_experiments.diagnostics import attention_of
from torch_experiments.diagnostics.attending import attend
from torch_experiments.lab import models
from torch_experiments.lab.language import networks
from torch_experiments.lab.language.run import attention_rows
from torch_experiments.metrics import layers

SIZES = {"width": 8, "depth": 2, "heads": 2}


def made(arch, **given):
    if arch == "gpt2":
        pytest.importorskip("transformers", reason="Hugging Face's GPT-2 is an optional extra")
    return networks.build(arch, 11, 6, SIZES, dtype=torch.float64, **given).eval()


@pytest.mark.parametrize("arch", networks.ARCHITECTURES)
@pytest.mark.parametrize("norm", networks.NORMS)
def test_a_character_sees_itself_and_those_before(arch, norm):
    model = made(arch, norm=norm)
    x = torch.arange(6)[None]
    other = x.clone()
    other[0, 4] = 9
    with torch.no_grad():
        gap = (model(x) - model(other)).abs().amax(dim=(0, 2))
    assert gap[:4].max() < 1e-12
    assert gap[4:].min() > 1e-9
    assert any(isinstance(module, nn.LayerNorm) for module in model.modules()) == (norm == "layer")


@pytest.mark.parametrize("arch", networks.ARCHITECTURES)
def test_weights_are_those_of_the_seed_and_the_global_generator_is_left(arch):
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    one, same, other = (made(arch, seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("arch", networks.ARCHITECTURES)
def test_activations_of_the_blocks_and_their_attention_are_measured(arch):
    model, x = made(arch), torch.arange(6)[None]
    assert len(layers.observed(model)) == 2
    assert [tuple(heads.entropy.shape) for heads in attention_of(model, x).values()] == [(2,), (2,)]
    found = {(k, metric): value for k, metric, value in attention_rows(model, x)}
    assert found[0, "attention_entropy"] == pytest.approx(1, abs=0.01)  # nothing is learnt yet
    assert {k for k, _ in found} == {0, 1, 2}


def test_the_logits_and_values_that_are_measured_are_those_of_the_attention():
    """The attention made of what is measured gives the output of the module."""
    model = nn.Sequential(models.Attention(8, 2, 4, causal=True, dtype=torch.float64))
    x = torch.randn(3, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = []
    attend(model, x, found.append)
    ((name, logits, values, returned),) = found
    assert (name, logits.shape, values.shape) == ("0", (3, 2, 5, 5), (3, 2, 5, 4))
    assert torch.allclose(logits.softmax(-1) @ values, returned, rtol=1e-12, atol=1e-14)
    attended = returned.transpose(1, 2).flatten(2)
    assert torch.allclose(model[0].proj(attended), model(x), rtol=1e-12, atol=1e-14)


def test_without_transformers_the_line_that_installs_it_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModuleNotFoundError, match=r"transformers, .*: pip install 'lop-companion\[hf\]'"):
        networks.gpt2(11, 6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"width": 9, "heads": 2}, "width: got 9; it has to be a multiple of the 2 heads"),
        ({"depth": 0}, "depth: got 0; it has to be at least 1"),
        ({"activation": "rellu"}, "activation: got 'rellu'"),
        ({"norm": "batch"}, "norm: got 'batch'; allowed are 'none', 'layer'"),
    ],
)
def test_sizes_that_cannot_be_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        networks.gpt(11, 6, **given)
