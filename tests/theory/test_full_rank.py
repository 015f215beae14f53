"""Full rank out of singular correlations (R4): the proof, its bound, certificates and the limit for polynomials."""

import math
from fractions import Fraction
from itertools import product

import flint
import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from claims.evidence import witness
from simulate.ensembles import unit_gram
from tests.theory.strategies import correlations_of_rank
from theory.activations import hermite, named, polynomial
from theory.full_rank import (
    is_certainly_positive_definite,
    kernel_matrix,
    least_eigenvalue,
    least_eigenvalue_bound,
    monomials,
    polynomial_rank_limit,
    rational_gram,
)
from theory.kernels import dual_kernel
from theory.rank import hard_rank

POLYNOMIALS = ("linear", "square", "cube", "one")
ENDLESS = tuple(name for name in named() if name not in POLYNOMIALS)

F = Fraction
TRIANGLE = [[F(1), F(1, 2), F(-1, 2)], [F(1, 2), F(1), F(1, 2)], [F(-1, 2), F(1, 2), F(1)]]  # of rank 2
FAN = rational_gram(
    [(F(1), F(0)), (F(4, 5), F(3, 5)), (F(3, 5), F(4, 5)), (F(5, 13), F(12, 13)), (F(-3, 5), F(4, 5))]
)


def exact_rank(C: np.ndarray) -> int:
    return flint.fmpq_mat([[flint.fmpq(x.numerator, x.denominator) for x in row] for row in C]).rank()


@pytest.mark.claim("R4", "symbolic", step="dominance")
@pytest.mark.parametrize("size", range(2, 9))
def test_powers_of_small_entries_are_dominated_by_the_diagonal(size):
    """`(n − 1) Σ x_i² − Σ_{i≠j} x_i x_j = Σ_{i<j} (x_i − x_j)²`, applied to `|x_i|`."""
    x = sympy.symbols(f"x1:{size + 1}", nonnegative=True)
    pairs = [(a, b) for a in range(size) for b in range(a)]
    gap = (size - 1) * sum(v**2 for v in x) - 2 * sum(x[a] * x[b] for a, b in pairs)
    assert sympy.expand(gap - sum((x[a] - x[b]) ** 2 for a, b in pairs)) == 0
    witness()


@pytest.mark.claim("R4", "symbolic", step="dominance")
def test_the_mean_square_is_at_least_the_square_of_the_mean():
    """With `S = Σ x_i²`, `n m = Σ x_i`: `Σ (x_i − m)² = S − n m² ≥ 0`, so `n² m² − S ≤ (n − 1) S`."""
    n, m, S = sympy.Symbol("n", integer=True, positive=True), *sympy.symbols("m S", real=True)
    spread = S - 2 * m * (n * m) + n * m**2  # Σ x_i², −2m Σ x_i, and n times m²
    assert sympy.expand(spread - (S - n * m**2)) == 0
    assert sympy.expand((n - 1) * S - (n**2 * m**2 - S) - n * (S - n * m**2)) == 0
    witness()


@pytest.mark.claim("R4", "symbolic", step="infinitely-many")
def test_powers_fall_below_every_positive_number():
    t, k = sympy.symbols("t k", positive=True)  # r = e^{−t}
    size = sympy.Symbol("n", integer=True, positive=True)
    assert sympy.limit(sympy.exp(-t * k), k, sympy.oo) == 0
    beyond = sympy.log(size) / t + k
    assert sympy.simplify(size * sympy.exp(-t * beyond) - sympy.exp(-k * t)) == 0  # (n − 1) rᵏ < n rᵏ < 1 there
    assert sympy.diff(sympy.exp(-k * t), k).is_negative
    witness(instances=2)


@pytest.mark.claim("R4", "symbolic", step="monomials")
@pytest.mark.parametrize(("r", "k"), [(r, k) for r in range(1, 5) for k in range(1, 5)])
def test_entrywise_powers_are_gram_matrices_of_monomials(r, k):
    """`(a · b)ᵏ = Σ_{|α| = k} (k choose α) a^α b^α`, with `(r + k − 1 choose k)` multi-indices `α`."""
    a, b = sympy.symbols(f"a1:{r + 1}"), sympy.symbols(f"b1:{r + 1}")
    powers = [alpha for alpha in product(range(k + 1), repeat=r) if sum(alpha) == k]
    terms = (
        sympy.Rational(math.factorial(k), math.prod(map(math.factorial, alpha)))
        * math.prod(x**e * y**e for x, y, e in zip(a, b, alpha, strict=True))
        for alpha in powers
    )
    assert sympy.expand(sum(x * y for x, y in zip(a, b, strict=True)) ** k - sum(terms)) == 0
    assert len(powers) == math.comb(r + k - 1, k)
    witness()


@pytest.mark.claim("R4", "symbolic", step="sphere")
@pytest.mark.parametrize(("r", "k"), [(r, k) for r in range(1, 5) for k in range(1, 4)])
def test_on_the_sphere_monomials_are_sums_of_those_two_degrees_higher(r, k):
    """`a^α |a|² = Σ_j a^{α + 2 e_j}`: on `|a| = 1` monomials of degree `k − 2` are sums of those of degree `k`."""
    a = sympy.symbols(f"a1:{r + 1}")
    for alpha in product(range(k + 1), repeat=r):
        monomial = math.prod(x**e for x, e in zip(a, alpha, strict=True))
        higher = sum(monomial * x**2 for x in a)
        assert sympy.expand(monomial * sum(x**2 for x in a) - higher) == 0
        degrees = {sum(powers) for powers in sympy.Poly(higher, *a).monoms()}
        assert degrees == {sum(alpha) + 2}
    witness()


@pytest.mark.claim("R4", "enclosure")
@pytest.mark.parametrize("name", ENDLESS)
@pytest.mark.parametrize("C", [TRIANGLE, FAN], ids=["triangle", "fan"])
def test_singular_correlations_have_kernels_of_full_rank(name, C):
    assert exact_rank(np.array(C)) == 2 < len(C)
    found = least_eigenvalue(C, name)
    assert found > 0
    bound = least_eigenvalue_bound(np.array(C, dtype=np.float64), name)
    assert 0 <= bound <= float(found.upper()) + 1e-12
    witness()


@pytest.mark.claim("R4", "exact")
@settings(max_examples=20)
@given(C=correlations_of_rank(7, 2), weights=st.lists(st.integers(0, 3), min_size=1, max_size=3).filter(any))
def test_polynomials_do_not_pass_their_limit(C, weights):
    degree = max(k for k, w in enumerate(weights, start=1) if w)
    K = sum(w * C**k for k, w in enumerate(weights, start=1))
    assert exact_rank(K) <= polynomial_rank_limit(exact_rank(C), degree)
    witness()


def sphere(count: int, dimension: int) -> list[list[Fraction]]:
    """Return rational points of the unit sphere in general position."""
    t = np.vectorize(F)(np.random.default_rng(0).integers(-9, 10, (count, dimension - 1)), 4)
    squares = (t * t).sum(axis=1) if dimension > 1 else np.full(count, F(0))
    return [[*(2 * x / (1 + s) for x in row), (1 - s) / (1 + s)] for row, s in zip(t, squares, strict=True)]


@pytest.mark.claim("R4", "exact")
@pytest.mark.parametrize(("rank", "degree"), [(2, 1), (2, 2), (2, 3), (2, 4), (3, 2), (3, 3), (4, 2)])
def test_points_in_general_position_attain_the_limit(rank, degree):
    """Which is below the sum over all degrees from the third degree on."""
    limit = polynomial_rank_limit(rank, degree)
    C = np.array(rational_gram(sphere(limit + 3, rank)))
    assert exact_rank(sum(C**k for k in range(1, degree + 1))) == limit
    assert (limit < sum(monomials(rank, k) for k in range(1, degree + 1))) == (degree > 2)
    witness()


@pytest.mark.claim("R4", "exact")
@pytest.mark.parametrize(
    ("degrees", "rank"), [((3,), 4), ((1, 3), 4), ((2, 3), 7), ((1, 4), 7), ((4,), 5), ((2, 4), 5)]
)
def test_only_the_highest_degrees_of_both_parities_count(degrees, rank):
    """On the circle `N_k = k + 1`; a single parity has `N_m` alone."""
    C = np.array(rational_gram(sphere(12, 2)))
    assert exact_rank(sum(C**k for k in degrees)) == rank
    even, odd = (max((k for k in degrees if k % 2 == parity), default=-1) for parity in (0, 1))
    assert rank == sum(monomials(2, k) for k in (even, odd) if k >= 0)
    witness()


@pytest.mark.control("R4")
def test_without_unit_diagonal_the_limit_is_passed():
    V = np.vectorize(F)(np.random.default_rng(0).integers(-9, 10, (25, 3)), 1)
    C = V @ V.T
    assert exact_rank(C + C**2 + C**3) == sum(monomials(3, k) for k in (1, 2, 3)) > polynomial_rank_limit(3, 3)


@pytest.mark.control("R4")
def test_a_correlation_of_one_keeps_the_kernel_singular():
    C = [[F(1), F(1), F(1, 2)], [F(1), F(1), F(1, 2)], [F(1, 2), F(1, 2), F(1)]]
    assert not is_certainly_positive_definite(kernel_matrix(C, "relu"))
    assert not least_eigenvalue(C, "relu") > 0
    assert least_eigenvalue(C, "relu").contains(0)


@pytest.mark.control("R4")
def test_polynomials_stay_singular_where_the_limit_says_so():
    many = rational_gram([((1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)) for t in map(F, range(-3, 4))])
    K = kernel_matrix(many, "square")  # rank at most 3 + 2 of 7
    assert not is_certainly_positive_definite(K)
    assert hard_rank(dual_kernel("square", np.array(many, dtype=np.float64))) <= polynomial_rank_limit(2, 2)
    assert least_eigenvalue_bound(np.array(many, dtype=np.float64), "square") == 0


@pytest.mark.claim("R4", "property")
@pytest.mark.parametrize("name", ["relu", "tanh", "gelu", "sin", "softsign", "selu"])
@given(seed=st.integers(0, 9999), size=st.integers(2, 12))
def test_the_least_eigenvalue_is_not_below_its_bound(name, seed, size):
    C = unit_gram(size, size, np.random.default_rng(seed)) * 0.2 + 0.8 * np.eye(size)
    bound = least_eigenvalue_bound(C, name)
    lowest = float(np.linalg.eigvalsh(dual_kernel(name, C))[0])
    assert bound > 0
    assert lowest >= bound - 1e-12
    witness(residual=max(0.0, bound - lowest))


def test_the_bound_is_attained_by_equicorrelation_where_all_powers_are_negative():
    """`n = 2`, `ρ = −r`, odd `φ`: `λ_min = 1 − K(r)` is `Σ c_k² (1 − rᵏ)` exactly."""
    C = np.array([[1.0, -0.6], [-0.6, 1.0]])
    assert least_eigenvalue_bound(C, "tanh") == pytest.approx(1 - dual_kernel("tanh", 0.6), abs=1e-12)


def test_enclosures_of_least_eigenvalues_hold_known_ones():
    third = polynomial((0, 1, 0, 1))
    for phi in ("relu", "tanh", third, hermite(3)):
        ball = least_eigenvalue(TRIANGLE, phi)
        K = dual_kernel(phi, np.array(TRIANGLE, dtype=np.float64))
        lowest = float(np.linalg.eigvalsh(K)[0])
        assert abs(ball - lowest) <= 1e-14 + ball.rad()
        assert float(ball.rad()) <= 1e-12


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: polynomial_rank_limit(0, 2), "rank is 0"),
        (lambda: polynomial_rank_limit(2, 0), "degree is 0"),
        (lambda: kernel_matrix([[1, F(1, 2)]], "relu"), "no correlation matrix"),
        (lambda: kernel_matrix([[1, F(1, 2)], [F(1, 3), 1]], "relu"), "no correlation matrix"),
        (lambda: kernel_matrix([[2, F(1, 2)], [F(1, 2), 1]], "relu"), "no correlation matrix"),
        (lambda: rational_gram([(F(1), F(1))]), "squared length 2"),
        (lambda: least_eigenvalue_bound(2 * np.eye(2), "relu"), "diagonal"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("mean", [0, 1e3, 1e10, 1e12])
def test_a_large_mean_does_not_make_the_bound_positive(mean):
    """A linear activation leaves the triangle singular, whatever its mean."""
    assert least_eigenvalue_bound(np.array(TRIANGLE, dtype=np.float64), lambda z: mean + z) == 0


def test_a_ball_whose_centre_alone_is_positive_certifies_nothing():
    wide = flint.arb(1, 2)
    assert not is_certainly_positive_definite([[wide]])
    assert is_certainly_positive_definite([[flint.arb(3, 2)]])


def test_more_bad_input_is_named():
    stack = np.stack([np.eye(2)] * 2)
    for call, message in (
        (lambda: least_eigenvalue_bound(stack, "relu"), "takes one matrix"),
        (lambda: least_eigenvalue_bound(np.eye(2), "one"), "constant"),
        (lambda: least_eigenvalue([], "relu"), "C is empty"),
        (lambda: rational_gram([(F(1),), (F(1), F(0))]), "differ in dimension"),
        (
            lambda: kernel_matrix([[1, F(9, 10), 0], [F(9, 10), 1, F(9, 10)], [0, F(9, 10), 1]], "relu"),
            "semidefinite",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()
