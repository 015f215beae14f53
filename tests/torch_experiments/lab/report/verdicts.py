"""What a test says of a claim for what the records show of it: passed, not shown, or left open."""

import pytest

from claims.evidence import witness


def settled(found):
    """Say that the records show a claim, or leave it open."""
    if found.shown is None:
        pytest.skip(found.words)
    if not found.shown:
        pytest.xfail(f"the records do not show it: {found.words}")
    witness(instances=found.seeds)


def contradicted(found):
    """Say that the records show the opposite of a claim, or leave it open."""
    if not found.contrary:
        pytest.skip(f"the records show no counterexample: {found.words}")
    witness(instances=found.seeds)
