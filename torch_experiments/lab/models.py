"""The networks of the experiments (JL25's architectures), built from plain ``torch.nn`` modules.

The four signatures repeat their common arguments on purpose: each is a public function whose defaults differ, and
`settings_of` reads from them what a command line may set.
"""

from __future__ import annotations

import inspect
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from torch_experiments.metrics.layers import ACTIVATIONS, CReLU
from torch_experiments.support.choices import at_least_one, choose

NORMS: Mapping[str, type[nn.Module] | None] = {"none": None, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
CRELU = "crelu"  # besides the keys of `ACTIVATIONS`
STAGES = (2, 2, 2, 2)  # blocks of two convolutions: with stem and head 18 layers


class TokenBatchNorm(nn.BatchNorm1d):
    """BatchNorm of the features of tokens ``[batch, tokens, features]``, over batch and tokens together."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised tokens, of the shape of ``x``."""
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])


CONV_NORMS: Mapping[str, Callable[..., nn.Module] | None] = {
    "none": None,
    "batch": nn.BatchNorm2d,
    "layer": lambda width, **options: nn.GroupNorm(1, width, **options),
}
TOKEN_NORMS: Mapping[str, type[nn.Module] | None] = {**NORMS, "batch": TokenBatchNorm}


def mlp(
    inputs: int,
    classes: int,
    *,
    width: int = 128,
    depth: int = 5,
    norm: str = "none",
    affine: bool = True,
    activation: str = "relu",
    dropout: float = 0.0,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> nn.Sequential:
    """Return JL25's multilayer perceptron: flatten, ``depth`` blocks, and a linear head.

    A block is Linear → norm → activation → dropout. Weights and biases of a Linear layer with ``m`` inputs
    are uniform on ``[-1/√m, 1/√m]`` (torch's default), drawn from ``seed`` alone, so the global generator
    is left as it was.

    Args:
        inputs: number of input features (images are flattened).
        classes: number of outputs.
        width: units of a hidden layer.
        depth: number of hidden layers; 0 for a linear model.
        norm: a key of `NORMS`: ``"none"``, ``"batch"`` (BatchNorm1d) or ``"layer"`` (LayerNorm).
        affine: whether the norm has a learnt scale and shift.
        activation: a key of `ACTIVATIONS`, or ``"crelu"``, of which the next layer reads twice the width.
        dropout: probability of dropping a hidden unit, 0 for none; the module is there in either case.
        seed: of the initial weights.
        dtype: of all parameters.

    Raises:
        ValueError: for an unknown norm or activation, or sizes below one.

    Source: JL25, section 3 (models).

    >>> [type(module).__name__ for module in mlp(12, 3, width=4, depth=1, norm="layer")]
    ['Flatten', 'Linear', 'LayerNorm', 'ReLU', 'Dropout', 'Linear']
    """
    at_least_one(inputs=inputs, classes=classes, width=width)
    if not isinstance(depth, int) or depth < 0:
        raise ValueError(f"depth: got {depth!r}; it has to be a whole number, 0 for a linear model")
    normalise = _norm(norm, width, affine, dtype)
    activate, wider = _activation(activation)
    generator = torch.Generator().manual_seed(seed)
    layers: list[tuple[str, nn.Module]] = [("flatten", nn.Flatten())]
    for k in range(1, depth + 1):
        layers.append((f"linear{k}", linear(inputs, width, generator=generator, dtype=dtype)))
        layers += [(f"norm{k}", normalise())] if normalise else []
        layers += [(f"act{k}", activate()), (f"drop{k}", nn.Dropout(dropout))]
        inputs = wider * width
    layers.append(("head", linear(inputs, classes, generator=generator, dtype=dtype)))
    return nn.Sequential(OrderedDict(layers))


@torch.random.fork_rng(devices=[])
def cnn(
    size: int = 64,
    classes: int = 200,
    *,
    channels: int = 3,
    width: int = 64,
    depth: int = 3,
    hidden: int = 512,
    norm: str = "none",
    affine: bool = True,
    activation: str = "relu",
    dropout: float = 0.0,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> nn.Sequential:
    """Return JL25's convolutional network: ``depth`` blocks, one hidden Linear layer, and a linear head.

    A block is Conv 3×3 (stride 1, padding 1) → norm → activation → MaxPool 2; its channels are ``width``,
    ``2 width``, ``4 width``, … Then flatten → Linear → activation → dropout → Linear, without a norm. Weights and
    biases are uniform on ``[-1/√m, 1/√m]``, ``m`` the fan-in (torch's default), drawn from ``seed`` alone.

    Args:
        size: height and width of the images, a multiple of ``2**depth``.
        classes: number of outputs.
        channels: of the images.
        width: channels of the first block.
        depth: number of convolutional blocks.
        hidden: units of the hidden Linear layer.
        norm: ``"none"``, ``"batch"`` (BatchNorm2d) or ``"layer"`` (GroupNorm with one group).
        affine: whether the norm has a learnt scale and shift.
        activation: a key of `ACTIVATIONS`, or ``"crelu"``.
        dropout: probability of dropping a hidden unit of the Linear layer.
        seed: of the initial weights.
        dtype: of all parameters.

    Raises:
        ValueError: for an unknown norm or activation, sizes below one, or images that cannot be halved so often.

    Source: JL25, section 3 (models).

    >>> cnn(8, 10, channels=1, width=4, depth=2, hidden=6)(torch.zeros(5, 1, 8, 8)).shape
    torch.Size([5, 10])
    """
    at_least_one(size=size, classes=classes, channels=channels, width=width, depth=depth, hidden=hidden)
    _divides("size", size, 2**depth)
    activate, wider = _activation(activation, dim=-3)
    generator = torch.Generator().manual_seed(seed)
    layers: list[tuple[str, nn.Module]] = []
    for k in range(1, depth + 1):
        outputs = width << (k - 1)
        layers.append((f"conv{k}", _uniform(_conv(channels, outputs, 3, dtype=dtype), generator)))
        normalise = _norm(norm, outputs, affine, dtype, CONV_NORMS)
        layers += [(f"norm{k}", normalise())] if normalise else []
        layers += [(f"act{k}", activate()), (f"pool{k}", nn.MaxPool2d(2))]
        channels = wider * outputs
    layers += [("flatten", nn.Flatten())]
    layers += [("linear", linear(channels * (size >> depth) ** 2, hidden, generator=generator, dtype=dtype))]
    layers += [("act", _activation(activation)[0]()), ("drop", nn.Dropout(dropout))]
    layers += [("head", linear(wider * hidden, classes, generator=generator, dtype=dtype))]
    return nn.Sequential(OrderedDict(layers))


class BasicBlock(nn.Module):
    """Conv 3×3 → norm → activation → Conv 3×3 → norm, plus the shortcut, then the activation (He et al. 2016).

    The shortcut is the identity, or Conv 1×1 → norm where stride or number of channels change. The activation makes
    ``wider`` times as many channels.
    """

    observed = True

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        normalise: Callable[[int], nn.Module],
        activate: Callable[[], nn.Module],
        wider: int = 1,
        **options: Any,
    ) -> None:
        super().__init__()
        self.conv1, self.norm1 = _conv(inputs, outputs, 3, stride, **options), normalise(outputs)
        self.act1 = activate()
        self.conv2, self.norm2 = _conv(wider * outputs, outputs, 3, **options), normalise(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(_conv(inputs, outputs, 1, stride, **options), normalise(outputs))
        self.act2 = activate()

    def forward(self, x: Tensor) -> Tensor:
        """Return the features ``[batch, outputs, height / stride, width / stride]``."""
        y = self.norm2(self.conv2(self.act1(self.norm1(self.conv1(x)))))
        return self.act2(y + self.shortcut(x))


@torch.random.fork_rng(devices=[])
def resnet18(
    classes: int = 200,
    *,
    channels: int = 3,
    width: int = 64,
    stages: Sequence[int] = STAGES,
    norm: str = "none",
    affine: bool = True,
    activation: str = "relu",
    dropout: float = 0.0,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> nn.Sequential:
    """Return JL25's ResNet-18 for small images of any size.

    Conv 3×3 (stride 1, no max pool) → norm → activation; four stages of `BasicBlock` with ``width``, ``2 width``, …
    channels, the first block of every stage but the first with stride 2; average pool → dropout → Linear.
    Convolutions are Kaiming normal (fan-out), and have a bias only without norm, starting at zero.

    Args:
        classes: number of outputs.
        channels: of the images.
        width: channels of the first stage.
        stages: number of blocks of each stage; ``(2, 2, 2, 2)`` is ResNet-18.
        norm: ``"none"``, ``"batch"`` (BatchNorm2d) or ``"layer"`` (GroupNorm with one group).
        affine: whether the norm has a learnt scale and shift.
        activation: a key of `ACTIVATIONS`, or ``"crelu"``.
        dropout: probability of dropping a feature before the head.
        seed: of the initial weights.
        dtype: of all parameters.

    Raises:
        ValueError: for an unknown norm or activation, or sizes below one.

    Source: JL25, section 3 (models); He et al. (2016), arXiv 1512.03385.

    >>> resnet18(10, channels=1, width=4, stages=(1, 1))(torch.zeros(5, 1, 8, 8)).shape
    torch.Size([5, 10])
    """
    at_least_one(classes=classes, channels=channels, width=width, stages=min(stages, default=0))
    activate, wider = _activation(activation, dim=-3)

    def normalise(features: int) -> nn.Module:
        return (_norm(norm, features, affine, dtype, CONV_NORMS) or nn.Identity)()

    options: dict[str, Any] = {"bias": norm == "none", "dtype": dtype}
    layers: list[tuple[str, nn.Module]] = [("conv", _conv(channels, width, 3, **options))]
    layers += [("norm", normalise(width)), ("act", activate())]
    inputs = wider * width
    for k, blocks in enumerate(stages):
        outputs, stride = width << k, 1 if k == 0 else 2
        stage = [BasicBlock(inputs, outputs, stride, normalise, activate, wider, **options)]
        inputs = wider * outputs
        stage += [BasicBlock(inputs, outputs, 1, normalise, activate, wider, **options) for _ in range(blocks - 1)]
        layers.append((f"stage{k + 1}", nn.Sequential(*stage)))
    generator = torch.Generator().manual_seed(seed)
    layers += [("pool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten()), ("drop", nn.Dropout(dropout))]
    model = nn.Sequential(OrderedDict(layers)).apply(lambda module: _kaiming(module, generator))
    model.add_module("head", linear(inputs, classes, generator=generator, dtype=dtype))
    return model


class Attention(nn.Module):
    """Multi-head self-attention with one Linear layer for queries, keys and values, scaled by ``1/√head_dim``.

    With ``causal`` a token attends to itself and those before it.
    """

    def __init__(self, width: int, heads: int, head_dim: int, *, causal: bool = False, **options: Any) -> None:
        super().__init__()
        self.head_dim, self.causal = head_dim, causal
        self.qkv = nn.Linear(width, 3 * heads * head_dim, **options)
        self.proj = nn.Linear(heads * head_dim, width, **options)

    def forward(self, x: Tensor) -> Tensor:
        """Return the attended tokens ``[batch, tokens, width]``."""
        q, k, v = self.qkv(x).unflatten(-1, (3, -1, self.head_dim)).permute(2, 0, 3, 1, 4)
        return self.proj(scaled_dot_product_attention(q, k, v, is_causal=self.causal).transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    """``x + drop(attention(norm(x)))``, then ``x + drop(mlp(norm(x)))``, the mlp Linear → activation → Linear."""

    observed = True

    def __init__(
        self,
        width: int,
        heads: int,
        head_dim: int,
        hidden: int,
        normalise: Callable[[], nn.Module],
        activate: Callable[[], nn.Module],
        dropout: float,
        *,
        causal: bool = False,
        wider: int = 1,
        **options: Any,
    ) -> None:
        super().__init__()
        self.norm1, self.attention = normalise(), Attention(width, heads, head_dim, causal=causal, **options)
        self.norm2, self.linear1 = normalise(), nn.Linear(width, hidden, **options)
        self.act, self.linear2 = activate(), nn.Linear(wider * hidden, width, **options)
        self.drop1, self.drop2 = nn.Dropout(dropout), nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens ``[batch, tokens, width]``."""
        x = x + self.drop1(self.attention(self.norm1(x)))
        return x + self.drop2(self.linear2(self.act(self.linear1(self.norm2(x)))))


class Tokens(nn.Module):
    """Patches as tokens: a convolution with stride ``patch``, a class token in front, learnt positions added."""

    def __init__(self, size: int, patch: int, channels: int, width: int, **options: Any) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, width, patch, stride=patch, **options)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width, **options))
        self.positions = nn.Parameter(torch.zeros(1, 1 + (size // patch) ** 2, width, **options))

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens ``[batch, 1 + (size / patch)², width]`` of images."""
        patches = self.patches(x).flatten(2).transpose(1, 2)
        return torch.cat([self.class_token.expand(len(x), -1, -1), patches], dim=1) + self.positions


class FirstToken(nn.Module):
    """Keep the class token."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[batch, width]`` of tokens ``[batch, tokens, width]``."""
        return x[:, 0]


@torch.random.fork_rng(devices=[])
def vit(
    size: int = 64,
    classes: int = 200,
    *,
    channels: int = 3,
    patch: int = 8,
    width: int = 384,
    depth: int = 6,
    heads: int = 6,
    head_dim: int | None = None,
    hidden: int | None = None,
    norm: str = "layer",
    affine: bool = True,
    activation: str = "gelu",
    dropout: float = 0.0,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> nn.Sequential:
    """Return JL25's vision transformer: tokens, ``depth`` pre-norm blocks, norm, class token → Linear.

    Weights, class token and positions are normal with deviation 0.02, truncated at two deviations; biases zero.

    Args:
        size: height and width of the images, a multiple of ``patch``.
        classes: number of outputs.
        channels: of the images.
        patch: height and width of a patch.
        width: features of a token.
        depth: number of blocks.
        heads: of the attention.
        head_dim: features of a head, ``width // heads`` if None.
        hidden: of the blocks' mlp, ``4 width`` if None.
        norm: ``"none"``, ``"batch"`` (over batch and tokens) or ``"layer"``.
        affine: whether the norm has a learnt scale and shift.
        activation: a key of `ACTIVATIONS`; ``"gelu"`` is the exact one.
        dropout: probability of dropping a feature of the tokens and of each branch.
        seed: of the initial weights.
        dtype: of all parameters.

    Raises:
        ValueError: for an unknown norm or activation, sizes below one, or sizes that do not divide.

    Source: JL25, section 3 (models); Dosovitskiy et al. (2021), arXiv 2010.11929.

    >>> vit(8, 10, channels=1, patch=4, width=6, depth=1, heads=2)(torch.zeros(5, 1, 8, 8)).shape
    torch.Size([5, 10])
    """
    at_least_one(size=size, classes=classes, channels=channels, patch=patch, width=width, depth=depth, heads=heads)
    _divides("size", size, patch)
    if head_dim is None:
        _divides("width", width, heads)
    activate, wider = _activation(activation)
    normalise = _norm(norm, width, affine, dtype, TOKEN_NORMS) or nn.Identity
    sizes = (width, heads, head_dim or width // heads, hidden or 4 * width)
    layers: list[tuple[str, nn.Module]] = [("tokens", Tokens(size, patch, channels, width, dtype=dtype))]
    layers.append(("drop", nn.Dropout(dropout)))
    for k in range(1, depth + 1):
        block = TransformerBlock(*sizes, normalise, activate, dropout, wider=wider, dtype=dtype)
        layers.append((f"block{k}", block))
    layers += [("norm", normalise()), ("first", FirstToken()), ("head", nn.Linear(width, classes, dtype=dtype))]
    generator = torch.Generator().manual_seed(seed)
    return nn.Sequential(OrderedDict(layers)).apply(lambda module: _truncated(module, generator))


ARCHITECTURES: Mapping[str, Callable[..., nn.Sequential]] = {
    "mlp": lambda shape, classes, **given: mlp(math.prod(shape), classes, **given),
    "cnn": lambda shape, classes, **given: cnn(shape[1], classes, channels=shape[0], **given),
    "resnet18": lambda shape, classes, **given: resnet18(classes, channels=shape[0], **given),
    "vit": lambda shape, classes, **given: vit(shape[1], classes, channels=shape[0], **given),
}
NOT_SETTINGS = ("inputs", "size", "classes", "channels", "norm", "affine", "activation", "dropout", "seed", "dtype")


def build(
    arch: str,
    shape: Sequence[int],
    classes: int,
    settings: Mapping[str, Any],
    *,
    activation: str | None = None,
    **given: Any,
) -> nn.Sequential:
    """Return a network of ``arch`` for images of ``shape = (channels, height, width)``.

    Args:
        arch: a key of `ARCHITECTURES`.
        shape: of one image.
        classes: number of outputs.
        settings: arguments of the architecture that a user gave (width, depth, …).
        activation: the architecture's own if None.
        given: further arguments.

    Raises:
        ValueError: for an unknown architecture, or a setting that it does not have.

    >>> build("mlp", (1, 8, 8), 10, {"width": 4, "depth": 1}, norm="batch")(torch.zeros(5, 1, 8, 8)).shape
    torch.Size([5, 10])
    >>> build("mlp", (1, 8, 8), 10, {"breadth": 4})
    Traceback (most recent call last):
    ValueError: arch_settings: mlp() got an unexpected keyword argument 'breadth' (architecture 'mlp')
    """
    make = choose("arch", arch, ARCHITECTURES)
    own = {} if activation is None else {"activation": activation}
    try:
        return make(shape, classes, **settings, **own, **given)
    except TypeError as error:
        raise ValueError(f"arch_settings: {error} (architecture {arch!r})") from error


def settings_of(arch: str) -> tuple[str, ...]:
    """Return the names of the sizes that ``arch`` takes as ``arch_settings``.

    >>> settings_of("mlp")
    ('width', 'depth')
    """
    makers: Mapping[str, Callable[..., nn.Sequential]] = {"mlp": mlp, "cnn": cnn, "resnet18": resnet18, "vit": vit}
    names = inspect.signature(choose("arch", arch, makers)).parameters
    return tuple(name for name in names if name not in NOT_SETTINGS)


def linear(
    inputs: int, outputs: int, *, generator: torch.Generator, dtype: torch.dtype = torch.float32
) -> nn.Linear:
    """Return a Linear layer with weights and bias uniform on ``[-1/√inputs, 1/√inputs]`` from ``generator``."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs, dtype=dtype)
    bound = 1 / math.sqrt(inputs)
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return layer


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, **options)


def _uniform(layer: nn.Conv2d, generator: torch.Generator) -> nn.Conv2d:
    bound = 1 / math.sqrt(layer.weight[0].numel())
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return layer


def _kaiming(module: nn.Module, generator: torch.Generator) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _truncated(module: nn.Module, generator: torch.Generator) -> None:
    kinds = (nn.Linear, nn.Conv2d, Tokens)
    for name, parameter in module.named_parameters(recurse=False) if isinstance(module, kinds) else ():
        if name == "bias":
            nn.init.zeros_(parameter)
        else:
            nn.init.trunc_normal_(parameter, std=0.02, a=-0.04, b=0.04, generator=generator)


def _activation(name: str, dim: int = -1) -> tuple[Callable[[], nn.Module], int]:
    """Return what makes an activation module with units along ``dim``, and how many times the width it puts out."""
    if name == CRELU:
        return lambda: CReLU(dim), 2
    return choose("activation", name, {**ACTIVATIONS, CRELU: None}), 1


def _divides(argument: str, size: int, divisor: int) -> None:
    if size % divisor:
        raise ValueError(f"{argument}: got {size}; it has to be a multiple of {divisor}")


def _norm(
    name: str,
    width: int,
    affine: bool,
    dtype: torch.dtype,
    table: Mapping[str, Callable[..., nn.Module] | None] = NORMS,
) -> Callable[[], nn.Module] | None:
    kind = choose("norm", name, table)
    if kind is None:
        return None
    flag = "elementwise_affine" if kind is nn.LayerNorm else "affine"
    return lambda: kind(width, dtype=dtype, **{flag: affine})
