"""Character models: a small GPT of plain torch, and the class of Hugging Face's GPT-2 from a configuration."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from torch_experiments.lab.models import TransformerBlock
from torch_experiments.metrics.layers import ACTIVATIONS
from torch_experiments.support.choices import at_least_one, choose

NORMS: Mapping[str, type[nn.Module] | None] = {"none": None, "layer": nn.LayerNorm}
STD = 0.02  # of all weights at the start, as in GPT-2


class Characters(nn.Module):
    """Numbers of characters as learnt vectors, learnt positions added."""

    def __init__(self, alphabet: int, context: int, width: int) -> None:
        super().__init__()
        self.letters, self.positions = nn.Embedding(alphabet, width), nn.Embedding(context, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return vectors ``[batch, characters, width]`` of numbers ``[batch, characters]``."""
        return self.letters(x) + self.positions(torch.arange(x.shape[-1], device=x.device))


class Block(TransformerBlock):
    """A block whose activations are measured, not its output."""

    observed = False


@torch.random.fork_rng(devices=[])
def gpt(
    alphabet: int,
    context: int,
    *,
    width: int = 64,
    depth: int = 2,
    heads: int = 4,
    hidden: int | None = None,
    norm: str = "layer",
    activation: str = "relu",
    dropout: float = 0.0,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> nn.Sequential:
    """Return a GPT: characters, ``depth`` pre-norm blocks with causal attention, norm, a linear head.

    All weights start normal with deviation 0.02, biases at zero.

    Args:
        alphabet: number of characters.
        context: characters that it reads at most.
        width: features of a character.
        depth: number of blocks.
        heads: of the attention, a divisor of ``width``.
        hidden: units of the blocks' mlp, ``4 width`` if None.
        norm: ``"none"`` or ``"layer"``.
        activation: a key of `ACTIVATIONS`.
        dropout: probability of dropping a feature of each branch.
        seed: of the initial weights; the global generator is left as it was.
        dtype: of all parameters.

    Raises:
        ValueError: for an unknown norm or activation, sizes below one, or heads that do not divide the width.

    Source: Radford et al. (2019), the architecture of GPT-2, with ReLU and an untied head.

    >>> gpt(60, 8, width=8, depth=1, heads=2)(torch.zeros(5, 8, dtype=torch.int64)).shape
    torch.Size([5, 8, 60])
    """
    at_least_one(alphabet=alphabet, context=context, width=width, depth=depth, heads=heads)
    _divides(width, heads)
    activate, kind = choose("activation", activation, ACTIVATIONS), choose("norm", norm, NORMS)
    normalise: Callable[[], nn.Module] = (lambda: kind(width)) if kind else nn.Identity
    sizes = (width, heads, width // heads, hidden or 4 * width)
    layers: list[tuple[str, nn.Module]] = [("characters", Characters(alphabet, context, width))]
    layers += [(f"block{k}", Block(*sizes, normalise, activate, dropout, causal=True)) for k in range(1, depth + 1)]
    layers += [("norm", normalise()), ("head", nn.Linear(width, alphabet))]
    generator = torch.Generator().manual_seed(seed)
    return nn.Sequential(OrderedDict(layers)).apply(lambda module: _start(module, generator)).to(dtype)


def _start(module: nn.Module, generator: torch.Generator) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=STD, generator=generator)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


class Logits(nn.Module):
    """A language model of Hugging Face that returns its logits alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``[batch, characters, alphabet]``."""
        found: Tensor = self.model(x).logits
        return found


@torch.random.fork_rng(devices=[])
def gpt2(
    alphabet: int,
    context: int,
    *,
    width: int = 64,
    depth: int = 2,
    heads: int = 4,
    hidden: int | None = None,
    norm: str = "layer",
    activation: str = "relu",
    dropout: float = 0.0,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> nn.Module:
    """Return Hugging Face's ``GPT2LMHeadModel`` from a configuration, initialised as it does; arguments as `gpt`.

    Its head is tied to its embedding. With norm ``"none"`` its layer norms are identities.

    Raises:
        ModuleNotFoundError: without transformers; the message has the line that installs it.
        ValueError: as `gpt`.
    """
    at_least_one(alphabet=alphabet, context=context, width=width, depth=depth, heads=heads)
    _divides(width, heads)
    choose("activation", activation, ACTIVATIONS), choose("norm", norm, NORMS)
    try:
        from transformers import GPT2Config, GPT2LMHeadModel
    except ImportError as error:
        said = "arch: 'gpt2' needs transformers, which is not installed: pip install 'lop-companion[hf]'"
        raise ModuleNotFoundError(said, name="transformers") from error
    given: dict[str, Any] = {"vocab_size": alphabet, "n_positions": context, "activation_function": activation}
    given |= {"n_embd": width, "n_layer": depth, "n_head": heads, "n_inner": hidden or 4 * width}
    given |= dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), dropout)
    given |= dict.fromkeys(("bos_token_id", "eos_token_id"))
    torch.manual_seed(seed)
    model = GPT2LMHeadModel(GPT2Config(**given))
    if norm == "none":
        _without_norms(model)
    return Logits(model).to(dtype)


ARCHITECTURES: Mapping[str, Callable[..., nn.Module]] = {"gpt": gpt, "gpt2": gpt2}
SIZES = ("width", "depth", "heads", "hidden")


def build(arch: str, alphabet: int, context: int, settings: Mapping[str, Any], **given: Any) -> nn.Module:
    """Return a network of ``arch`` with the sizes ``settings``.

    Raises:
        ValueError: for an unknown architecture, or a setting that it does not have.

    >>> build("gpt", 60, 8, {"breadth": 4})
    Traceback (most recent call last):
    ValueError: arch_settings: got 'breadth'; allowed are 'width', 'depth', 'heads', 'hidden'
    """
    make = choose("arch", arch, ARCHITECTURES)
    for name in settings:
        choose("arch_settings", name, dict.fromkeys(SIZES))
    return make(alphabet, context, **settings, **given)


def _without_norms(model: nn.Module) -> None:
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.LayerNorm):
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, nn.Identity())


def _divides(width: int, heads: int) -> None:
    if width % heads:
        raise ValueError(f"width: got {width}; it has to be a multiple of the {heads} heads")
