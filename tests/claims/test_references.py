"""The bibliography: every work that a claim names is there, and is named."""

import pytest

from claims import ledger, references
from claims.evidence import ClaimsError


def test_every_work_that_a_claim_names_is_in_the_bibliography():
    works = references.read()
    for claim in ledger.load().values():
        assert [work.key for work in claim.prior if work.key not in works] == [], claim.id


def test_every_work_in_the_bibliography_is_named_by_a_claim():
    named = {work.key for claim in ledger.load().values() for work in claim.prior}
    assert named == references.read().keys()


def test_wordings_are_linked_both_ways():
    claims = ledger.load()
    assert set(claims["R1"].wordings) == {"R9", "R10"}
    assert all(claim.id in claims[other].wordings for claim in claims.values() for other in claim.wordings)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("\n@misc{A,\n  author = {X},\n  year = {2000},\n}\n", "A needs author, year and journal or eprint"),
        ("\n@misc{A,\n  author = {X},\n  year = {2000},\n  eprint = {1},\n  doi = {2},\n}\n", "and no others"),
        ("\n@misc{A,\n  author = {X},\n  year = {2000},\n  eprint = {1},\n}\n" * 2, "A occurs twice"),
        ("\n@misc{A,\n  author = {X},\n  year = {2000},\n  eprint = {1}}\n", "do not end in a line }"),
    ],
)
def test_a_bad_entry_is_refused_by_name(tmp_path, text, complaint):
    path = tmp_path / "works.bib"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ClaimsError, match=complaint):
        references.read(path)
