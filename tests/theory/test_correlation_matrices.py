"""What an activation does to a correlation matrix (K2): every step of the proof, then named activations."""

import math
from fractions import Fraction

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from claims.evidence import witness
from theory.activations import named, standardise
from theory.enclosures import dual_kernel_enclosure
from theory.full_rank import is_certainly_positive_definite
from theory.kernels import dual_kernel
from theory.tolerances import float64_identity, monte_carlo

ALL = tuple(name for name in named() if name != "one")


def symbols(name, *shape):
    """Return an object array of free real symbols."""
    flat = sympy.symbols(f"{name}0:{math.prod(shape)}", real=True)
    return np.array(flat, dtype=object).reshape(shape)


# ----------------------------------------------------------------------------------------------------- the proof


@pytest.mark.claim("K2", "symbolic", step="pairs")
@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_two_coordinates_of_a_gaussian_vector_are_a_standard_pair(n):
    """`tᵀ C t` at `t = a e_i + b e_j` is `a² + 2 C_ij a b + b²`, and `(a + b)²` at `i = j`."""
    a, b = sympy.symbols("a b", real=True)
    upper = np.triu(symbols("C", n, n), 1)
    C = upper + upper.T + np.eye(n, dtype=int)
    for i in range(n):
        for j in range(n):
            t = a * np.eye(n, dtype=int)[i] + b * np.eye(n, dtype=int)[j]
            assert sympy.expand(t @ C @ t - (a**2 + 2 * C[i, j] * a * b + b**2)) == 0
            witness()


@pytest.mark.claim("K2", "symbolic", step="schur")
def test_the_summand_of_a_schur_product_factors_for_all_indices():
    """`x_i x_j (a_ir a_jr)(b_is b_js) = (x_i a_ir b_is)(x_j a_jr b_js)`, with indices of no fixed range."""
    i, j, r, s = sympy.symbols("i j r s", integer=True)
    x, a, b = (sympy.IndexedBase(name, real=True) for name in "xab")
    summand = x[i] * x[j] * (a[i, r] * a[j, r]) * (b[i, s] * b[j, s])
    factor = x[i] * a[i, r] * b[i, s]
    assert sympy.expand(summand - factor * factor.subs(i, j)) == 0
    assert (factor.subs(i, 1) + factor.subs(i, 2)).is_real  # its square is not negative
    witness()


@pytest.mark.claim("K2", "symbolic", step="schur")
@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_quadratic_form_of_a_schur_product_is_a_sum_of_squares(n):
    """`Σ_ij x_i x_j A_ij B_ij = Σ_rs (Σ_i x_i a_ir b_is)²` with every entry free."""
    x, a, b = symbols("x", n), symbols("a", n, n), symbols("b", n, n)
    form = x @ ((a @ a.T) * (b @ b.T)) @ x
    squares = sum((x @ (a[:, r] * b[:, s])) ** 2 for r in range(n) for s in range(n))
    assert sympy.expand(form - squares) == 0
    witness()


@pytest.mark.claim("K2", "symbolic", step="schur")
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_a_power_of_an_inner_product_is_one_of_tensor_powers(k):
    """`(a · b)ᵏ = a^{⊗k} · b^{⊗k}`."""
    a, b = symbols("a", 3), symbols("b", 3)
    assert sympy.expand((a @ b) ** k - tensor_power(a, k) @ tensor_power(b, k)) == 0
    witness()


@pytest.mark.claim("K2", "symbolic", step="series")
def test_a_partial_sum_of_the_series_is_a_gram_matrix():
    """`Σ_k c_k² C_ijᵏ = v_i · v_j` with `v_i = (c_k a_i^{⊗k})_k`, so that its quadratic form is `|Σ x_i v_i|²`."""
    a, c, x = symbols("a", 2, 2), symbols("c", 4), symbols("x", 2)
    v = np.array([np.concatenate([c[k] * tensor_power(row, k) for k in range(1, 4)]) for row in a])
    K = sum(c[k] ** 2 * (a @ a.T) ** k for k in range(1, 4))
    assert all(sympy.expand(entry) == 0 for entry in (K - v @ v.T).flat)
    assert sympy.expand(x @ K @ x - (x @ v) @ (x @ v)) == 0
    witness(instances=2)


def tensor_power(a, k):
    """Return `a ⊗ … ⊗ a`, flattened."""
    power = np.array([sympy.S.One], dtype=object)
    for _ in range(k):
        power = np.outer(power, a).ravel()
    return power


# ------------------------------------------------------------------------------------------------------ controls


@pytest.mark.control("K2")
def test_a_series_with_a_negative_coefficient_breaks_positivity():
    """`ρ ↦ (3ρ − ρ³)/2` maps a positive semidefinite matrix to one that is not."""
    C = sympy.Matrix(3, 3, lambda i, j: 1 if i == j else sympy.Rational(-1, 2))
    image = C.applyfunc(lambda r: (3 * r - r**3) / 2)
    assert C.is_positive_semidefinite
    assert not image.is_positive_semidefinite


@pytest.mark.control("K2")
def test_with_an_indefinite_factor_the_schur_product_is_indefinite():
    A, B = sympy.Matrix([[1, 1], [1, 1]]), sympy.Matrix([[1, 2], [2, 1]])
    assert A.is_positive_semidefinite
    assert not sympy.matrix_multiply_elementwise(A, B).is_positive_semidefinite


@pytest.mark.control("K2")
def test_the_square_of_a_matrix_is_no_entrywise_power():
    C = np.array([[1.0, 0.5], [0.5, 1.0]])
    assert np.abs(dual_kernel("square", C) - C @ C).max() > 0.2


# ------------------------------------------------------------------------------------------- the named activations


@st.composite
def correlation_matrices(draw, size=4):
    """Convex combinations of `v vᵀ` with signs `v`: rational correlation matrices, singular ones among them."""
    count = draw(st.integers(1, 4))
    weights = draw(st.lists(st.integers(1, 9), min_size=count, max_size=count))
    signs = [draw(st.lists(st.sampled_from([-1, 1]), min_size=size, max_size=size)) for _ in weights]
    total = sum(weights)
    return [
        [sum(Fraction(w * v[i] * v[j], total) for w, v in zip(weights, signs, strict=True)) for j in range(size)]
        for i in range(size)
    ]


@pytest.mark.claim("K2", "property")
@pytest.mark.parametrize("name", ALL)
@given(C=correlation_matrices())
def test_the_kernel_of_a_correlation_matrix_is_one(name, C):
    K = dual_kernel(name, np.array(C, dtype=np.float64))
    lowest = float(np.linalg.eigvalsh(K)[0])
    assert (np.diag(K) == 1).all()
    assert lowest >= -float64_identity(np.trace(K))
    witness(residual=max(0.0, -lowest))


@pytest.mark.claim("K2", "enclosure")
@pytest.mark.parametrize("name", ["relu", "tanh", "gelu", "elu", "softsign"])
def test_the_kernel_of_a_singular_correlation_matrix_is_certified_positive(name):
    half = Fraction(1, 2)
    C = [[1, half, -half], [half, 1, half], [-half, half, 1]]
    assert sympy.Matrix(3, 3, lambda i, j: sympy.Rational(str(C[i][j]))).det() == 0
    K = [[dual_kernel_enclosure(name, c) for c in row] for row in C]
    assert is_certainly_positive_definite(K)
    witness()


@pytest.mark.claim("K2", "simulation")
@pytest.mark.parametrize("name", ["relu", "gelu", "sin", "hardtanh"])
def test_sampled_activations_have_the_correlations_of_the_kernel(name):
    C = np.array([[1.0, 0.6, -0.3], [0.6, 1.0, 0.2], [-0.3, 0.2, 1.0]])
    samples = 200_000
    z = np.linalg.cholesky(C) @ np.random.default_rng(0).standard_normal((3, samples))
    h = standardise(name).value(z)
    products = h[:, None] * h[None]
    off = np.abs(products.mean(axis=-1) - dual_kernel(name, C))
    error = products.std(axis=-1) / math.sqrt(samples)
    assert (off / error).max() <= monte_carlo(1)
    witness(residual=float(off.max()), instances=samples)
