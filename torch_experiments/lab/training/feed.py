"""What the networks of a run see: the batch of every step, and the batches on which they are measured.

Every random number depends on the seed and the place where it is used (task, epoch, step) and on nothing that was
drawn before, so that a run resumes at any step, and seeds trained together see the data that they would see alone.
A batch is a cut of fixed size out of the permutations of a task, one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from torch_experiments.lab import streams
from torch_experiments.lab.images.augment import NOTHING, Augmentation, Draw, joined
from torch_experiments.lab.images.pixels import Pixels
from torch_experiments.lab.streams import Task
from torch_experiments.lab.training import parallel
from torch_experiments.lab.training.configuration import Config
from torch_experiments.lab.training.measures import in_turn
from torch_experiments.support.generators import generator

ORDER, AUGMENT, NOISE = 10, 11, 16  # places of random numbers; `networks` has the others
AHEAD = 64  # steps whose crops, flips and jitters are drawn at once on an accelerator


def make_stream(config: Config, data: Pixels, seed: int) -> streams.Stream:
    """Return the stream of ``config`` over ``data``."""
    return streams.make(config.stream, data, config.first + config.tasks, seed, **dict(config.stream_settings))


class Feed:
    """The batches of a run, the same at a step whatever came before.

    Attributes:
        images: those of all tasks, on the device.
        outputs: how many a network needs.
        tasks: of the moment, one a seed.
        active: their outputs under the loss, int64 ``[S, 1, outputs of a task]``, on the device.
    """

    tasks: list[Task]
    active: Tensor

    def __init__(self, config: Config, seeds: Sequence[int], data: Pixels) -> None:
        self.config, self.seeds = config, tuple(seeds)
        data = data.resized(config.size)
        self.images = data.to(config.device)
        self.streams = [make_stream(config, data, seed) for seed in seeds]
        self.outputs = self.streams[0].outputs
        self.part = parallel.part(config.batch)
        self.orders = Orders(self.seeds, config.device)
        self.augment = Augmentation(config.padding, config.flip, config.jitter)
        self.draws = Draws(self.augment, self.seeds, config.batch, config.device)
        self._changed = torch.compile(self.changed) if config.compile else self.changed
        self.enter(config.first)

    def enter(self, k: int) -> None:
        """Go to task ``k`` of every seed, the last one if there are not so many.

        Raises:
            ValueError: for a task without images, or tasks that cannot be trained at once.
        """
        k = min(k, self.config.first + self.config.tasks - 1)
        self.tasks = [stream.task(k) for stream in self.streams]
        self._check_tasks(k)
        self.active = sent(torch.stack([task.active for task in self.tasks])[:, None], self.config.device)
        self._probes: dict[tuple[int, str], tuple[Tensor, Tensor]] = {}

    def _check_tasks(self, k: int) -> None:
        for seed, task in zip(self.seeds, self.tasks, strict=True):
            if not len(task.train) or not len(task.test):
                about = f"task {k} of seed {seed} ({task.name})"
                raise ValueError(f"stream: {about} has no images of one of the splits")
        sizes = {len(task.active) for task in self.tasks}
        if len(sizes) > 1:
            raise ValueError(
                f"stack: the seeds have {sorted(sizes)} active outputs in task {k}; they have to agree"
            )

    @property
    def groups(self) -> list[tuple[int, ...]]:
        """Return the numbers of seeds whose tasks have as many images: all of them together, or each alone."""
        every = tuple(range(len(self.seeds)))
        return [every] if len({len(task.train) for task in self.tasks}) == 1 else [(s,) for s in every]

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the images ``[S, batch, c, h, w]`` and local labels ``[S, batch]`` of a step of this task.

        They are those of this process, where several share the batch.
        """
        pairs = [self.picked(group, step) for group in self.groups]
        index, labels = (torch.cat(column) for column in zip(*pairs, strict=True))
        index, y = (column[:, self.part] for column in (index, self._noisy(labels, step)))
        levels = self.images.train_x.index_select(0, index.flatten()).unflatten(0, index.shape)
        if any(task.transform is not streams.unchanged for task in self.tasks):
            levels = torch.stack([task.transform(x) for task, x in zip(self.tasks, levels, strict=True)])
        return self._augmented(levels, step), y

    def _noisy(self, labels: Tensor, step: int) -> Tensor:
        """Return local labels ``[S, batch]`` with what the noise of the tasks draws at this step."""
        if not any(task.noise for task in self.tasks):
            return labels
        rows = zip(self.seeds, self.tasks, labels, strict=True)
        return torch.stack([_redrawn(y, task, generator(seed, NOISE, step)) for seed, task, y in rows])

    def picked(self, group: Sequence[int], step: int) -> tuple[Tensor, Tensor]:
        """Return which images the seeds number ``group`` see at a step, and their local labels, ``[S, batch]``."""
        k, position = divmod(step, self.config.steps)
        size, n = self.config.batch, len(self.tasks[group[0]].train)
        epoch, start = divmod(position * size, n)
        epochs = range(epoch, epoch + (start + size - 1) // n + 1)
        tasks = {s: self.tasks[s] for s in group}
        index, y = (_cut(c, start, size) for c in zip(*(self.orders.of(tasks, k, e) for e in epochs), strict=True))
        return index, y

    def _augmented(self, levels: Tensor, step: int) -> Tensor:
        """Return levels ``[S, batch, …]`` randomly changed and standardised; on a CPU one seed at a time."""
        if self.augment == NOTHING:
            return self.standardised(levels)
        draw, (seeds, size) = self.draws.at(step, self.part), levels.shape[:2]
        if levels.device.type != "cpu":
            return self._changed(levels.flatten(0, 1), draw).unflatten(0, (seeds, size))
        parts = [draw.part(slice(s * size, (s + 1) * size)) for s in range(seeds)]
        batches = [self.augment.apply(x, part) for x, part in zip(levels, parts, strict=True)]
        return self.standardised(torch.stack(batches) if seeds > 1 else batches[0][None])

    def changed(self, levels: Tensor, draw: Draw) -> Tensor:
        """Return levels ``[n, c, h, w]`` changed as ``draw`` says and standardised; an accelerator compiles it."""
        return self.standardised(self.augment.apply(levels, draw))

    def standardised(self, levels: Tensor) -> Tensor:
        """Return levels standardised by channel, in the dtype of the run."""
        return self.images.standardised(levels, self.config.dtype)

    def probe(self, s: int, split: str) -> tuple[Tensor, Tensor]:
        """Return the images and labels of seed number ``s`` on which its network is measured.

        The corrected protocol takes all classes in turn; the published one the first images of the task, which
        JL25's data have sorted by class. They are kept while the task lasts.
        """
        if (s, split) not in self._probes:
            self._probes[s, split] = self._probe(s, split)
        return self._probes[s, split]

    def _probe(self, s: int, split: str) -> tuple[Tensor, Tensor]:
        task, size = self.tasks[s], getattr(self.config, f"probe_{split}")
        y: Tensor = getattr(task, f"{split}_y")
        order = in_turn(y) if self.config.protocol == "corrected" else y.argsort(stable=True)
        index = order[:size]
        images: Tensor = getattr(self.images, f"{split}_x")
        x = task.transform(images[sent(getattr(task, split)[index], self.config.device)])
        return self.standardised(x), sent(y[index], self.config.device)

    @property
    def example(self) -> Tensor:
        """Return two empty images, with which a network is traced."""
        return torch.zeros(2, *self.images.shape, dtype=self.config.dtype, device=self.config.device)


class Orders:
    """The orders in which the seeds see the images of a task, epoch by epoch; the last two epochs are kept."""

    def __init__(self, seeds: Sequence[int], device: str) -> None:
        self.seeds, self.device = seeds, device
        self._kept: dict[tuple[tuple[int, ...], int, int], tuple[Tensor, Tensor]] = {}

    def of(self, tasks: dict[int, Task], k: int, epoch: int) -> tuple[Tensor, Tensor]:
        """Return images and local labels of an epoch of task ``k``, ``[seeds, images]``, on the device.

        ``tasks`` are those of some seeds, by their number; all have as many images.
        """
        group = tuple(tasks)
        if (group, k, epoch) not in self._kept:
            self._kept = {old: order for old, order in self._kept.items() if old[1:] >= (k, epoch - 1)}
            pairs = [self._permuted(s, task, k, epoch) for s, task in tasks.items()]
            index, y = (sent(torch.stack(column), self.device) for column in zip(*pairs, strict=True))
            self._kept[group, k, epoch] = (index, y)
        return self._kept[group, k, epoch]

    def _permuted(self, s: int, task: Task, k: int, epoch: int) -> tuple[Tensor, Tensor]:
        order = torch.randperm(len(task.train), generator=generator(self.seeds[s], ORDER, k, epoch))
        return task.train[order], torch.searchsorted(task.active, task.train_y[order])


class Draws:
    """The random numbers that change the images; on an accelerator those of `AHEAD` steps are drawn at once."""

    def __init__(self, augment: Augmentation, seeds: Sequence[int], size: int, device: str) -> None:
        self.augment, self.seeds, self.size, self.device = augment, seeds, size, device
        self.ahead = 1 if device == "cpu" else AHEAD
        self._drawn: tuple[int, Draw] | None = None

    def at(self, step: int, part: slice) -> Draw:
        """Return the numbers of a step for ``part`` of the images of every seed, one seed after the other."""
        block, place = divmod(step, self.ahead)
        if self._drawn is None or self._drawn[0] != block:
            sources = [generator(seed, AUGMENT, block, device=self.device) for seed in self.seeds]
            draws = [self.augment.draw(self.ahead * self.size, source) for source in sources]
            self._drawn = (block, joined(draws))
        shape = (len(self.seeds), self.ahead, self.size)
        return Draw(*(t.unflatten(-1, shape)[..., place, part].flatten(-2) for t in self._drawn[1]))


def _redrawn(y: Tensor, task: Task, source: torch.Generator) -> Tensor:
    """Return local labels ``[batch]`` of which a share is uniform over the outputs of the task."""
    chosen = torch.rand(len(y), generator=source) < task.noise
    others = torch.randint(len(task.active), (len(y),), generator=source)
    return torch.where(sent(chosen, str(y.device)), sent(others, str(y.device)), y)


def sent(x: Tensor, device: str) -> Tensor:
    """Return ``x`` on a device; from pinned memory, so that the host need not wait.

    >>> sent(torch.ones(1), "cpu")
    tensor([1.])
    """
    return x.pin_memory().to(device, non_blocking=True) if device.startswith("cuda") else x


def _cut(parts: Sequence[Tensor], start: int, size: int) -> Tensor:
    """Return columns of ``parts`` side by side; a single part is not copied."""
    return (parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=1))[:, start : start + size]
