"""Measures of rank and their order (R8), the rank gain (R1), its sharp bound (R2) and what centring does (R3)."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import sympy
import torch
from hypothesis import given
from hypothesis import strategies as st

from claims.evidence import witness
from simulate.ensembles import sample_gaussian, unit_gram
from tests.theory.strategies import correlations_of_rank, floats
from theory.activations import moments, named, polynomial, standardise
from theory.kernels import dual_kernel
from theory.price import expectation, z
from theory.price import rho as r
from theory.rank import (
    hard_rank,
    linear_share,
    predict_rank,
    predict_sampled_rank,
    rank_gain,
    rank_gain_bound,
    ranks,
    renyi2_rank,
    roy_vetterli_rank,
    shannon_rank,
    srank,
    stable_rank,
)
from theory.tolerances import float64_identity, monte_carlo, rounding_unit, zero_eigenvalue

ALL = tuple(name for name in named() if name != "one")
NONLINEAR = tuple(name for name in ALL if name != "linear")
NEAR = float64_identity(8)


def er2(C: np.ndarray) -> Fraction:
    """Return `(tr C)²/‖C‖_F²` exactly."""
    return Fraction(sum(C[i, i] for i in range(len(C)))) ** 2 / (C * C).sum()


def random_kernel(weights: list[int]) -> list[Fraction]:
    """Return rational `c_k²` for `k ≥ 1` that sum to one."""
    return [Fraction(w, sum(weights)) for w in weights]


def apply(weights: list[Fraction], C: np.ndarray) -> np.ndarray:
    """Return `Σ_k c_k² C^{∘k}` exactly."""
    return sum(w * C**k for k, w in enumerate(weights, start=1))


masses = st.lists(st.integers(0, 5), min_size=2, max_size=6).filter(any).map(random_kernel)


# ------------------------------------------------------------------------------------- R8, order of the measures

n = sympy.Symbol("n", integer=True, positive=True)
i = sympy.Symbol("i", integer=True)
p = sympy.IndexedBase("p", nonnegative=True)


def over(term: sympy.Expr) -> sympy.Expr:
    """Return `Σ_{i=1}^{n} term`, one sum for each summand, with what does not depend on `i` in front."""
    parts = (t.as_independent(i, as_Add=False) for t in sympy.Add.make_args(sympy.expand(term)))
    return sum(front * (n if rest == 1 else sympy.Sum(rest, (i, 1, n))) for front, rest in parts)


@pytest.mark.claim("R8", "symbolic", step="tangent")
def test_the_logarithm_lies_below_its_tangent_at_one():
    """`f(x) = x − 1 − ln x`: `f(1) = 0`, and `f' = (x − 1)/x` has the sign of `x − 1`: 1 is the only zero."""
    x = sympy.Symbol("x", positive=True)
    f = x - 1 - sympy.log(x)
    assert f.subs(x, 1) == 0
    assert sympy.simplify(sympy.diff(f, x) - (x - 1) / x) == 0
    u = sympy.Symbol("u", positive=True)
    assert sympy.simplify(sympy.diff(f, x).subs(x, 1 + u)).is_positive
    assert sympy.simplify(sympy.diff(f, x).subs(x, 1 / (1 + u))).is_negative
    witness(instances=4)


@pytest.mark.claim("R8", "symbolic", step="stable-below-order-2")
def test_the_stable_rank_is_below_the_rank_of_order_2():
    """`Σ p_i (m − p_i) = m − Σ p_i²` is a sum of terms `≥ 0` for `m = max p`, each zero only if `p_i ∈ {0, m}`."""
    m = sympy.Symbol("m", positive=True)
    gap = over(p[i] * (m - p[i]))
    assert sympy.simplify(gap - (m * over(p[i]) - over(p[i] ** 2))) == 0
    witness()


@pytest.mark.claim("R8", "symbolic", step="order-2-below-shannon")
def test_the_rank_of_order_2_is_below_the_shannon_rank():
    """With `S = Σ p²`: `Σ p_i ln(p_i/S) ≤ Σ p_i (p_i/S − 1) = 0`, and the left side is `−H − ln S`."""
    S = sympy.Symbol("S", positive=True)
    tangent = over(p[i] * (p[i] / S - 1))
    assert sympy.simplify(tangent - (over(p[i] ** 2) / S - over(p[i]))) == 0
    assert tangent.subs(over(p[i] ** 2), S).subs(over(p[i]), 1) == 0
    witness()


@pytest.mark.claim("R8", "symbolic", step="shannon-below-hard")
def test_the_shannon_rank_is_below_the_rank():
    """On the support, of size `n`: `H − ln n = Σ p_i ln(1/(n p_i)) ≤ Σ p_i (1/(n p_i) − 1) = 0`."""
    tangent = over(p[i] * (1 / (n * p[i]) - 1))
    assert sympy.simplify(tangent.subs(over(p[i]), 1)) == 0
    witness()


@pytest.mark.claim("R8", "symbolic", step="escort")
def test_the_entropy_of_powers_falls_with_the_power():
    """With `L(β) = ln Σ σ_i^β` and `q ∝ σ^β`: `H(q) = L − β L'`, `dH/dβ = −β L''`, and `L''` is a variance.

    So `q ∝ σ` (β = 1) has at least the entropy of `p ∝ σ²` (β = 2).
    """
    beta, m = sympy.symbols("beta m", real=True)
    L, Z = sympy.Function("L")(beta), sympy.Function("Z")(beta)
    assert sympy.simplify(sympy.diff(L - beta * L.diff(beta), beta) + beta * L.diff(beta, 2)) == 0
    curvature = Z.diff(beta, 2) / Z - (Z.diff(beta) / Z) ** 2  # E l² − (E l)² under q, with l = ln σ
    assert sympy.simplify(sympy.diff(sympy.log(Z), beta, 2) - curvature) == 0
    log, q = sympy.IndexedBase("l", real=True), p
    variance = over(q[i] * (log[i] - m) ** 2).subs(over(q[i]), 1).subs(over(q[i] * log[i]), m)
    assert sympy.simplify(variance - (over(q[i] * log[i] ** 2) - m**2)) == 0
    witness(instances=3)


spectra = st.lists(st.one_of(st.just(0.0), st.floats(1e-6, 1.0)), min_size=1, max_size=8).filter(
    lambda s: max(s) > 0
)


@pytest.mark.claim("R8", "property")
@given(spectrum=spectra, seed=st.integers(0, 99))
def test_the_measures_are_ordered(spectrum, seed):
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(spectrum),) * 2))[0]
    found = ranks((Q * spectrum) @ Q.T)
    values = (1.0, found.stable, found.renyi2, found.shannon, found.hard, len(spectrum))
    excess = max(max(0.0, a / b - 1) for a, b in pairwise(values))
    assert excess <= NEAR
    witness(residual=excess)


@pytest.mark.claim("R8", "property")
@given(size=st.integers(1, 6), rank=st.integers(1, 6), seed=st.integers(0, 99))
def test_equal_eigenvalues_make_all_measures_equal(size, rank, seed):
    rank = min(size, rank)
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))[0][:, :rank]
    found = ranks(3 * Q @ Q.T)
    error = max(abs(value - rank) for value in (found.stable, found.renyi2, found.shannon, found.hard))
    assert error <= NEAR
    witness(residual=error)


@pytest.mark.claim("R8", "property")
@given(seed=st.integers(0, 999), scale=st.floats(0, 3))
def test_singular_values_are_never_below_their_squares(seed, scale):
    rng = np.random.default_rng(seed)
    H = rng.standard_normal((7, 5)) * np.exp(scale * rng.standard_normal(5))
    excess = max(0.0, shannon_rank(H.T @ H) / roy_vetterli_rank(H) - 1)
    assert excess <= NEAR
    witness(residual=excess)


@pytest.mark.control("R8")
def test_eigenvalues_of_an_indefinite_matrix_have_no_such_order():
    p = np.array([1.5, -0.25, -0.25])
    assert 1 / (p**2).sum() < 1 <= len(p)  # below the least value of the stable rank of any covariance


@pytest.mark.control("R8")
def test_the_order_is_strict_where_eigenvalues_differ():
    found = ranks(np.diag([3.0, 2.0, 1.0]))
    assert found.stable < found.renyi2 - 0.1 < found.shannon - 0.2 < found.hard - 0.3


def test_measures_of_known_spectra():
    assert ranks(np.eye(4)) == ranks(7 * np.eye(4))
    C = np.diag([3.0, 1.0, 0.0])
    assert stable_rank(C) == pytest.approx(4 / 3)
    assert renyi2_rank(C) == pytest.approx(16 / 10)
    assert shannon_rank(C) == pytest.approx(4 / 3**0.75)
    assert hard_rank(C) == 2
    H = np.diag([3.0, 1.0, 0.0])
    assert roy_vetterli_rank(H) == pytest.approx(4 / 3**0.75)
    assert [int(srank(H, delta)) for delta in (0.0, 0.2, 0.25, 0.3)] == [2, 2, 1, 1]
    assert int(srank(np.diag([1.0] * 100), 0.01)) == 99


def test_measures_broadcast_over_stacks():
    stack = np.stack([np.eye(3), np.diag([1.0, 1.0, 0.0]), np.ones((3, 3))]).reshape(3, 1, 3, 3)
    assert renyi2_rank(stack).tolist() == [[3.0], [2.0], [pytest.approx(1.0)]]
    assert hard_rank(stack).tolist() == [[3], [2], [1]]
    assert srank(stack).shape == roy_vetterli_rank(stack).shape == (3, 1)
    assert rank_gain(np.stack([np.eye(2), np.ones((2, 2))]), "tanh").tolist() == [1.0, 1.0]


# ------------------------------------------------------------------------------------------------ R1, rank gain


@pytest.mark.claim("R1", "symbolic", step="entries")
def test_smaller_entries_mean_a_larger_rank():
    """`n²/(n + S') − n²/(n + S)` has the sign of `S − S'` for sums of squares `S, S' ≥ 0` off the diagonal."""
    S, lost = sympy.symbols("S lost", nonnegative=True)  # S' = S, S = S' + lost
    gap = n**2 / (n + S) - n**2 / (n + S + lost)
    assert sympy.simplify(gap - n**2 * lost / ((n + S) * (n + S + lost))) == 0
    assert sympy.factor(gap).is_nonnegative
    witness(instances=2)


@pytest.mark.claim("R1", "symbolic", step="strictness")
def test_every_term_beyond_the_linear_one_lowers_a_correlation():
    """For `0 < r < 1`, `r = e^{−t}`, and every `k ≥ 2`: `c² (r − rᵏ) > 0` unless `c = 0`."""
    t = sympy.Symbol("t", positive=True)
    beyond = sympy.Symbol("m", integer=True, nonnegative=True)  # k = 2 + m
    lost = sympy.exp(-t) * (1 - sympy.exp(-t * (1 + beyond)))
    assert sympy.simplify(lost - (sympy.exp(-t) - sympy.exp(-t) ** (2 + beyond))) == 0
    decay = sympy.exp(-t * (1 + beyond))
    assert (t * (1 + beyond)).is_positive
    assert sympy.diff(decay, t).is_negative  # so that e^{−t(k−1)} < e⁰ = 1
    assert sympy.limit(decay.subs(beyond, 0), t, 0) == 1
    witness(instances=3)


@pytest.mark.claim("R1", "symbolic", step="minus-one")
def test_at_minus_one_only_purely_odd_or_even_kernels_keep_their_size():
    """`K(±1) = E ± O` with the masses of even and odd degrees: `K(1)² − K(−1)² = 4 E O`."""
    even, odd = sympy.symbols("E O", nonnegative=True)
    assert sympy.expand((even + odd) ** 2 - (even - odd) ** 2 - 4 * even * odd) == 0
    witness()


@pytest.mark.parametrize("name", ALL)
def test_at_minus_one_named_kernels_keep_their_size_if_odd_or_even_when_centred(name):
    """Which the step and the sigmoid are, too."""
    x = np.linspace(0.01, 4, 50)
    mirrored, itself = standardise(name).value(-x), standardise(name).value(x)
    symmetric = min(np.abs(itself - mirrored).max(), np.abs(itself + mirrored).max()) < 1e-12
    assert (1 - abs(dual_kernel(name, -1.0)) < 1e-12) == symmetric


@pytest.mark.claim("R1", "exact")
@given(C=correlations_of_rank(4, 3), weights=masses)
def test_kernels_with_rational_coefficients_gain_rank_exactly(C, weights):
    K = apply(weights, C)
    assert er2(K) >= er2(C)
    off = [C[a, b] for a in range(4) for b in range(a)]
    settled = all(
        x in (0, 1) or (x == -1 and abs(sum((-1) ** k * w for k, w in enumerate(weights))) == 1) for x in off
    )
    assert (er2(K) == er2(C)) == (settled or not any(weights[1:]))
    witness()


@pytest.mark.claim("R1", "property")
@pytest.mark.parametrize("name", ALL)
@given(C=correlations_of_rank(5, 3))
def test_no_named_activation_loses_rank(name, C):
    lost = max(0.0, 1 - float(rank_gain(C.astype(np.float64), name)))
    assert lost <= NEAR
    witness(residual=lost)


@pytest.mark.claim("R1", "property")
@pytest.mark.parametrize("name", NONLINEAR)
def test_nonlinear_activations_gain_rank_where_a_correlation_is_inside(name):
    C = np.array([[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert rank_gain(C, name) > 1 + 1e-3
    witness()


@pytest.mark.control("R1")
def test_without_centring_rank_is_lost():
    K = dual_kernel("relu", np.eye(5), standardised=False) * 2
    assert renyi2_rank(K) < renyi2_rank(np.eye(5)) - 1


@pytest.mark.control("R1")
def test_other_measures_of_rank_are_not_gained_by_every_kernel():
    """Three vectors at 120° under `r ↦ r²`: `er₂` rises from 2 to 8/3, and `tr C/λ_max` stays 2."""
    C = np.array([[1.0, -0.5, -0.5], [-0.5, 1.0, -0.5], [-0.5, -0.5, 1.0]])
    assert stable_rank(C) == pytest.approx(2)
    assert stable_rank(dual_kernel("square", C)) == pytest.approx(2)
    assert rank_gain(C, "square") == pytest.approx(4 / 3)


# ----------------------------------------------------------------------------------------------- R2, sharp bound


@pytest.mark.claim("R2", "symbolic", step="entrywise")
def test_powers_beyond_the_second_are_smaller():
    """For `0 ≤ r ≤ 1` and `k ≥ 2`: `rᵏ ≤ r²`, so that `Σ_{k≥2} c_k² rᵏ ≤ (1 − c₁²) r²`."""
    t = sympy.Symbol("t", nonnegative=True)  # r = e^{−t}; r = 0 is clear
    m = sympy.Symbol("m", integer=True, nonnegative=True)
    ratio = sympy.exp(-t * m)
    assert sympy.simplify(sympy.exp(-t) ** (2 + m) / sympy.exp(-2 * t) - ratio) == 0
    assert sympy.diff(ratio, t).is_nonpositive
    assert ratio.subs(t, 0) == 1
    witness(instances=2)


@pytest.mark.claim("R2", "symbolic", step="vertex")
def test_the_worst_kernel_has_all_its_mass_on_one_degree():
    """`F(w) = Σ_ij (a ρ_ij + Σ_k w_k ρ_ijᵏ)²` is convex: along `u` it has `F'' = 2 Σ_ij (Σ_k u_k ρ_ijᵏ)²`.

    A convex function on a simplex is largest at a corner.
    """
    s, a = sympy.symbols("s a", real=True)
    rho = sympy.symbols("rho1:4", real=True)
    w, u = sympy.symbols("w2:6", real=True), sympy.symbols("u2:6", real=True)
    F = sum((a * x + sum((w[k] + s * u[k]) * x ** (k + 2) for k in range(4))) ** 2 for x in rho)
    curvature = 2 * sum(sum(u[k] * x ** (k + 2) for k in range(4)) ** 2 for x in rho)
    assert sympy.expand(sympy.diff(F, s, 2) - curvature) == 0
    witness()


@pytest.mark.claim("R2", "symbolic", step="corners")
def test_the_worst_degree_is_the_second_or_the_third():
    """`(a ρ + b ρᵏ)² = a² ρ² + 2ab ρ^{k+1} + b² ρ^{2k}`; for `k ≥ 3` both powers are at most those of `k = 3`.

    `ρ^{k+1} ≤ |ρ|^{k+1} ≤ ρ⁴` and `ρ^{2k} ≤ ρ⁶`, with `|ρ| = e^{−t}`.
    """
    a, b, x = sympy.symbols("a b x", real=True)
    k = sympy.Symbol("k", integer=True, positive=True)
    expanded = sympy.expand((a * x + b * x**k) ** 2)
    assert sympy.powsimp(expanded - (a**2 * x**2 + 2 * a * b * x ** (k + 1) + b**2 * x ** (2 * k))) == 0
    t = sympy.Symbol("t", nonnegative=True)
    m = sympy.Symbol("m", integer=True, nonnegative=True)  # k = 3 + m
    for power, least in ((4 + m, 4), (2 * (3 + m), 6)):
        ratio = sympy.simplify(sympy.exp(-t * power) / sympy.exp(-t * least))
        assert sympy.diff(ratio, t).is_nonpositive
        assert ratio.subs(t, 0) == 1
    witness(instances=3)


@pytest.mark.claim("R2", "symbolic", step="attained")
@pytest.mark.parametrize("degree", [2, 3])
def test_the_extremal_activation_has_the_extremal_kernel(degree):
    """`c₁ h₁ + √(1 − c₁²) h_k` has `K(ρ) = c₁² ρ + (1 − c₁²) ρᵏ`, for every `c₁ = cos u`."""
    u = sympy.Symbol("u", real=True)
    he = {2: z**2 - 1, 3: z**3 - 3 * z}[degree] / sympy.sqrt(sympy.factorial(degree))
    K = expectation(sympy.cos(u) * z + sympy.sin(u) * he, 0)
    assert sympy.simplify(K - (sympy.cos(u) ** 2 * r + sympy.sin(u) ** 2 * r**degree)) == 0
    witness()


@pytest.mark.claim("R2", "exact")
@given(C=correlations_of_rank(4, 3), weights=masses)
def test_no_kernel_with_rational_coefficients_is_below_the_bound(C, weights):
    a = weights[0]
    squares = [((a * C + (1 - a) * C**k) ** 2).sum() for k in (2, 3)]
    assert (apply(weights, C) ** 2).sum() <= max(squares)
    entrywise = a * abs(C) + (1 - a) * C**2
    assert max(squares) <= (entrywise**2).sum()
    witness()


@pytest.mark.claim("R2", "property")
@pytest.mark.parametrize("name", ALL)
@given(C=correlations_of_rank(5, 3))
def test_no_named_activation_is_below_the_bound(name, C):
    C = C.astype(np.float64)
    excess = max(0.0, float(rank_gain_bound(C, name) / rank_gain(C, name)) - 1)
    assert excess <= NEAR
    witness(residual=excess)


@pytest.mark.claim("R2", "property")
@given(C=correlations_of_rank(5, 3), share=floats(0, 1))
def test_one_of_two_activations_lies_on_the_bound(C, share):
    C, found = C.astype(np.float64), []
    for he in ((-1.0, 0.0, 1.0), (0.0, -3.0, 0.0, 1.0)):
        scale = math.sqrt((1 - share) / math.factorial(len(he) - 1))
        coefficients = [scale * x for x in he]
        coefficients[1] += math.sqrt(share)
        found.append(float(rank_gain(C, polynomial(tuple(coefficients)))))
    error = abs(min(found) / float(rank_gain_bound(C, share)) - 1)
    assert error <= 1e-12
    witness(residual=error)


@pytest.mark.control("R2")
def test_with_the_fourth_degree_instead_the_bound_is_passed():
    C = np.array([[1.0, -0.7], [-0.7, 1.0]])
    a = 0.4
    too_weak = ((a * C + (1 - a) * C**4) ** 2).sum()
    assert renyi2_rank(a * C + (1 - a) * C**3) < 4 / too_weak - 0.05


@pytest.mark.control("R2")
def test_on_negative_correlations_the_entrywise_bound_is_not_attained():
    C, a = np.array([[1.0, -0.5], [-0.5, 1.0]]), 0.5
    entrywise = ((a * np.abs(C) + (1 - a) * C**2) ** 2).sum()
    assert float(rank_gain_bound(C, a)) > float((C * C).sum() / entrywise) + 0.04


def test_the_linear_share_of_an_activation_or_a_number():
    assert linear_share("relu") == pytest.approx(moments("relu").linear_share)
    assert linear_share(0.25) == 0.25
    with pytest.raises(ValueError, match=r"linear share 1\.5; allowed"):
        rank_gain_bound(np.eye(2), 1.5)


# -------------------------------------------------------------------------------------------- R3, without centring


@pytest.mark.claim("R3", "symbolic", step="constant")
def test_the_mean_puts_the_same_correlation_everywhere():
    """On `C = I` with `μ² = (E φ)²/E φ²`: `er₂ = n²/(n + n (n − 1) μ⁴) < n` for every `n ≥ 2` unless `μ = 0`."""
    mu, more = sympy.Symbol("mu", positive=True), sympy.Symbol("k", integer=True, nonnegative=True)
    size = more + 2
    rank = size**2 / (size + size * (size - 1) * mu**4)
    assert sympy.simplify(rank - size / (1 + (size - 1) * mu**4)) == 0
    assert sympy.simplify(size - rank).is_positive
    witness(instances=2)


@pytest.mark.claim("R3", "symbolic", step="relu")
def test_relu_has_one_over_pi():
    x = sympy.Symbol("x", positive=True)
    gamma = sympy.exp(-(x**2) / 2) / sympy.sqrt(2 * sympy.pi)
    mean, square = (sympy.integrate(x**k * gamma, (x, 0, sympy.oo)) for k in (1, 2))
    assert sympy.simplify(mean**2 / square - 1 / sympy.pi) == 0
    witness()


@pytest.mark.claim("R3", "property")
@pytest.mark.parametrize("size", [2, 3, 10, 100])
def test_uncentred_relu_lowers_the_rank_of_the_identity(size):
    K = dual_kernel("relu", np.eye(size), standardised=False) / moments("relu").square
    expected = size / (1 + (size - 1) / math.pi**2)
    assert float(renyi2_rank(K)) == pytest.approx(expected, rel=1e-12)
    assert expected < size
    witness(residual=abs(float(renyi2_rank(K)) / expected - 1))


@pytest.mark.control("R3")
def test_centred_relu_keeps_the_identity():
    assert (dual_kernel("relu", np.eye(4)) == np.eye(4)).all()


@pytest.mark.control("R3")
def test_an_activation_of_mean_zero_keeps_the_identity_uncentred():
    K = dual_kernel("tanh", np.eye(4), standardised=False)
    assert np.abs(K - K[0, 0] * np.eye(4)).max() == 0


# ----------------------------------------------------------------------------------------------------- prediction


@pytest.mark.parametrize("name", ["relu", "tanh", "gelu", "sigmoid"])
def test_prediction_of_ranks_is_that_of_the_kernel(name):
    C = unit_gram(12, 4, np.random.default_rng(1))
    predicted = predict_rank(C, name)
    assert predicted == ranks(dual_kernel(name, C))
    assert predicted.hard == 12 > hard_rank(C)


@pytest.mark.claim("R1", "simulation")
@pytest.mark.parametrize("name", ["relu", "tanh", "gelu", "sin"])
def test_sampled_rank_is_the_prediction_with_its_sampling_error(name):
    """Forty runs of 2,000 samples; without its `v/N` the prediction would be off by many standard errors."""
    C, samples, rng = unit_gram(30, 5, np.random.default_rng(2)), 2000, np.random.default_rng(3)
    phi = standardise(name)
    H = [phi.value(sample_gaussian(C, samples, rng)) for _ in range(40)]
    found = np.array([float(renyi2_rank(h.T @ h / samples)) for h in H])
    error = found.std(ddof=1) / math.sqrt(len(found))
    predicted = predict_sampled_rank(C, name, samples)
    assert abs(found.mean() - predicted) <= monte_carlo(error) + 1e-3 * predicted
    assert predict_sampled_rank(C, name, 10**12) == pytest.approx(predict_rank(C, name).renyi2, rel=1e-9)
    witness(residual=abs(found.mean() / predicted - 1), instances=len(found))


def test_without_the_correction_the_sampled_rank_is_missed():
    C, samples, rng = unit_gram(100, 40, np.random.default_rng(4)), 500, np.random.default_rng(5)
    h = standardise("relu").value(sample_gaussian(C, samples, rng))
    found = float(renyi2_rank(h.T @ h / samples))
    assert abs(found / predict_sampled_rank(C, "relu", samples) - 1) < 0.02
    assert abs(found / predict_rank(C, "relu").renyi2 - 1) > 0.05


# ------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("C", "message"),
    [
        (np.ones(3), r"shape \(3,\); allowed are square"),
        (np.ones((2, 3)), "allowed are square"),
        (np.zeros((0, 0)), "allowed are square"),
        ([[1.0, 0.2], [0.3, 1.0]], r"not symmetric; .* use \(C \+ Cᵀ\)/2"),
        ([[1.0, math.nan], [math.nan, 1.0]], "NaN"),
        ([[1.0, 2.0], [2.0, 1.0]], "not positive semidefinite"),
    ],
)
@pytest.mark.parametrize("measure", [stable_rank, renyi2_rank, shannon_rank, hard_rank, ranks])
def test_what_is_no_covariance_is_named(measure, C, message):
    with pytest.raises(ValueError, match=message):
        measure(C)


@pytest.mark.parametrize("function", [rank_gain, rank_gain_bound, predict_rank])
@pytest.mark.parametrize(
    ("C", "message"),
    [
        (2 * np.eye(2), r"2\.0 on its diagonal; .* divide a covariance"),
        ([[1.0, 0.9, 0.0], [0.9, 1.0, 0.9], [0.0, 0.9, 1.0]], "not positive semidefinite"),
        ([[1.0, 1.2], [1.2, 1.0]], "not positive semidefinite"),
    ],
)
def test_what_is_no_correlation_matrix_is_named(function, C, message):
    with pytest.raises(ValueError, match=message):
        function(C, "relu")


def test_other_bad_arguments_are_named():
    with pytest.raises(ValueError, match="C is zero"):
        renyi2_rank(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="H is zero"):
        roy_vetterli_rank(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="H has shape"):
        srank(np.zeros(3))
    with pytest.raises(ValueError, match="H contains NaN"):
        srank([[math.nan, 1.0]])
    with pytest.raises(ValueError, match="delta is 1"):
        srank(np.eye(2), 1)
    with pytest.raises(ValueError, match="rtol is -1"):
        hard_rank(np.eye(2), -1)
    with pytest.raises(ValueError, match="samples is 0"):
        predict_sampled_rank(np.eye(2), "relu", 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sample_correlations_of_either_precision_are_accepted(dtype):
    """Also singular ones, whose rounding makes eigenvalues negative and diagonals miss 1."""
    H = np.random.default_rng(0).standard_normal((50, 10)) @ np.random.default_rng(1).standard_normal((10, 200))
    H = ((H - H.mean(axis=0)) / H.std(axis=0)).astype(dtype)
    C = H.T @ H / dtype(len(H))
    assert hard_rank(C) == 10
    assert float(rank_gain(C, "relu")) > 1.1
    assert hard_rank(np.diag([1.0, 1e-4, -1e-4]), rtol=1e-3) == 1


def test_ranks_of_a_stack_are_arrays_and_complex_matrices_are_refused():
    found = ranks(np.stack([np.eye(3), np.ones((3, 3))]))
    assert found.hard.tolist() == [3, 1]
    assert isinstance(ranks(np.eye(3)).hard, int)
    with pytest.raises(TypeError, match="C holds complex128"):
        ranks(1j * np.eye(2))


def test_independent_signs_have_no_variance_on_the_diagonal():
    """`φ = sign` has `φ² = 1`: `v_ij = 1 − K_ij²`, so that `er₂ = n²/(n + n (n − 1)/N)` on `C = I`."""
    assert predict_sampled_rank(np.eye(10), "sign", 5) == pytest.approx(100 / (10 + 90 / 5), rel=1e-12)


def test_thresholds_of_counts():
    assert hard_rank(np.diag([1.0, 1e-15])) == 1  # below 64 · 2 eps
    assert hard_rank(np.diag([1.0, 0.5]), rtol=0.5) == 1  # above, not at
    assert hard_rank(np.zeros((2, 2)) + np.eye(2), rtol=0) == 2
    assert int(srank(np.diag([1.0] * 10), 0.1)) == 9  # a sum that reaches its share but for rounding
    assert rank_gain_bound(np.eye(2), 1 + 1e-15) == 1


def test_no_size_is_too_large_and_no_kind_of_number_is_guessed():
    assert ranks(1e308 * np.eye(2)) == ranks(np.eye(2))
    assert roy_vetterli_rank(1e308 * np.eye(3)) == pytest.approx(3)
    for values in ([["1", "0"], ["0", "1"]], 1j * np.eye(2), np.ma.masked_equal(np.eye(2), 0)):
        for function in (stable_rank, srank, lambda C: rank_gain(C, "relu")):
            with pytest.raises(TypeError, match=r"is complex|holds|masked"):
                function(values)
    for samples in (math.nan, 1.5):
        with pytest.raises(ValueError, match="samples is"):
            predict_sampled_rank(np.eye(2), "relu", samples)
    with pytest.raises(ValueError, match="takes one matrix"):
        predict_sampled_rank(np.stack([np.eye(2)] * 2), "relu", 5)
    with pytest.raises(ValueError, match="constant"):
        rank_gain_bound(np.eye(2), "one")
    assert linear_share(Fraction(1, 2)) == linear_share(np.float32(0.5)) == 0.5


# ----------------------------------------------------------------------------------------- types of NumPy and torch

KINDS = {
    "NumPy's float32": lambda x: x.astype(np.float32),
    "NumPy's float16": lambda x: x.astype(np.float16),
    "float64": lambda x: torch.tensor(x),
    "float32": lambda x: torch.tensor(x).float(),
    "float32 with a graph": lambda x: torch.tensor(x, dtype=torch.float32, requires_grad=True),
    "bfloat16": lambda x: torch.tensor(x).bfloat16(),
    "float16": lambda x: torch.tensor(x).half(),
}
activations = st.builds(
    lambda samples, units, rank, seed: (
        (g := np.random.default_rng(seed)).normal(size=(samples, rank)) @ g.normal(size=(rank, units))
    ),
    st.integers(8, 60),
    st.integers(2, 24),
    st.integers(1, 6),
    st.integers(0, 2**32 - 1),
)


def entropy_moves_by(moved: float, n: int) -> float:
    """Return how far an entropy of `n` shares goes when half their moves add up to `moved` (Audenaert 2007)."""
    t = min(moved, 1 - 1 / n)
    return t * math.log(max(n - 1, 1)) - t * math.log(t) - (1 - t) * math.log1p(-t)


@given(activations, st.sampled_from(sorted(KINDS)))
def test_all_types_have_the_ranks_of_float64(H, kind):
    """Rounding moves `C` by `E` with `|E_ij| ≤ eps/2 |C_ij|`, and eigenvalues by no more than `‖E‖_F` (Weyl)."""
    C = H.T @ H / np.abs(H.T @ H).max()
    given = KINDS[kind](C)
    n, exact, found = len(C), ranks(C), ranks(given)
    moved = rounding_unit(given) * np.linalg.norm(C)  # twice what is due, and `‖E‖_F ≥ |tr E| / √n`
    relative = (1 + math.sqrt(n)) * moved / np.linalg.eigvalsh(C)[-1]
    assert found.stable == pytest.approx(exact.stable, rel=relative)
    assert found.renyi2 == pytest.approx(exact.renyi2, rel=4 * rounding_unit(given) * (1 + math.sqrt(n)))
    entropy = entropy_moves_by(min(0.5, math.sqrt(n) * moved / np.trace(C)), n)
    assert abs(math.log(found.shannon / exact.shannon)) <= entropy + float64_identity()
    least = np.linalg.eigvalsh(C)[-exact.hard] / np.linalg.eigvalsh(C)[-1]
    if least > 2 * zero_eigenvalue(given):
        assert found.hard == exact.hard
    assert found.hard <= exact.hard
    witness(residual=abs(found.stable / exact.stable - 1))


@given(activations, st.sampled_from(sorted(KINDS)))
def test_all_types_of_activations_are_the_numbers_that_they_hold(H, kind):
    given = KINDS[kind](H)
    exact = np.asarray(given.detach().double() if isinstance(given, torch.Tensor) else given, np.float64)
    assert roy_vetterli_rank(given) == roy_vetterli_rank(exact)
    assert srank(given) == srank(exact)


@given(activations, st.sampled_from(sorted(KINDS)))
def test_all_types_are_correlation_matrices(H, kind):
    C = np.corrcoef(H.T)
    given = KINDS[kind](C)
    allowed = 8 * rounding_unit(given) + float64_identity(len(C))  # kernels have slopes of about one
    for function in (rank_gain, rank_gain_bound):
        assert float(function(given, "tanh")) == pytest.approx(float(function(C, "tanh")), rel=allowed)
    assert predict_rank(given, "relu").renyi2 == pytest.approx(predict_rank(C, "relu").renyi2, rel=allowed)
    assert predict_sampled_rank(given, "relu", 9) == pytest.approx(predict_sampled_rank(C, "relu", 9), rel=allowed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_features_of_rank_three_have_rank_three(dtype):
    g = torch.Generator().manual_seed(0)
    H = (torch.randn(200, 3, generator=g) @ torch.randn(3, 40, generator=g)).to(dtype)
    C = H.T @ H
    assert hard_rank(C) == ranks(C).hard == 3
    assert hard_rank(C, rtol=0.0) > 3  # of its own rounding


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_no_covariance_is_refused_in_all_types(dtype):
    with pytest.raises(ValueError, match="not positive semidefinite"):
        ranks(torch.tensor([[1.0, 2.0], [2.0, 1.0]], dtype=dtype))
    with pytest.raises(ValueError, match="not symmetric"):
        ranks(torch.tensor([[1.0, 0.2], [0.9, 1.0]], dtype=dtype))
    with pytest.raises(TypeError, match=r"C holds torch\.complex64; real numbers"):
        ranks(torch.eye(2, dtype=torch.complex64))


def test_a_half_precision_matrix_of_any_size_has_a_rank():
    assert hard_rank(torch.eye(200).bfloat16()) == hard_rank(np.eye(200, dtype=np.float16)) == 200
    assert linear_share(torch.tensor(0.5)) == 0.5
