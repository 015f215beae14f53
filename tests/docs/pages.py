"""The pages that people read, cut into what a test can hold against the code."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("claims", "theory", "simulate", "torch_experiments", "lop", "paper_figures", "notebooks", "tests")


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


DOCS = sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))
GUIDES = ["README.md", *DOCS]
PAGES = [*GUIDES, "CONTRIBUTING.md", "NOTATION.md"]


def blocks(text, language):
    """Return the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def prose(text):
    """Return a page without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def code(text):
    """Return everything that is set as code: fenced blocks line by line, and what stands in backticks."""
    fences = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    return [*(line for block in fences for line in block.splitlines()), *re.findall(r"`([^`]+)`", prose(text))]
