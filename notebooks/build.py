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


def execute(source: Path, folder: Path, running: NotebookClient | None = None) -> nbformat.NotebookNode:
    """Return the notebook with its outputs.

    Args:
        source: The notebook.
        folder: Where it runs.
        running: Whose kernel runs it, in the folder and with the names which that has; else it gets a new one.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell fails; the message shows it.
    """
    client = client_of(jupytext.read(source), folder, running)
    client.execute()
    return client.nb


def client_of(
    notebook: nbformat.NotebookNode, folder: Path, running: NotebookClient | None = None
) -> NotebookClient:
    """Return what executes a notebook in a folder, in a new kernel or in that of another client."""
    place = {"metadata": {"path": str(folder)}}
    options = {"timeout": 300, "kernel_name": "python3", "resources": place, "extra_arguments": QUIET}
    if running is None:
        return NotebookClient(notebook, **options)
    client = NotebookClient(notebook, km=running.km, **options)
    client.kc = running.kc
    return client


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
