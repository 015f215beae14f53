"""Networks of torch's own layers, written as its tutorials do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from tests.zoo.registry import CLASSES, LENGTH, SAMPLES, TOKENS, Architecture, images, padding, tokens

PACKAGE = "torch"


def perceptron() -> nn.Module:
    """Return a multilayer perceptron."""
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, CLASSES))


def convolutional() -> nn.Module:
    """Return a convolutional network with batch norm and dropout."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(12 * 64, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, CLASSES),
    )  # fmt: skip


class Residual(nn.Module):
    """A basic block of a ResNet."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.shortcut = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x: Tensor) -> Tensor:
        h = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(h)) + self.shortcut(x))


def residual() -> nn.Module:
    """Return a small ResNet."""
    stem = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, CLASSES))
    return nn.Sequential(*stem, Residual(8, 8, 1), Residual(8, 16, 2), *head)


class Sentences(nn.Module):
    """An embedding, a recurrent network, and a head on its last state."""

    def __init__(self, kind: type[nn.RNNBase], **settings: Any) -> None:
        super().__init__()
        self.embedding = nn.Embedding(TOKENS, 12, padding_idx=0)
        self.recurrent = kind(12, 16, batch_first=True, **settings)
        self.head = nn.Linear(16 * (1 + bool(settings.get("bidirectional"))), CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.recurrent(self.embedding(ids))[0][:, -1])


class Cells(nn.Module):
    """A loop over a recurrent cell."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = 16
        self.cell, self.head = nn.GRUCell(6, self.hidden), nn.Linear(self.hidden, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), self.hidden)
        for step in x.unbind(1):
            h = self.cell(step, h)
        return self.head(h)


class Packed(nn.Module):
    """A recurrent network on sequences of several lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(TOKENS, 12), nn.Linear(16, CLASSES)
        self.recurrent = nn.GRU(12, 16, batch_first=True)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(
            self.embedding(ids), lengths, batch_first=True, enforce_sorted=False
        )
        return self.head(self.recurrent(packed)[1][-1])


class Encoder(nn.Module):
    """A transformer encoder with a mask of padding, as torch's tutorial has it."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(TOKENS, 16, padding_idx=0)
        layer = nn.TransformerEncoderLayer(16, 4, 24, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.head(self.encoder(self.embedding(ids), src_key_padding_mask=~mask.bool()).mean(dim=1))


class Attention(nn.Module):
    """Attention over a sequence, with a residual stream and a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Linear(6, 16), nn.LayerNorm(16)
        self.attention, self.head = nn.MultiheadAttention(16, 4, batch_first=True), nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        h = self.norm(h + self.attention(h, h, h, need_weights=False)[0])
        return self.head(h[:, 0])


class Bag(nn.Module):
    """A bag of words: the text classifier of torch's tutorial."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.fc = nn.EmbeddingBag(TOKENS, 16), nn.Linear(16, CLASSES)

    def forward(self, text: Tensor, offsets: Tensor) -> Tensor:
        return self.fc(self.embedding(text, offsets))


class UNet(nn.Module):
    """A U-Net of one level, with a skip and a transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.inside = self._twice(3, 8), self._twice(8, 16)
        self.up, self.last = nn.ConvTranspose2d(16, 8, 2, 2), self._twice(16, 8)
        self.head = nn.Conv2d(8, CLASSES, 1)

    @staticmethod
    def _twice(inside: int, outside: int) -> nn.Sequential:
        first = nn.Sequential(nn.Conv2d(inside, outside, 3, padding=1), nn.BatchNorm2d(outside), nn.ReLU())
        return first.append(nn.Conv2d(outside, outside, 3, padding=1)).append(nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        high = self.down(x)
        low = self.up(self.inside(functional.max_pool2d(high, 2)))
        return self.head(self.last(torch.cat([high, low], dim=1)))


class Coder(nn.Module):
    """A variational autoencoder; in eval mode it decodes the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(8, 16), nn.ReLU())
        self.mean, self.spread = nn.Linear(16, 4), nn.Linear(16, 4)
        self.decoder = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 8))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = self.encoder(x)
        mean, spread = self.mean(h), self.spread(h)
        z = mean + torch.randn_like(mean) * torch.exp(spread / 2) if self.training else mean
        return self.decoder(z), mean, spread


class Graphs(nn.Module):
    """A graph network: messages along edges are added at their ends."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(5, 16), nn.Linear(16, 16), nn.Linear(16, CLASSES)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        h = nodes
        for layer in (self.first, self.second):
            sent = layer(h)
            h = torch.relu(sent + torch.zeros_like(sent).index_add_(0, edges[1], sent[edges[0]]))
        return self.head(h)


class Waves(nn.Module):
    """Gated dilated convolutions with weight norm and a residual stream, as in WaveNet."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(2, 8, 1)
        self.gates = nn.ModuleList(weight_norm(nn.Conv1d(8, 16, 2, dilation=2**k)) for k in range(3))
        self.outs = nn.ModuleList(nn.Conv1d(8, 8, 1) for _ in range(3))
        self.head = nn.Conv1d(8, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        for k, (gate, out) in enumerate(zip(self.gates, self.outs, strict=True)):
            value, opened = gate(functional.pad(h, (2**k, 0))).chunk(2, dim=1)
            h = h + out(torch.tanh(value) * torch.sigmoid(opened))
        return self.head(h)


def discriminator() -> nn.Module:
    """Return a discriminator with spectral norm."""
    return nn.Sequential(
        spectral_norm(nn.Conv2d(3, 8, 4, 2, 1)), nn.LeakyReLU(0.2),
        spectral_norm(nn.Conv2d(8, 12, 4, 2, 1)), nn.LeakyReLU(0.2), nn.Flatten(),
        spectral_norm(nn.Linear(12 * 64, 1)),
    )  # fmt: skip


def generator() -> nn.Module:
    """Return a generator of a DCGAN."""
    return nn.Sequential(
        nn.ConvTranspose2d(6, 16, 4, 1, 0, bias=False), nn.BatchNorm2d(16), nn.ReLU(True),
        nn.ConvTranspose2d(16, 8, 4, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(True),
        nn.ConvTranspose2d(8, 3, 4, 2, 1, bias=False), nn.Tanh(),
    )  # fmt: skip


def stylish() -> nn.Module:
    """Return a network with instance norm and reflection padding, as for style transfer."""
    return nn.Sequential(
        nn.ReflectionPad2d(1), nn.Conv2d(3, 8, 3), nn.InstanceNorm2d(8, affine=True), nn.ReLU(),
        nn.ReflectionPad2d(1), nn.Conv2d(8, 8, 3), nn.InstanceNorm2d(8), nn.ReLU(), nn.Conv2d(8, 3, 1),
    )  # fmt: skip


def upscaler() -> nn.Module:
    """Return a network for super-resolution."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, padding=2), nn.Tanh(), nn.Conv2d(16, 8, 3, padding=1), nn.Tanh(),
        nn.Conv2d(8, 4, 3, padding=1), nn.PixelShuffle(2),
    )  # fmt: skip


class Actor(nn.Module):
    """An agent of CleanRL: its value, and a distribution over actions."""

    def __init__(self) -> None:
        super().__init__()
        self.critic = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1))
        self.actor = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 2))
        self.logstd = nn.Parameter(torch.zeros(1, 2))

    def forward(self, x: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean = self.actor(x)
        chosen = torch.distributions.Normal(mean, self.logstd.expand_as(mean).exp())
        return chosen.log_prob(action).sum(1), chosen.entropy().sum(1), self.critic(x)


class Experts(nn.Module):
    """A dense mixture of experts."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(8, 3)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, CLASSES)) for _ in range(3)
        )

    def forward(self, x: Tensor) -> Tensor:
        shares = self.router(x).softmax(dim=-1)
        said = torch.stack([expert(x) for expert in self.experts], dim=1)
        return (shares[..., None] * said).sum(dim=1)


class Sets(nn.Module):
    """Deep sets: a sum over the elements between two perceptrons."""

    def __init__(self) -> None:
        super().__init__()
        self.each = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 12))
        self.all = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.all(self.each(x).sum(dim=1))


class Twins(nn.Module):
    """A siamese network: the distance of two embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 6))

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        return functional.pairwise_distance(self.embed(one), self.embed(other))


class Whole(nn.Module):
    """nn.Transformer between embeddings and a head, with a causal mask."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(TOKENS, 16)
        self.transformer = nn.Transformer(16, 4, 1, 1, 24, batch_first=True)
        self.head = nn.Linear(16, TOKENS)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        return self.head(self.transformer(self.embedding(source), self.embedding(target), tgt_mask=mask))


def _vectors() -> Tensor:
    return torch.randn(SAMPLES, 8)


def _series(channels: int) -> Tensor:
    return torch.randn(SAMPLES, LENGTH, channels)


def own() -> Iterator[Architecture]:
    """Yield the architectures of torch."""
    for name, family, build, inputs in (
        ("perceptron", "perceptron", perceptron, _vectors),
        ("convolutional network", "convolutional", convolutional, images),
        ("ResNet", "convolutional", residual, images),
        ("U-Net", "convolutional", UNet, images),
        ("DCGAN generator", "convolutional", generator, lambda: torch.randn(SAMPLES, 6, 1, 1)),
        ("spectral norm discriminator", "convolutional", discriminator, images),
        ("style transfer, instance norm", "convolutional", stylish, images),
        ("super-resolution", "convolutional", upscaler, lambda: images(1, 12)),
        ("WaveNet, weight norm", "convolutional", Waves, lambda: torch.randn(SAMPLES, 2, 16)),
        ("LSTM", "recurrent", lambda: Sentences(nn.LSTM), tokens),
        ("GRU, two layers", "recurrent", lambda: Sentences(nn.GRU, num_layers=2), tokens),
        ("LSTM, both directions", "recurrent", lambda: Sentences(nn.LSTM, bidirectional=True), tokens),
        ("RNN", "recurrent", lambda: Sentences(nn.RNN), tokens),
        ("GRU cells", "recurrent", Cells, lambda: _series(6)),
        ("GRU, packed sequences", "recurrent", Packed, lambda: {"ids": tokens(), "lengths": torch.tensor([8, 5,
         6, 7])}),
        ("nn.Transformer", "encoder and decoder", Whole, lambda: {"source": tokens(), "target": tokens(6)}),
        ("nn.TransformerEncoder", "encoder", Encoder, lambda: {"ids": tokens(), "mask": padding()}),
        ("nn.MultiheadAttention", "encoder", Attention, lambda: _series(6)),
        ("nn.EmbeddingBag", "bag of words", Bag,
         lambda: {"text": tokens().flatten(), "offsets": torch.tensor([0, 9, 15, 24])}),
        ("variational autoencoder", "autoencoder", Coder, _vectors),
        ("graph network", "graph", Graphs, lambda: {"nodes": torch.randn(9, 5), "edges": torch.randint(0, 9, (2,
         20))}),
        ("mixture of experts", "mixture of experts", Experts, _vectors),
        ("deep sets", "perceptron", Sets, lambda: _series(5)),
        ("siamese network", "perceptron", Twins, lambda: {"one": _vectors(), "other": _vectors()}),
        ("CleanRL agent", "policy", Actor, lambda: {"x": torch.randn(SAMPLES, 6), "action": torch.randn(SAMPLES,
         2)}),
    ):  # fmt: skip
        yield Architecture(name, family, PACKAGE, build, inputs)
