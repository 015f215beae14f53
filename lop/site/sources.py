"""The pages of the repository, copied to where Sphinx reads them, with links that lead to pages of the site."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import jupytext
import nbformat
from nbconvert import MarkdownExporter

from lop.site import places

PAGES = ("NOTATION.md", "CONTRIBUTING.md", "CHANGELOG.md", "RESULTS.md")
CLAIMS = "claims/CLAIMS.md"
LINK = re.compile(r"(?<=\]\()([^)\s]+)(?=\))")
FENCE = re.compile(r"^(```+|~~~+).*?^\1", re.DOTALL | re.MULTILINE)
MARKS = re.compile(r"<!-- .*? -->\n?", re.DOTALL)
GROUP = re.compile(r"^\*\*(.+)\*\*$", re.MULTILINE)


def copy(source: Path = places.SOURCE, root: Path = places.ROOT) -> None:
    """Copy documentation, pictures and notebooks below ``source``."""
    pages = [root / name for name in PAGES] + sorted((root / "docs").glob("*.md"))
    for path in pages:
        name = path.relative_to(root).as_posix()
        _write(source / name, relinked(path.read_text(encoding="utf-8"), name, root))
    for path in sorted((root / "docs").glob("*.png")):
        _copy(path, source / "docs" / path.name)
    for path in sorted(_drawn()):
        _copy(path, source / "figures" / path.name)
    for path in sorted((root / "notebooks").glob("[0-9]*.py")):
        _notebook(path, source / "notebooks")


def _drawn() -> Iterator[Path]:
    names = {path.stem for folder in places.FIGURES for path in folder.glob("*.png")}
    yield from (path for name in names if (path := places.picture(name)))


# ------------------------------------------------------------------------------------ links


def relinked(text: str, page: str, root: Path = places.ROOT) -> str:
    """Return the text of a page with links to the sections of claims turned to their pages; what the site has not
    becomes its path as code.

    >>> relinked("[C9](../claims/CLAIMS.md#c9), [code](../Makefile)", "docs/index.md")
    '[C9](../claims/C9.md), code (`Makefile`)'
    """
    text = MARKS.sub("", text)
    return _outside_fences(text, lambda part: _relinked(part, PurePosixPath(page).parent, root))


def _outside_fences(text: str, change: Callable[[str], str]) -> str:
    made, end = [], 0
    for fence in FENCE.finditer(text):
        made += [change(text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*made, change(text[end:])])


WHOLE = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def _relinked(text: str, folder: PurePosixPath, root: Path) -> str:
    return WHOLE.sub(lambda link: _link(link[1], link[2], link[3], folder, root), text)


def _link(mark: str, said: str, target: str, folder: PurePosixPath, root: Path) -> str:
    name, _, anchor = target.partition("#")
    said = _relinked(said, folder, root) if "](" in said else said
    if re.match(r"[a-z]+:", target) or not name:
        return f"{mark}[{said}]({target})"
    path = normal(folder / name)
    up = "../" * len(folder.parts)
    if path == CLAIMS:
        return f"[{said}]({up}{_claim(anchor)})"
    if path == "README.md":
        return f"[{said}]({up}index.md)"
    if mark or path in PAGES or (path.startswith("docs/") and path.endswith(".md")):
        return f"{mark}[{said}]({target})"
    return f"{said} (`{path}`)" if path not in said else said


def normal(path: PurePosixPath) -> str:
    """Return a path without the steps that lead up.

    >>> normal(PurePosixPath("docs/../claims/F1.md"))
    'claims/F1.md'
    """
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


def _claim(anchor: str) -> str:
    found = re.fullmatch(r"([a-z])(\d+)([a-z]?)", anchor)
    if found:
        return f"claims/{found[1].upper()}{found[2]}{found[3]}.md"
    return f"claims/references.md#{anchor}" if anchor else "claims/index.md"


# ------------------------------------------------------------------------------------ notebooks


def _notebook(path: Path, folder: Path) -> None:
    """Write a notebook as Markdown, with the outputs of the last `make notebooks` where there are any."""
    executed = path.parent / "out" / f"{path.stem}.ipynb"
    book = nbformat.read(executed, as_version=4) if executed.is_file() else jupytext.read(path)
    text, resources = MarkdownExporter().from_notebook_node(book, {"output_files_dir": f"{path.stem}_files"})
    if not executed.is_file():
        text = text.replace("\n\n", "\n\n*Without outputs: run `make notebooks`, then `make site`.*\n\n", 1)
    _write(folder / f"{path.stem}.md", relinked(text, f"notebooks/{path.name}"))
    for name, content in resources.get("outputs", {}).items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


# ------------------------------------------------------------------------------------ the table of contents


def groups(text: str) -> dict[str, list[str]]:
    """Return the pages that the index of the documentation lists, by the heading of their group.

    >>> groups("**To use**\\n\\n- [A](a.md): b\\n- [C](c.md): d")
    {'To use': ['a.md', 'c.md']}
    """
    parts = GROUP.split(text)
    listed = {
        title: re.findall(r"^- \[[^\]]*\]\(([^)#]+\.md)\)", body, re.MULTILINE)
        for title, body in zip(parts[1::2], parts[2::2], strict=True)
    }
    return {title: pages for title, pages in listed.items() if pages}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)
