"""The escape keeps the function and parts the gradients, on any architecture and for any kind of clones."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.torch_experiments.heads import made
from torch_experiments import clone, coarsest_blocks, layout, remedies
from torch_experiments.cloning.chains import expand, profiles
from torch_experiments.cloning.layouts import Layout, Placement
from torch_experiments.lab.models import cnn, mlp, resnet18, vit
from torch_experiments.remedies.escape import Escape, dead_units, split
from torch_experiments.remedies.network import Network
from torch_experiments.units.inputs import call

Make = Callable[[], nn.Module]
SMALL = {"norm": "batch", "dtype": torch.float64}
ARCHS: dict[str, tuple[Make, tuple[int, ...]]] = {
    "mlp": (lambda: mlp(12, 3, width=4, depth=2, **SMALL), (5, 12)),
    "mlp, layer norm": (lambda: mlp(12, 3, width=4, depth=2, norm="layer", dtype=torch.float64), (5, 12)),
    "cnn": (lambda: cnn(8, 3, width=3, depth=2, hidden=4, **SMALL), (5, 3, 8, 8)),
    "resnet": (lambda: resnet18(3, width=3, stages=(1, 1), **SMALL), (5, 3, 8, 8)),
    "vit": (
        lambda: vit(8, 3, patch=4, width=6, depth=1, heads=2, norm="layer", dtype=torch.float64),
        (5, 3, 8, 8),
    ),
}


def inputs(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bound_to(model: nn.Module, x: Tensor, rate: float = 0.05) -> Network:
    return Escape().on(model, torch.optim.SGD(model.parameters(), lr=rate), example_inputs=x).network


def gradients(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    (model(x) ** 3).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def distance(one: Tensor, other: Tensor) -> float:
    return float(((one - other).abs().max() / other.abs().max()).detach())


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("factor", [2, 3])
def test_splitting_clones_keeps_the_function_on_every_input_and_parts_the_gradients(arch: str, factor: int) -> None:
    make, shape = ARCHS[arch]
    x = inputs(shape)
    base = make()
    wide = clone(base, factor, example_inputs=x)
    network = bound_to(wide, x)
    before, was = wide.train()(inputs(shape, 1)), gradients(wide.eval(), x)
    touched = Escape().apply(network, {}, 0)
    assert touched
    assert distance(wide.train()(inputs(shape, 1)), before) < 1e-12
    now = gradients(wide.eval(), x)
    assert any(distance(now[name], was[name]) > 1e-3 for name in now if name not in touched)
    trapped = coarsest_blocks(clone(base, factor, example_inputs=x), x)
    assert coarsest_blocks(wide, x).free_fraction > trapped.free_fraction


def test_a_split_with_sums_that_are_not_zero_is_heard() -> None:
    make, shape = ARCHS["mlp"]
    x = inputs(shape)
    wide = clone(make(), 2, example_inputs=x)
    network, before = bound_to(wide, x), wide(x)
    with torch.no_grad():
        wide.head.weight[:, 0] += 0.1
    assert distance(wide(x), before) > 1e-3
    assert "head.weight" in Escape().apply(network, {}, 0)


def test_a_network_without_clones_or_dead_units_is_left_alone() -> None:
    model, x = mlp(12, 3, width=4, depth=2, activation="tanh", dtype=torch.float64), inputs((5, 12))
    before = copy.deepcopy(model.state_dict())
    assert Escape().apply(bound_to(model, x), {}, 0) == {}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("source", ["partition", "layout"])
def test_sums_over_blocks_of_any_size_are_kept(source: str) -> None:
    """The oracle adds up the columns of every base unit, in a loop."""
    make, shape = ARCHS["cnn"]
    x, base = inputs(shape), make()
    wide = clone(base, 3, mode="equitable", generator=torch.Generator().manual_seed(1), example_inputs=x)
    where = coarsest_blocks(wide, x) if source == "partition" else layout(base, 3, example_inputs=x)
    old = wide.linear.weight.detach().clone()
    touched = split(bound_to(wide, x), where, 0.7)
    new = wide.linear.weight.detach()
    assert sorted(touched["linear.weight"]) == list(range(old.shape[1]))
    assert distance(new, old) > 0.1
    pixels, width = 4, base.linear.weight.shape[1] // 4
    for channel in range(width):
        for pixel in range(pixels):
            columns = [(3 * channel + copy) * pixels + pixel for copy in range(3)]
            torch.testing.assert_close(new[:, columns].sum(dim=1), old[:, columns].sum(dim=1), rtol=0, atol=1e-14)


@pytest.mark.parametrize("source", ["layout", "remedy", "partition without scales"])
def test_scaled_clones_are_split_by_their_scales(source: str) -> None:
    base, x = mlp(6, 2, width=3, depth=2, dtype=torch.float64), inputs((5, 6))
    axes = profiles(base, 3, scales="positive", generator=torch.Generator().manual_seed(0))
    wide = expand(base, axes)
    triples = zip(("linear1", "linear2", "head"), axes[1:], axes[:-1], strict=True)
    places = {f"{name}.weight": Placement((out, into)) for name, out, into in triples}
    network, before = bound_to(wide, x), wide(x)
    if source == "layout":
        touched = split(network, Layout(3, places))
    else:
        touched = Escape(scaled=source == "remedy", dead=False).apply(network, {}, 0)
    assert set(touched) == (set() if "without" in source else {"linear2.weight", "head.weight"})
    assert distance(wide(x), before) < 1e-12


def killed(norm: str = "none") -> tuple[nn.Module, Tensor, torch.optim.Optimizer]:
    """Return a network with units 0 and 2 dead on its inputs, and its Adam after two steps."""
    model, x = mlp(6, 2, width=5, depth=1, norm=norm, dtype=torch.float64), inputs((20, 6))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(2):
        gradients(model, x)
        optimizer.step()
    with torch.no_grad():
        (model.norm1 if norm != "none" else model.linear1).bias[[0, 2]] = -50
    return model, x, optimizer


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_dead_units_are_drawn_again_without_a_change_on_the_batch(norm: str) -> None:
    model, x, optimizer = killed(norm)
    bound = Escape().on(model, optimizer, example_inputs=x)
    model.eval()
    before = model(x)
    assert {name: units.tolist() for name, units in dead_units(bound.network).items()} == {"linear1": [0, 2]}
    assert bound.apply() == {"linear1": [0, 2]}
    assert torch.equal(model(x), before)
    assert not model.head.weight[:, [0, 2]].any()
    assert not optimizer.state[model.head.weight]["exp_avg"][:, [0, 2]].any()
    assert dead_units(bound.network) == {}
    slope = gradients(model, x)["head.weight"]
    assert slope[:, [0, 2]].abs().min() > 0


def test_on_inputs_where_a_dead_unit_spoke_the_function_changes() -> None:
    model, x, optimizer = killed()
    before = model(100 * x)
    Escape().on(model, optimizer, example_inputs=x).apply()
    assert distance(model(100 * x), before) > 1e-3


def test_dead_units_under_a_common_norm_are_left() -> None:
    model, x, optimizer = killed("layer")
    bound = Escape().on(model, optimizer, example_inputs=x)
    assert bool((model.act1(model.norm1(model.linear1(x)))[:, [0, 2]] == 0).all())
    before = model.linear1.weight.detach().clone()
    assert bound.apply() == {}
    remedies.replace(bound.network, {"linear1": torch.tensor([0])}, 0)
    assert not torch.equal(model.linear1.weight, before)


def test_a_size_that_is_not_positive_is_refused() -> None:
    with pytest.raises(ValueError, match=r"size: got 0\.0; it has to be a number in \(0, ∞\)"):
        Escape(0.0)


def test_a_tied_embedding_is_not_split() -> None:
    """The weight of the head is also the embedding of the stream's units, so a split would move activations."""

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.inner = nn.Embedding(5, 4), nn.Linear(4, 4)
            self.head = nn.Linear(4, 5, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, tokens: Tensor) -> Tensor:
            return self.head(self.inner(self.embed(tokens)).tanh() + self.embed(tokens))

    model, tokens = Tied().double(), torch.tensor([[0, 1], [2, 3]])
    with torch.no_grad():
        for weight in (model.embed.weight, model.inner.weight, model.inner.weight.T, model.inner.bias[None]):
            weight[:, 1] = weight[:, 0]
    before = model(tokens)
    assert set(Escape().apply(bound_to(model, tokens), {}, 0)) == {"inner.weight"}
    assert distance(model(tokens), before) < 1e-12
    with torch.no_grad():
        model.head.weight[:, 0] += 0.1
        model.head.weight[:, 1] -= 0.1
    assert distance(model(tokens), before) > 1e-3


def hugging_face() -> dict[str, tuple[nn.Module, dict[str, Tensor]]]:
    """Return small models from configurations, with random weights, and their inputs."""
    transformers = pytest.importorskip("transformers")
    gpt2 = transformers.GPT2Config(
        n_layer=1, n_embd=8, n_head=2, vocab_size=11, n_positions=6, bos_token_id=0, eos_token_id=0
    )
    plain = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 10}
    vit_config = transformers.ViTConfig(**plain, image_size=8, patch_size=4)
    resnet = transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4, 6], depths=[1, 1], layer_type="basic")
    return {
        "gpt2": (transformers.GPT2LMHeadModel(gpt2), {"input_ids": torch.arange(12).reshape(2, 6) % 11}),
        "vit": (transformers.ViTForImageClassification(vit_config), {"pixel_values": inputs((2, 3, 8, 8))}),
        "resnet": (transformers.ResNetForImageClassification(resnet), {"pixel_values": inputs((2, 3, 32, 32))}),
    }


@pytest.mark.parametrize("name", ["gpt2", "vit", "resnet"])
def test_models_of_others_escape_and_are_recycled(name: str) -> None:
    base, given = hugging_face()[name]
    wide = clone(base.double().eval(), 2, example_inputs=given)
    optimizer = torch.optim.AdamW(wide.parameters())
    before = wide(**given).logits
    assert Escape(dead=False).on(wide, optimizer, example_inputs=given).apply()
    assert distance(wide(**given).logits, before) < 1e-12
    bound = remedies.ReDo(threshold=0.99).on(wide, optimizer, example_inputs=given)
    wide.train()(**given).logits.square().sum().backward()
    optimizer.step()
    touched = bound.apply()
    assert touched
    for layer in bound.network.layers:
        silent = (layer.out_sums(wide) == 0).nonzero().flatten().tolist()
        assert silent == touched.get(layer.name, [])


@pytest.mark.parametrize("name", ["tasks", "target"])
def test_the_function_of_every_head_is_kept_where_all_are_read(name: str) -> None:
    model, examples, _ = made(name)
    hidden = [model.body[0], model.deep] if name == "tasks" else [model.online[0], model.target[0]]
    with torch.no_grad():
        for layer in hidden:
            layer.bias[:2] = -50.0
    before = [call(model, example).detach() for example in examples]
    weights = [layer.weight.detach().clone() for layer in hidden]
    touched = remedies.Escape().on(model, torch.optim.Adam(model.parameters()), example_inputs=examples).apply()
    assert all(units[:2] == [0, 1] for units in touched.values())
    assert len(touched) == 2
    for layer, weight in zip(hidden, weights, strict=True):
        assert float((layer.weight.detach() - weight)[:2].abs().min()) > 0
    assert all(distance(call(model, e), y) < 1e-12 for e, y in zip(examples, before, strict=True))


def test_clones_that_several_heads_read_are_split_in_each_of_them() -> None:
    model, examples, _ = made("tasks")
    wide = clone(model, 2, example_inputs=examples)
    before = [call(wide, example).detach() for example in examples]
    split(bound_to(wide, examples), layout(model, 2, example_inputs=examples))
    assert all(distance(call(wide, e), y) < 1e-12 for e, y in zip(examples, before, strict=True))
    for head in wide.heads:
        assert float((head.weight[:, ::2] - head.weight[:, 1::2]).detach().abs().min()) > 0


def test_a_unit_that_lives_for_one_head_is_not_dead() -> None:
    model, examples, _ = made("tasks")
    x = examples[0][0].abs()
    with torch.no_grad():
        model.body[0].weight[:2], model.body[0].bias[:2] = -1.0, 0.0
    several = [(x, 0), (-x, 1), (x, 2)]
    assert "body.0" not in dead_units(bound_to(model, several))
    assert dead_units(bound_to(model, [(x, 0), (x, 1), (x, 2)]))["body.0"].tolist()[:2] == [0, 1]


@pytest.mark.parametrize("remedy", ["escape", "redo", "cbp", "snr"])
def test_heads_that_no_example_reads_are_named_once(remedy: str) -> None:
    """The last head is trained alone: what it reads is seen where it was among the examples."""
    model, examples, _ = made("tasks")
    for given, last, unread in ((examples, 2, False), (examples[0], 0, True)):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            bound = remedies.make(remedy, **({"every": 1} if remedy == "redo" else {})).on(
                model, optimizer, example_inputs=given
            )
            for _ in range(2):
                optimizer.zero_grad()
                model.train()(examples[0][0], last).square().mean().backward()
                optimizer.step()
                bound.step()
            bound.apply() if remedy == "escape" else None
        said = [str(w.message) for w in seen if "no example reads" in str(w.message)]
        assert len(said) == unread
        assert all("'heads.1.weight', 'heads.2.weight', which may belong" in message for message in said)


def test_dead_units_that_another_head_may_read_are_left() -> None:
    model, examples, _ = made("tasks")
    with torch.no_grad():
        model.deep.bias[:4] = -50.0
    before = [call(model, example).detach() for example in examples]
    bound = remedies.Escape().on(model, torch.optim.Adam(model.parameters()), example_inputs=examples[0])
    with pytest.warns(UserWarning, match="Escape leaves dead units there"):
        assert not bound.apply()
    assert all(torch.equal(call(model, e), y) for e, y in zip(examples, before, strict=True))
