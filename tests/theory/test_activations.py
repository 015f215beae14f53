"""Activations: values, slopes, kinks, symmetry, tails, strips and Gaussian moments of every name."""

import math
from dataclasses import replace
from fractions import Fraction

import flint
import numpy as np
import pytest
import sympy
from flint import acb, arb
from hypothesis import given
from hypothesis import strategies as st

from tests.theory.strategies import floats
from theory.activations import from_callable, get, hermite, modulate, moments, named, polynomial, standardise
from theory.catalogue import celu, elu, leaky_relu
from theory.tolerances import float64_identity

ALL = tuple(named())
MADE = (
    elu(Fraction(2)),
    celu(Fraction(1, 2)),
    leaky_relu(Fraction(1, 5)),
    hermite(5),
    polynomial((1, -2, 0, Fraction(1, 3))),
    modulate("relu", -2, Fraction(1, 2)),
    modulate("selu", Fraction(3, 2), -1),
    modulate("softsign", 2, Fraction(1, 4)),
    modulate("tanh", Fraction(1, 3), 1),
    standardise("gelu"),
    standardise("hardtanh"),
)
EVERY = (*(get(name) for name in ALL), *MADE)
RATIONAL = (
    "linear",
    "one",
    "square",
    "cube",
    "relu",
    "leaky_relu",
    "relu2",
    "abs",
    "step",
    "sign",
    "hardtanh",
    "softsign",
    "hard_swish",
)
STRIPS = tuple(name for name in ALL if get(name).strip)
reals = floats(-8, 8)

# E φ, E φ², E φ'², α raw, α centred, c₁²/Var: test vectors of the design, to six digits
MOMENTS = {
    "relu": (0.398942, 0.500000, 0.500000, 0.000000, 0.466942, 0.733471),
    "tanh": (0.0, 0.394294, 0.464403, 0.177807, 0.177807, 0.930470),
    "gelu": (0.282095, 0.425221, 0.455851, 0.072032, 0.318845, 0.723288),
    "sigmoid": (0.500000, 0.293379, 0.044836, -0.847173, 0.033592, 0.984167),
    "silu": (0.206621, 0.355776, 0.379482, 0.066634, 0.212081, 0.798510),
    "elu": (0.160521, 0.644945, 0.668102, 0.035905, 0.079013, 0.936727),
    "erf(z/√2)": (0.0, 0.333333, 0.367553, 0.102658, 0.102658, 0.954930),
    "sin": (0.0, 0.432332, 0.567668, 0.313035, 0.313035, 0.850918),
}  # fmt: skip


@pytest.mark.parametrize("phi", EVERY, ids=repr)
def test_slope_is_the_derivative_away_from_breaks(phi):
    z = np.linspace(-4, 4, 161) + 0.0123
    step = 1e-3
    z = z[[all(abs(x - b) > 3 * step for b in phi.breaks) for x in z]]
    f = phi.value
    central = (f(z - 2 * step) - 8 * f(z - step) + 8 * f(z + step) - f(z + 2 * step)) / (12 * step)
    assert np.abs(central - phi.slope(z)).max() <= 1e-10 * (1 + np.abs(phi.slope(z)).max())


@pytest.mark.parametrize("phi", EVERY, ids=repr)
def test_balls_contain_the_float_value_and_slope(phi):
    z = np.array([-5.5, -3.0, -1.0, -0.25, 0.0, 0.5, 1.0, 3.0, 4.75])
    balls = np.array([arb(x) for x in z], dtype=object)
    for function in (phi.value, phi.slope):
        for exact, number in zip(function(balls), function(z), strict=True):
            assert abs(exact - float(number)) <= float64_identity(number)


@pytest.mark.parametrize("phi", [f for f in EVERY if f.origin is None], ids=repr)
@given(centre=floats(-4, 4), radius=floats(0, 1), share=floats(-1, 1))
def test_a_ball_maps_to_a_ball_around_every_value(phi, centre, radius, share):
    inside = arb(centre) + arb(share) * arb(radius)  # in floats it may be rounded out of the ball
    image = phi.value(np.array([arb(centre, radius)], dtype=object))[0]
    point = phi.value(np.array([inside], dtype=object))[0]
    assert not image.is_finite() or image.overlaps(point)


@pytest.mark.parametrize("name", RATIONAL)
@given(z=st.fractions(-5, 5, max_denominator=12))
def test_rationals_stay_rational_and_agree_with_floats(name, z):
    for function in (get(name).value, get(name).slope):
        exact = function(np.array([z], dtype=object))[0]
        assert isinstance(exact, Fraction)
        near_kink = any(abs(float(z) - b) < 1e-9 for b in get(name).breaks)
        if not near_kink or float(z) == z:
            assert abs(float(exact) - float(function(np.array([float(z)]))[0])) <= float64_identity(float(exact))


@pytest.mark.parametrize("phi", [f for f in EVERY if f.origin is None], ids=repr)
def test_symbols_agree_with_floats(phi):
    z = sympy.Symbol("z", real=True)
    symbolic = phi.value(np.array([z], dtype=object))[0]
    for number in (-1.375, 0.0, 0.625, 3.0):
        found = float(sympy.sympify(symbolic).subs(z, sympy.Rational(number)))
        assert abs(found - float(phi.value(np.array([number]))[0])) <= 1e-14 * (1 + abs(found))


def test_slopes_are_those_of_torch_also_at_kinks():
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    theirs = {
        "relu": F.relu,
        "leaky_relu": F.leaky_relu,
        "relu2": lambda z: F.relu(z) ** 2,
        "abs": torch.abs,
        "elu": F.elu,
        "celu": F.celu,
        "selu": F.selu,
        "hardtanh": F.hardtanh,
        "hard_swish": F.hardswish,
        "softsign": F.softsign,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "erf": torch.erf,
        "gelu": F.gelu,
        "silu": F.silu,
        "mish": F.mish,
        "gelu_tanh": lambda z: F.gelu(z, approximate="tanh"),
        "softplus": F.softplus,
        "sin": torch.sin,
        "cos": torch.cos,
        "sign": torch.sign,
    }
    for name, function in theirs.items():
        z = torch.tensor([-4.0, -3.0, -1.0, -0.3, 0.0, 0.7, 1.0, 3.0, 5.0], dtype=torch.float64, requires_grad=True)
        value = function(z)
        value.sum().backward()
        phi, x = get(name), z.detach().numpy()
        assert np.abs(phi.value(x) - value.detach().numpy()).max() <= float64_identity(8), name
        assert np.abs(phi.slope(x) - z.grad.numpy()).max() <= float64_identity(8), name


@pytest.mark.parametrize("phi", EVERY, ids=repr)
@given(z=reals, s=st.floats(0.1, 4))
def test_symmetry_scaling_degree_and_range_hold(phi, z, s):
    f = {x: float(phi.value(np.array([x]))[0]) for x in (z, -z, s * z)}
    near = float64_identity(abs(f[z]) * max(s, s**5) + abs(f[s * z]) + abs(f[-z]))
    assert phi.symmetry is None or abs(f[-z] - {"odd": -1, "even": 1}[phi.symmetry] * f[z]) <= near
    assert phi.scaling not in ("positive", "linear") or abs(f[s * z] - s * f[z]) <= near
    assert phi.scaling not in ("sign", "linear") or abs(f[-z] + f[z]) <= near
    assert phi.degree is None or abs(f[s * z] - s**phi.degree * f[z]) <= near
    assert phi.range[0] - near <= f[z] <= phi.range[1] + near


@pytest.mark.parametrize("phi", EVERY, ids=repr)
def test_no_scale_under_which_an_activation_is_equivariant_is_left_out(phi):
    z = np.array([-3.1, -1.7, -0.6, -0.2, 0.3, 0.9, 1.3, 2.7])
    near = float64_identity(float(np.abs(phi.value(3 * z)).max()))
    if all(np.abs(phi.value(s * z) - s * phi.value(z)).max() <= near for s in (0.5, 3.0)):
        assert phi.scaling in ("positive", "linear")
    elif np.abs(phi.value(-z) + phi.value(z)).max() <= near:
        assert phi.scaling == "sign"


def _jump(function, kink):
    return abs(float(np.diff(function(np.array([kink - 1e-9, kink + 1e-9])))[0]))


@pytest.mark.parametrize("phi", EVERY, ids=repr)
def test_the_value_or_slope_jumps_at_kinks_and_nowhere_else(phi):
    for kink in phi.breaks:
        jumps = max(_jump(phi.value, kink), _jump(phi.slope, kink)) > 1e-6
        assert jumps == any(abs(kink - k) < 1e-12 for k in phi.kinks)
    z = np.linspace(-6, 6, 100_001)
    inside = np.array([all(abs(x - k) > 2e-4 for k in phi.kinks) for x in z])
    leaps = np.abs(np.diff(phi.slope(z)))[inside[1:] & inside[:-1]]
    assert leaps.max(initial=0) <= 1e-3 * (1 + np.abs(phi.slope(z)).max())


@pytest.mark.parametrize("phi", EVERY, ids=repr)
def test_slope_vanishes_exactly_where_it_is_flat(phi):
    z = np.linspace(-7, 7, 57) + 0.01
    flat = np.zeros_like(z, dtype=bool)
    for low, high in phi.flat:
        flat |= (low <= z) & (z <= high)
    assert (phi.slope(z[flat]) == 0).all()
    assert phi.name == "one" or (phi.slope(z[~flat]) != 0).any() or flat.all()


@pytest.mark.parametrize("name", ALL)
def test_tails_are_of_the_class_that_is_stated(name):
    phi, far = get(name), np.array([1e3, 1e5])
    settles = [bool(np.ptp(phi.value(side * far)) < 2e-3) for side in (-1, 1)]
    grows = [bool(np.abs(phi.value(side * far))[1] > 50 * np.abs(phi.value(side * far))[0] > 0) for side in (-1, 1)]
    if phi.tails == "plateau":
        assert all(settles)
    elif phi.tails == "half-vanishing":
        assert sorted(settles) == [False, True]
        assert sum(grows) == 1
    else:
        assert not any(settles) or name in ("sin", "cos")


def proved_bound(function, strip, x, y, depth=12):
    """Tell whether `|f| ≤ offset + growth |x|` on the box `x × y`, by bisection in ball arithmetic."""
    size = abs(function(acb(x, y)))
    limit = arb(flint.fmpq(strip.offset.numerator, strip.offset.denominator)) + abs(x) * int(strip.growth)
    if size.is_finite() and size <= limit:
        return True
    if depth == 0:
        return False
    halves = [arb(c, float(x.rad()) / 2) for c in (float(x.mid() - x.rad() / 2), float(x.mid() + x.rad() / 2))]
    sides = [arb(c, float(y.rad()) / 2) for c in (float(y.mid() - y.rad() / 2), float(y.mid() + y.rad() / 2))]
    return all(proved_bound(function, strip, u, v, depth - 1) for u in halves for v in sides)


@pytest.mark.parametrize("name", STRIPS)
def test_the_bound_in_the_strip_is_proved_by_balls_up_to_12(name):
    phi = get(name)
    width = float(phi.strip.width)
    exact = lambda z: phi.value(np.array([z], dtype=object))[0]  # noqa: E731
    for x in range(12):
        assert proved_bound(exact, phi.strip, arb(x + 0.5, 0.5), arb(width / 2, width / 2)), x
        assert proved_bound(exact, phi.strip, arb(-x - 0.5, 0.5), arb(width / 2, width / 2)), -x


@pytest.mark.parametrize("name", MOMENTS)
def test_moments_are_the_test_vectors(name):
    phi = modulate("erf", math.sqrt(0.5)) if name == "erf(z/√2)" else get(name)
    m = moments(phi)
    found = (m.mean, m.square, m.slope_square, m.strength_raw, m.strength, m.linear_share)
    assert found == pytest.approx(MOMENTS[name], abs=6e-7)


def test_moments_of_a_jump_have_an_infinite_slope_square():
    assert moments("step").slope_square == math.inf
    assert moments("sign").slope_square == math.inf
    assert moments("abs").slope_square == pytest.approx(1, abs=1e-14)


@pytest.mark.parametrize("n", range(7))
def test_hermite_polynomials_are_those_of_sympy_and_orthogonal(n):
    z = sympy.Symbol("z")
    assert sympy.expand(hermite(n).value(np.array([z], dtype=object))[0]) == _he(n, z)
    assert moments(hermite(n)).square == pytest.approx(math.factorial(n), rel=1e-13)


def _he(n, z):
    return sympy.expand(sympy.hermite(n, z / sympy.sqrt(2)) / sympy.sqrt(2) ** n)


@given(a=st.fractions(-3, 3, max_denominator=8).filter(bool), b=st.fractions(-3, 3, max_denominator=8), z=reals)
def test_modulation_acts_inside(a, b, z):
    for name in ("tanh", "relu", "hard_swish", "softsign", "cube"):
        phi, inner = modulate(name, a, b), np.array([float(a) * z + float(b)])
        assert phi.value(np.array([z]))[0] == pytest.approx(get(name).value(inner)[0], abs=1e-12, rel=1e-12)
        assert phi.slope(np.array([z]))[0] == pytest.approx(
            float(a) * get(name).slope(inner)[0], abs=1e-12, rel=1e-12
        )


@given(z=st.fractions(-4, 4, max_denominator=7))
def test_pieces_survive_modulation_exactly(z):
    for phi in MADE:
        if phi.pieces and "relu" in phi.name:
            assert phi.pieces(z) == phi.value(np.array([z], dtype=object))[0]


@pytest.mark.parametrize("name", [n for n in ALL if n != "one"])
def test_standardised_has_mean_zero_and_variance_one(name):
    m = moments(standardise(name))
    assert abs(m.mean) <= 1e-14
    assert abs(m.square - 1) <= 1e-13
    assert standardise(standardise(name)) is standardise(name)


def test_standardised_is_exact_on_symbols_where_the_kernel_is_elementary():
    z = sympy.Symbol("z", real=True)
    value = standardise("relu").value(np.array([z], dtype=object))[0]
    expected = (sympy.Max(z, 0) - 1 / sympy.sqrt(2 * sympy.pi)) / sympy.sqrt(
        sympy.Rational(1, 2) - 1 / (2 * sympy.pi)
    )
    assert sympy.simplify(value - expected) == 0
    with pytest.raises(TypeError, match="not known exactly as Fraction"):
        standardise("tanh").value(np.array([Fraction(1, 2)], dtype=object))


def test_a_callable_gets_the_slope_of_its_interpolant():
    phi = from_callable(lambda z: np.where(z > 1, np.exp(-z), np.sin(3 * z)), kinks=(1.0,))
    z = np.linspace(-6, 6, 500)
    expected = np.where(z > 1, -np.exp(-z), 3 * np.cos(3 * z))
    assert np.abs(phi.slope(z) - expected).max() <= 1e-11
    assert np.isnan(phi.slope(np.array([50.0]))).all()


def test_two_lambdas_have_two_names_and_one_lambda_has_one():
    f, g = (lambda z: z + 0.0), (lambda z: z + 0.0)
    assert from_callable(f).name != from_callable(g).name
    assert from_callable(f) is from_callable(f)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: get("rellu"), "'rellu' is unknown; did you mean one of relu"),
        (lambda: get("sigmoidal"), "sigmoid"),
        (lambda: modulate("tanh", 0), "a is 0"),
        (lambda: modulate("tanh", math.nan), "no finite real number"),
        (lambda: modulate("tanh", 1, math.inf), "no finite real number"),
        (lambda: polynomial(()), "coefficients is empty"),
        (lambda: polynomial((1.0, math.inf)), "no finite real number"),
        (lambda: hermite(-1), "n ≥ 0"),
        (lambda: hermite(1.5), "n ≥ 0"),
        (lambda: standardise("one"), "'one' is constant"),
        (lambda: moments(lambda z: np.exp(z * z)), "not square integrable"),
        (lambda: moments(lambda z: np.exp(z * z / 4)), "not square integrable"),
        (lambda: moments(lambda z: np.exp(1j * z)), "returned complex128"),
        (lambda: moments(lambda z: np.outer(z, z)), "shape"),
        (lambda: moments(lambda z: np.sin(1e4 * z)), "oscillates too fast"),
    ],
)  # fmt: skip
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_heavy_but_integrable_tail_is_integrated():
    assert moments(lambda z: np.exp(z * z / 8)).mean == pytest.approx(math.sqrt(4 / 3), rel=1e-13)


def test_a_bound_that_is_too_small_is_not_proved():
    phi = get("tanh")
    tight = replace(phi.strip, offset=Fraction(2))
    exact = lambda z: phi.value(np.array([z], dtype=object))[0]  # noqa: E731
    assert not proved_bound(exact, tight, arb(0.5, 0.5), arb(0.625, 0.625), depth=6)


@pytest.mark.parametrize("share", ["linear_share", "strength", "strength_raw"])
def test_a_constant_has_no_shares(share):
    with pytest.raises(ValueError, match="the activation is constant"):
        getattr(moments(polynomial((0,))), share)


def test_functions_that_take_no_arrays_are_named():
    for function in (None, 3.0):
        with pytest.raises(TypeError, match="give a callable that acts on float64 arrays"):
            from_callable(function)
    with pytest.raises(TypeError, match=r"'tanh@.*np\.tanh for math\.tanh, or wrap it in np\.vectorize"):
        moments(math.tanh)


def test_lists_of_coefficients_and_numbers_of_numpy_are_taken():
    assert polynomial([1, 2]) is polynomial((1, 2))
    assert polynomial(np.array([1.0, 2.0])).kernel == polynomial((1, 2)).kernel
    for two in (np.float32(2), np.int64(2), np.float64(2)):
        phi = modulate("relu", two, np.float32(0.5))
        assert phi.value(np.array([1.0]))[0] == 2.5
        assert phi.pieces == modulate("relu", 2, Fraction(1, 2)).pieces
