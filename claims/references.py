"""The works that claims name as prior art: read from `references.bib`, one field a line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from claims.evidence import ClaimsError

BIBLIOGRAPHY = Path(__file__).with_name("references.bib")
FIELDS = {"author", "year", "title", "journal", "eprint"}
ENTRY = re.compile(r"^@\w+\{(?P<key>[^,\s]+),\n(?P<body>.*?)^\}$", re.MULTILINE | re.DOTALL)
FIELD = re.compile(r"^  (?P<name>\w+) = \{(?P<value>.*)\},$", re.MULTILINE)


@dataclass(frozen=True)
class Work:
    """One entry of the bibliography; `title` is empty where it was not at hand.

    >>> str(read()["Sussmann1992"]).startswith("Sussmann, H. J. (1992). Uniqueness of the weights")
    True
    """

    key: str
    author: str
    year: str
    title: str = ""
    journal: str = ""
    eprint: str = ""

    @property
    def place(self) -> str:
        """Where it appeared: a journal, or its number on arXiv."""
        return self.journal or f"arXiv {self.eprint}"

    def __str__(self) -> str:
        """Return authors, year, title and place in a line."""
        authors = self.author.replace(" and others", " et al.").replace(" and ", "; ")
        return ". ".join(part for part in (f"{authors} ({self.year})", self.title, self.place) if part)


def read(path: Path = BIBLIOGRAPHY) -> dict[str, Work]:
    """Return the works by key.

    Raises:
        ClaimsError: A key occurs twice, or an entry lacks author, year or place, or has a field that is unknown.

    >>> read()["Chen2023"].place
    'arXiv 2306.04251'
    """
    text = path.read_text(encoding="utf-8")
    works: dict[str, Work] = {}
    for entry in ENTRY.finditer(text):
        key, given = entry["key"], {field["name"]: field["value"] for field in FIELD.finditer(entry["body"])}
        if key in works:
            raise ClaimsError(f"{path.name}: {key} occurs twice; merge the entries")
        complete = {"author", "year"} <= given.keys() and given.keys() & {"journal", "eprint"}
        if given.keys() - FIELDS or not complete:
            raise ClaimsError(f"{path.name}: {key} needs author, year and journal or eprint, and no others")
        works[key] = Work(key, **given)
    if len(works) != text.count("\n@"):
        raise ClaimsError(f"{path.name}: {text.count(chr(10) + '@') - len(works)} entries do not end in a line }}")
    return works
