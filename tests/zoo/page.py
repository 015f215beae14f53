"""The page of the zoo, docs/zoo.md, made of what was answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from textwrap import shorten

from tests.zoo.judged import SAID, STANDINGS, STEPS, TOOLS, Answer
from tests.zoo.registry import Architecture

PAGE = Path(__file__).resolve().parents[2] / "docs" / "zoo.md"
Answers = Mapping[Architecture, Mapping[str, Answer]]
PACKAGES = ("torch", "transformers", "timm", "stable_baselines3", "gymnasium")
WORDS = {
    "works": "works",
    "note": "with a note",
    "refusal": "refused by name",
    "raised": "an error",
    "WRONG": "wrong",
}
HEAD = """# A zoo of networks that people use

<!-- written by `make zoo`; edit tests/zoo/page.py -->

`make zoo` builds {count} architectures from configurations, small and with random weights, gives each a batch
in the form of its documentation (a tokenizer's batch with padding and labels, pixel values, observations of a
game), and asks for a certificate, a clone, diagnostics and a remedy. It installs what it needs, takes some
minutes on two cores, and writes this page. [Your own network](your-network.md) says what the tools are.

Versions: {versions}.

Of {answers} answers **{answered} work** ({share:.1%}){notes}; {refusals} are refusals by name, {raised} errors,
{wrong} wrong.

| package | architectures | answered by all four |
|---|---:|---:|
{packages}

## What is checked

- **Certificate**: a network with random weights has no copies; a copy that is planted in a layer is found;
  planted dead units do not count as free.
- **Clone**: on another batch it computes the function of its base; its copies are found again; and after
  {steps} steps of SGD they are still copies, where the certificate says so.
- **Diagnostics**: planted dead units are found.
- **Remedy**: `Escape` frees planted dead units without a change of the function; `ReDo` then acts in four steps
  of training. A network that has no units which can be replaced is trained with `L2Init`, and the note says so.

Networks are judged in evaluation mode, as dropout that is on parts copies. *With a note* means that the tool
answers and says what it did not look at.

## Answers

{table}
"""
TORCHVISION = """
## torchvision beside a torch for CPU

The wheel of torchvision on PyPI is compiled against the torch for CUDA. Beside a torch for CPU alone `import
torchvision` ends with "operator torchvision::nms does not exist". transformers imports torchvision wherever it
finds it, so then every import of one of its models ends so too. The way round: take both from one index, `pip
install torch torchvision --index-url https://download.pytorch.org/whl/cpu`, or go without: `pip uninstall
torchvision`. Nothing here needs it. timm asks for it, for data sets and augmentation that no network needs, so
`make zoo` installs timm with `--no-deps`, and `tests/zoo/timm_models.py` puts stand-ins in its place while timm
is imported.
"""


def page(found: Answers) -> str:
    """Return the page."""
    counts = Counter(answer.standing for row in found.values() for answer in row.values())
    total, good = sum(counts.values()), counts["works"] + counts["note"]
    text = HEAD.format(
        count=len(found),
        versions=", ".join(_versions()),
        answers=total,
        answered=good,
        share=good / max(total, 1),
        notes=f", {counts['note']} of them with a note" if counts["note"] else "",
        refusals=counts["refusal"],
        raised=counts["raised"],
        wrong=counts["WRONG"],
        packages="\n".join(_packages(found)),
        steps=STEPS,
        table="\n".join(_table(found)),
    )
    said = list(_said(found))
    return text + ("\n## What was said\n\n" + "\n".join(said) + "\n" if said else "") + TORCHVISION


def _versions() -> Iterator[str]:
    for name in PACKAGES:
        try:
            yield f"{name} {version(name)}"
        except PackageNotFoundError:
            yield f"{name} not installed"


def _packages(found: Answers) -> Iterator[str]:
    for package in dict.fromkeys(a.package for a in found):
        rows = [row for a, row in found.items() if a.package == package]
        whole = sum(all(answer.standing in ("works", "note") for answer in row.values()) for row in rows)
        yield f"| {package} | {len(rows)} | {whole} |"


def _table(found: Answers) -> Iterator[str]:
    yield f"| architecture | kind | {' | '.join(TOOLS)} |"
    yield f"|---|---|{'---|' * len(TOOLS)}"
    for package in dict.fromkeys(a.package for a in found):
        yield f"| **{package}** | |{' |' * len(TOOLS)}"
        for architecture, row in found.items():
            if architecture.package == package:
                cells = " | ".join(WORDS[row[tool].standing] for tool in TOOLS)
                yield f"| {architecture.name} | {architecture.family} | {cells} |"


def _said(found: Answers) -> Iterator[str]:
    """Yield a line for each sentence, firmest first, with the architectures and tools that it is about."""
    about: dict[tuple[int, str], dict[str, list[str]]] = {}
    for architecture, row in found.items():
        for tool, answer in row.items():
            if answer.said:
                key = (-STANDINGS.index(answer.standing), shorten(answer.said, SAID, placeholder=" …"))
                about.setdefault(key, {}).setdefault(architecture.name, []).append(tool)
    for (rank, said), names in sorted(about.items(), key=lambda item: item[0]):
        listed = "; ".join(f"{name} ({', '.join(tools)})" for name, tools in names.items())
        yield f"- {listed}: *{WORDS[STANDINGS[-rank]]}*: {_escaped(said)}"


def _escaped(said: str) -> str:
    return said.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;").replace("_", "\\_")
