"""`lop claims`, `lop results`, `lop figures`, `lop site`: what is claimed, what records show, and how it looks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from lop.deferred import Deferred

if TYPE_CHECKING:
    from claims import evidence as records_of_tests
    from claims import formal, ledger, render
    from lop import printing
    from lop.site import build, places, serve
    from paper_figures.support import registry
    from torch_experiments.lab.campaign import items
    from torch_experiments.lab.report import page
else:
    records_of_tests, formal = map(Deferred, ("claims.evidence", "claims.formal"))
    ledger, render = map(Deferred, ("claims.ledger", "claims.render"))
    printing, registry = Deferred("lop.printing"), Deferred("paper_figures.support.registry")
    items = Deferred("torch_experiments.lab.campaign.items")
    page = Deferred("torch_experiments.lab.report.page")
    build, places, serve = map(Deferred, ("lop.site.build", "lop.site.places", "lop.site.serve"))


def claims(
    ids: Positional[tuple[str, ...]] = (),
    as_json: Annotated[bool, arg(name="json")] = False,
    write: bool = False,
    check: Path | None = None,
    evidence: Path | None = None,
) -> None:
    """What the project claims, and how firmly each claim stands.

    Args:
        ids: Print these in full, such as C9 P2; the table of all if none is given.
        as_json: Print one JSON object a claim.
        write: Write claims/CLAIMS.md and what other pages say of the verdicts from the committed evidence.
        check: Exit with 1, and say where, if the verdicts from this evidence differ from the committed ones, or if
            proofs have changed since they were checked.
        evidence: Derive the verdicts from this file instead of claims/evidence.json.
    """
    entries = ledger.load()
    found = ledger.verdicts(entries, evidence)
    if ids and (write or check):
        raise ValueError("ids: --write and --check are of all claims: leave the ids out")
    if write and evidence:
        raise ValueError("--write renders the committed evidence: leave --evidence out")
    if (write or check) and (stale := formal.stale(records_of_tests.read())):
        raise ValueError("\n".join(stale))
    if write:
        _write_pages()
    elif check is not None:
        _report(render.differences(found, ledger.verdicts(entries, check)))
    elif as_json:
        print(render.to_json(ledger.chosen(entries, ids), found))
    elif ids:
        print("\n".join(render.section(claim, found[claim.id]) for claim in ledger.chosen(entries, ids).values()))
    else:
        printing.show(render.table(entries, found))


def _write_pages() -> None:
    if not render.README.is_file():
        raise ValueError("--write is for a clone of the repository; the installed package has no README.md")
    for path, text in render.pages().items():
        records_of_tests.write_text(path, text)
        print(f"wrote {path}")


def _report(lines: list[str]) -> None:
    print("\n".join(lines or ["the verdicts are the committed ones"]))
    if lines:
        sys.exit(1)


def results(write: bool = False, check: bool = False, folder: Path | None = None) -> None:
    """What the committed records show, beside what the paper published.

    Args:
        write: Write RESULTS.md instead of printing it.
        check: Exit with 1 if RESULTS.md is not what the records give.
        folder: Of the records, instead of results/.
    """
    if write and check:
        raise ValueError("--write and --check exclude each other")
    if folder is not None:
        _check_folder(folder, write or check)
    elif not items.RESULTS.is_dir():
        raise ValueError(
            "folder: the records are in the folder results/ of the repository, not in the installed package: "
            "run `lop results` in a clone, or give --folder CLONE/results"
        )
    sys.exit(page.main(folder or items.RESULTS, save=write, check=check))


def _check_folder(folder: Path, whole: bool) -> None:
    """Raise a ValueError for a folder without records, and for one that is not to become RESULTS.md (``whole``)."""
    if not folder.is_dir():
        raise ValueError(f"folder: there is no folder {folder}")
    if not any(folder.glob("*/*.parquet")):
        raise ValueError(
            f"folder: there are no records below {folder}; `lop campaign --out` makes a folder an item"
        )
    if whole:
        raise ValueError("folder: --write and --check are of the committed records; print the page of others")


def figures(
    names: Positional[tuple[str, ...]] = (),
    list_: Annotated[bool, arg(name="list")] = False,
    profile: Literal["quick", "full"] = "quick",
    out: Path = Path("paper_figures/out"),
    jobs: int = 1,
) -> None:
    """Compute, check and draw the figures.

    Args:
        names: Figures to draw; all of them if none is named.
        list_: List the figures instead of drawing them.
        profile: How much to compute.
        out: Folder for the PDF and PNG files.
        jobs: Figures made at once, each in a process of its own.
    """
    registry.main(names=names, list_=list_, profile=profile, out=out, jobs=jobs)


def site(out: Path = Path("site"), serve_: Annotated[bool, arg(name="serve")] = False, port: int = 8000) -> None:
    """Build the site: claims, documentation, notebooks, code and explorers as pages of HTML.

    Args:
        out: Folder of the site: a new one, an empty one, or a site made here, which is replaced.
        serve_: Build it only if it is not there, then show it at http://localhost:PORT until you press Ctrl-C.
        port: Where it is shown.
    """
    if not (places.ROOT / "docs").is_dir():
        raise ValueError("site: it is built from a clone of the repository; the installed package has no pages")
    if not 0 < port < 65536:
        raise ValueError(f"port: got {port}; it has to be between 1 and 65535")
    if not serve_:
        _build(out)
        return
    with serve.server(out, port) as running:  # before the build, so that a port that is taken is told at once
        if not (out / "index.html").is_file():
            _build(out)
        serve.serve(running)


def _build(out: Path) -> None:
    if build.build(out):
        sys.exit(1)
    print(f"{out}/index.html")
