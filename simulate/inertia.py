"""The type of a critical manifold from the signs of the curvature across it.

A file of its own, since networks of torch need it without the exact curvature of small ones.
"""

from __future__ import annotations

from typing import Literal

Kind = Literal["stable", "unstable", "saddle", "degenerate"]
Inertia = tuple[int, int, int]  # numbers of positive, negative and zero eigenvalues


def kind_of(counts: Inertia) -> Kind:
    """Return the type that belongs to numbers of positive, negative and zero eigenvalues.

    >>> kind_of((1, 1, 3)), kind_of((2, 0, 0)), kind_of((2, 0, 1))
    ('saddle', 'stable', 'degenerate')
    """
    positive, negative, zero = counts
    if positive and negative:
        return "saddle"
    if zero or not positive + negative:
        return "degenerate"
    return "stable" if positive else "unstable"
