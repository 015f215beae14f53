"""The rank gain as published and as submitted (R9 to R13): bounds, orders, and what is false in them."""

import math
from fractions import Fraction

import numpy as np
import pytest
import sympy
from hypothesis import assume, given
from hypothesis import strategies as st

from claims.evidence import witness
from tests.theory.strategies import correlations_of_rank, floats
from tests.theory.test_rank import ALL, NEAR, NONLINEAR, apply, er2, masses
from theory.activations import from_callable, get, moments, polynomial
from theory.kernels import dual_kernel
from theory.price import expectation, rho, z
from theory.rank import (
    decorrelation_strength,
    hard_rank,
    linear_share,
    nonlinearity,
    published_gain_bound,
    rank_gain,
    rank_gain_bound,
    renyi2_rank,
    undecided,
)

JUMPS = ("step", "sign")  # no locally absolutely continuous ones
a, r = sympy.symbols("a r", nonnegative=True)
FLAT = {1: Fraction(6, 10), 9: Fraction(4, 10)}  # K(r) = 0.6 r + 0.4 r⁹: κ = 0.361
BENT = {1: Fraction(45, 100), 2: Fraction(55, 100)}  # K(r) = 0.45 r + 0.55 r²: κ = 0.1485


def value(kernel: dict[int, Fraction], x: Fraction) -> Fraction:
    """Return a kernel with rational coefficients at a rational."""
    return sum((w * x**k for k, w in kernel.items()), Fraction(0))


def activation(kernel: dict[int, Fraction]):
    """Return `Σ √w_k h_k`, the activation with this kernel, as a polynomial."""
    coefficients = np.zeros(max(kernel) + 1)
    for k, w in kernel.items():
        he = np.polynomial.hermite_e.herme2poly([0.0] * k + [1.0])
        coefficients[: k + 1] += math.sqrt(w / math.factorial(k)) * he
    return polynomial(tuple(coefficients))


# --------------------------------------------------------------------------------------- R9, the published bound


@pytest.mark.claim("R9", "symbolic", step="entry")
def test_one_entry_loses_at_least_its_share():
    gamma = (1 - a) / (1 + a)
    lost = r**2 - (a * r + (1 - a) * r**2) ** 2 - gamma * r**2 * (1 - r**2)
    product = r**2 * (1 - r) * (1 - a) * a * (2 + a * (1 - r)) / (1 + a)
    assert sympy.simplify(lost - product) == 0
    u, v = sympy.symbols("u v", nonnegative=True)  # a = 1/(1 + u), r = 1/(1 + v): every value in (0, 1]
    inside = sympy.together(product.subs({a: 1 / (1 + u), r: 1 / (1 + v)}))
    numerator, denominator = sympy.fraction(sympy.factor(inside))
    assert sympy.expand(numerator).is_nonnegative
    assert sympy.expand(denominator).is_positive
    witness(instances=2)


@pytest.mark.claim("R9", "symbolic", step="quotient")
def test_a_quotient_lies_above_its_tangent():
    D = sympy.Symbol("D", nonnegative=True)
    T = sympy.Symbol("T", positive=True)
    S = D + T
    gap = S / (S - D) - (1 + D / S)
    assert sympy.simplify(gap - D**2 / (S * T)) == 0
    assert sympy.simplify(D**2 / (S * T)).is_nonnegative
    assert sympy.solve(D**2, D) == [0]
    witness(instances=2)


@pytest.mark.claim("R9", "symbolic", step="sharper")
def test_what_the_sharp_bound_keeps_is_zero_only_for_linear_or_settled_entries():
    """`D' = Σ (r² − (a r + (1 − a) r²)²)`, and each term is `r² (1 − a)(1 − r)(1 + a + (1 − a) r)`."""
    kept = r**2 - (a * r + (1 - a) * r**2) ** 2
    assert sympy.expand(kept - r**2 * (1 - a) * (1 - r) * (1 + a + (1 - a) * r)) == 0
    u, v = sympy.symbols("u v", positive=True)  # a = 1/(1 + u) < 1 and 0 < r = 1/(1 + v) < 1
    numerator, denominator = sympy.fraction(
        sympy.together(sympy.factor(kept.subs({a: 1 / (1 + u), r: 1 / (1 + v)})))
    )
    assert sympy.expand(numerator).is_positive
    assert sympy.expand(denominator).is_positive
    assert sympy.expand(kept.subs(a, 0) - r**2 * (1 - r**2)) == 0  # so it is positive inside for a = 0 too
    witness(instances=3)


@pytest.mark.claim("R9", "exact")
@given(C=correlations_of_rank(4, 3), weights=masses)
def test_no_kernel_with_rational_coefficients_gains_less_than_published(C, weights):
    share = weights[0]
    S, gamma = (C * C).sum(), (1 - share) / (1 + share)
    bound = 1 + gamma * ((C * C).sum() - (C**4).sum()) / S
    gain = er2(apply(weights, C)) / er2(C)
    sharp = S / max(((share * C + (1 - share) * C**k) ** 2).sum() for k in (2, 3))
    assert gain >= sharp >= bound
    assert (gain == bound) == (gain == 1)
    settled = all(abs(C[i, j]) in (0, 1) for i in range(4) for j in range(i))
    assert settled or share == 1 or sharp > bound
    witness()


@pytest.mark.claim("R9", "property")
@pytest.mark.parametrize("name", ALL)
@given(C=correlations_of_rank(5, 3))
def test_no_named_activation_gains_less_than_published(name, C):
    C = C.astype(np.float64)
    bound = float(published_gain_bound(C, name))
    excess = max(0.0, bound / float(rank_gain_bound(C, name)) - 1, bound / float(rank_gain(C, name)) - 1)
    assert excess <= NEAR
    witness(residual=excess)


@pytest.mark.control("R9")
def test_with_twice_the_strength_the_bound_is_passed():
    C = np.array([[1.0, 0.99], [0.99, 1.0]])
    gain = float(rank_gain(C, "square"))
    assert gain < 1 + 2 * float(published_gain_bound(C, "square") - 1)


@pytest.mark.control("R9")
def test_the_sharp_bound_tells_more_where_both_apply():
    C = np.array([[1.0, 0.5], [0.5, 1.0]])
    assert float(rank_gain_bound(C, "relu")) > float(published_gain_bound(C, "relu")) + 1e-3


# ------------------------------------------------------------------------------ R10, strictness as submitted


@pytest.mark.claim("R10", "counterexample")
def test_orthogonal_units_keep_the_norm_though_all_correlations_are_below_one():
    identity = np.array([[Fraction(int(i == j)) for j in range(3)] for i in range(3)], dtype=object)
    for kernel in ([Fraction(0), Fraction(1)], [Fraction(1, 2), Fraction(1, 2)]):
        assert (apply(kernel, identity) ** 2).sum() == (identity**2).sum()
    witness(instances=2)


@pytest.mark.claim("R10", "symbolic", step="repair")
def test_at_equal_traces_the_gain_is_the_quotient_of_the_norms():
    """`er₂ = (tr C)² / ‖C‖²`, so with trace `n` before and after the gain is above one where the norm falls."""
    n, before, after = sympy.symbols("n before after", positive=True)
    gain = (n**2 / after) / (n**2 / before)
    assert sympy.simplify(gain - 1 - (before - after) / after) == 0
    witness()


@pytest.mark.claim("R10", "checked", step="repair")
@given(C=correlations_of_rank(4, 3), weights=masses.filter(lambda w: any(w[1:])))
def test_the_norm_falls_exactly_where_the_repair_says(C, weights):
    off = [C[i, j] for i in range(4) for j in range(i)]
    at_minus_one = abs(sum((-1) ** k * w for k, w in enumerate(weights, start=1)))
    expected = any(0 < abs(x) < 1 for x in off) or (-1 in off and at_minus_one < 1)
    assert ((apply(weights, C) ** 2).sum() < (C * C).sum()) == expected
    witness()


@pytest.mark.control("R10")
def test_one_correlation_inside_is_enough():
    C = np.array([[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]])
    for name in NONLINEAR:
        assert (dual_kernel(name, C) ** 2).sum() < (C * C).sum() - 1e-3


# --------------------------------------------------------------------------------- R11, which order of activations


@pytest.mark.claim("R11", "counterexample")
def test_a_larger_maximal_loss_gains_less_at_a_small_correlation():
    """Exactly: κ of one is above 0.36, of the other below 0.15, and at 1/10 the gains are the other way round."""
    assert max(x**2 - value(FLAT, x) ** 2 for x in (Fraction(k, 100) for k in range(101))) > Fraction(36, 100)
    x = sympy.Symbol("x", real=True)
    loss = x**2 - sum(sympy.Rational(w.numerator, w.denominator) * x**k for k, w in BENT.items()) ** 2
    ends = [root for root in sympy.Poly(sympy.diff(loss, x), x).real_roots() if 0 <= root <= 1] + [0, 1]
    assert max(loss.subs(x, end).evalf(30) for end in ends) < sympy.Rational(15, 100)
    near = Fraction(1, 10)
    gains = [(1 + near**2) / (1 + value(kernel, near) ** 2) for kernel in (FLAT, BENT)]
    assert gains[0] < gains[1]
    far = Fraction(1, 2)
    assert value(FLAT, far) ** 2 < value(BENT, far) ** 2  # so neither gains more everywhere
    witness(instances=2)


@pytest.mark.claim("R11", "symbolic", step="two-units")
def test_two_units_tell_the_kernel():
    x, more = sympy.symbols("x more", nonnegative=True)
    gap = 2 / (1 + x) - 2 / (1 + x + more)
    assert sympy.simplify(gap - 2 * more / ((1 + x) * (1 + x + more))) == 0
    assert sympy.factor(gap).is_nonnegative
    C = sympy.Matrix([[1, r], [r, 1]])
    assert sympy.simplify(C.trace() ** 2 / (C * C).trace() - 2 / (1 + r**2)) == 0
    witness(instances=2)


@pytest.mark.claim("R11", "symbolic", step="sum")
def test_larger_entries_make_a_smaller_rank():
    n, S, more = sympy.symbols("n S more", positive=True)
    gap = n**2 / (n + S) - n**2 / (n + S + more)
    assert sympy.factor(gap).is_positive
    witness()


@pytest.mark.claim("R11", "symbolic", step="consequences")
def test_the_slope_at_zero_is_the_limit_of_the_quotient():
    weights = sympy.symbols("w1:7", nonnegative=True)
    K = sum(w * r**k for k, w in enumerate(weights, start=1))
    assert sympy.limit(sympy.expand(K**2) / r**2, r, 0) == weights[0] ** 2
    x = sympy.Symbol("x", positive=True)
    assert sympy.simplify(sympy.diff((1 - x) / (1 + x), x)).is_negative
    witness(instances=2)


@pytest.mark.claim("R11", "exact")
@given(C=correlations_of_rank(4, 3), first=masses, second=masses)
def test_kernels_in_order_gain_in_order(C, first, second):
    off = {C[i, j] for i in range(4) for j in range(i)}
    low, high = (
        {x: sum(w * x**k for k, w in enumerate(weights, start=1)) ** 2 for x in off} for weights in (first, second)
    )
    assume(all(low[x] <= high[x] for x in off))
    assert er2(apply(first, C)) >= er2(apply(second, C))
    witness()


@pytest.mark.control("R11")
def test_a_larger_linear_share_alone_is_no_order_either():
    """γ of one is larger, and at 0.9 its kernel is larger too."""
    one, two = {1: Fraction(1, 2), 2: Fraction(1, 2)}, {1: Fraction(6, 10), 9: Fraction(4, 10)}
    assert nonlinearity(0.5) > nonlinearity(0.6)
    assert value(one, Fraction(9, 10)) > value(two, Fraction(9, 10))


def test_the_strength_of_the_submission_is_the_maximum_of_the_loss():
    assert decorrelation_strength(activation(FLAT)) == pytest.approx(0.3610, abs=1e-4)
    assert decorrelation_strength(activation(BENT)) == pytest.approx(0.1485, abs=1e-4)
    assert decorrelation_strength("linear") == 0


# ------------------------------------------------------------------------------------ R12, strength and saturation


@pytest.mark.claim("R12", "counterexample")
def test_the_second_hermite_polynomial_has_full_strength_and_steep_slopes():
    he2 = (z**2 - 1) / sympy.sqrt(2)
    of_slopes = expectation(sympy.diff(he2, z), 0)  # E φ'(X) φ'(Y), at correlation 0 and 1
    assert (of_slopes.subs(rho, 0), of_slopes.subs(rho, 1)) == (0, 2)
    assert nonlinearity(polynomial((-1.0, 0.0, 1.0))) == 1
    wave = from_callable(lambda x: np.sin(3 * x), name="sin(3z)")
    assert nonlinearity(wave) == pytest.approx(0.995567, abs=1e-6)  # and E 9 cos²(3z) = 4.5 (1 + e^−18)
    witness(instances=2)


@pytest.mark.claim("R12", "counterexample")
@pytest.mark.parametrize("gain", [100, 10_000])
def test_a_steep_tanh_saturates_at_a_fifth_of_the_strength(gain):
    steep = from_callable(lambda x: np.tanh(gain * x), name="steep")
    limit = (1 - 2 / math.pi) / (1 + 2 / math.pi)
    flat = math.erf(10 / gain / math.sqrt(2))  # P(|z| < 10/gain): beyond it the slope is below gain · 4 e^−20
    assert flat < 0.1
    assert nonlinearity(steep) == pytest.approx(limit, abs=0.5 / gain)
    witness()


@pytest.mark.claim("R12", "symbolic", step="mean-slope")
@pytest.mark.parametrize("degree", range(9))
def test_steins_identity_on_hermite_polynomials(degree):
    he = sympy.Poly(sympy.expand(2 ** sympy.Rational(-degree, 2) * sympy.hermite(degree, z / sympy.sqrt(2))), z)
    mean = lambda f: sum(c * (sympy.factorial2(k - 1) if k % 2 == 0 else 0) for (k,), c in f.terms())  # noqa: E731
    assert sympy.simplify(mean(he * sympy.Poly(z, z)) - mean(he.diff(z))) == 0
    witness()


@pytest.mark.claim("R12", "symbolic", step="monotone")
def test_the_strength_falls_with_the_slope_at_zero():
    x = sympy.Symbol("x", nonnegative=True)
    gamma = (1 - x) / (1 + x)
    assert sympy.simplify(sympy.diff(gamma, x)).is_negative
    assert sympy.simplify((1 - gamma) / (1 + gamma) - x) == 0
    assert (gamma.subs(x, 0), gamma.subs(x, 1)) == (1, 0)
    witness(instances=3)


@pytest.mark.claim("R12", "property")
@pytest.mark.parametrize("name", [n for n in ALL if n not in JUMPS])
def test_the_strength_is_that_of_the_mean_slope(name):
    phi = get(name)
    slope = float(moments(from_callable(phi.slope, phi.breaks, name="slope")).mean)
    error = abs(linear_share(name) - slope**2 / float(moments(name).variance))
    assert error < 1e-9
    witness(residual=error)


@pytest.mark.control("R12")
@pytest.mark.parametrize("name", JUMPS)
def test_where_an_activation_jumps_its_slope_does_not_tell_the_strength(name):
    assert nonlinearity(name) == pytest.approx((1 - 2 / math.pi) / (1 + 2 / math.pi))
    assert get(name).slope(np.array([-1.0, 0.5])).tolist() == [0, 0]


@pytest.mark.control("R12")
def test_the_mean_square_of_the_slope_does_not_tell_the_strength():
    for name in ("square", "cube"):
        phi = get(name)
        steep = float(moments(from_callable(lambda x, phi=phi: phi.slope(x) ** 2, phi.breaks, name="s")).mean)
        assert abs(linear_share(name) - steep / float(moments(name).variance)) > 0.5


# --------------------------------------------------------------------- R13, orthogonal directions and duplicates


@pytest.mark.claim("R13", "symbolic", step="sizes")
@pytest.mark.parametrize("classes", range(2, 7))
def test_the_sum_of_squares_is_least_for_equal_classes(classes):
    n = sympy.symbols(f"n1:{classes + 1}", positive=True)
    squares = sum((n[i] - n[j]) ** 2 for i in range(classes) for j in range(i))
    assert sympy.expand(classes * sum(x**2 for x in n) - sum(n) ** 2 - squares) == 0
    witness()


@pytest.mark.claim("R13", "symbolic", step="count")
def test_an_undecided_pair_adds_at_least_its_share():
    """`x (1 − x) − s (1 − s) = (x − s)(1 − s − x)`, both factors non-negative for `s ≤ x ≤ 1 − s`."""
    x, s = sympy.symbols("x s")
    assert sympy.expand(x * (1 - x) - s * (1 - s) - (x - s) * (1 - s - x)) == 0
    witness()


@pytest.mark.claim("R13", "symbolic", step="classes")
@pytest.mark.parametrize("sign", [1, -1])
def test_a_correlation_of_one_is_a_duplicate(sign):
    """`‖v_i ∓ v_j‖² = 2 ∓ 2 C_ij` vanishes where `C_ij = ±1`, and then the units are equal up to sign."""
    ii, jj, ij = sympy.symbols("ii jj ij")
    distance = ii - 2 * sign * ij + jj
    assert sympy.expand(distance.subs({ii: 1, jj: 1}) - (2 - 2 * sign * ij)) == 0
    assert distance.subs({ii: 1, jj: 1, ij: sign}) == 0
    witness()


@pytest.mark.claim("R13", "checked", step="classes")
@given(sizes=st.lists(st.integers(1, 3), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_matrices_that_keep_the_rank_are_classes_of_duplicates(sizes, seed):
    signs = np.random.default_rng(seed).choice([1, -1], sum(sizes))
    of = np.repeat(np.arange(len(sizes)), sizes)
    C = np.array(
        [
            [Fraction(int(x == y) * int(p * q)) for y, q in zip(of, signs, strict=True)]
            for x, p in zip(of, signs, strict=True)
        ],
        dtype=object,
    )
    odd = [Fraction(1, 2), Fraction(0), Fraction(1, 2)]
    assert er2(apply(odd, C)) == er2(C) == Fraction(sum(sizes) ** 2, sum(n * n for n in sizes))
    assert sympy.Matrix(C.tolist()).rank() == len(sizes) >= er2(C)
    assert (er2(C) == len(sizes)) == (len(set(sizes)) == 1)
    witness()


@pytest.mark.claim("R13", "checked", step="classes")
@given(C=correlations_of_rank(4, 3), weights=masses.filter(lambda w: any(w[1:])))
def test_what_keeps_the_rank_has_classes(C, weights):
    if er2(apply(weights, C)) == er2(C):
        same = [[abs(C[i, j]) == 1 for j in range(4)] for i in range(4)]
        assert all(
            not (same[i][j] and same[j][k]) or same[i][k] for i in range(4) for j in range(4) for k in range(4)
        )
        assert len({tuple(row) for row in same}) == sympy.Matrix(C.tolist()).rank()
    witness()


@pytest.mark.claim("R13", "property")
@given(C=correlations_of_rank(6, 4), share=floats(0, 0.9), t=st.floats(0.05, 0.7))
def test_few_pairs_are_undecided_where_little_is_gained(C, share, t):
    C = C.astype(np.float64)
    phi = activation({1: Fraction(share), 2: 1 - Fraction(share)})
    epsilon = float(rank_gain(C, phi)) - 1
    off = np.abs(C[~np.eye(6, dtype=bool)])
    count = ((off >= t + 1e-9) & (off <= math.sqrt(1 - t**2) - 1e-9)).sum()
    assert count <= epsilon * (C * C).sum() / (nonlinearity(share) * t**2 * (1 - t**2)) + 1e-6
    witness()


@pytest.mark.control("R13")
def test_without_a_nonlinearity_every_matrix_keeps_its_rank():
    C = np.array([[1.0, 0.5], [0.5, 1.0]])
    assert float(rank_gain(C, "linear")) == 1
    assert undecided(C) > 0


@pytest.mark.control("R13")
def test_the_effective_rank_is_not_the_number_of_directions():
    C = np.kron(np.eye(2), np.ones((1, 1)))
    C = np.block([[np.ones((3, 3)), np.zeros((3, 1))], [np.zeros((1, 3)), np.ones((1, 1))]])
    assert int(hard_rank(C)) == 2
    assert renyi2_rank(C) == pytest.approx(1.6)
