"""Frozen units: what saturation stops, what it does not, and for how long (claims F1, F2, F2a to F2d)."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise, product
from types import SimpleNamespace

import flint
import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from claims.evidence import witness
from simulate import optimizers
from simulate.descent import descend
from simulate.optimizers import adam, sgd
from tests.theory.strategies import TINY, dags, exact, floats, fractions, matrices, vectors
from theory.activations import get
from theory.certificates import Firmness, certify_frozen, preactivation_balls, sees_only_nonnegative
from theory.manifolds import frozen_manifold
from theory.network import Network, SquaredError, edge_gradient, forward, gradient

CHAIN = {("x", "a"): -1, ("a", "v"): 1, ("v", "y"): 1}
KINDS = {"a": "linear", "v": "relu", "y": "linear"}
positive = fractions(0.125, 2, 8)


@pytest.fixture
def symbolic_roots(monkeypatch):
    """Let update rules take roots of symbols, which NumPy does not know."""
    root = np.frompyfunc(sympy.sqrt, 1, 1)
    monkeypatch.setattr(optimizers, "np", SimpleNamespace(sqrt=root))


def chain(edges: dict[tuple[str, str], int] = CHAIN) -> Network:
    return Network.from_edges({e: Fraction(w) for e, w in edges.items()}, KINDS, ["x"], ["y"])


def batches(x, y, steps):
    return [(x, SquaredError(y))] * steps


def incoming(network: Network, unit: str) -> np.ndarray:
    return network.weights[network.target == network.index[unit]]


class Output(sympy.Function):
    """An activation of which nothing is known but that `slope` is its derivative."""

    def fdiff(self, argindex=1):
        return sympy.Function("slope")(*self.args)


def gradient_without_slope(loss):
    """Return `∂L/∂w` where `f'(z) = 0`, for `z = w h + r`; `loss` takes `f(z)`, `z` and what `w` does not reach."""
    w, h, r, rest = sympy.symbols("w h r rest")
    z = w * h + r
    found = sympy.diff(loss(Output(z), z, rest), w)
    assert found != 0
    return sympy.simplify(found.subs(sympy.Function("slope")(z), 0).doit())


@pytest.mark.claim("F1", "symbolic", step="general")
@pytest.mark.claim("F2a", "symbolic", step="zero-gradient")
@pytest.mark.claim("F2", "symbolic", step="repair")
@pytest.mark.claim("F3", "symbolic", step="persistence")
def test_the_gradient_is_a_product_that_holds_the_slope():
    """`L(f(w h + r), rest)` with `L` and `f` left open; without circles `w` does not reach `h`, `r` and `rest`."""
    assert gradient_without_slope(lambda output, z, rest: sympy.Function("L")(output, rest)) == 0
    witness()


@pytest.mark.control("F1")
def test_a_loss_that_reads_the_preactivation_itself_has_a_gradient_all_the_same():
    assert gradient_without_slope(lambda output, z, rest: sympy.Function("L")(output, z)) != 0


@pytest.mark.claim("F1", "exact")
@given(dags(activation="relu"), st.data())
def test_dead_units_have_no_gradient_on_any_dag(network, data):
    x = data.draw(matrices(1, 3))
    trace = forward(network, x)
    dead = [v for v in range(1, len(network.units)) if (trace.z[v] <= 0).all()]
    found = edge_gradient(network, x, SquaredError(exact([1, 2, 3])[None]).gradient)
    assert all(found[np.isin(network.target, dead)] == 0)
    witness(instances=len(dead))


@pytest.mark.claim("F2", "counterexample")
def test_a_chain_has_points_on_the_frozen_manifold_where_the_gradient_leaves_it():
    network = chain()
    manifold = frozen_manifold(network, ["v"])
    x, goal = exact([1])[:, None], SquaredError(exact([3])[:, None])
    assert all(manifold.project_normal(gradient(network, x, goal.gradient)) == 0)
    elsewhere = network.with_parameters(exact([1, 1, 1]))
    assert manifold.contains(elsewhere.parameters)
    assert any(manifold.project_normal(gradient(elsewhere, x, goal.gradient)) != 0)
    witness()


def leaves(edges: dict[tuple[str, str], int], steps: int = 4) -> bool:
    """Tell whether descent from a dead `v` moves a weight into `v`."""
    network = chain(edges)
    x, y = exact([1])[:, None], exact([3])[:, None]
    assert forward(network, x).z[network.index["v"], 0] <= 0
    *_, last = descend(network, batches(x, y, steps), sgd(Fraction(1, 2)))
    return any(incoming(last, "v") != incoming(network, "v"))


@pytest.mark.claim("F2", "counterexample")
def test_a_skip_connection_revives_a_dead_unit_and_the_trajectory_leaves():
    assert leaves({**CHAIN, ("a", "y"): 1})
    witness()


@pytest.mark.claim("F2", "exact")
def test_no_smaller_network_leaves_on_its_own():
    """With one output: of all graphs x, a, v, y that hold x→a→v→y, only those with a→y revive `v`."""
    optional = [("x", "v"), ("a", "y"), ("x", "y")]
    for weights in product((-1, 1), repeat=3):
        base = dict(zip(CHAIN, weights, strict=True))
        for kept in product((False, True), repeat=3):
            extra = {edge: -1 for edge, keep in zip(optional, kept, strict=True) if keep}
            network = chain({**base, **extra})
            if forward(network, exact([1])[:, None]).z[network.index["v"], 0] <= 0:
                assert not leaves({**base, **extra}) or ("a", "y") in extra
                witness()


@pytest.mark.control("F2")
def test_a_unit_that_starts_alive_leaves_even_without_the_skip_connection():
    network = chain({**CHAIN, ("x", "a"): 1})
    assert any(frozen_manifold(network, ["v"]).project_normal(
        gradient(network, exact([1]), exact([1]))
    ) != 0)  # fmt: skip


def ancestors(network: Network, unit: int) -> set[int]:
    found, stack = set(), [unit]
    while stack:
        sources = set(network.source[network.target == stack.pop()].tolist()) - found
        found |= sources
        stack += sources
    return found


@pytest.mark.claim("F2a", "exact")
@given(dags(), st.data())
def test_the_preactivation_depends_on_upstream_weights_only(network, data):
    x = data.draw(matrices(1, 2))
    v = data.draw(st.integers(1, len(network.units) - 1))
    upstream = np.isin(network.target, [v, *ancestors(network, v)])
    moved = network.parameters + np.where(upstream, 0, data.draw(vectors(len(upstream))))
    assert all(forward(network, x).z[v] == forward(network.with_parameters(moved), x).z[v])
    witness()


@pytest.mark.claim("F2a", "exact")
@given(dags(activation="relu"), st.data())
def test_with_upstream_weights_held_a_dead_unit_stays_on_the_frozen_manifold(network, data):
    x, y = data.draw(matrices(1, 3)), data.draw(matrices(1, 3))
    z = forward(network, x).z
    dead = [v for v in range(1, len(network.units)) if (z[v] <= 0).all()]
    held = {v for unit in dead for v in ancestors(network, unit)}
    rate = exact([0 if v in held else Fraction(1, 4) for v in network.target.tolist()])
    manifold = frozen_manifold(network, [network.units[v] for v in dead])
    for step in descend(network, batches(x, y, 4), sgd(rate)):
        assert manifold.contains(step.parameters)
    witness(instances=len(dead))


@pytest.mark.claim("F2a", "exact")
@given(dags(activation="relu"), st.data())
def test_while_a_unit_stays_dead_its_weights_stay(network, data):
    x, y = data.draw(matrices(1, 2)), data.draw(matrices(1, 2))
    path = list(descend(network, batches(x, y, 4), sgd(Fraction(1, 8))))
    for now, later in pairwise(path):
        z = forward(now, x).z
        dead = [v for v in range(1, len(network.units)) if (z[v] <= 0).all()]
        same = np.isin(network.target, dead)
        assert all(now.parameters[same] == later.parameters[same])
        witness(instances=len(dead))


@pytest.mark.control("F2a")
def test_without_persistence_the_weights_move():
    assert leaves({**CHAIN, ("a", "y"): 1})


def cone(draw_weights: list[Fraction], bias: Fraction) -> Network:
    """Return x → two ReLU units → v (ReLU, in the cone) → y, with skips that train what is upstream."""
    edges = {("x", "a"): Fraction(1), ("x", "b"): Fraction(-1), ("1", "v"): -bias, ("v", "y"): Fraction(1)}
    edges |= {(u, "v"): -w for u, w in zip("ab", draw_weights, strict=True)}
    edges |= {("a", "y"): Fraction(1), ("b", "y"): Fraction(1, 2)}
    kinds = {"a": "relu", "b": "relu", "v": "relu", "y": "linear", "1": "one"}
    return Network.from_edges(edges, kinds, ["x"], ["y"])


@pytest.mark.claim("F2b", "symbolic", step="sign")
def test_a_nonpositive_times_a_nonnegative_number_is_not_positive():
    w, h = sympy.Symbol("w", nonpositive=True), sympy.Symbol("h", nonnegative=True)
    k, n = sympy.symbols("k n", integer=True, positive=True)
    assert (w * h).is_nonpositive
    W = sympy.Function("w", nonpositive=True)
    H = sympy.Function("h", nonnegative=True)
    assert sympy.Sum(W(k) * H(k), (k, 1, n)).function.is_nonpositive
    z = sympy.Symbol("z", nonpositive=True)
    assert sympy.Max(z, 0) == 0
    assert sympy.Heaviside(sympy.Symbol("z", negative=True), 0) == 0
    witness()


@pytest.mark.usefixtures("symbolic_roots")
@pytest.mark.claim("F2b", "symbolic", step="update-rules")
def test_with_zero_gradient_and_state_every_rule_keeps_the_sign():
    """Each rule on a symbolic weight with gradient zero gives `w` or `(1 − η λ) w` with `0 < η λ < 1`."""
    w = np.array([sympy.Symbol("w", nonpositive=True)], dtype=object)
    eta = sympy.Symbol("eta", positive=True)
    shrink = sympy.Symbol("q", positive=True)  # 1 − η λ = q/(1+q) lies in (0, 1) for q > 0
    decay = (1 - shrink / (1 + shrink)) / eta
    zero = np.array([sympy.Integer(0)], dtype=object)
    mu = sympy.Symbol("mu", positive=True)
    rules = [sgd(eta), sgd(eta, momentum=mu), sgd(eta, momentum=mu, nesterov=True), sgd(eta, decay=decay)]
    for rule in rules:
        state, after = rule(None, w, zero)
        assert sympy.simplify(after[0]).is_nonpositive
        witness()
    state, after = sgd(eta, momentum=sympy.Symbol("mu", positive=True))(zero, w, zero)
    assert (state[0], after[0]) == (0, w[0])
    beta1, beta2 = sympy.Rational(9, 10), sympy.Rational(999, 1000)
    eps, v = sympy.Symbol("eps", positive=True), np.array([sympy.Symbol("v", nonnegative=True)], dtype=object)
    for settings in ({}, {"decay": decay, "decoupled": True}):
        rule = adam(eta, betas=(beta1, beta2), eps=eps, **settings)
        for state in (None, (7, zero, v)):
            after = rule(state, w, zero)[1][0]
            assert sympy.simplify(after / w[0]).is_positive
            assert settings or after == w[0]
            witness()
    _, after = adam(eta, betas=(beta1, beta2), eps=eps)((7, zero + eta, v), w, zero)
    assert sympy.simplify(after[0] - w[0]).is_negative, "control: a full buffer moves it"
    witness()


@pytest.mark.claim("F2b", "property")
@given(st.lists(positive, min_size=2, max_size=2), positive, st.data())
def test_a_unit_in_the_cone_stays_dead_whatever_happens_upstream(weights, bias, data):
    network = cone(weights, bias)
    floats = network.with_parameters(network.parameters.astype(float))
    rules = [
        sgd(0.01),
        sgd(0.01, momentum=0.9),
        sgd(0.01, decay=5),
        adam(0.1),
        adam(0.1, decay=0.5, decoupled=True),
    ]
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    for rule in rules:
        stream = [(rng.uniform(-1, 1, (1, 4)), SquaredError(rng.uniform(-1, 1, (1, 4)))) for _ in range(10)]
        for step, (x, _) in zip(descend(floats, stream, rule), [*stream, stream[0]], strict=True):
            z = forward(step, x).z[network.index["v"]]
            assert (z <= 0).all()
            assert (incoming(step, "v") <= 0).all()
        witness()


@pytest.mark.control("F2b")
def test_adam_with_coupled_decay_carries_small_weights_past_zero_and_revives_the_unit():
    network = cone([Fraction(1, 100)] * 2, Fraction(1, 100))
    network = network.with_parameters(network.parameters.astype(float))
    x = np.array([[1.0, 2.0]])
    assert [c.reason for c in certify_frozen(network)] == [Firmness.SIGN]
    _, after = descend(network, batches(x, x, 1), adam(0.1, decay=0.1))
    assert (incoming(after, "v") > 0).any()
    assert (forward(after, x).z[network.index["v"]] > 0).any()


@pytest.mark.usefixtures("symbolic_roots")
@pytest.mark.claim("F2b", "symbolic")
def test_adam_crosses_zero_exactly_below_the_stated_size():
    """The first step of the rule itself, at `w > 0`: `w (w − (η − ε/λ)) / (w + ε/λ)`."""
    eta, lam, eps, size = sympy.symbols("eta lambda epsilon w", positive=True)
    rule = adam(eta, betas=(sympy.Rational(9, 10), sympy.Rational(999, 1000)), eps=eps, decay=lam)
    weight = np.array([size], dtype=object)
    after = rule(None, weight, 0 * weight)[1][0]
    crossing = eta - eps / lam
    assert sympy.simplify(after - size * (size - crossing) / (size + eps / lam)) == 0
    witness()


@pytest.mark.claim("F2b", "property")
@given(st.floats(0.01, 1), st.floats(0.01, 1), st.sampled_from([0.0, 0.5, 0.9, 1.1, 2.0]))
def test_a_weight_of_zero_stays_under_every_rule_with_coupled_decay(eta, lam, share):
    """Zero is no exception to the sign, but one to "exactly when `|w| < η − ε/λ`": `w ≠ 0` has to be asked."""
    rule, size = adam(eta, eps=1e-3 * lam * eta, decay=lam), share * (eta - 1e-3 * eta)
    weight = np.array([-size])
    after = rule(None, weight, np.zeros(1))[1]
    assert (after > 0).all() == (0 < share < 1)
    buffer, still = sgd(eta, momentum=0.9, decay=lam)(None, 0 * weight, np.zeros(1))
    assert sgd(eta, momentum=0.9, decay=lam)(buffer, still, np.zeros(1))[1] == 0
    witness()


@pytest.mark.claim("F2b", "property")
@given(st.floats(0.05, 0.95), st.floats(0.2, 5))
def test_momentum_with_coupled_decay_crosses_zero_beyond_the_stated_decay(mu, ratio):
    threshold = (1 - mu**0.5) ** 2
    decay, w, buffer, crossed = threshold * ratio, -1.0, 0.0, False
    if abs(ratio - 1) < 0.05 or decay >= 1:
        return
    for _ in range(2000):
        buffer = mu * buffer + decay * w
        w, before = w - buffer, w
        crossed |= before < 0 < w
        if abs(w) < TINY:  # the weight has decayed to nothing; what follows are signs of subnormal numbers
            break
    assert crossed == (ratio > 1)
    witness()


@pytest.mark.control("F2b")
def test_a_positive_weight_or_a_signed_input_gives_no_certificate():
    network = cone([Fraction(-1), Fraction(1)], Fraction(1))
    assert certify_frozen(network) == ()
    signed = replace(network, activations=tuple(
        f if f is None or f.name != "relu" or network.units[i] == "v" else get("linear")
        for i, f in enumerate(cone([Fraction(1)] * 2, Fraction(1)).activations)
    ))  # fmt: skip
    assert not sees_only_nonnegative(signed)[signed.index["v"]]


def layered(data: st.DataObject) -> Network:
    return Network.layered([data.draw(matrices(3, 2)), data.draw(matrices(2, 3))], "relu", output="relu")


BOX, RADIUS = np.array([[-1, 1], [0, 2]]), Fraction(1, 16)


@pytest.mark.claim("F2c", "symbolic", step="enclosure")
def test_products_sums_and_relu_of_intervals_hold_those_of_their_points():
    """Points of two intervals: `x y` is a mean of the four products of ends, `x + y` lies between sums of ends.

    ReLU keeps the order of its arguments, and a forward pass is made of these three.
    """
    a, b, c, d = sympy.symbols("a b c d", real=True)
    s, t = sympy.symbols("s t", nonnegative=True)
    x, y = a + (b - a) * s, c + (d - c) * t
    corners = {a * c: (1 - s) * (1 - t), a * d: (1 - s) * t, b * c: s * (1 - t), b * d: s * t}
    assert sympy.expand(x * y - sum(product * share for product, share in corners.items())) == 0
    assert sympy.expand(sum(corners.values())) == 1
    assert sympy.expand(x + y - (a + c) - ((b - a) * s + (d - c) * t)) == 0
    gap = sympy.Symbol("gap", nonnegative=True)
    for sign in ({"positive": True}, {"nonpositive": True}):
        end = sympy.Symbol("end", **sign)
        assert (sympy.Max(end + gap, 0) - sympy.Max(end, 0)).is_nonnegative
    witness(instances=4)


def exact_intervals(network: Network) -> list[tuple[Fraction, Fraction]]:
    """Return the ends of `z` of every ReLU unit by interval arithmetic in fractions, units in order."""
    h = [(Fraction(int(a)), Fraction(int(b))) for a, b in BOX]
    found = []
    for v in range(len(BOX), len(network.units)):
        into = np.flatnonzero(network.target == v)
        products = [
            [(network.weights[e] + move) * end for move in (-RADIUS, RADIUS) for end in h[network.source[e]]]
            for e in into
        ]
        low, high = sum(map(min, products)), sum(map(max, products))
        found.append((low, high))
        h.append((max(low, Fraction(0)), max(high, Fraction(0))))
    return found


@pytest.mark.claim("F2c", "enclosure")
@given(st.data())
def test_the_ball_holds_the_interval_that_fractions_give(data):
    network = layered(data)
    for ball, ends in zip(
        preactivation_balls(network, BOX, float(RADIUS))[2:], exact_intervals(network), strict=True
    ):
        assert all(bool(ball.contains(flint.arb(flint.fmpq(e.numerator, e.denominator)))) for e in ends)
        witness()


@pytest.mark.claim("F2c", "property")
@given(vectors(4), st.data())
def test_the_ball_contains_every_preactivation_that_is_drawn(offsets, data):
    network = layered(data)
    balls = preactivation_balls(network, BOX, float(RADIUS))
    share = st.integers(-64, 64).map(lambda k: Fraction(k, 64))
    for _ in range(3):
        move = RADIUS * exact([data.draw(share) for _ in network.parameters])
        x = exact([data.draw(share), 1 + data.draw(share)])
        z = forward(network.with_parameters(network.parameters + move), x).z[2:, 0]
        assert all(
            bool(b.contains(flint.arb(flint.fmpq(v.numerator, v.denominator))))
            for b, v in zip(balls[2:], z, strict=True)
        )
        witness(instances=len(z))


@pytest.mark.claim("F2c", "property")
@given(positive, positive, st.integers(0, 2**32))
def test_inside_the_certified_radius_the_unit_stays_dead(a, b, seed):
    edges = {("x", "a"): a, ("a", "v"): b, ("1", "v"): Fraction(-10), ("v", "y"): Fraction(1)}
    network = Network.from_edges(edges, {**KINDS, "a": "relu", "1": "one"}, ["x"], ["y"])
    (certificate,) = certify_frozen(network, box=np.array([[-1, 1]]))
    assert certificate.reason == Firmness.INTERVAL
    rng = np.random.default_rng(seed)
    for _ in range(20):
        move = rng.choice([-1, 1, 0.5], len(network.parameters)) * certificate.radius * (1 - 1e-9)
        moved = network.with_parameters(network.parameters.astype(float) + move)
        assert (forward(moved, np.linspace(-1, 1, 9)[None]).z[network.index["v"]] <= 0).all()
    witness(instances=20)


@pytest.mark.control("F2c")
def test_beyond_the_radius_some_movement_revives_the_unit():
    edges = {("x", "v"): 1.0, ("1", "v"): -2.0, ("v", "y"): 1.0}
    network = Network.from_edges(edges, {"v": "relu", "y": "linear", "1": "one"}, ["x"], ["y"])
    (certificate,) = certify_frozen(network, box=np.array([[0, 1]]))
    assert certificate.radius == pytest.approx(0.5, rel=1e-7)
    moved = network.with_parameters(network.parameters + 1.01 * certificate.radius * np.array([1, 1, 0]))
    assert forward(moved, np.array([1.0])).z[network.index["v"], 0] > 0


@pytest.mark.usefixtures("symbolic_roots")
@pytest.mark.claim("F2d", "symbolic", step="buffers")
def test_a_zero_buffer_stays_zero_and_any_other_moves_the_weight():
    """Heavy ball, Nesterov and Adam with free settings, gradient zero and any second moment; after 0 to 2 steps."""
    mu, eta, w, b = sympy.symbols("mu eta w b", positive=True)
    weight, zero, full = (np.array([entry], dtype=object) for entry in (w, sympy.Integer(0), b))
    for nesterov in (False, True):
        rule = sgd(eta, momentum=mu, nesterov=nesterov)
        state, after = rule(zero, weight, zero)
        assert (state[0], after[0]) == (0, w)
        state, after = rule(full, weight, zero)
        assert state[0] == mu * b
        assert sympy.simplify((w - after[0]) / state[0]).is_positive
        witness()
    v, eps = sympy.Symbol("v", nonnegative=True), sympy.Symbol("eps", positive=True)
    beta1, beta2 = (1 / (1 + sympy.Symbol(name, positive=True)) for name in "pq")  # anything between 0 and 1
    rule = adam(eta, betas=(beta1, beta2), eps=eps)
    for step in range(3):
        second = np.array([v], dtype=object)
        (_, m, _), after = rule((step, zero, second), weight, zero)
        assert (m[0], after[0]) == (0, w)
        (_, m, _), after = rule((step, full, second), weight, zero)
        assert m[0] == beta1 * b
        assert sympy.factor((w - after[0]) / m[0]).is_positive
        witness()


@pytest.mark.usefixtures("symbolic_roots")
@pytest.mark.claim("F2d", "symbolic", step="decay")
def test_decay_multiplies_a_weight_without_gradient():
    eta, lam, w = sympy.symbols("eta lambda w", positive=True)
    weight = np.array([w], dtype=object)
    coupled = sgd(eta, decay=lam)
    decoupled = adam(eta, betas=(sympy.Rational(9, 10), sympy.Rational(999, 1000)), decay=lam, decoupled=True)
    for rule in (coupled, decoupled):
        assert sympy.expand(rule(None, weight, 0 * weight)[1][0] - w * (1 - eta * lam)) == 0
        witness()


@pytest.mark.claim("F2d", "property")
@given(floats(-2, 2), floats(1e-3, 2), floats(0, 2))
def test_adam_moves_a_frozen_weight_exactly_if_its_first_moment_is_not_zero(weight, moment, second):
    w, zero = np.array([weight]), np.zeros(1)
    for m, moves in ((0.0, False), (moment, True)):
        _, after = adam(0.1)((3, np.array([m]), np.array([second])), w, zero)
        assert (after != w).any() == moves
    witness(instances=2)


@pytest.mark.control("F2d")
def test_a_full_buffer_leaves_the_frozen_manifold_of_a_dead_unit():
    network = chain()
    manifold = frozen_manifold(network, ["v"])
    x, y = exact([1])[:, None], exact([3])[:, None]
    state = exact([0, 1, 0])
    _, after = sgd(Fraction(1, 2), momentum=Fraction(1, 2))(
        state, network.parameters, gradient(network, x, SquaredError(y).gradient)
    )
    assert not manifold.contains(after)


def test_frozen_manifold_fixes_the_in_edges_alone():
    manifold = frozen_manifold(chain({**CHAIN, ("a", "y"): 1}), ["v"])
    assert (manifold.dimension, manifold.codimension) == (3, 1)
    moved = manifold.project_tangent(exact([1, 1, 1, 1]))
    assert moved.tolist() == [1, 0, 1, 1]


@pytest.mark.parametrize("unit", ["x", "nobody"])
def test_frozen_manifold_names_a_unit_without_in_edges(unit):
    with pytest.raises(ValueError, match=f"'{unit}' is no unit with in-edges"):
        frozen_manifold(chain(), [unit])


def test_each_certificate_says_why_and_for_how_long():
    network = cone([Fraction(1), Fraction(2)], Fraction(3))
    (sign,) = certify_frozen(network)
    assert (sign.unit, sign.reason, sign.radius) == ("v", Firmness.SIGN, float("inf"))
    assert "largest in-weight is -1" in sign.inequality
    observed = certify_frozen(chain(), samples=exact([1, 2])[None])
    assert [(c.unit, c.reason, c.radius) for c in observed] == [("v", Firmness.OBSERVED, 0.0)]
    assert "z ∈ [-2, -1]" in observed[0].inequality
    assert certify_frozen(chain(), samples=exact([-1])[None]) == ()


def test_samples_that_are_not_finite_give_no_certificate():
    network = Network.layered([np.ones((1, 1))], "relu", output="relu")
    with pytest.raises(ValueError, match="samples are empty or hold NaN"):
        certify_frozen(network, samples=np.array([[np.nan]]))


@pytest.mark.parametrize(
    ("box", "message"), [([[1, 0]], "is empty"), ([[0, 1], [0, 1]], r"\(1, 2\)"), ([0, 1], r"\(1, 2\)")]
)
def test_a_bad_box_is_refused(box, message):
    with pytest.raises(ValueError, match=message):
        certify_frozen(chain(), box=np.array(box))
