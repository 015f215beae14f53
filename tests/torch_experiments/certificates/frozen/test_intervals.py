"""Interval arithmetic against rational numbers."""

from __future__ import annotations

from fractions import Fraction

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.torch_experiments.certificates.frozen.enclosed import DOUBLE
from torch_experiments.certificates.frozen.intervals import bilinear, outward, point

numbers = st.floats(-1e8, 1e8, allow_nan=False, allow_subnormal=False).filter(lambda x: x == 0 or abs(x) > 1e-100)


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=8))
@settings(max_examples=100, deadline=None)
def test_products_are_enclosed_in_rational_arithmetic(pairs: list[tuple[float, float]]) -> None:
    x, y = (torch.tensor(v, dtype=DOUBLE) for v in zip(*pairs, strict=True))
    exact = sum((Fraction(a) * Fraction(b) for a, b in pairs), Fraction(0))
    for dtype in (DOUBLE, torch.float32):
        found = bilinear(torch.dot, point(x), point(y), len(pairs), dtype)
        assert Fraction(float(found.lo)) <= exact <= Fraction(float(found.hi))
        assert float(found.lo) <= float(torch.dot(x, y)) <= float(found.hi)
    single = bilinear(torch.dot, point(x.float()), point(y.float()), len(pairs), torch.float32)
    assert float(single.lo) <= float(torch.dot(x.float(), y.float())) <= float(single.hi)


def test_bounds_without_rounding_would_be_wrong_where_terms_cancel() -> None:
    x, w = torch.tensor([1e8, 1.0, -1e8], dtype=torch.float32), torch.ones(3)
    computed, exact = float((x[0] * w[0] + x[1]) + x[2]), 1.0
    found = bilinear(torch.dot, point(x), point(w), 3, torch.float32)
    naive = float(torch.dot(x.double(), w.double()))
    assert computed != exact == naive
    assert float(found.lo) <= computed <= float(found.hi)


def test_sums_without_positive_terms_stay_nonpositive_whatever_the_rounding() -> None:
    zero, three = torch.tensor(0.0, dtype=DOUBLE), torch.tensor(3.0, dtype=DOUBLE)
    found = outward((zero, zero), (zero, three), 1000, torch.float32)
    assert float(found.hi) == 0.0
    assert float(found.lo) < -3
    assert float(outward((zero, zero), (zero, three), 100_000, torch.bfloat16).hi) == float("inf")
