"""Execute the notebooks and write them as .ipynb and HTML: `python -m notebooks.build`."""

from __future__ import annotations

import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from rich.console import Console

from simulate.files import replacing

HERE = Path(__file__).parent
OUT = HERE / "out"
QUIET = ["--log-level=ERROR"]  # the kernel warns that its traffic on the loopback interface is not encrypted


def sources() -> list[Path]:
    """Return the numbered notebooks in order."""
    return sorted(HERE.glob("[0-9]*.py"))


def execute(source: Path, folder: Path) -> nbformat.NotebookNode:
    """Return the notebook with its outputs, run in `folder`.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell fails; the message shows it.
    """
    notebook = jupytext.read(source)
    place = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=place, extra_arguments=QUIET).execute()
    return notebook


def write(notebook: nbformat.NotebookNode, name: str, out: Path) -> list[Path]:
    """Write `name.ipynb` and `name.html` below `out`, each at once, and return their paths."""
    page, _ = HTMLExporter(template_name="lab").from_notebook_node(notebook)
    return [_write(out / f"{name}.ipynb", nbformat.writes(notebook)), _write(out / f"{name}.html", page)]


def main(out: Path = OUT) -> None:
    """Build all notebooks and say how long each took."""
    console = Console()
    for source in sources():
        start = time.perf_counter()
        paths = write(execute(source, HERE.parent), source.stem, out)
        console.print(f"✓ {' '.join(map(str, paths))}  {time.perf_counter() - start:.1f} s", markup=False)


def _write(target: Path, text: str) -> Path:
    with replacing(target) as part:
        part.write_text(text, encoding="utf-8")
    return target


if __name__ == "__main__":
    main()
