"""Streams of tasks of text: new alphabets, new labels, or other domains. Each knows task ``k`` on its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from torch_experiments.lab.language.texts import Domain, Texts
from torch_experiments.support.choices import choose
from torch_experiments.support.generators import generator


@dataclass(frozen=True)
class Task:
    """One task: the next character of which text, written how.

    Attributes:
        train, test: uint8 numbers of characters, those that are learnt and those held out.
        read: int64, which number the network reads for a character.
        written: int64, which number it has to give for a character.
        name: for people.
    """

    train: Tensor
    test: Tensor
    read: Tensor
    written: Tensor
    name: str


class Stream(Protocol):
    """A seeded sequence of tasks, as long as one likes."""

    def task(self, k: int) -> Task:
        """Return task ``k``, from 0 on; always the same."""


@dataclass(frozen=True)
class Alphabet:
    """The same text in an alphabet of its own at every task, the first as it is.

    With ``pairs`` that many pairs of characters change places from one task to the next, else all are drawn anew.

    >>> from torch_experiments.lab.language.texts import load
    >>> stream = Alphabet(load("sample"), seed=0, pairs=2)
    >>> int((stream.task(3).read != stream.task(4).read).sum())
    4
    """

    texts: Texts
    seed: int = 0
    pairs: int | None = None

    def __post_init__(self) -> None:
        most = len(self.texts.alphabet) // 2
        if self.pairs is not None and not 1 <= self.pairs <= most:
            raise ValueError(f"pairs: got {self.pairs}; allowed are None and 1 to {most}")

    def task(self, k: int) -> Task:
        """Return the whole text in alphabet ``k``."""
        letters = self._letters(k)
        return _task(self.texts.whole, letters, letters, f"alphabet {k}")

    def _letters(self, k: int) -> Tensor:
        letters = torch.arange(len(self.texts.alphabet))
        if self.pairs is None:
            return torch.randperm(len(letters), generator=generator(self.seed, k)) if k else letters
        for place in range(1, k + 1):
            one, other = torch.randperm(len(letters), generator=generator(self.seed, place))[
                : 2 * self.pairs
            ].chunk(2)
            letters[torch.cat([one, other])] = letters[torch.cat([other, one])]
        return letters


@dataclass(frozen=True)
class Labels:
    """The same text, read as it is, whose next character is told in an alphabet of its own at every task.

    >>> from torch_experiments.lab.language.texts import load
    >>> first, second = (Labels(load("sample")).task(k) for k in (0, 1))
    >>> torch.equal(first.read, second.read), torch.equal(first.written, second.written)
    (True, False)
    """

    texts: Texts
    seed: int = 0

    def task(self, k: int) -> Task:
        """Return the whole text, labelled in alphabet ``k``."""
        given = torch.arange(len(self.texts.alphabet))
        drawn = torch.randperm(len(given), generator=generator(self.seed, k)) if k else given
        return _task(self.texts.whole, given, drawn, f"labels {k}")


@dataclass(frozen=True)
class Domains:
    """One domain after the other, in an order shuffled by ``seed``, over and over; characters as they are.

    >>> from torch_experiments.lab.language.texts import load
    >>> stream = Domains(load("sample"))
    >>> [stream.task(k).name for k in (0, 1, 2, 3, 4)]
    ['comedy', 'romance', 'tragedy', 'history', 'comedy']
    """

    texts: Texts
    seed: int = 0

    def task(self, k: int) -> Task:
        """Return domain ``k``."""
        domains = self.texts.domains
        order = torch.randperm(len(domains), generator=generator(self.seed)).tolist()
        domain = domains[order[k % len(domains)]]
        given = torch.arange(len(self.texts.alphabet))
        return _task(domain, given, given, domain.name)


STREAMS: Mapping[str, Callable[..., Stream]] = {"alphabet": Alphabet, "labels": Labels, "domains": Domains}


def make(name: str, texts: Texts, seed: int, **settings: Any) -> Stream:
    """Return the stream ``name`` of `STREAMS`.

    Raises:
        ValueError: for an unknown name or setting.

    >>> from torch_experiments.lab.language.texts import load
    >>> make("alphabet", load("sample"), seed=0, pairs=0)
    Traceback (most recent call last):
    ValueError: pairs: got 0; allowed are None and 1 to 32
    """
    kind = choose("stream", name, STREAMS)
    try:
        return kind(texts, seed=seed, **settings)
    except TypeError as error:
        raise ValueError(f"stream_settings: {error} (stream {name!r})") from error


def _task(domain: Domain, read: Tensor, written: Tensor, name: str) -> Task:
    return Task(domain.train, domain.test, read, written, name)
