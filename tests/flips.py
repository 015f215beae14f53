"""Files in which one bit is wrong."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def flipped(file: Path, count: int, seed: int = 0) -> Iterator[int]:
    """Damage a file `count` times, each time in one bit that is drawn; yield its place, and mend it at the end."""
    whole, source = file.read_bytes(), random.Random(seed)
    for _ in range(count):
        bit = source.randrange(8 * len(whole))
        wrong = bytearray(whole)
        wrong[bit // 8] ^= 1 << bit % 8
        file.write_bytes(wrong)
        yield bit
    file.write_bytes(whole)


def refused(file: Path, read: Callable[[], Any], same: Callable[[Any], bool], count: int = 300) -> int:
    """Return how many of `count` flipped bits are a ValueError that names the file; others must change nothing."""
    found = 0
    for bit in flipped(file, count):
        said = _refusal(read, same)
        assert said is None or str(file) in said or str(file.parent) in said, f"bit {bit}: {said}"
        found += said is not None
    return found


def _refusal(read: Callable[[], Any], same: Callable[[Any], bool]) -> str | None:
    try:
        found = read()
    except ValueError as error:
        return str(error)
    return None if same(found) else "accepted with other numbers"
