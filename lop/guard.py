"""What goes wrong in a command, in one line: wrong input, too little memory, a full disk, a missing extra."""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from typing import NoReturn

from lop import extras, memory

WRONG = (ArithmeticError, OSError, TypeError, ValueError)  # what code of ours raises for wrong input
SIZES = ("batch", "bin", "factor", "hidden", "input", "prec", "samples", "seeds", "settings", "size", "steps")
EXHAUSTED = re.compile(  # by the system, torch and NumPy; the last four where a size does not even fit an integer
    "can't allocate memory|out of memory|bad_alloc|MemoryError|Unable to allocate|Cannot allocate memory"
    "|calculation overflowed|multiplication overflow|Maximum allowed|array is too big"
)
TOO_LARGE = re.compile("Overflow when unpacking|too (large|big) to convert")
LARGE = re.compile(r"-?\d{10,}")  # beyond 32 bits, or close to it
BYTES = re.compile(r"tried to allocate (\d+) bytes")


@contextlib.contextmanager
def guarded(words: Sequence[str]) -> Iterator[None]:
    """Run a block; an error that says what to do ends the program with its message in one line and exit code 2.

    Args:
        words: of the command line, for messages that name an option.
    """
    try:
        with _limited(words):
            try:
                yield
            finally:
                sys.stdout.flush()  # a full disk is noticed here, and not when Python ends
    except KeyboardInterrupt:
        _end("interrupted; finished results are kept, the same command goes on", 130)
    except BrokenPipeError:  # the reader of our output, such as head, has had enough
        _discard()
    except Exception as error:
        said = explained(error, words)
        if said is None:
            raise
        _end(said, 2)


def _limited(words: Sequence[str]) -> contextlib.AbstractContextManager[None]:
    """Limit the memory, but not where a GPU may be used, whose driver reserves addresses beyond all memory."""
    beside = any(word.startswith(("--device", "--gpu")) for word in words)
    return contextlib.nullcontext() if beside else memory.limited()


def explained(error: Exception, words: Sequence[str] = ()) -> str | None:
    """Return what to say of an error that a user can mend, and None for any other.

    >>> explained(MemoryError(), ["simulate", "--hidden", "1000000000"])
    '--hidden 1000000000 takes more memory than there is; make it smaller'
    >>> explained(ValueError("seeds: got 'x'"))
    "seeds: got 'x'"
    """
    if isinstance(error, MemoryError) or EXHAUSTED.search(str(error)):
        return _exhausted(error, words)
    if TOO_LARGE.search(str(error)):
        large = [given for given in _options(words) if any(map(LARGE.search, given[1:]))]
        return f"{_listed(large)} is too large a number"
    if isinstance(error, ModuleNotFoundError):
        found = extras.named(error)
        return None if found is error else str(found)
    return " ".join(str(error).split()) if isinstance(error, WRONG) else None


def _exhausted(error: Exception, words: Sequence[str]) -> str:
    sizes = [given for given in _options(words) if given[0].removeprefix("--") in SIZES]
    wanted = BYTES.search(str(error))
    much = f" ({int(wanted[1]) / 2**30:,.0f} GiB at once)" if wanted else ""
    return f"{_listed(sizes)} takes more memory than there is{much}; make it smaller"


def _listed(options: Sequence[Sequence[str]]) -> str:
    return " with ".join(" ".join(given) for given in options) or "this"


def _options(words: Sequence[str]) -> list[list[str]]:
    """Return the options of a command line, each with its values."""
    found: list[list[str]] = []
    for word in words:
        if word.startswith("--"):
            found.append(word.split("=", 1))
        elif found:
            found[-1].append(word)
    return found


def _end(said: str, code: int) -> NoReturn:
    _discard_unwritable()
    print(f"lop: {said}", file=sys.stderr)
    raise SystemExit(code) from None


def _discard_unwritable() -> None:
    try:
        sys.stdout.flush()
    except OSError:
        _discard()


def _discard() -> None:
    """Send what is left of the output nowhere, or Python complains of it when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def make_printable() -> None:
    r"""Let letters that the terminal does not have appear as escapes, such as ``\u03c1``, instead of failing."""
    codecs.register_error("escaped", _escaped)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure") and codecs.lookup(stream.encoding).name != "utf-8":
            stream.reconfigure(errors="escaped")


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """Return characters as JSON escapes them, so that JSON stays what it is."""
    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end
