"""The table of update rules and manifolds in NumPy (claim C9), beside that of torch."""

import numpy as np
import pytest

from claims.evidence import witness
from simulate import optimizer_table as own
from theory.network import Network, SquaredError, gradient

SIGNS = {"keeps": "✓", "leaves": "✗", "drifts": "⚠"}
KINDS = dict(
    zip(own.MANIFOLDS, ["identical clones", "RE ∩ CE, not constant", "scaled (ReLU)", "signed (tanh)"], strict=True)
)
BREAKS_SCALED = ("Adam", "Rprop", "sign-SGD", "SGD, clipped by value")
BREAKS_ALL = ("SGD, unequal rates per unit", "SGD, dropout on clones")
SHARED = [name for name in own.ROWS if name not in ("Muon in float64", "SGD, label noise", "K-FAC")]


def drawn(seed=0):
    rng = np.random.default_rng(seed)
    manifold = own.MANIFOLDS["signed"]
    P = own.profiles(manifold, rng)
    return own.start(manifold, P, rng), P, rng.standard_normal((5, 7)), rng.standard_normal((3, 7))


def expected(name, kind):
    return "leaves" if name in BREAKS_ALL or (kind == "scaled" and name in BREAKS_SCALED) else "keeps"


def test_the_gradient_is_that_of_the_network_calculus():
    W, _, x, y = drawn()
    found = np.concatenate([G.ravel() for G in own.gradients(W, "tanh", x, y)])
    reference = gradient(Network.layered(W, "tanh"), x, SquaredError(y).gradient) * 2 / y.size
    assert np.abs(found - reference).max() <= 1e-14


def test_masks_are_a_network_with_other_weights():
    """Without the samples' own masks: those of one unit are a factor on its out-weights."""
    W, _, x, y = drawn()
    masks = np.random.default_rng(1).integers(0, 2, (2, 12, 1)) * 2.0
    masked = own.gradients([W[0], W[1] * masks[0].T, W[2] * masks[1].T], "tanh", x, y)
    wanted = [masked[0], masked[1] * masks[0].T, masked[2] * masks[1].T]
    for G, H in zip(own.gradients(W, "tanh", x, y, masks), wanted, strict=True):
        assert np.abs(G - H).max() <= 1e-14


def test_without_curvature_preconditioning_is_a_division_by_the_damping_squared():
    W, _, x, y = drawn()
    for error, h in own.signals(W, "tanh", x, y):
        small = own.preconditioned(1e-6 * error, 1e-6 * h, 0.5)
        assert np.abs(small - 1e-12 * error @ h.T / 0.25).max() <= 1e-20
    A, S = h @ h.T / h.shape[1], h.shape[1] * error @ error.T
    G = own.preconditioned(error, h, 0.1)
    assert np.abs((S + 0.1 * np.eye(len(S))) @ G @ (A + 0.1 * np.eye(len(A))) - error @ h.T).max() <= 1e-12


def test_newton_and_schulz_bring_singular_values_near_one():
    found = own.orthogonalised(np.random.default_rng(0).standard_normal((6, 9)))
    values = np.linalg.svd(found, compute_uv=False)
    assert values.min() > 0.6
    assert values.max() < 1.3


@pytest.mark.claim("C9", "simulation")
@pytest.mark.parametrize("kind", own.MANIFOLDS)
@pytest.mark.parametrize("name", [name for name in own.ROWS if name != "Muon in float64"])
def test_each_rule_keeps_what_the_ledger_says(name, kind):
    residuals = own.follow(own.ROWS[name], own.MANIFOLDS[kind], steps=100)
    assert own.verdict(residuals) == expected(name, kind)
    witness(residual=float(residuals[-1]) if expected(name, kind) == "keeps" else 0.0)


@pytest.mark.claim("C9", "simulation")
def test_rounding_of_muon_grows_off_an_equitable_start():
    """Exact arithmetic keeps it: the first steps are off by rounding only, then the error grows a billionfold."""
    residuals = own.follow(own.ROWS["Muon in float64"], own.MANIFOLDS["equitable"])
    assert residuals[2] <= 1e-12
    assert residuals[-1] >= 1e-3
    witness()


@pytest.mark.control("C9")
def test_a_start_off_the_manifold_is_seen():
    W, P, _, _ = drawn()
    assert own.residual(W, P) <= 1e-14
    W[1][0, 0] += 1e-3
    assert own.residual(W, P) > 1e-5


@pytest.mark.parametrize("name", SHARED)
def test_torch_says_the_same(name):
    theirs = pytest.importorskip("torch_experiments.lab.optimizer_table")
    rule = next(rule for rule in theirs.rules() if rule.name == name)
    for kind, manifold in KINDS.items():
        rows = theirs.follow(rule, theirs.MANIFOLDS[manifold], steps=60)
        assert theirs.verdict(rows, "equations") == SIGNS[expected(name, kind)], kind


def test_in_float32_a_kept_manifold_is_kept_to_its_own_rounding():
    grown = own.growth(own.ROWS["SGD"], own.MANIFOLDS["scaled"], steps=100)
    assert set(grown) == {"float32", "float64"}
    assert max(grown.values()) < 1000


def test_verdicts():
    assert own.verdict(np.zeros(50)) == "keeps"
    assert own.verdict(np.linspace(0, 1, 50)) == "leaves"
    assert own.verdict(np.geomspace(1e-16, 1e-4, 50)) == "drifts"
    assert own.verdict(np.array([0.0, np.nan])) == "leaves"
    with pytest.raises(ValueError, match="steps is 0"):
        own.follow(own.ROWS["SGD"], own.MANIFOLDS["scaled"], steps=0)
