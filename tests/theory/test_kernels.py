"""Evaluation of the dual kernel, its derivatives and its Hermite coefficients; bad input."""

import math
import pickle
from fractions import Fraction
from threading import Thread

import numpy as np
import pytest
import sympy
from flint import arb
from hypothesis import given

from tests.theory.strategies import floats
from theory.activations import (
    from_callable,
    get,
    hermite,
    modulate,
    moments,
    named,
    polynomial,
    resolved,
    standardise,
)
from theory.enclosures import dual_kernel_enclosure
from theory.gaussian import correlated, resolve
from theory.hermite import hermite_coefficients
from theory.kernels import BLOCK, dual_kernel, dual_kernel_derivative, report
from theory.tolerances import NARROWEST, float64_identity

ALL = tuple(name for name in named() if name != "one")
SMOOTH = ("tanh", "sigmoid", "erf", "gelu", "gelu_tanh", "silu", "softplus", "mish", "sin", "cos", "gaussian")
correlations = floats(-1, 1)
NEAR = float64_identity(1)
HIGHEST = {"step": 1, "sign": 1, "relu2": 3} | dict.fromkeys(
    ("relu", "leaky_relu", "abs", "selu", "hardtanh", "hard_swish"), 2
)


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
    with pytest.warns(UserWarning, match=r"has a kink near 0\.314 that was not given"):
        bare = dual_kernel(lambda z: np.maximum(z - 0.314, 0), rho)
    assert np.abs(bare - dual_kernel(modulate("relu", 1, Fraction(-157, 500)), rho)).max() <= 1e-12


def test_kinks_that_are_found_are_worth_those_that_are_given():
    def bent(z):
        return np.clip(z, -0.7, 1 / 7)

    rho = np.array([-1, -0.9, 0.3, 1 - 1e-9])
    with pytest.warns(UserWarning, match=r"has a kink near -0\.7, 0\.142857 that was not given"):
        found = resolve(bent)
    given = resolve(bent, [-0.7, 1 / 7])
    assert found.edges == pytest.approx(given.edges, abs=NARROWEST)
    with pytest.warns(UserWarning, match="not given"):
        kernel = dual_kernel(bent, rho)
    assert np.abs(kernel - dual_kernel(from_callable(bent, kinks=[-0.7, 1 / 7]), rho)).max() <= 1e-12


@pytest.mark.parametrize(("rise", "kinks"), [(0.0, 1), (1e-6, 1), (1e-3, 0), (1.0, 0)])
def test_a_jump_is_not_taken_for_a_kink(rise, kinks):
    """Where it lies is known to a billionth only, and a kernel is to have twelve digits."""
    with pytest.warns(UserWarning, match=r"has a kink near 0\.123"):
        found = resolve(lambda z: np.maximum(z - 0.123, 0) + rise * (z > 0.123))
    assert len(found.kinks) == kinks


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("shift", [-1e-7, -1e-9, 1e-12, 1e-18])
def test_a_kink_next_to_the_edge_of_a_panel_costs_nothing(shift):
    """The kernel moves by less than twice the shift, and no kink is missing."""
    for name in ("relu", "hardtanh", "hard_swish"):
        moved, rho = dual_kernel(modulate(name, 1, shift), [-0.999, -0.5, 0.3]), [-0.999, -0.5, 0.3]
        assert np.abs(moved - dual_kernel(name, rho)).max() <= 2 * abs(shift) + 1e-12


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


def test_the_report_names_moments_values_and_balls():
    text = report("gelu", 0.5, Fraction(-1, 3), certify=True)
    assert "K(0.5) = 0.42736873420218" in text
    assert "K(-1/3) = -0.2" in text
    assert text.count("certified") == 2
    assert "certified" not in report("gelu", 0.5)
    for rho, line in zip((0.5, Fraction(-1, 3)), text.splitlines()[2::2], strict=True):
        printed = arb(line.split("∈ ")[1].split(", cert")[0].replace("±", "+/-"))
        assert printed.contains(dual_kernel_enclosure("gelu", rho))


@pytest.mark.parametrize(
    ("phi", "rho", "error", "message"),
    [
        ("relu", 1.1, ValueError, r"contains 1\.1; allowed are correlations"),
        ("relu", [0.0, -1 - 1e-13], ValueError, "allowed are correlations"),
        ("tanh", [0.2, math.nan], ValueError, "NaN"),
        ("tanh", 0.5 + 0j, TypeError, "complex"),
        ("tanh", np.array([0.5 + 0.1j]), TypeError, "complex"),
        ("tanh", np.array([0.5j, 0.5], dtype=object), TypeError, "complex"),
        ("tanh", math.inf, ValueError, "contains inf"),
        ("tanh", "0.5", TypeError, "rho holds .*give real numbers"),
        ("tanh", None, TypeError, "rho holds .*None"),
        ("tanh", [[0.1, 0.2], [0.3]], TypeError, "rho is ragged"),
        ("tanh", np.ma.array([0.5, 5.0], mask=[0, 1]), TypeError, "rho is a masked array"),
        ("tanh", sympy.Symbol("r"), TypeError, "rho holds .* such as r"),
        (None, 0.5, TypeError, "activation is None"),
        (["relu"], 0.5, TypeError, "give a name, an Activation or a callable"),
        ("RLU", 0.5, ValueError, "did you mean one of relu"),
        (lambda z: np.where(z > 3, np.nan, z), 0.5, ValueError, r"not finite at z = 3\.01"),
        (lambda z: None, 0.5, ValueError, "returned object"),
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


NEARLY_CONSTANT = [
    *(("sigmoid", Fraction(1, 10**6), 0), ("cos", Fraction(1, 1000), 0), ("cos", Fraction(1, 10**6), 0)),
    *(("gaussian", Fraction(1, 10**6), 0), ("tanh", 1, -8), ("tanh", 1, 20), ("erf", 1, 8), ("step", 1, 8)),
    *(("relu", 1, -8), ("relu", 1, -12), ("sigmoid", 1, -12), ("hard_swish", 1, -12), ("softplus", 1, -12)),
]


@pytest.mark.parametrize(("name", "a", "b"), NEARLY_CONSTANT)
def test_nearly_constant_and_far_shifted_activations_keep_their_digits(name, a, b):
    phi = modulate(name, a, b)
    rho = (-1.0, -0.9, 1e-9, 0.3, 1 - 1e-4, 1 - 1e-12)
    for r, K in zip(rho, dual_kernel(phi, rho), strict=True):
        ball = dual_kernel_enclosure(phi, r)
        assert float(ball.rad()) <= 1e-12
        assert abs(ball - K) <= 2e-12


@pytest.mark.parametrize(("name", "a", "b"), [("tanh", 10, 0), ("tanh", 30, 0), ("silu", 30, 7), ("selu", 30, 0)])
def test_steep_kernels_agree_with_the_hermite_series(name, a, b):
    phi, rho = modulate(name, a, b), np.array([-0.9, -0.3, 0.2, 0.9])
    series = np.polynomial.polynomial.polyval(rho, hermite_coefficients(phi, 400) ** 2)
    assert (
        np.abs(series / moments(phi).square - dual_kernel(phi, rho, standardised=False) / moments(phi).square).max()
        <= 1e-13
    )


def test_quadrature_keeps_its_digits_at_tiny_angles():
    """`1 − K(cos θ) = K'(1) (1 − cos θ)` to first order, far below the rounding of `cos θ`."""
    for name in ("tanh", "silu"):
        f = resolved(get(name))
        for theta in (1e-9, 1e-6):
            assert abs(correlated(f, theta) - moments(name).square) <= 1e-15 + theta**2


@pytest.mark.parametrize("n", [20, 40])
def test_hermite_polynomials_of_high_degree_have_powers_for_kernels(n):
    rho = np.array([-0.9, 0.5, 0.99])
    assert np.abs(dual_kernel(hermite(n), rho) - rho**n).max() <= float64_identity(1)
    assert (hermite_coefficients(hermite(n), n + 2) > 0).tolist() == [k == n for k in range(n + 3)]
    assert moments(hermite(n)).slope_square / moments(hermite(n)).variance == n


@pytest.mark.parametrize(
    "rho",
    [[0, 1], np.array([0, 1]), np.array([0, 1], np.float32), np.array([0, 1], np.float16), [False, True]],
    ids=str,
)
def test_numbers_of_any_type_are_correlations(rho):
    assert dual_kernel("tanh", rho).tolist() == [0, 1]


def test_shapes_orders_and_exact_scalars_are_taken_as_they_come():
    third = dual_kernel("tanh", 1 / 3)
    for same in (Fraction(1, 3), sympy.Rational(1, 3), np.array(1 / 3), np.longdouble(1) / 3):
        assert dual_kernel("tanh", same) == third
    assert dual_kernel("tanh", np.array([Fraction(1, 3)], dtype=object))[0] == third
    assert dual_kernel("tanh", np.empty((0, 3))).shape == (0, 3)
    assert (dual_kernel("tanh", np.broadcast_to(1 / 3, (2, 3))) == third).all()
    assert np.abs(dual_kernel("relu", [5e-324, -5e-324, 1e-310])).max() <= float64_identity()


def test_rounding_of_float32_beyond_one_counts_as_one():
    above = np.nextafter(np.float32(1), np.float32(2))
    assert dual_kernel("relu", above) == 1
    with pytest.raises(ValueError, match="allowed are correlations"):
        dual_kernel("relu", float(above))


def test_threads_share_one_evaluator():
    phi, rho, found = modulate("silu", Fraction(7, 5)), np.linspace(-1, 1, 500), []
    threads = [Thread(target=lambda: found.append(dual_kernel(phi, rho))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all((one == found[0]).all() for one in found)


def test_named_activations_can_be_pickled():
    assert pickle.loads(pickle.dumps(get("relu"))) is get("relu")


def test_kinks_may_come_in_a_list():
    own = from_callable(np.abs, kinks=[0.0])
    assert dual_kernel(own, 0.3) == pytest.approx(dual_kernel("abs", 0.3), abs=1e-14)


def test_a_nearly_constant_callable_has_a_raw_kernel_only():
    with pytest.raises(ValueError, match=r"nearly constant: it varies by .* subtract the constant"):
        dual_kernel(faint, 0.5)
    assert dual_kernel(faint, 0.5, standardised=False) == pytest.approx(1, abs=1e-9)


def faint(z):
    return 1 + 1e-5 * np.tanh(z)


def test_rounding_beyond_one_counts_as_one():
    assert dual_kernel("tanh", 1 + 1e-14) == 1
    assert dual_kernel("tanh", [-1 - 1e-14])[0] == -1


@pytest.mark.parametrize("n", [-1, 2.5])
def test_a_degree_that_is_no_degree_is_named(n):
    with pytest.raises(ValueError, match="n ≥ 0"):
        hermite_coefficients("relu", n)


def test_a_constant_has_a_raw_kernel():
    assert dual_kernel("one", [-1.0, 0.3, 1.0], standardised=False).tolist() == [1, 1, 1]


def test_names_are_read_kindly():
    assert get("ReLU") is get("relu")
    assert get("Hard-Swish") is get("hardswish") is get("hard_swish")
    assert get("swish") is get("silu")


@pytest.mark.parametrize(
    "phi",
    [
        modulate("gaussian", 10**6),
        modulate("gaussian", 2, 30),
        modulate("cos", Fraction(1, 2), Fraction(10**12, 3)),
        modulate("sin", 1, Fraction(10**20, 7)),
        modulate("erf", 10**7),
        modulate("erf", 1e100),
        modulate("sin", 20000, 1),
        modulate("sin", 10**8, 1),
        modulate("sin", 1e200, 1),
        hermite(172),
        polynomial((0,) * 160 + (1,)),
    ],
    ids=lambda phi: phi.name[:24],
)
def test_closed_forms_keep_their_digits_for_extreme_parameters(phi):
    rho = (-1 + 1e-13, -0.3, 0.3, 1 - 1e-3, 1 - 1e-9, 1 - 1e-13, 1 - 1e-15)
    for r, K in zip(rho, dual_kernel(phi, rho), strict=True):
        assert abs(dual_kernel_enclosure(phi, r) - K) <= 1e-12


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dual_kernel(hermite(172), 0.5, standardised=False), "kernel of the activation .* too large"),
        (lambda: dual_kernel(modulate("relu", 1e200), 0.5, standardised=False), "kernel of the activation"),
        (lambda: dual_kernel(modulate("gaussian", 1, 100), 0.5), "variance of the activation .* too small"),
        (lambda: moments(hermite(172)), "moments of a polynomial of degree 172 are too large"),
        (lambda: hermite(400), "coefficient is too large for float64"),
    ],
)
def test_what_float64_cannot_hold_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
