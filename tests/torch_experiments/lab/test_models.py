"""The networks: order of modules, reproducible weights, errors."""

import pytest
import torch
from torch import nn

from torch_experiments.certificates import certify
from torch_experiments.lab.models import TokenBatchNorm, cnn, mlp, resnet18, vit
from torch_experiments.metrics.layers import ACTIVATIONS, gather
from torch_experiments.support.torch_private import BatchNorm


def test_the_blocks_are_linear_norm_activation_dropout():
    kinds = [type(m) for m in mlp(12, 3, width=4, depth=2, norm="batch", dropout=0.1)]
    block = [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Dropout]
    assert kinds == [nn.Flatten, *block, *block, nn.Linear]


def test_the_default_is_five_layers_of_128_on_images():
    model = mlp(3 * 8 * 8, 10)
    widths = [m.out_features for m in model if isinstance(m, nn.Linear)]
    assert widths == [128] * 5 + [10]
    assert model(torch.zeros(2, 3, 8, 8)).shape == (2, 10)


def test_weights_depend_on_the_seed_alone():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    one, same, other = (mlp(4, 2, width=3, depth=1, seed=s).linear1.weight for s in (7, 7, 8))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(before, torch.random.get_rng_state())


def test_weights_are_those_of_torch_in_law():
    layer = mlp(100, 2, width=400, depth=1).linear1
    assert layer.weight.abs().max() <= 0.1
    assert layer.weight.detach().std() == pytest.approx(0.1 / 3**0.5, rel=0.02)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_is_one_argument_away(activation):
    model = mlp(4, 2, width=3, depth=1, activation=activation, norm="layer", affine=False)
    assert type(model.act1) is ACTIVATIONS[activation]
    assert model.norm1.weight is None


def test_a_network_without_hidden_layers_is_linear():
    model = mlp(12, 3, depth=0, norm="layer", activation="crelu")
    assert [type(m) for m in model] == [nn.Flatten, nn.Linear]
    assert model(torch.zeros(2, 3, 2, 2)).shape == (2, 3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"norm": "group"}, r"norm: got 'group'; allowed are 'none', 'batch', 'layer'"),
        ({"activation": "rleu"}, r"activation: got 'rleu'; allowed are .*'relu'"),
        ({"depth": -1}, r"depth: got -1; it has to be a whole number, 0 for a linear model"),
        ({"width": -1}, r"width: got -1"),
    ],
)
def test_a_wrong_argument_is_named(given, message):
    with pytest.raises(ValueError, match=message):
        mlp(4, 2, **given)


def parameters(model):
    return sum(p.numel() for p in model.parameters())


IMAGES = {
    "cnn": lambda **options: cnn(16, 5, width=4, hidden=6, **options),
    "resnet18": lambda **options: resnet18(5, width=4, **options),
    "vit": lambda **options: vit(16, 5, width=12, heads=3, depth=2, **options),
}


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("arch", ["mlp", *IMAGES])
def test_crelu_is_read_by_twice_the_weights(arch, norm):
    make = {"mlp": lambda **options: mlp(768, 5, width=6, depth=2, **options), **IMAGES}[arch]
    doubled, single = (make(norm=norm, activation=activation) for activation in ("crelu", "relu"))
    assert doubled(torch.randn(3, 3, 16, 16)).shape == (3, 5)
    assert parameters(doubled) > parameters(single)
    found, _ = gather(doubled, [torch.randn(3, 3, 16, 16)])
    assert list(found) == list(gather(single, [torch.randn(3, 3, 16, 16)])[0])


def test_crelu_keeps_the_absolute_value_of_every_unit():
    model = mlp(4, 2, width=3, depth=1, activation="crelu")
    x = torch.randn(7, 4)
    hidden, both = model.linear1(x), model.act1(model.linear1(x))
    assert torch.equal(both[:, :3] - both[:, 3:], hidden)
    assert torch.equal(both[:, :3] + both[:, 3:], hidden.abs())
    assert model.head.in_features == 6


def test_certificates_see_copies_through_crelu():
    model = mlp(4, 2, width=5, depth=2, activation="crelu", dtype=torch.float64)
    x = torch.randn(30, 4, dtype=torch.float64)
    assert certify(model, x).to_dict()["copies"]["linear1"]["different"] == 5
    with torch.no_grad():
        for p in model.linear1.parameters():
            p[1] = p[0]
        model.linear2.weight[:, 1] = model.linear2.weight[:, 0]
        model.linear2.weight[:, 6] = model.linear2.weight[:, 5]
    assert certify(model, x).to_dict()["copies"]["linear1"]["different"] == 4


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("arch", IMAGES)
def test_every_norm_runs_in_float64(arch, norm, affine):
    model = IMAGES[arch](norm=norm, affine=affine, dropout=0.1, dtype=torch.float64)
    y = model(torch.ones(2, 3, 16, 16, dtype=torch.float64))
    assert y.shape == (2, 5)
    assert y.dtype == torch.float64
    norms = [m for m in model.modules() if isinstance(m, nn.GroupNorm | nn.LayerNorm | BatchNorm)]
    assert bool(norms) == (norm != "none")
    assert all((m.weight is not None) == affine for m in norms)


@pytest.mark.parametrize(
    ("model", "count"),
    [
        (lambda: cnn(64, 200), 370_816 + 256 * 64 * 512 + 512 + 512 * 200 + 200),
        (lambda: cnn(32, 10, norm="layer"), 370_816 + 2 * 448 + 256 * 16 * 512 + 512 + 512 * 10 + 10),
        (lambda: resnet18(10, norm="batch"), 11_173_962),  # as kuangliu/pytorch-cifar's ResNet-18 counts
        (lambda: vit(64, 200), 10_824_008),
    ],
)
def test_the_sizes_are_those_of_the_paper(model, count):
    assert parameters(model()) == count


def test_the_order_of_the_cnn():
    kinds = [type(m) for m in cnn(16, 5, width=4, depth=2, norm="batch")]
    block = [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d]
    assert kinds == [*block, *block, nn.Flatten, nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]


def test_the_order_of_the_resnet():
    model = resnet18(5, width=4, norm="layer")
    assert [type(m) for m in model][:3] == [nn.Conv2d, nn.GroupNorm, nn.ReLU]
    assert [type(m) for m in model][-4:] == [nn.AdaptiveAvgPool2d, nn.Flatten, nn.Dropout, nn.Linear]
    assert [len(getattr(model, f"stage{k}")) for k in (1, 2, 3, 4)] == [2, 2, 2, 2]
    strides = [getattr(model, f"stage{k}")[0].conv1.stride[0] for k in (1, 2, 3, 4)]
    assert strides == [1, 2, 2, 2]
    assert isinstance(model.stage1[0].shortcut, nn.Identity)
    assert model.stage2[0].shortcut[0].kernel_size == (1, 1)
    assert model.conv.bias is None
    assert resnet18(5, width=4).conv.bias is not None


def test_kaiming_normal_is_by_fan_out():
    weight = resnet18(5, width=32).stage2[0].conv1.weight
    assert weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)


def test_the_vit_is_pre_norm_and_reads_the_class_token():
    model = vit(16, 5, width=12, heads=3, depth=2, dtype=torch.float64)
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    tokens = model.tokens(x)
    assert tokens.shape == (2, 5, 12)
    block = model.block1
    y = tokens + block.attention(block.norm1(tokens))
    y = y + block.linear2(block.act(block.linear1(block.norm2(y))))
    assert torch.equal(y, block(tokens))
    y = model.head(model.norm(model.block2(y))[:, 0])
    assert torch.equal(y, model(x))
    assert model.tokens.positions.abs().max() <= 0.04


def test_attention_is_that_of_torch():
    ours, theirs = (
        vit(16, 5, width=12, heads=3, depth=1).block1.attention,
        nn.MultiheadAttention(12, 3, batch_first=True),
    )
    theirs.in_proj_weight.data, theirs.in_proj_bias.data = ours.qkv.weight.data, ours.qkv.bias.data
    theirs.out_proj.load_state_dict(ours.proj.state_dict())
    x = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(ours(x), theirs(x, x, x)[0], atol=1e-6)


def test_batch_norm_of_tokens_is_over_batch_and_tokens():
    x = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = TokenBatchNorm(3, eps=1e-14, dtype=torch.float64)(x)
    assert torch.allclose(y, (x - x.mean((0, 1))) / x.var((0, 1), unbiased=False).sqrt())


@pytest.mark.parametrize("arch", IMAGES)
def test_weights_of_all_architectures_depend_on_the_seed_alone(arch):
    before = torch.random.get_rng_state()
    one, same, other = (IMAGES[arch](seed=s).state_dict() for s in (7, 7, 8))
    assert all(torch.equal(one[k], same[k]) for k in one)
    assert not all(torch.equal(one[k], other[k]) for k in one)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cnn(20), r"size: got 20; it has to be a multiple of 8"),
        (lambda: cnn(16, norm="group"), r"norm: got 'group'; allowed are 'none', 'batch', 'layer'"),
        (lambda: resnet18(0), r"classes: got 0"),
        (lambda: resnet18(stages=()), r"stages: got 0"),
        (lambda: vit(20), r"size: got 20; it has to be a multiple of 8"),
        (lambda: vit(16, width=10, heads=3), r"width: got 10; it has to be a multiple of 3"),
        (lambda: vit(16, activation="swish"), r"activation: got 'swish'"),
    ],
)
def test_a_wrong_argument_of_an_image_network_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
