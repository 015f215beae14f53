"""Verdicts with their reasons: what is kept or left, where, and on which claim that rests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["kept", "left", "unknown"]
Subject = Literal["clones", "coset", "frozen"]
ORDER: tuple[Verdict, ...] = ("left", "unknown", "kept")


@dataclass(frozen=True)
class Sentence:
    """One reason of a verdict.

    Attributes:
        about: ``"clones"`` (units stay copies of each other), ``"coset"`` (weights stay on ``w₀`` + the tangent
            space) or ``"frozen"``.
        verdict: what it says by itself.
        sentence: why, with numbers.
        where: the parameters, modules or hooks that it is about.
        rests_on: ids of claims in the ledger.

    >>> Sentence("clones", "kept", "gradients are multiples of s_i s_jᵀ", ("weight",), ("C3",)).verdict
    'kept'
    """

    about: Subject
    verdict: Verdict
    sentence: str
    where: tuple[str, ...] = ()
    rests_on: tuple[str, ...] = ()


def merged(reasons: Iterable[Sentence]) -> tuple[Sentence, ...]:
    """Return the reasons with equal ones at several places made one, the worst first.

    >>> both = [Sentence("clones", "kept", "why", (name,)) for name in ("a", "b")]
    >>> [reason.where for reason in merged(both)]
    [('a', 'b')]
    """
    found: dict[tuple[Subject, Verdict, str, tuple[str, ...]], dict[str, None]] = {}
    for reason in reasons:
        key = (reason.about, reason.verdict, reason.sentence, reason.rests_on)
        found.setdefault(key, {}).update(dict.fromkeys(reason.where))
    every = [Sentence(about, v, sentence, tuple(names), on) for (about, v, sentence, on), names in found.items()]
    return tuple(sorted(every, key=lambda reason: ORDER.index(reason.verdict)))


def worst(reasons: Iterable[Sentence], *about: Subject) -> Verdict:
    """Return ``"left"`` if a reason about these says so, else ``"unknown"`` if one does, else ``"kept"``.

    >>> worst([Sentence("clones", "unknown", "why"), Sentence("frozen", "left", "why")], "clones")
    'unknown'
    """
    said = {reason.verdict for reason in reasons if reason.about in about}
    return next((verdict for verdict in ORDER if verdict in said), "kept")
