"""The command line: `lop claims` and `lop figures`."""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional, arg

from claims.evidence import ClaimsError

app = tyro.extras.SubcommandApp()


@app.command
def claims(
    as_json: Annotated[bool, arg(name="json")] = False,
    write: bool = False,
    check: Path | None = None,
    evidence: Path | None = None,
) -> None:
    """What the project claims, and how firmly each claim stands.

    Args:
        as_json: Print one JSON object a claim.
        write: Write claims/CLAIMS.md and the README's table from the committed evidence.
        check: Exit with 1, and say where, if the verdicts from this evidence differ from the committed ones.
        evidence: Derive the verdicts from this file instead of claims/evidence.json.
    """
    from claims import ledger, render

    entries = ledger.load()
    found = ledger.verdicts(entries, evidence)
    if write and evidence:
        raise ClaimsError("--write renders the committed evidence: leave --evidence out")
    if write:
        _write_pages()
    elif check is not None:
        _report(render.differences(found, ledger.verdicts(entries, check)))
    elif as_json:
        print(render.to_json(entries, found))
    else:
        _show(render.table(entries, found))


def _write_pages() -> None:
    from claims import evidence, render

    for path, text in render.pages().items():
        evidence.write_text(path, text)
        print(f"wrote {path}")


def _report(lines: list[str]) -> None:
    print("\n".join(lines or ["the verdicts are the committed ones"]))
    if lines:
        sys.exit(1)


def _show(renderable: object) -> None:
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 100).print(renderable)


@app.command
def figures(
    names: Positional[tuple[str, ...]] = (),
    list_: Annotated[bool, arg(name="list")] = False,
    profile: Literal["quick", "full"] = "quick",
    out: Path = Path("paper_figures/out"),
) -> None:
    """Compute, check and draw the figures.

    Args:
        names: Figures to draw; all of them if none is named.
        list_: List the figures instead of drawing them.
        profile: How much to compute.
        out: Folder for the PDF and PNG files.
    """
    from paper_figures import registry

    registry.main(names=names, list_=list_, profile=profile, out=out)


def main() -> None:
    """Run the command line; an error in the ledger or the evidence ends it with a message and exit code 2."""
    try:
        app.cli(prog="lop", description=__doc__, config=(tyro.conf.FlagCreatePairsOff,))
    except ClaimsError as error:
        print(f"lop: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("lop: interrupted; finished results are kept, the same command goes on", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output, such as head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
