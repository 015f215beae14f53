"""The run of `lab.training` on text: another feed, other networks, attention measured besides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from torch_experiments.certificates.certificate import certify
from torch_experiments.diagnostics import METRICS, attention_of
from torch_experiments.lab import records
from torch_experiments.lab.language import networks, texts
from torch_experiments.lab.language.configuration import Config
from torch_experiments.lab.language.feed import Feed
from torch_experiments.lab.language.texts import Texts
from torch_experiments.lab.training import loop
from torch_experiments.lab.training.configuration import run_identity
from torch_experiments.lab.training.keeping import finish_all
from torch_experiments.lab.training.measures import FROZEN, WHOLE, Measured, measured
from torch_experiments.lab.training.networks import INITIAL
from torch_experiments.lab.training.networks import Networks as ImageNetworks
from torch_experiments.support.generators import generator
from torch_experiments.units.inputs import evaluating

CERTIFIED = 8  # pieces of text on which units are frozen, or not
ENTROPY, LOWEST, VALUES = "attention_entropy", "lowest_attention_entropy", "value_rank"  # of `diagnose`


def run(
    config: Config,
    seeds: Sequence[int],
    out: str | Path | None = None,
    *,
    data: Texts | None = None,
    stack: bool = False,
    resume: bool = True,
    progress: Callable[[int], None] = lambda steps: None,
    checkpoint_every: float = 120.0,
) -> list[records.Record]:
    """Run ``config`` for every seed and return the records; all as `lab.training.run`, on text.

    >>> config = Config(tasks=1, steps=2, batch=2, context=8, probe_train=2, probe_test=2, free_every=0)
    >>> sorted({row["metric"] for row in run(config, [0])[0].table.to_pylist()})[:2]
    ['attention_entropy', 'dead_fraction']
    """
    text = data or texts.load(config.data)
    return finish_all(
        lambda group: Run(config, group, text),
        lambda seed: run_identity(cast(Any, config), seed, text.fingerprint),
        seeds,
        out,
        stack=stack,
        resume=resume,
        progress=progress,
        checkpoint_every=checkpoint_every,
    )


class Networks(ImageNetworks):
    """Character models with their optimizer and remedy."""

    config: Any
    feed: Any

    def fresh(self, seed: int) -> nn.Module:
        """Return a network as it starts from ``seed``, on the device."""
        config = self.config
        given = {name: getattr(config, name) for name in ("norm", "activation", "dropout", "dtype")}
        source = int(generator(seed, INITIAL).initial_seed()) >> 1
        settings = dict(config.arch_settings)
        model = networks.build(config.arch, self.feed.outputs, config.context, settings, seed=source, **given)
        return model.to(config.device)

    def outputs(self, x: Tensor, step: int) -> Tensor:
        """Return the outputs ``[S, batch · context, outputs]`` of the networks in training, at a step."""
        return super().outputs(x, step).flatten(1, 2)

    def _probe_loss(self, s: int) -> Tensor:
        x, y = self.feed.probe(s, "train")
        with torch.no_grad(), evaluating(self.ensemble.models[s]) as model:
            return cross_entropy(model(x).flatten(0, 1).double(), y)


class Run(loop.Run):
    """Character models of one configuration and some seeds in the middle of their stream."""

    feeds = Feed
    makes = Networks

    def __init__(self, config: Config, seeds: Sequence[int], data: Texts) -> None:
        if len(seeds) > 1:  # attention has no batching rule for `torch.func.vmap`
            raise ValueError("stack: character models are trained seed by seed; leave out --stack")
        super().__init__(cast(Any, config), seeds, cast(Any, data))

    def _active(self, outputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return outputs, y  # all characters are, and to gather them takes time

    def _rows(self, k: int, position: int) -> list[list[dict[str, Any]]]:
        if not position:  # the start of a task is the end of the one before
            return [[] for _ in self.seeds]
        return super()._rows(k, position)

    def _measured(self, s: int, position: int) -> Iterator[Measured]:
        model, active = self.networks.ensemble.models[s], self.feed.active[s, 0]
        train, test = (self.feed.probe(s, split) for split in ("train", "test"))
        yield from measured(model, train, test, active)
        yield from attention_rows(model, train[0])
        if self._certifies(position):
            yield WHOLE, "free_fraction", certify(model, train[0][:CERTIFIED], parts=FROZEN).unheld_fraction

    def _certifies(self, position: int) -> bool:
        config: Any = self.config
        task = (self.step - 1) // config.steps * config.every
        return bool(config.free_every) and position == config.steps and task % config.free_every == 0


def attention_rows(model: nn.Module, x: Tensor) -> Iterator[Measured]:
    """Yield entropy of the heads (mean and lowest) and rank of the values of every attention, and their means."""
    with evaluating(model):
        every = attention_of(model, x).values()
    for metric in (ENTROPY, LOWEST, VALUES):
        column = [float(METRICS[metric].function(heads) or 0.0) for heads in every]
        yield from ((k, metric, value) for k, value in enumerate(column, start=1))
        yield WHOLE, metric, sum(column) / len(column)
