"""Products of the steps' matrices: independent noise (S1), ReLU (S2), smooth units (S3), a law that fails (S4)."""

from functools import cache

import numpy as np
import pytest
import sympy

from claims.evidence import witness
from simulate.stochastic import (
    Record,
    Setting,
    exponents,
    follow,
    independent,
    isotropic_exponent,
    mean_matrix,
    noise_matrix,
    participation,
    second_moment,
    shuffled,
)
from simulate.stochastic_kernels import activate
from theory.tolerances import float64_identity, monte_carlo

STEPS, WARMUP, RATE = 400_000, 50_000, 0.04


@cache
def relu(inputs: int, spread: tuple[float, ...] = ()) -> Record:
    """A ReLU unit that stays near its teacher, moved by label noise; `spread` scales the inputs."""
    mixing = np.diag(spread) if spread else None
    return follow(Setting.matched(inputs, rate=RATE, noise=0.5, mixing=mixing), STEPS, warmup=WARMUP)


@cache
def growth(record_of, *arguments):
    return exponents(record_of(*arguments))


# ------------------------------------------------------------------------------------------------------- machinery


@pytest.mark.parametrize(
    ("kind", "phi"), [(1, sympy.tanh), (2, lambda z: z * (1 + sympy.erf(z / sympy.sqrt(2))) / 2)]
)
def test_activations_have_the_derivatives_that_sympy_finds(kind, phi):
    z = sympy.Symbol("z")
    for point in (-1.3, 0.2, 2.0):
        expected = [float(sympy.diff(phi(z), z, k).subs(z, point)) if k else float(phi(point)) for k in range(3)]
        assert activate(point, kind) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("activation", "output"), [("relu", 1.0), ("tanh", 1.0), ("gelu", 3.0)])
def test_clones_of_a_real_network_part_as_the_product_says(activation, output):
    """Two clones beside each other, `1e-7` apart, and the linearised steps on the manifold, to first order."""
    rng = np.random.default_rng(0)
    inputs = 3
    W, a = rng.standard_normal((2, inputs)), rng.standard_normal(2)
    teacher, weights = rng.standard_normal((2, inputs)), np.array([1.0, -1.0])
    options = {"activation": activation, "noise": 0.3, "output": output, "rate": 0.05}
    v = np.concatenate([rng.standard_normal(inputs), rng.standard_normal(1)]) * 1e-7
    apart = [follow(Setting(*_doubled(W, a, s * v), teacher, weights, copies=1, **options), 200) for s in (1, -1)]
    record = follow(Setting(W, a, teacher, weights, copies=2, **options), 200)
    for t in range(199):
        H = mean_matrix(Record(*(None if m is None else m[t : t + 1] for m in _matrices(record)), record.rate))
        v = v - record.rate * H @ v
    measured = (apart[0].weights[-1] - apart[1].weights[-1]) / 2
    assert measured == pytest.approx(v, rel=1e-3, abs=1e-3 * float(np.abs(v).max()))


def _matrices(record: Record):
    return record.b, record.curvature, record.weights


def _doubled(W, a, v):
    """Both units twice, the copies of the first moved by `±v`."""
    W, a = np.repeat(W, 2, axis=0), np.repeat(a, 2)
    W[0], W[1], a[0], a[1] = W[0] + v[:-1], W[1] - v[:-1], a[0] + v[-1], a[1] - v[-1]
    return W, a


def test_constant_matrices_have_the_logarithms_of_their_eigenvalues():
    b = np.tile([0.6, 0.8], (4000, 1))
    H = np.array([[1.0, 0.2], [0.2, -0.5]])
    record = Record(b, np.tile(H, (4000, 1, 1)), np.zeros((4000, 3)), 0.1)
    expected = np.sort(np.log(np.abs(1 - 0.1 * np.linalg.eigvalsh(mean_matrix(record)))))[::-1]
    assert exponents(record).values == pytest.approx(expected, abs=1e-9)
    assert exponents(record, 1).values == pytest.approx(expected[:1], abs=1e-9)


def test_larger_batches_average_and_outputs_scale():
    """The second moment of `b` falls like 1/batch near the teacher; in the lazy regime weights hardly move."""
    one, eight = (second_moment(follow(Setting.matched(2, rate=1e-4, batch=B), 20_000)) for B in (1, 8))
    assert np.trace(one) / np.trace(eight) == pytest.approx(8, rel=0.1)
    lazy = follow(Setting.matched(2, rate=0.1, output=100.0), 2_000).weights
    rich = follow(Setting.matched(2, rate=0.1), 2_000).weights
    assert np.ptp(lazy, axis=0).max() < 0.1 * np.ptp(rich, axis=0).max()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rate": 0.0}, "rate is 0.0"),
        ({"noise": -1.0}, "noise is -1.0"),
        ({"activation": "sine"}, "activation 'sine' is unknown"),
        ({"mixing": np.eye(3)}, "mixing: got shape"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        Setting.matched(2, **{"rate": 0.1} | wrong)


def test_shapes_steps_and_divergence_are_named():
    with pytest.raises(ValueError, match="W and a: got shapes"):
        Setting(np.zeros((2, 2)), np.zeros(3), np.zeros((1, 2)), np.zeros(1), 0.1)
    setting = Setting.matched(2, rate=0.1)
    with pytest.raises(ValueError, match="steps is 0"):
        follow(setting, 0)
    with pytest.raises(ValueError, match="unit 1"):
        follow(setting, 5, unit=1)
    with pytest.raises(ValueError, match="20 steps or more"):
        exponents(follow(setting, 5))
    with pytest.raises(ArithmeticError, match="lower the rate"):
        follow(Setting.matched(2, rate=50.0), 2_000)
    with pytest.raises(ValueError, match="rank is 0"):
        isotropic_exponent(0, 1.0)


# -------------------------------------------------------------------------------------------- S1: independent noise


def ito(f, variables, moves, covariance):
    """Return drift of `f` under `dX = Σ moves_k dB_k` with independent `B_k` of these variances a unit of time."""
    return sum(
        sympy.diff(f, p, q) * moves[k][p] * moves[k][q] * covariance[k] / 2
        for k in range(len(moves))
        for p in variables
        for q in variables
    )


@pytest.mark.claim("S1", "symbolic", step="radius")
def test_the_radius_drifts_by_the_rank_less_two():
    """`½ (f'' + (r − 1) f'/R) α²` of `f = ln R`, for a symbolic rank; whitened, all `C` are the identity."""
    r, alpha = sympy.symbols("r alpha")
    R = sympy.Symbol("R", positive=True)
    f = sympy.log(R)
    drift = alpha**2 / 2 * (sympy.diff(f, R, 2) + (r - 1) / R * sympy.diff(f, R))
    assert sympy.simplify(drift - (r - 2) / 2 * alpha**2 / R**2) == 0
    witness()


@pytest.mark.claim("S1", "symbolic", step="cone")
def test_the_cone_form_has_no_noise_and_falls_at_its_edge():
    """One coordinate `i`: noise `c_i` moves `ε_i` by `−α` and `α` by `−ε_i`; sums over `i` have the same shape."""
    e, alpha, c = sympy.symbols("e alpha c", real=True)
    form = alpha**2 - e**2
    noise = sympy.diff(form, e) * -alpha + sympy.diff(form, alpha) * -e
    assert sympy.expand(noise) == 0
    drift = ito(form, (e, alpha), [{e: -alpha, alpha: -e}], [c])
    assert sympy.expand(drift - (c * e**2 - c * alpha**2)) == 0
    witness(instances=2)


@pytest.mark.claim("S1", "symbolic", step="rank-one")
def test_with_one_direction_the_matrices_commute():
    b, other, rate = sympy.symbols("b other eta", positive=True)
    step = sympy.Matrix([[1, -rate * b], [-rate * b, 1]])
    assert step * step.subs(b, other) == step.subs(b, other) * step
    assert step.eigenvals() == {1 - rate * b: 1, 1 + rate * b: 1}
    series = sympy.series(sympy.log(1 - rate * b), rate, 0, 3).removeO()
    assert sympy.expand(series + rate * b + rate**2 * b**2 / 2) == 0
    witness(instances=3)


COVARIANCES = {
    "one": np.eye(1),
    "two": np.diag([0.5, 0.5]),
    "two, uneven": np.diag([0.9, 0.1]),
    "three": np.eye(3) / 3,
    "three, one large": np.diag([0.945, 0.0275, 0.0275]),
    "ten": np.eye(10) / 10,
}


@cache
def independent_exponent(name, rate=0.2):
    """Return `λ/η²` and its error; the weak third direction of a large one takes more steps to be seen."""
    record = independent(COVARIANCES[name], 2_000_000 if "large" in name else 400_000, rate=rate)
    found = exponents(record, 1)
    return found.values[0] / rate**2, found.errors[0] / rate**2


@pytest.mark.claim("S1", "simulation")
@pytest.mark.parametrize("name", COVARIANCES)
def test_the_sign_is_that_of_the_rank_less_two(name):
    rank = len(COVARIANCES[name])
    value, error = independent_exponent(name)
    if rank == 2:
        assert abs(value) < monte_carlo(error)
    else:
        assert np.sign(rank - 2) * value > monte_carlo(error)
    witness()


@pytest.mark.claim("S1", "simulation")
@pytest.mark.parametrize("name", ["one", "two", "three", "ten"])
def test_isotropic_noise_has_the_exponent_of_the_formula(name):
    """To five standard errors, and a tenth: what is left of the next order in the rate."""
    rank = len(COVARIANCES[name])
    value, error = independent_exponent(name)
    expected = isotropic_exponent(rank, 1 / rank)
    assert value == pytest.approx(expected, abs=monte_carlo(error) + 0.1 * abs(expected))
    witness(abs(value - expected))


@pytest.mark.control("S1")
def test_the_participation_ratio_does_not_decide():
    """1.1 directions of three part, 1.2 of two do not: the rank counts, and not the soft count."""
    parts, rests = COVARIANCES["three, one large"], COVARIANCES["two, uneven"]
    assert participation(parts) < participation(rests) < 2
    value, error = independent_exponent("three, one large")
    assert value > monte_carlo(error)


@pytest.mark.control("S1")
def test_a_mean_of_b_changes_the_sign():
    """Centred noise is needed: with a mean the product grows in one dimension too."""
    record = independent(np.eye(1), 100_000, rate=0.2)
    moved = Record(record.b + 0.5, None, record.weights, record.rate)
    found = exponents(moved, 1)
    assert found.values[0] > monte_carlo(found.errors[0])


# --------------------------------------------------------------------------------------------------------- S2: ReLU


@pytest.mark.claim("S2", "symbolic")
def test_the_matrix_is_a_second_moment_with_the_unit_in_its_kernel():
    """`vᵀ N v` is `E (b·(ε − α w/a))² + α² (tr C − wᵀ C w/a²)`, without the last term where noise has balanced."""
    C11, C12, C22, w1, w2, a, e1, e2, alpha = sympy.symbols("C11 C12 C22 w1 w2 a e1 e2 alpha")
    C, w, e = sympy.Matrix([[C11, C12], [C12, C22]]), sympy.Matrix([w1, w2]), sympy.Matrix([e1, e2])
    cross = -C * w / a
    form = (e.T * C * e)[0] + 2 * alpha * (cross.T * e)[0] + alpha**2 * C.trace()
    moved = e - alpha * w / a
    rest = alpha**2 * (C.trace() - (w.T * C * w)[0] / a**2)
    assert sympy.expand(form - (moved.T * C * moved)[0] - rest) == 0
    witness()


@pytest.mark.claim("S2", "simulation")
@pytest.mark.parametrize(
    ("spread", "rank"), [((1.0,), 1), ((1.0, 1.0), 2), ((1.3, 1.0, 0.7), 3), ((1.0, 1.0, 0.0, 0.0), 2)]
)
def test_as_many_exponents_are_negative_as_the_noise_has_directions(spread, rank):
    record = relu(len(spread), spread)
    found, rate = growth(relu, len(spread), spread), RATE**2
    expected = -np.linalg.eigvalsh(noise_matrix(record)) / 2
    measured, error = found.values / rate, found.errors / rate
    assert measured == pytest.approx(
        expected, abs=monte_carlo(float(error.max())) + 0.03 * float(abs(expected).max())
    )
    zeros, negative = measured[: len(spread) + 1 - rank], measured[len(spread) + 1 - rank :]
    assert np.all(np.abs(zeros) < 0.005)
    assert np.all(negative < -0.03)
    witness(float(np.abs(measured - expected).max()))


@pytest.mark.claim("S2", "simulation")
@pytest.mark.parametrize("batch", [1, 8])
def test_the_exponents_scale_with_rate_and_batch(batch):
    setting = Setting.matched(2, rate=0.02 * batch, noise=0.5, batch=batch)
    record = follow(setting, 200_000, warmup=20_000)
    found = exponents(record)
    expected = -np.linalg.eigvalsh(noise_matrix(record)) / 2 * record.rate**2
    assert found.values[1:] == pytest.approx(expected[1:], rel=0.1)
    witness(float(np.abs(found.values[1:] / expected[1:] - 1).max()))


@pytest.mark.claim("S2", "simulation")
def test_noise_balances_the_unit():
    """`a² tr C = wᵀ C w`, so that the unit's own weights are in the kernel of `N`."""
    for spread in ((1.0, 1.0), (1.3, 1.0, 0.7)):
        record = relu(len(spread), spread)
        N, v = noise_matrix(record), record.weights.mean(axis=0)
        off = float(np.linalg.norm(N @ v) / np.linalg.norm(N) / np.linalg.norm(v))
        assert off < 0.01
        witness(off)


@pytest.mark.control("S2")
def test_in_random_order_the_same_matrices_give_other_exponents():
    spread = (1.0, 1.0, 1.0)
    record = relu(3, spread)
    expected = -np.linalg.eigvalsh(noise_matrix(record)) / 2 * RATE**2
    mixed = exponents(shuffled(record), 2)
    assert np.all(mixed.values - expected[:2] > 3 * mixed.errors)


# ------------------------------------------------------------------------------------------------- S3: smooth units


@cache
def misspecified(activation: str):
    """Units that learn from three others of their kind: `λ/η`, its error, the lowest of `E aA`, the mean of `b`."""
    rows = []
    for seed in range(14):
        rng = np.random.default_rng(seed)
        d = 1 + seed % 3
        V, c = 2 * rng.standard_normal((3, d)), rng.standard_normal(3)
        start = V[:1] + 0.3 * rng.standard_normal((1, d))
        setting = Setting(start, c[:1] / 2, V, c, 0.01, activation, activation, noise=0.1, batch=8)
        record = follow(setting, 25_000, warmup=20_000, seed=seed)
        found = exponents(record, 1)
        low = np.linalg.eigvalsh(record.curvature.mean(axis=0))[0]
        rows.append((found.values[0] / 0.01, found.errors[0] / 0.01, low, np.linalg.norm(record.b.mean(axis=0))))
    return np.array([row for row in rows if abs(row[2]) > max(0.003, 4 * row[3])])  # the base at rest


@pytest.mark.claim("S3", "simulation")
@pytest.mark.parametrize("activation", ["tanh", "gelu"])
def test_the_lowest_curvature_is_the_exponent(activation):
    rows = misspecified(activation)
    indefinite = rows[rows[:, 2] < 0]
    assert len(indefinite) >= 4
    assert np.corrcoef(indefinite[:, 0], indefinite[:, 2])[0, 1] < -0.99
    assert indefinite[:, 0] == pytest.approx(-indefinite[:, 2], rel=0.25)
    witness(float(np.abs(indefinite[:, 0] + indefinite[:, 2]).max()), len(indefinite))


@pytest.mark.claim("S3", "simulation")
def test_no_definite_one_parts():
    rows = misspecified("gelu")
    definite = rows[rows[:, 2] > 0]
    assert len(definite) >= 3
    assert np.all(definite[:, 0] < monte_carlo(1) * definite[:, 1])
    assert np.all(definite[:, 0] < 1e-3 * definite[:, 2])
    witness(0, len(definite))


@pytest.mark.control("S3")
def test_where_a_teacher_is_met_the_curvature_does_not_tell():
    """Without misfit `E aA` is small, and what noise does at the order of `η²` is as large."""
    record = follow(Setting.matched(3, rate=0.05, activation="tanh", noise=1.0), 200_000, warmup=20_000)
    low = np.linalg.eigvalsh(record.curvature.mean(axis=0))[0]
    assert exponents(record, 1).values[0] / 0.05 != pytest.approx(-low, rel=0.5)


# ------------------------------------------------------------------------------------------- S4: the law that fails


@pytest.mark.claim("S4", "counterexample")
@pytest.mark.parametrize("inputs", [3, 10])
def test_three_directions_of_noise_do_not_part_clones_of_a_network(inputs):
    record = relu(inputs, (1.0,) * inputs)
    assert np.linalg.matrix_rank(second_moment(record)) == inputs
    assert participation(second_moment(record)) > 2.5
    found = growth(relu, inputs, (1.0,) * inputs)
    assert abs(found.values[0]) < 0.01 * RATE**2
    assert np.all(found.values[1:] < -0.03 * RATE**2)
    witness()


@pytest.mark.control("S4")
@pytest.mark.parametrize("inputs", [3, 10])
def test_forgetting_the_order_the_law_is_back(inputs):
    """The mean of the ordered matrices is small as steps compensate each other; shuffled, only noise is left."""
    record = relu(inputs, (1.0,) * inputs)
    found = [exponents(shuffled(record, seed), 1).values[0] / RATE**2 for seed in range(4)]
    assert np.mean(found) > 3 * np.std(found, ddof=1) / 2
    assert np.mean(found) > 0.03


def test_the_sum_of_the_steps_is_the_move_of_the_weights():
    """`w_T − w_0 = −η Σ a_t b_t`: noise has no power at frequency zero, but shuffled it wanders."""
    record = relu(2, (1.0, 1.0))
    moved = -record.rate * (record.weights[:-1, -1:] * record.b[:-1]).sum(axis=0)
    expected = record.weights[-1, :-1] - record.weights[0, :-1]
    assert moved == pytest.approx(expected, abs=float64_identity(len(record.b)))
