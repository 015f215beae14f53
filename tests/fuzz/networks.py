"""Strategies of networks, of traps that are planted in them, and of optimizers with a past.

A network is drawn as a list of blocks and built from it, so that a failure shrinks to few and plain blocks and can
be written down as a list. All parameters of activations are drawn from their whole range.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import prune

from torch_experiments import clone

WIDTH, FEATURES, OUTPUTS, SAMPLES, TOKENS, EDGE = 4, 3, 2, 16, 3, 4

PLAIN: dict[str, Callable[..., nn.Module]] = {
    "relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "gelu": nn.GELU, "silu": nn.SiLU, "mish": nn.Mish,
    "selu": nn.SELU, "hardswish": nn.Hardswish, "hardsigmoid": nn.Hardsigmoid, "relu6": nn.ReLU6,
    "softsign": nn.Softsign, "identity": nn.Identity, "prelu": nn.PReLU, "logsigmoid": nn.LogSigmoid,
}  # fmt: skip
SPELLED: dict[str, Callable[[Tensor], Tensor]] = {
    "maximum": lambda h: torch.maximum(h, h.new_zeros(())),
    "where": lambda h: torch.where(h > 0, h, h.new_zeros(())),
    "masked": lambda h: h * (h > 0),
    "half": lambda h: (h + h.abs()) / 2,
    "clamp": lambda h: h.clamp(min=0),
    "softsign": lambda h: h / (1 + h.abs()),
    "gelu": lambda h: 0.5 * h * (1 + torch.erf(h / 2**0.5)),
    "square": lambda h: h.square(),
    "minimum": lambda h: -torch.minimum(-h, torch.zeros_like(h)),
    "masked fill": lambda h: h.masked_fill(h < 0, 0.0),
    "clamp by a tensor": lambda h: h.clamp(min=h.new_zeros(())),
    "between": lambda h: h * ((h > 0) & (h < 2)),
    "gelu by tanh": lambda h: 0.5 * h * (1 + torch.tanh(0.7978845608 * (h + 0.044715 * h.pow(3)))),
    "silu": lambda h: h * torch.sigmoid(h),
    "softplus": lambda h: torch.log(1 + torch.exp(-h.abs())) + h.clamp(min=0),
    "leaky": lambda h: torch.where(h > 0, h, -0.1 * h),
    "a skip": lambda h: torch.relu(h) + h,
    "concatenated": lambda h: torch.relu(h) - torch.relu(-h) / 2,
    "straight through": lambda h: h + (torch.relu(h) - h).detach(),
    "in place": lambda h: h.clone().mul_(h > 0),
    "largest": lambda h: h * (h >= h.topk(2, -1).values[..., -1:]),
    "another unit": lambda h: h * (h.roll(1, -1) > 0),
}


@dataclass(frozen=True)
class Block:
    """A block of a network: its kind and its numbers."""

    kind: str
    act: tuple[Any, ...] = ("relu",)
    share: float = 0.0


class Spelled(nn.Module):
    """An activation written as an expression."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, h: Tensor) -> Tensor:
        return SPELLED[self.name](h)


class Residual(nn.Module):
    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.up, self.act, self.down = nn.Linear(WIDTH, 2 * WIDTH), act, nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.down(self.act(self.up(h)))


class Gated(nn.Module):
    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.gate, self.value, self.act = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), act

    def forward(self, h: Tensor) -> Tensor:
        return self.act(self.gate(h)) * self.value(h)


class TwoReaders(nn.Module):
    """A pre-activation that is read by its activation and beside it."""

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.a, self.act, self.direct, self.gated = (
            nn.Linear(WIDTH, WIDTH),
            act,
            *(nn.Linear(WIDTH, WIDTH) for _ in "ab"),
        )

    def forward(self, h: Tensor) -> Tensor:
        z = self.a(h)
        return self.direct(z) + self.gated(self.act(z))


class Stopped(nn.Module):
    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.a, self.act, self.b = nn.Linear(WIDTH, WIDTH), act, nn.Linear(WIDTH, WIDTH)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.b(self.act(self.a(h)).detach())


class Tied(nn.Module):
    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.a, self.act = nn.Linear(WIDTH, WIDTH), act

    def forward(self, h: Tensor) -> Tensor:
        return self.act(self.a(self.act(self.a(h))))


class Attention(nn.Module):
    def __init__(self, share: float) -> None:
        super().__init__()
        self.a = nn.MultiheadAttention(WIDTH, 2, dropout=share, batch_first=True)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.a(h, h, h, need_weights=False)[0]


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.a = kind(WIDTH, WIDTH, batch_first=True)

    def forward(self, h: Tensor) -> Tensor:
        return self.a(h)[0]


class Scaled(torch.autograd.Function):
    """A custom function whose backward pass treats units differently."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * torch.linspace(1, 2, g.shape[-1]).to(g)


class Custom(nn.Module):
    def forward(self, h: Tensor) -> Tensor:
        return Scaled.apply(h)


class Tokens(nn.Module):
    """Embeddings with positions of which the batch reads the first ones."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(7, WIDTH, padding_idx=0), nn.Parameter(torch.randn(2 * TOKENS, WIDTH))

    def forward(self, ids: Tensor) -> Tensor:
        return self.embed(ids) + self.place[: ids.shape[1]]


class Head(nn.Module):
    """The output, alone or beside the units that it is computed from."""

    def __init__(self, returns: bool) -> None:
        super().__init__()
        self.out, self.returns = nn.Linear(WIDTH, OUTPUTS), returns

    def forward(self, h: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        logits = self.out(h.mean(1) if h.ndim == 3 else h)
        return (logits, h) if self.returns else logits


def first(output: Any) -> Tensor:
    """Return what a loss reads of an output."""
    return output[0] if isinstance(output, tuple) else output


def activation(act: tuple[Any, ...]) -> nn.Module:
    name, *numbers = act
    with_numbers: dict[str, Callable[..., nn.Module]] = {
        "elu": nn.ELU, "celu": nn.CELU, "softplus": nn.Softplus, "leaky": nn.LeakyReLU, "threshold": nn.Threshold,
        "hardtanh": lambda a, b: nn.Hardtanh(min(a, b), max(a, b) + 0.125), "hardshrink": nn.Hardshrink,
        "softshrink": lambda a: nn.Softshrink(abs(a)), "rrelu": lambda a, b: nn.RReLU(min(a, b), max(a, b)),
    }  # fmt: skip
    if name == "spelled":
        return Spelled(numbers[0])
    return with_numbers[name](*numbers) if name in with_numbers else PLAIN[name]()


def layers(block: Block, form: str) -> list[nn.Module]:
    """Return the modules of a block for vectors, tokens or images."""
    act = activation(block.act)
    share = block.share
    if form == "image":
        made: dict[str, Callable[[], list[nn.Module]]] = {
            "grouped": lambda: [nn.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=2), act],
            "batch_norm": lambda: [nn.Conv2d(WIDTH, WIDTH, 1), nn.BatchNorm2d(WIDTH), act],
            "layer_norm": lambda: [nn.GroupNorm(1, WIDTH), act],
            "dropout": lambda: [nn.Dropout2d(share)],
        }
        return made.get(block.kind, lambda: [nn.Conv2d(WIDTH, WIDTH, 3, padding=1), act])()
    made = {
        "linear": lambda: [nn.Linear(WIDTH, WIDTH), act],
        "residual": lambda: [Residual(act)],
        "gated": lambda: [Gated(act)],
        "two_readers": lambda: [TwoReaders(act)],
        "stopped": lambda: [Stopped(act)],
        "tied": lambda: [Tied(act)],
        "batch_norm": lambda: [nn.Linear(WIDTH, WIDTH), *[nn.BatchNorm1d(WIDTH)] * (form == "vector"), act],
        "layer_norm": lambda: [nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH), act],
        "rms_norm": lambda: [nn.RMSNorm(WIDTH), nn.Linear(WIDTH, WIDTH), act],
        "dropout": lambda: [nn.Linear(WIDTH, WIDTH), act, nn.Dropout(share)],
        "attention": lambda: [Attention(share)] if form == "tokens" else [nn.Linear(WIDTH, WIDTH), act],
        "recurrent": lambda: [Recurrent(nn.GRU)] if form == "tokens" else [nn.Linear(WIDTH, WIDTH), act],
        "masked": lambda: [_pruned(nn.Linear(WIDTH, WIDTH)), act],
        "custom": lambda: [nn.Linear(WIDTH, WIDTH), Custom(), act],
        "hooked": lambda: [_hooked(nn.Linear(WIDTH, WIDTH)), act],
    }
    return made.get(block.kind, made["linear"])()


def _pruned(layer: nn.Linear) -> nn.Linear:
    return prune.custom_from_mask(layer, "weight", (torch.arange(WIDTH * WIDTH) % 3 > 0).reshape(WIDTH, WIDTH))


def _hooked(layer: nn.Linear) -> nn.Linear:
    layer.register_full_backward_pre_hook(lambda _m, g: (g[0] * torch.linspace(1, 2, g[0].shape[-1]).to(g[0]),))
    return layer


def build(
    form: str, blocks: list[Block], seed: int, dtype: torch.dtype, returns: bool = False
) -> tuple[nn.Sequential, Tensor, Tensor]:
    """Return a network, a batch and targets."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        start: list[nn.Module] = {
            "vector": lambda: [nn.Linear(FEATURES, WIDTH), nn.ReLU()],
            "image": lambda: [nn.Conv2d(2, WIDTH, 1), nn.ReLU()],
            "tokens": lambda: [Tokens()],
        }[form]()
        last = [nn.AdaptiveAvgPool2d(1), nn.Flatten()] if form == "image" else []
        body = [layer for block in blocks for layer in layers(block, form)]
        model = nn.Sequential(*start, *body, *last, Head(returns)).to(dtype)
        x = {
            "vector": lambda: torch.randn(SAMPLES, FEATURES, dtype=dtype),
            "image": lambda: torch.randn(SAMPLES, 2, EDGE, EDGE, dtype=dtype),
            "tokens": lambda: torch.randint(0, 6, (SAMPLES, TOKENS)),
        }[form]()
        return model, x, torch.randn(SAMPLES, OUTPUTS, dtype=dtype)


@dataclass(frozen=True)
class Trap:
    """What is planted: in which of the linear layers, which unit, and how."""

    kind: str
    layer: int
    unit: int


def place(model: nn.Module, trap: Trap) -> tuple[str, int] | None:
    """Return the name of the layer of a trap and the unit in it; None where it does not fit."""
    known = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear) and not n.endswith("out")]
    known = [(n, m) for n, m in known if not hasattr(m, "weight_orig") and m.bias is not None]
    if not known:
        return None
    name, layer = known[trap.layer % len(known)]
    return name, trap.unit % layer.out_features


@torch.no_grad()
def plant(model: nn.Module, trap: Trap) -> None:
    """Plant a trap where it fits."""
    where = place(model, trap)
    if where is None:
        return
    name, u = where
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Linear)
    v = (u + 1) % layer.out_features
    if trap.kind == "dead":
        layer.bias[u] = -50.0
    elif trap.kind == "saturated":
        layer.bias[u] = 50.0
    elif trap.kind == "sign":
        layer.weight[u] = -layer.weight[u].abs() - 0.01
        layer.bias[u] = -0.01
    elif trap.kind == "copy":
        layer.weight[v], layer.bias[v] = layer.weight[u], layer.bias[u]
    elif trap.kind == "flipped":
        layer.weight[v], layer.bias[v] = -layer.weight[u], -layer.bias[u]
    elif trap.kind == "near":
        layer.weight[v], layer.bias[v] = layer.weight[u] + 1e-3, layer.bias[u]


small = st.one_of(
    st.floats(-2, 2).map(lambda x: round(x, 2)), st.sampled_from([0.0, 1.0, -1.0, 1e-3, -1e-3, 30.0, -30.0])
)
acts = st.one_of(
    st.sampled_from([(name,) for name in PLAIN]),
    st.sampled_from([("spelled", name) for name in SPELLED]),
    st.tuples(st.just("elu"), small),
    st.tuples(st.just("celu"), small.filter(bool)),
    st.tuples(st.just("softplus"), small.filter(bool), st.sampled_from([20.0, 5.0, 0.0, -3.0])),
    st.tuples(st.just("leaky"), small),
    st.tuples(st.just("threshold"), small, small),
    st.tuples(st.just("hardtanh"), small, small),
    st.tuples(st.just("hardshrink"), small),
    st.tuples(st.just("softshrink"), small),
    st.tuples(st.just("rrelu"), small, small),
)
KINDS = (
    "linear", "residual", "gated", "two_readers", "stopped", "tied", "batch_norm", "layer_norm", "rms_norm",
    "dropout", "attention", "recurrent", "masked", "custom", "hooked", "grouped",
)  # fmt: skip
blocks = st.builds(Block, st.sampled_from(KINDS), acts, st.sampled_from([0.0, 0.5]))
traps = st.builds(
    Trap,
    st.sampled_from(["dead", "saturated", "sign", "copy", "flipped", "near"]),
    st.integers(0, 5),
    st.integers(0, 3),
)
optim = torch.optim
RULES: dict[str, Callable[[list[nn.Parameter]], optim.Optimizer]] = {
    "sgd": lambda p: optim.SGD(p, 0.05),
    "momentum": lambda p: optim.SGD(p, 0.02, momentum=0.9),
    "nesterov, decay": lambda p: optim.SGD(p, 0.02, momentum=0.8, nesterov=True, weight_decay=0.01),
    "sgd, decay": lambda p: optim.SGD(p, 0.05, weight_decay=0.1),
    "adam": lambda p: optim.Adam(p, 0.01),
    "adam, coupled": lambda p: optim.Adam(p, 0.01, weight_decay=0.01),
    "amsgrad": lambda p: optim.Adam(p, 0.01, amsgrad=True),
    "adamw": lambda p: optim.AdamW(p, 0.01),
    "adamw, no decay": lambda p: optim.AdamW(p, 0.01, weight_decay=0.0),
    "nadam": lambda p: optim.NAdam(p, 0.01),
    "radam": lambda p: optim.RAdam(p, 0.01),
    "adamax": lambda p: optim.Adamax(p, 0.01),
    "rmsprop": lambda p: optim.RMSprop(p, 0.005, momentum=0.5),
    "adagrad": lambda p: optim.Adagrad(p, 0.02),
    "adadelta": lambda p: optim.Adadelta(p),
    "rprop": lambda p: optim.Rprop(p, 0.001),
    "asgd": lambda p: optim.ASGD(p, 0.02),
    "adafactor": lambda p: optim.Adafactor(p, 0.01),
    "lbfgs": lambda p: optim.LBFGS(p, 0.05, max_iter=3),
    "zero rate": lambda p: optim.AdamW(p, 0.0),
}


@dataclass(frozen=True)
class Draw:
    """Everything that makes a case; `make` builds it."""

    form: str
    blocks: list[Block]
    traps: list[Trap]
    rule: str
    past: int
    training: bool
    dtype: torch.dtype
    seed: int
    copies: int = 1
    mode: str = "equal"
    returns: bool = False
    autocast: bool = False

    @property
    def kinds(self) -> list[str]:
        """Of what kinds it is, for counts."""
        copies = f"copies: {self.copies}, {self.mode}" if self.copies > 1 else "copies: none"
        flags = {"use: under autocast": self.casts, "use: units returned": self.returns}
        return [
            f"form: {self.form}",
            *sorted({f"block: {block.kind}" for block in self.blocks}),
            *sorted({f"trap: {trap.kind}" for trap in self.traps}),
            copies,
            f"optimizer: {self.rule}",
            f"use: {'training' if self.training else 'evaluation'} mode",
            f"use: {str(self.dtype).removeprefix('torch.')}",
            f"use: {self.past} steps before",
            *(name for name, on in flags.items() if on),
        ]

    @property
    def casts(self) -> bool:
        """Whether it is used under autocast: that of float32, whose copies are exact ones."""
        return self.autocast and self.dtype == torch.float32 and self.copies == 1

    def base(self) -> tuple[nn.Module, Tensor, Tensor]:
        """Return the network before it is cloned and trained, with inputs and targets."""
        return build(self.form, self.blocks, self.seed, self.dtype, self.returns)

    def make(self) -> tuple[nn.Module, Tensor, Tensor, optim.Optimizer]:
        """Return network, inputs, targets and an optimizer that has taken its past steps before the traps came.

        Raises:
            TraceError: for a network that cannot be cloned.
        """
        model, x, y = self.base()
        if self.copies > 1:
            generator = torch.Generator().manual_seed(self.seed)
            model = clone(model.eval(), self.copies, self.mode, generator, example_inputs=x)  # type: ignore[arg-type]
        model.train(self.training)
        optimizer = RULES[self.rule](list(model.parameters()))

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = (first(model(x)) - y).square().mean()
            loss.backward()
            return loss

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            for _ in range(self.past):
                optimizer.step(closure)
        optimizer.zero_grad()
        for trap in self.traps:
            plant(model, trap)
        return model, x, y, optimizer


draws = st.builds(
    Draw,
    st.sampled_from(["vector", "vector", "tokens", "image"]),
    st.lists(blocks, min_size=1, max_size=3),
    st.lists(traps, max_size=2),
    st.sampled_from(list(RULES)),
    st.sampled_from([0, 0, 3]),
    st.booleans(),
    st.sampled_from([torch.float64, torch.float64, torch.float32]),
    st.integers(0, 9999),
    st.sampled_from([1, 1, 2, 3]),
    st.sampled_from(["equal", "equitable"]),
    st.sampled_from([False, False, True]),
    st.booleans(),
)
