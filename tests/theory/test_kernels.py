"""The dual kernel: its properties (K1), what it does to correlation matrices (K2), and its evaluation."""

import math
from fractions import Fraction

import numpy as np
import pytest
import sympy
from flint import arb
from hypothesis import given
from hypothesis import strategies as st

from claims.evidence import witness
from theory.activations import from_callable, get, hermite, modulate, moments, named, polynomial, standardise
from theory.enclosures import dual_kernel_enclosure
from theory.hermite import hermite_coefficients
from theory.kernels import BLOCK, dual_kernel, dual_kernel_derivative, report
from theory.price import density, x, y
from theory.price import rho as r
from theory.tolerances import float64_identity, monte_carlo

ALL = tuple(name for name in named() if name != "one")
SMOOTH = ("tanh", "sigmoid", "erf", "gelu", "gelu_tanh", "silu", "softplus", "mish", "sin", "cos", "gaussian")
correlations = st.floats(-1, 1)
NEAR = float64_identity(1)
HIGHEST = {"step": 1, "sign": 1, "relu2": 3} | dict.fromkeys(
    ("relu", "leaky_relu", "abs", "selu", "hardtanh", "hard_swish"), 2
)


# ------------------------------------------------------------------------------------------------ K1, symbolically


@pytest.mark.claim("K1", "symbolic")
def test_hermite_polynomials_of_correlated_gaussians_are_biorthogonal():
    """`e^{sx − s²/2} e^{ty − t²/2} p(x, y) = e^{stρ} p(x − s − ρt, y − t − ρs)`: the integral over `x, y` is
    `e^{stρ}`.

    Both exponentials generate the Hermite polynomials, `e^{sx − s²/2} = Σ_j He_j(x) sʲ/j!`, so that comparing
    powers of `s` and `t` gives `E He_j(X) He_k(Y) = δ_jk k! ρᵏ`.
    """
    s, t = sympy.symbols("s t", real=True)
    generating = s * x - s**2 / 2 + t * y - t**2 / 2
    shifted = density.subs({x: x - s - r * t, y: y - t - r * s}, simultaneous=True)
    exponents = [sympy.expand_log(sympy.log(p), force=True) for p in (density, shifted)]
    assert sympy.simplify(exponents[0] + generating - s * t * r - exponents[1]) == 0
    witness()
    for k in range(8):
        coefficient = sympy.series(sympy.exp(s * x - s**2 / 2), s, 0, k + 1).removeO().coeff(s, k)
        he = sympy.expand(sympy.hermite(k, x / sympy.sqrt(2)) / sympy.sqrt(2) ** k)
        assert sympy.expand(coefficient * sympy.factorial(k) - he) == 0
        witness()


@pytest.mark.claim("K1", "symbolic")
def test_a_series_with_nonnegative_coefficients_is_bounded_increasing_and_convex():
    """Each term `c² ρᵏ`, `k ≥ 1`: 0 at 0, `c²` at 1, at most `c² |ρ|`, all derivatives non-negative on [0, 1)."""
    k, m = sympy.symbols("k m", integer=True, positive=True)
    c, s, r = sympy.symbols("c s r", real=True, nonnegative=True)
    inside = s / sympy.sqrt(1 + s**2)  # [0, 1)
    term = c**2 * r**k
    assert term.subs(r, 0) == 0
    assert term.subs(r, 1) == c**2
    assert (term / r).subs(r, inside).simplify().is_nonnegative
    assert sympy.simplify(inside**2 - 1).is_negative  # so |ρ|^{k−1} ≤ 1, hence |c² ρᵏ| ≤ c² |ρ|
    falling = sympy.ff(k + m, m)
    derivative = c**2 * falling * r**k
    assert sympy.simplify(sympy.diff(c**2 * r ** (k + m), r, 1) - c**2 * (k + m) * r ** (k + m - 1)) == 0
    assert all(sympy.expand_func(sympy.ff(k + j, j)).is_positive for j in range(1, 6))
    assert derivative.subs(m, 3).subs(falling.subs(m, 3), sympy.expand_func(sympy.ff(k + 3, 3))).is_nonnegative
    witness(instances=8)


@pytest.mark.claim("K1", "symbolic")
def test_the_density_turns_a_derivative_in_rho_into_one_in_both_arguments():
    """`∂p/∂ρ = ∂²p/∂x∂y`, so that two integrations by parts give `K' = E φ'(X) φ'(Y)`.

    Termwise it is `h_k' = √k h_{k−1}`.
    """
    assert sympy.simplify((sympy.diff(density, r) - sympy.diff(density, x, y)) / density) == 0
    witness()
    for k in range(1, 8):
        he = [sympy.expand(sympy.hermite(j, x / sympy.sqrt(2)) / sympy.sqrt(2) ** j) for j in (k - 1, k)]
        assert sympy.expand(sympy.diff(he[1], x) - k * he[0]) == 0
        witness()


@pytest.mark.control("K1")
def test_without_centring_the_kernel_is_not_zero_at_zero():
    raw = get("relu").kernel.formula(sympy.Integer(0))
    assert sympy.simplify(raw - 1 / (2 * sympy.pi)) == 0
    assert dual_kernel("relu", 0.0, standardised=False) > 0.15


@pytest.mark.control("K1")
def test_without_gaussians_the_bound_fails():
    """Four points on which `X Y` is zero, yet `φ(z) = z² − 1` correlates them: the bound needs Gaussians."""
    pairs = [(1, 0), (0, 1), (-1, 0), (0, -1)]  # uniform; uncorrelated, not Gaussian
    X, Y = (np.array([pair[i] for pair in pairs]) * math.sqrt(2) for i in (0, 1))
    assert abs((X * Y).mean()) < NEAR
    phi = X**2 - 1, Y**2 - 1
    assert abs((phi[0] * phi[1]).mean() / (phi[0] ** 2).mean()) > 0.99


# ------------------------------------------------------------------------------------------------- K1, numerically


@pytest.mark.claim("K1", "property")
@pytest.mark.parametrize("name", ALL)
@given(a=st.floats(0, 1), b=st.floats(0, 1))
def test_the_kernel_is_bounded_increasing_and_convex(name, a, b):
    low, high = sorted((a, b))
    K = dual_kernel(name, np.array([low, (low + high) / 2, high, -low, -high]))
    excess = max(0.0, abs(K[4]) - high, abs(K[2]) - high, K[0] - K[2], K[1] - (K[0] + K[2]) / 2)
    assert excess <= 1e-13
    witness(residual=excess)


@pytest.mark.parametrize("name", ALL)
def test_values_at_minus_one_zero_and_one_are_exact(name):
    K = dual_kernel(name, np.array([-1.0, 0.0, 1.0]))
    assert K[1] == 0
    assert K[2] == 1
    assert get(name).symmetry is None or K[0] == {"odd": -1, "even": 1}[get(name).symmetry]
    assert abs(dual_kernel_enclosure(name, -1) - float(K[0])) <= 1e-14 + dual_kernel_enclosure(name, -1).rad()


@pytest.mark.parametrize("name", ALL)
@given(rho=correlations)
def test_symmetry_of_the_activation_is_that_of_its_kernel(name, rho):
    parity = {"odd": -1, "even": 1}.get(get(name).symmetry)
    if parity:
        assert abs(dual_kernel(name, -rho) - parity * dual_kernel(name, rho)) <= 1e-13


@pytest.mark.claim("K1", "property")
@pytest.mark.parametrize("name", ALL)
@given(rho=st.floats(-0.85, 0.85))
def test_the_hermite_series_is_the_kernel(name, rho):
    """With the truncation error below `|ρ|^{n+1}` times the energy that is left."""
    n = 80
    c = hermite_coefficients(name, n)
    series = np.polynomial.polynomial.polyval(rho, c**2)
    left = max(moments(name).square - (c**2).sum(), 0.0)
    error = abs(series - dual_kernel(name, rho, standardised=False))
    assert error <= abs(rho) ** (n + 1) * left + 1e-13 * (1 + moments(name).square)
    witness(residual=max(0.0, error - abs(rho) ** (n + 1) * left))


def test_hermite_coefficients_of_polynomials_are_their_expansions():
    c = hermite_coefficients(polynomial((0, 0, 0, 1)), 5)  # z³ = He₃ + 3 He₁
    assert c == pytest.approx([0, 3, 0, math.sqrt(6), 0, 0], abs=1e-13)
    for n in range(6):
        assert hermite_coefficients(hermite(n), 8) == pytest.approx(
            math.sqrt(math.factorial(n)) * np.eye(9)[n], abs=1e-12
        )


def test_hermite_coefficients_of_relu_are_those_of_its_closed_form():
    """`c_{2j} = (−1)^{j+1} (2j − 3)!!/√(2π (2j)!)`, also for degrees in the hundreds."""
    c = hermite_coefficients("relu", 300)
    for j in (1, 2, 10, 150):
        log = math.lgamma(2 * j - 1) - math.lgamma(j) - (j - 1) * math.log(2) - math.lgamma(2 * j + 1) / 2
        assert c[2 * j] == pytest.approx((-1) ** (j + 1) * math.exp(log) / math.sqrt(2 * math.pi), rel=1e-10)
        assert abs(c[2 * j - 1]) <= 1e-14 or j == 1


@pytest.mark.parametrize("name", ALL)
def test_derivatives_are_limits_of_differences(name):
    rho, step = np.array([-0.9, -0.4, 0.1, 0.6, 0.9]), 1e-4
    for order in range(1, min(3, HIGHEST.get(name, 3)) + 1):
        found = dual_kernel_derivative(name, rho, order)
        below = [dual_kernel_derivative(name, rho + k * step, order - 1) for k in (-2, -1, 1, 2)]
        difference = (below[0] - 8 * below[1] + 8 * below[2] - below[3]) / (12 * step)
        assert np.abs(found - difference).max() <= 1e-9 * (1 + np.abs(found).max())


@pytest.mark.parametrize("name", HIGHEST)
def test_beyond_the_highest_order_there_is_no_derivative(name):
    with pytest.raises(ValueError, match=f"the highest order for '{name}' is {HIGHEST[name]}"):
        dual_kernel_derivative(name, 0.5, HIGHEST[name] + 1)


@pytest.mark.parametrize("name", [n for n in ALL if n not in ("step", "sign")])
def test_the_slope_at_one_is_the_slope_square(name):
    m = moments(name)
    assert dual_kernel_derivative(name, 1.0) == pytest.approx(m.slope_square / m.variance, rel=1e-12)
    assert dual_kernel_derivative(name, 0.0) == pytest.approx(m.linear_share, abs=1e-13)


def test_second_derivatives_of_kinked_kernels_are_densities():
    rho = np.array([-0.6, 0.0, 0.8])
    expected = 1 / (2 * math.pi * np.sqrt(1 - rho**2))
    assert dual_kernel_derivative("relu", rho, 2, standardised=False) == pytest.approx(expected, rel=1e-14)
    assert np.isposinf(dual_kernel_derivative("relu", 1.0, 2))


# -------------------------------------------------------------------------------------------------------------- K2


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


@pytest.mark.claim("K2", "symbolic")
@pytest.mark.parametrize("n", [2, 3])
def test_entrywise_products_of_gram_matrices_are_gram_matrices(n):
    """`xᵀ (A Aᵀ ∘ B Bᵀ) x = Σ_ab (Σ_i x_i A_ia B_ib)² ≥ 0` (Schur)."""
    A, B = (sympy.Matrix(n, n, lambda i, j, s=s: sympy.Symbol(f"{s}{i}{j}", real=True)) for s in "AB")
    v = sympy.Matrix([sympy.Symbol(f"x{i}", real=True) for i in range(n)])
    form = (v.T * sympy.matrix_multiply_elementwise(A * A.T, B * B.T) * v)[0]
    squares = sum(sum(v[i] * A[i, a] * B[i, b] for i in range(n)) ** 2 for a in range(n) for b in range(n))
    assert sympy.expand(form - squares) == 0
    witness()


@pytest.mark.claim("K2", "property")
@pytest.mark.parametrize("name", ALL)
@given(C=correlation_matrices())
def test_the_kernel_of_a_correlation_matrix_is_one(name, C):
    K = dual_kernel(name, np.array(C, dtype=np.float64))
    lowest = float(np.linalg.eigvalsh(K)[0])
    assert (np.diag(K) == 1).all()
    assert lowest >= -1e-13
    witness(residual=max(0.0, -lowest))


def pivots(K):
    """Return the pivots of `L D Lᵀ`: all positive if and only if the matrix is positive definite."""
    K, found = [list(row) for row in K], []
    for i in range(len(K)):
        found.append(K[i][i])
        for j in range(i + 1, len(K)):
            factor = K[j][i] / K[i][i]
            K[j] = [a - factor * b for a, b in zip(K[j], K[i], strict=True)]
    return found


@pytest.mark.claim("K2", "enclosure")
@pytest.mark.parametrize("name", ["relu", "tanh", "gelu", "elu", "softsign"])
def test_the_kernel_of_a_singular_correlation_matrix_is_certified_positive(name):
    C = [
        [Fraction(1), Fraction(1, 2), Fraction(-1, 2)],
        [Fraction(1, 2), 1, Fraction(1, 2)],
        [Fraction(-1, 2), Fraction(1, 2), 1],
    ]
    assert sympy.Matrix(3, 3, lambda i, j: sympy.Rational(str(C[i][j]))).det() == 0
    K = [[dual_kernel_enclosure(name, c) for c in row] for row in C]
    assert all(pivot > 0 for pivot in pivots(K))
    witness()


@pytest.mark.claim("K2", "simulation")
@pytest.mark.parametrize("name", ["relu", "gelu", "sin", "hardtanh"])
def test_sampled_activations_have_the_correlations_of_the_kernel(name):
    C = np.array([[1.0, 0.6, -0.3], [0.6, 1.0, 0.2], [-0.3, 0.2, 1.0]])
    samples = 200_000
    z = np.linalg.cholesky(C) @ np.random.default_rng(0).standard_normal((3, samples))
    h = standardise(name).value(z)
    products = h[:, None] * h[None]
    off = np.abs(products.mean(axis=-1) - dual_kernel(name, C)) / (products.std(axis=-1) / math.sqrt(samples))
    assert off.max() <= monte_carlo(1)
    witness(residual=float(np.abs(products.mean(axis=-1) - dual_kernel(name, C)).max()), instances=samples)


@pytest.mark.control("K2")
def test_a_series_with_a_negative_coefficient_breaks_positivity():
    """`ρ ↦ (3ρ − ρ³)/2` maps a positive semidefinite matrix to one that is not."""
    C = sympy.Matrix(3, 3, lambda i, j: 1 if i == j else sympy.Rational(-1, 2))
    image = C.applyfunc(lambda r: (3 * r - r**3) / 2)
    assert C.is_positive_semidefinite
    assert not image.is_positive_semidefinite


@pytest.mark.control("K2")
def test_the_square_of_a_matrix_is_no_entrywise_power():
    C = np.array([[1.0, 0.5], [0.5, 1.0]])
    assert np.abs(dual_kernel("square", C) - C @ C).max() > 0.2


# ------------------------------------------------------------------------------------------------------ evaluation


@pytest.mark.parametrize("name", ["relu", "tanh", "cube", "sin"])
def test_shapes_and_blocks(name):
    rho = np.linspace(-1, 1, 2 * BLOCK + 7)
    K = dual_kernel(name, rho)
    assert K.shape == rho.shape
    assert K.dtype == np.float64
    assert [dual_kernel(name, r) for r in rho[:: BLOCK // 3]] == pytest.approx(K[:: BLOCK // 3], abs=1e-15)
    assert isinstance(dual_kernel(name, 0.5), float)
    assert dual_kernel(name, rho[:6].reshape(2, 3).T).shape == (3, 2)
    assert (dual_kernel(name, rho[::-1]) == K[::-1]).all()
    assert dual_kernel(name, np.array([])).shape == (0,)
    assert dual_kernel(name, np.float32(0.5)) == dual_kernel(name, 0.5)


@pytest.mark.parametrize("name", ["relu", "tanh", "softplus", "cos"])
@given(rho=correlations)
def test_the_raw_kernel_is_the_standardised_one_scaled_and_shifted(name, rho):
    m = moments(name)
    expected = m.mean**2 + m.variance * dual_kernel(name, rho)
    assert dual_kernel(name, rho, standardised=False) == pytest.approx(expected, abs=1e-13)
    assert dual_kernel(standardise(name), rho, standardised=False) == dual_kernel(name, rho)


@pytest.mark.parametrize("name", ["selu", "hardtanh", "hard_swish", "softsign", "mish", "gelu_tanh"])
def test_a_callable_gives_what_its_name_gives(name):
    phi = get(name)
    own = from_callable(phi.value, kinks=phi.breaks, slope=phi.slope)
    rho = np.array([-1, -0.99, -0.3, 0.2, 0.9, 1 - 1e-9, 1])
    assert np.abs(dual_kernel(own, rho) - dual_kernel(name, rho)).max() <= 1e-13
    assert np.abs(dual_kernel_derivative(own, rho) - dual_kernel_derivative(name, rho)).max() <= 1e-11


def test_a_kink_that_is_not_given_is_found():
    rho = np.array([-0.9, 0.3, 0.99])
    bare = dual_kernel(lambda z: np.clip(z, -1, 1), rho)
    assert np.abs(bare - dual_kernel("hardtanh", rho)).max() <= 1e-9


@pytest.mark.parametrize(
    "phi",
    [
        modulate("sigmoid", Fraction(1, 10)),
        modulate("cos", Fraction(1, 100)),
        modulate("relu", 1, Fraction(1, 100)),
        modulate("sin", 50),
        modulate("tanh", 3, 1),
        modulate("step", 1, 1),
    ],
    ids=repr,
)
def test_modulated_kernels_lie_in_their_balls(phi):
    for rho in (-1.0, -0.7, 0.3, 1 - 1e-9):
        ball = dual_kernel_enclosure(phi, rho)
        assert abs(ball - dual_kernel(phi, rho)) <= 1e-12 + ball.rad()


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_kernels_agree_with_a_tensor_product_of_trapezoids(name):
    """The trapezoidal rule in both variables is exponentially accurate for analytic functions."""
    x = np.linspace(-12, 12, 481)
    w = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi) * (x[1] - x[0])
    phi = get(name)
    for rho in (-0.8, 0.35):
        y = rho * x[:, None] + math.sqrt(1 - rho**2) * x[None]
        oracle = float(w * phi.value(x) @ (phi.value(y) @ w))
        assert abs(dual_kernel(name, rho, standardised=False) - oracle) <= 1e-13


def test_the_report_names_value_moments_and_ball():
    text = report("gelu", 0.5, certify=True)
    assert "K(0.5) = 0.42736873420218" in text
    assert "certified" in text
    assert "certified" not in report("gelu", 0.5)
    ball = arb(text.split("[")[1].split(" ±")[0], text.split("± ")[1].rstrip("]"))
    assert ball.overlaps(dual_kernel_enclosure("gelu", 0.5))


@pytest.mark.parametrize(
    ("phi", "rho", "error", "message"),
    [
        ("relu", 1.1, ValueError, r"contains 1\.1; allowed are correlations"),
        ("relu", [0.0, -1 - 1e-13], ValueError, "allowed are correlations"),
        ("tanh", [0.2, math.nan], ValueError, "NaN"),
        ("tanh", 0.5 + 0j, TypeError, "complex"),
        ("tanh", np.array([0.5 + 0.1j]), TypeError, "complex"),
        ("one", 0.5, ValueError, "'one' is constant"),
        (lambda z: 0 * z + 3, 0.5, ValueError, "is constant"),
        (lambda z: np.exp(z * z), 0.5, ValueError, "not square integrable"),
        ("rellu", 0.5, ValueError, "did you mean one of relu"),
    ],
)
def test_bad_input_is_named(phi, rho, error, message):
    with pytest.raises(error, match=message):
        dual_kernel(phi, rho)


@pytest.mark.parametrize(
    ("phi", "order", "message"),
    [
        ("relu", -1, "order ≥ 0"),
        ("relu", 1.5, "order ≥ 0"),
        ("relu", 3, "highest order for 'relu' is 2"),
        ("step", 2, "highest order for 'step' is 1"),
        (np.tanh, 2, "only the first derivative is known"),
    ],
)
def test_orders_that_do_not_exist_are_named(phi, order, message):
    with pytest.raises(ValueError, match=message):
        dual_kernel_derivative(phi, 0.5, order)


def test_rounding_beyond_one_counts_as_one():
    assert dual_kernel("tanh", 1 + 1e-14) == 1
    assert dual_kernel("tanh", [-1 - 1e-14])[0] == -1


@pytest.mark.parametrize("n", [-1, 2.5])
def test_a_degree_that_is_no_degree_is_named(n):
    with pytest.raises(ValueError, match="n ≥ 0"):
        hermite_coefficients("relu", n)


def test_a_constant_has_a_raw_kernel():
    assert dual_kernel("one", [-1.0, 0.3, 1.0], standardised=False).tolist() == [1, 1, 1]
