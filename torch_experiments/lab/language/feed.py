"""What character models see: the pieces of text of every step, and those on which they are measured.

As in `lab.training.feed` every random number depends on the seed and the place where it is used alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from torch_experiments.lab.language import streams
from torch_experiments.lab.language.configuration import Config
from torch_experiments.lab.language.streams import Task
from torch_experiments.lab.language.texts import Texts
from torch_experiments.lab.training import parallel
from torch_experiments.support.generators import generator

PIECES = 16  # place of random numbers; `lab.training` has the others


class Feed:
    """The batches of a run, the same at a step whatever came before.

    Attributes:
        outputs: characters of the alphabet.
        tasks: of the moment, one a seed.
        active: all outputs, int64 ``[S, 1, outputs]``, on the device.
    """

    tasks: list[Task]

    def __init__(self, config: Config, seeds: Sequence[int], texts: Texts) -> None:
        self.config, self.seeds = config, tuple(seeds)
        self.streams = [streams.make(config.stream, texts, seed, **dict(config.stream_settings)) for seed in seeds]
        self.outputs = len(texts.alphabet)
        self.active = torch.arange(self.outputs, device=config.device).expand(len(seeds), 1, -1)
        self.part = parallel.part(config.batch)
        self._places = torch.arange(config.context + 1, device=config.device)
        self.enter(0)

    def enter(self, k: int) -> None:
        """Go to task ``k`` of every seed, the last one if there are not so many.

        Raises:
            ValueError: for a task with fewer characters than a piece of text has.
        """
        k = min(k, self.config.tasks - 1) * self.config.every
        self.tasks = [_moved(stream.task(k), self.config.device) for stream in self.streams]
        least = self.config.context + 1
        for task in self.tasks:
            if min(len(task.train), len(task.test)) < least:
                raise ValueError(
                    f"data: task {k} ({task.name}) has {len(task.train)} characters to learn and {len(task.test)} "
                    f"held out; with a context of {self.config.context} each needs at least {least}"
                )

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return what is read ``[S, batch, context]`` and what follows ``[S, batch · context]`` at a step.

        They are those of this process, where several share the batch.
        """
        x, y = zip(*(self._drawn(s, step) for s in range(len(self.seeds))), strict=True)
        return torch.stack(x), torch.stack(y)

    def _drawn(self, s: int, step: int) -> tuple[Tensor, Tensor]:
        task, source = self.tasks[s], generator(self.seeds[s], PIECES, step)
        starts = torch.randint(len(task.train) - self.config.context, (self.config.batch,), generator=source)
        return self._pieces(task, task.train, starts[self.part].to(task.train.device))

    def probe(self, s: int, split: str) -> tuple[Tensor, Tensor]:
        """Return pieces of text of a split, evenly spread, and what follows, for seed number ``s``."""
        task = self.tasks[s]
        text: Tensor = getattr(task, split)
        count = getattr(self.config, f"probe_{split}")
        last = len(text) - self.config.context - 1
        return self._pieces(task, text, torch.linspace(0, last, count, device=text.device).long())

    def _pieces(self, task: Task, text: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        pieces = text[starts[:, None] + self._places].long()
        return task.read[pieces[:, :-1]], task.written[pieces[:, 1:]].flatten()

    @property
    def example(self) -> Tensor:
        """Return two pieces of text, with which a network is traced."""
        return torch.zeros(2, self.config.context, dtype=torch.int64, device=self.config.device)


def _moved(task: Task, device: str) -> Task:
    train, test, read, written = (t.to(device) for t in (task.train, task.test, task.read, task.written))
    return Task(train, test, read, written, task.name)
