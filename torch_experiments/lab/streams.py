"""Streams of tasks: what a network has to learn one after the other.

A stream is a frozen dataclass that knows its number of tasks and outputs, and gives task ``k`` on its own, so that
a run resumes anywhere. Everything is drawn from ``seed`` and ``k`` alone. To add one: a dataclass with ``tasks``,
``outputs`` and ``task``, and a line in `STREAMS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from torch_experiments.lab.images.pixels import Pixels
from torch_experiments.support.choices import at_least_one, choose
from torch_experiments.support.generators import generator

Transform = Callable[[Tensor], Tensor]


def unchanged(x: Tensor) -> Tensor:
    """Return ``x``: the transform of a task that shows images as they are.

    >>> unchanged(torch.ones(2))
    tensor([1., 1.])
    """
    return x


@dataclass(frozen=True)
class Task:
    """One task: which images, with which labels, seen how.

    Attributes:
        train, test: int64 indices of images of the two splits.
        train_y, test_y: int64 labels of these, as outputs of the network.
        active: int64, sorted: the outputs under the loss.
        transform: of uint8 image batches.
        name: for people.
        noise: share of labels that are drawn anew, uniform over the active outputs, whenever an image is shown.
    """

    train: Tensor
    train_y: Tensor
    test: Tensor
    test_y: Tensor
    active: Tensor
    name: str
    transform: Transform = unchanged
    noise: float = 0.0


class Stream(Protocol):
    """A seeded sequence of tasks."""

    @property
    def tasks(self) -> int:
        """Return how many tasks there are."""

    @property
    def outputs(self) -> int:
        """Return how many outputs a network needs."""

    def task(self, k: int) -> Task:
        """Return task ``k``, 0 to ``tasks − 1``; always the same."""


@dataclass(frozen=True)
class ClassSplit:
    """Disjoint tasks of ``size`` classes in an order shuffled by ``seed``; one head with an output a class.

    40 × 5 on Tiny ImageNet is JL25's stream. With ``disjoint=False`` every task draws its classes anew, as the
    pairs of Continual ImageNet (Dohare et al. 2024, which draws pairs without repeating one; a repeat is rare).
    Outputs are the classes themselves, or ``0 … size − 1`` with ``shared_head``. A share ``noise`` of the training
    labels is uniform over the task's classes.

    >>> from torch_experiments.lab.images.pixels import load
    >>> [len(ClassSplit(load("digits"), 5, size=2).task(k).train) for k in range(5)]
    [288, 282, 287, 291, 289]
    """

    data: Pixels
    tasks: int
    size: int = 5
    seed: int = 0
    disjoint: bool = True
    shared_head: bool = False
    noise: float = 0.0

    def __post_init__(self) -> None:
        _check_share("noise", self.noise)
        classes, needed = len(self.data.classes), self.size * (self.tasks if self.disjoint else 1)
        if needed > classes or min(self.size, self.tasks) < 1:
            asked = f"{self.tasks} tasks of {self.size}"
            raise ValueError(f"tasks: got {asked} classes; the data have {classes} classes")

    @property
    def outputs(self) -> int:
        """Return the number of classes, or of classes a task."""
        return self.size if self.shared_head else len(self.data.classes)

    def task(self, k: int) -> Task:
        """Return the images of the classes of task ``k``."""
        _check(self, k)
        order = torch.randperm(len(self.data.classes), generator=generator(self.seed, 0 if self.disjoint else k))
        chosen = order[self.size * k :][: self.size] if self.disjoint else order[: self.size]
        names = ", ".join(self.data.classes[c] for c in chosen)
        found = _of_classes(self.data, chosen, names)
        whole = _relabelled(found, chosen) if self.shared_head else found
        return _noisy(whole, self.noise, generator(self.seed, k, 1))


@dataclass(frozen=True)
class OneOutputAClass:
    """What the streams share whose networks have an output for each class of the data."""

    data: Pixels

    @property
    def outputs(self) -> int:
        """Return the number of classes."""
        return len(self.data.classes)


@dataclass(frozen=True)
class ClassIncremental(OneOutputAClass):
    """All classes so far, ``size`` more at every task, in an order shuffled by ``seed`` (Dohare et al. 2024).

    >>> from torch_experiments.lab.images.pixels import load
    >>> [len(ClassIncremental(load("digits"), 3, size=2).task(k).active) for k in range(3)]
    [2, 4, 6]
    """

    tasks: int
    size: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        ClassSplit(self.data, self.tasks, self.size)

    def task(self, k: int) -> Task:
        """Return the images of the first ``(k + 1) size`` classes."""
        _check(self, k)
        seen = torch.randperm(self.outputs, generator=generator(self.seed))[: self.size * (k + 1)]
        return _of_classes(self.data, seen, f"{len(seen)} classes")


@dataclass(frozen=True)
class Permuted(OneOutputAClass):
    """All classes; every task shows the pixels in an order of its own, the first as they are (Goodfellow 2013).

    A share ``noise`` of the training labels is uniform, drawn anew at every task; test labels are clean.

    >>> from torch_experiments.lab.images.pixels import load
    >>> first, second = (Permuted(load("digits"), 2).task(k).transform for k in (0, 1))
    >>> x = torch.arange(64).view(1, 1, 8, 8)
    >>> torch.equal(first(x), x), torch.equal(second(x).flatten().sort().values, x.flatten())
    (True, True)
    """

    tasks: int
    seed: int = 0
    noise: float = 0.0

    def __post_init__(self) -> None:
        _check_share("noise", self.noise)

    def task(self, k: int) -> Task:
        """Return all images, with the pixels (all channels alike) permuted."""
        _check(self, k)
        _, height, width = self.data.shape
        order = torch.randperm(height * width, generator=generator(self.seed, k))
        whole = _everything(self.data, f"order {k}", Permutation(order) if k else unchanged)
        return _noisy(whole, self.noise, generator(self.seed, k, 1))


@dataclass(frozen=True)
class RandomLabels(OneOutputAClass):
    """The same ``images`` training images with fresh uniform labels at every task (Lyle et al. 2022).

    The held-out labels are random too, so test accuracy is chance: what is asked is whether the network can
    still fit. With ``moving=False`` the labels of the first task are those of all.

    >>> from torch_experiments.lab.images.pixels import load
    >>> first, second = (RandomLabels(load("digits"), 2, images=50).task(k) for k in (0, 1))
    >>> torch.equal(first.train, second.train), torch.equal(first.train_y, second.train_y)
    (True, False)
    """

    tasks: int
    images: int = 1200
    seed: int = 0
    moving: bool = True

    def __post_init__(self) -> None:
        at_least_one(images=self.images)

    def task(self, k: int) -> Task:
        """Return the images with the labels of task ``k``."""
        _check(self, k)
        shown = torch.randperm(len(self.data.train_y), generator=generator(self.seed))[: self.images]
        source = generator(self.seed, k + 1 if self.moving else 1)
        labels, held_out = (torch.randint(self.outputs, (n,), generator=source) for n in (len(shown), self._test))
        test = torch.arange(self._test)
        return Task(shown, labels, test, held_out, torch.arange(self.outputs), f"labels {k}")

    @property
    def _test(self) -> int:
        return len(self.data.test_y)


@dataclass(frozen=True)
class LabelNoise(OneOutputAClass):
    """All classes; in the first ``noisy`` tasks a share of the training labels is uniform, then none (Igl 2021).

    The noise is drawn anew at every noisy ``"task"``, ``"once"`` for all of them (wrong labels), or at every
    ``"step"``, whenever an image is shown (noisy labels); test labels are clean.

    >>> from torch_experiments.lab.images.pixels import load
    >>> noisy, clean = (LabelNoise(load("digits"), 2).task(k).train_y for k in (0, 1))
    >>> bool(0.4 < (noisy != clean).double().mean() < 0.5)  # a half is drawn anew, of which a tenth is right
    True
    """

    tasks: int
    noisy: int = 1
    share: float = 0.5
    seed: int = 0
    drawn: Literal["task", "once", "step"] = "task"

    def __post_init__(self) -> None:
        _check_share("share", self.share)
        choose("drawn", self.drawn, dict.fromkeys(("task", "once", "step")))

    def task(self, k: int) -> Task:
        """Return all images with the labels of task ``k``."""
        _check(self, k)
        if k >= self.noisy:
            return _everything(self.data, "clean")
        whole = _everything(self.data, f"noise {self.share}")
        if self.drawn == "step":
            return _replaced(whole, noise=self.share)
        return _noisy(whole, self.share, generator(self.seed, k if self.drawn == "task" else 0))


@dataclass(frozen=True)
class WarmStart(OneOutputAClass):
    """First a share of the training images, then all of them (Ash & Adams 2020).

    With ``growing`` tasks before that with all images, the share grows in equal steps, and what was seen is seen
    again (Igl 2021). With ``wrong`` the labels of the images before that are wrong, each another class.

    >>> from torch_experiments.lab.images.pixels import load
    >>> [len(WarmStart(load("digits"), share=0.3).task(k).train) for k in (0, 1)]
    [431, 1437]
    >>> growing = WarmStart(load("digits"), 4, share=0.25, growing=3)
    >>> [growing.task(k).name for k in range(4)]
    ['0.25 of all', '0.5 of all', '0.75 of all', 'all']
    """

    tasks: int = 2
    share: float = 0.5
    seed: int = 0
    growing: int = 1
    wrong: bool = False

    def __post_init__(self) -> None:
        _check_share("share", self.share)
        at_least_one(growing=self.growing)

    def task(self, k: int) -> Task:
        """Return a random share of the images for the first tasks, else all."""
        _check(self, k)
        whole = _everything(self.data, "all")
        if k >= self.growing:
            return whole
        share = self.share + (1 - self.share) * k / self.growing
        part = torch.randperm(len(whole.train), generator=generator(self.seed))
        part = part[: max(round(share * len(part)), 1)].sort().values
        labels = (_others(whole, generator(self.seed, 1)) if self.wrong else whole.train_y)[part]
        return _replaced(whole, train=part, train_y=labels, name=f"{share:g} of all")


@dataclass(frozen=True)
class BlurredStart(OneOutputAClass):
    """First images blurred ``factor`` times, then sharp ones: a critical period (Achille et al. 2017).

    Blurring takes means over ``factor × factor`` squares and enlarges them again by interpolation.

    >>> from torch_experiments.lab.images.pixels import load
    >>> [BlurredStart(load("digits")).task(k).name for k in (0, 1)]
    ['blurred', 'sharp']
    """

    tasks: int = 2
    blurred: int = 1
    factor: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        at_least_one(factor=self.factor)

    def task(self, k: int) -> Task:
        """Return all images, blurred in the first ``blurred`` tasks."""
        _check(self, k)
        blurred = k < self.blurred
        name = "blurred" if blurred else "sharp"
        return _everything(self.data, name, Blur(self.factor) if blurred else unchanged)


STREAMS: Mapping[str, Callable[..., Stream]] = {
    "class_split": ClassSplit,
    "class_incremental": ClassIncremental,
    "permuted": Permuted,
    "random_labels": RandomLabels,
    "label_noise": LabelNoise,
    "warm_start": WarmStart,
    "blurred_start": BlurredStart,
}


def make(name: str, data: Pixels, tasks: int, seed: int, **settings: Any) -> Stream:
    """Return the stream ``name`` of `STREAMS`.

    Raises:
        ValueError: for an unknown name or setting, or more tasks than the data have.

    >>> from torch_experiments.lab.images.pixels import load
    >>> stream = make("class_split", load("digits"), 5, seed=0, size=2)
    >>> stream.tasks, stream.outputs, stream.task(0).name
    (5, 10, '2, 1')
    """
    kind = choose("stream", name, STREAMS)
    try:
        return kind(data, tasks, seed=seed, **settings)
    except TypeError as error:
        raise ValueError(f"stream_settings: {error} (stream {name!r})") from error


@dataclass(frozen=True)
class Permutation:
    """Show the pixels of every channel in one order."""

    order: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Return ``x [n, c, h, w]`` with its pixels in ``order``."""
        return x.flatten(2)[:, :, self.order.to(x.device)].view_as(x)


@dataclass(frozen=True)
class Blur:
    """Replace squares by their means, interpolated."""

    factor: int

    def __call__(self, x: Tensor) -> Tensor:
        """Return ``x [n, c, h, w]`` (uint8) without its fine detail."""
        coarse = torch.nn.functional.avg_pool2d(x.float(), self.factor, ceil_mode=True)
        fine = torch.nn.functional.interpolate(coarse, size=x.shape[2:], mode="bilinear", align_corners=False)
        return fine.round_().clamp_(0, 255).to(x.dtype)


def _check(stream: Stream, k: int) -> None:
    if not 0 <= k < stream.tasks:
        raise ValueError(f"k: got task {k}; allowed are 0 to {stream.tasks - 1}")


def _check_share(name: str, share: float) -> None:
    if not 0 <= share <= 1:
        raise ValueError(f"{name}: got {share}; it has to be in [0, 1]")


def _noisy(task: Task, share: float, source: torch.Generator) -> Task:
    """Return the task with a share of its training labels uniform over its outputs."""
    y = task.train_y.clone()
    wrong = torch.rand(len(y), generator=source) < share
    y[wrong] = task.active[torch.randint(len(task.active), (int(wrong.sum()),), generator=source)]
    return _replaced(task, train_y=y)


def _others(task: Task, source: torch.Generator) -> Tensor:
    """Return for every training image a class that is not its own, of a task with all classes."""
    count = len(task.active)
    return (task.train_y + torch.randint(1, count, (len(task.train_y),), generator=source)) % count


def _everything(data: Pixels, name: str, transform: Transform = unchanged) -> Task:
    train, test = torch.arange(len(data.train_y)), torch.arange(len(data.test_y))
    active = torch.arange(len(data.classes))
    return Task(train, data.train_y.cpu(), test, data.test_y.cpu(), active, name, transform)


def _of_classes(data: Pixels, classes: Tensor, name: str) -> Task:
    train_y, test_y = data.train_y.cpu(), data.test_y.cpu()
    train, test = (torch.isin(y, classes).nonzero().flatten() for y in (train_y, test_y))
    return Task(train, train_y[train], test, test_y[test], classes.sort().values, name)


def _relabelled(task: Task, classes: Tensor) -> Task:
    place = torch.full((int(classes.max()) + 1,), -1)
    place[classes] = torch.arange(len(classes))
    active = torch.arange(len(classes))
    return _replaced(task, train_y=place[task.train_y], test_y=place[task.test_y], active=active)


def _replaced(task: Task, **changes: Any) -> Task:
    return Task(**vars(task) | changes)
