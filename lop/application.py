"""The command line: what is claimed, the theory behind it, and the same checks for your own network.

One guard takes what goes wrong in any command.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial, wraps
from importlib import metadata
from typing import Any

import tyro

from lop import experiments, guard, mathematics, networks, pages

COMMANDS: tuple[Callable[..., None], ...] = (
    pages.claims,
    pages.results,
    pages.figures,
    pages.site,
    mathematics.kernel,
    mathematics.simulate,
    networks.certify,
    networks.diagnose,
    networks.clone,
    experiments.run,
    experiments.grid,
    experiments.campaign,
    experiments.data,
)
RENAMED = {"evidence": "campaign"}
CONFIG = (tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes)
MEANT = re.compile(r";? Perhaps you meant:;? *(\S+).*", re.DOTALL)
FOOTER = re.compile(r"(Argument helptext|For full helptext).*", re.DOTALL)


def main(words: Sequence[str] | None = None) -> None:
    """Run the command of ``words``, those of the command line by default; `lop --help` lists the commands.

    `lop --version` prints the version.

    What a user got wrong is one line on stderr and exit code 2; an interruption has 130.

    >>> main(["kernel", "relu", "--rho", "1"])
    relu: E φ = 0.398942280401, Var φ = 0.340845056908, E φ'² = 0.5, c₁²/Var φ = 0.733471103462
    K(1.0) = 1, E φ(X)φ(Y) = 0.5
    """
    given = [str(word) for word in (sys.argv[1:] if words is None else words)]
    guard.make_printable()
    if given == ["--version"]:
        print(metadata.version("lop-companion"))
        return
    with guard.guarded(given):
        parsed(given)()


def parsed(words: Sequence[str]) -> Callable[[], None]:
    """Return the command that the words stand for, with its arguments.

    Raises:
        ValueError: for words that do not fit; the message is that of tyro, in one line.
    """
    if words and words[0] in RENAMED:
        raise ValueError(f"`lop {words[0]}` is now `lop {RENAMED[words[0]]}`, with the same options")
    commands = {command.__name__: _bound(command) for command in COMMANDS}
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.extras.subcommand_cli_from_dict(
                commands,
                prog="lop",
                description=(__doc__ or "").partition("\n")[0] + " `lop --version` prints the version.",
                args=words,
                config=CONFIG,
            )
    except SystemExit as stopped:
        if not stopped.code:
            raise
        raise ValueError(in_one_line(said.getvalue()) + _see(words)) from None


def in_one_line(box: str) -> str:
    """Return what a box of tyro says, without its frame, its title and what it repeats of the help."""
    rows = [row.strip("│╭╮╰╯|+ ") for row in box.strip().splitlines()[1:]]
    said = " ".join(row if row.strip("─-") else ";" for row in rows).replace(" ;", ";")
    meant = MEANT.sub(r"; perhaps you meant \1", FOOTER.sub("", said))
    return " ".join(meant.split()).strip("; .")


def _see(words: Sequence[str]) -> str:
    known = [command.__name__ for command in COMMANDS]
    return f"; see `lop {words[0]} --help`" if words and words[0] in known else "; see `lop --help`"


def _bound(command: Callable[..., None]) -> Callable[..., Callable[[], None]]:
    """Return a function with the signature of a command that returns it with its arguments, not run."""

    @wraps(command)
    def bound(*arguments: Any, **options: Any) -> Callable[[], None]:
        return partial(command, *arguments, **options)

    return bound
