"""What the explorers should show, from Python: numbers by name, for node and for the browser alike."""

import numpy as np

from lop.site import data
from simulate.descent import descend
from simulate.optimizers import adam, sgd
from simulate.quotient import quotient
from simulate.stability import normal_hessian
from theory.activations import modulate
from theory.kernels import dual_kernel
from theory.manifolds import cloned_manifold
from theory.network import Network, SquaredError, loss
from theory.partitions import Partition
from theory.rank import linear_share, rank_gain, rank_gain_bound
from theory.saturation import frozen_fraction

CLOSE = 1e-6
RHO = (-1.0, -0.6, 0.0, 0.3, 0.95, 1.0)
RULES = {
    "SGD": lambda rate: sgd(rate),
    "momentum": lambda rate: sgd(rate, momentum=0.9),
    "Adam": lambda rate: adam(rate),
    "AdamW, decay 0.1": lambda rate: adam(rate, decay=0.1, decoupled=True),
    "SGD, decay 0.01": lambda rate: sgd(rate, decay=0.01),
}
RATES = {"SGD": 0.5, "momentum": 0.1, "Adam": 0.02, "AdamW, decay 0.1": 0.02, "SGD, decay 0.01": 0.5}
GIVEN = data.network()
PAIRS = [[("h", 2 * k), ("h", 2 * k + 1)] for k in range(3)]


def kernel(name, a, b):
    """Return K at `RHO`, with rank gain, its bound, and the linear share on eight features of correlation 0.5."""
    phi = modulate(name, a, b)
    C = np.full((8, 8), 0.5) + 0.5 * np.eye(8)
    return {
        "K": dual_kernel(phi, RHO).tolist(),
        "gain": float(rank_gain(C, phi)),
        "bound": float(rank_gain_bound(C, phi)),
        "share": linear_share(phi),
    }


def frozen(name, a, b, delta):
    return float(frozen_fraction(name, a, b, delta))


# ------------------------------------------------------------------------------------ the small network


def weights(kind):
    """Return rows into the hidden units (with a bias), and weights out (with a bias), of a start."""
    if kind == "cloned":
        inner = np.repeat(GIVEN["base"]["inner"], 2, axis=0)
        outer = np.repeat(np.array(GIVEN["base"]["outer"][:3]) / 2, 2)
        return inner, np.append(outer, GIVEN["base"]["outer"][3])
    inner, outer = np.array(GIVEN["fresh"]["inner"]), np.array(GIVEN["fresh"]["outer"])
    if kind == "frozen":
        inner[[1, 4], 2] = -10
    return inner, outer


def network(inner, outer, activation):
    """Return it as a network of the theory, its parameters in the order of the explorer."""
    sources = ["x1", "x2", "one"]
    edges = {(s, ("h", u)): w for u, row in enumerate(inner) for s, w in zip(sources, row, strict=True)}
    edges |= {(("h", u), "y"): w for u, w in enumerate(outer[:-1])} | {("one", "y"): outer[-1]}
    kinds = {("h", u): activation for u in range(len(inner))} | {"y": "linear", "one": "one"}
    return Network.from_edges(edges, kinds, ["x1", "x2"], ["y"])


def problem():
    """Return inputs and the squared error; the explorer divides it by the number of samples."""
    return np.array(GIVEN["x"]), SquaredError(np.array([GIVEN["y"]]))


def trained(kind, rule, activation, steps):
    """Return weights and loss after some steps of full batches."""
    return _descended(network(*weights(kind), activation), RULES[rule](RATES[rule]), steps)


def _descended(start, rule, steps):
    x, goal = problem()
    count = x.shape[1]
    *_, last = descend(start, [(x, goal)] * steps, lambda state, w, g: rule(state, w, g / count))
    return {"w": last.parameters.tolist(), "loss": float(loss(last, x, goal)) / count}


def of_quotient(rule, activation, steps):
    """Return the loss of the quotient of the clones after steps at the quotient's rates (linear rules alone)."""
    start = network(*weights("cloned"), activation)
    base, multiplier = quotient(start, Partition.from_blocks(start, PAIRS), tol=1e-12)
    rates = RATES[rule] * multiplier
    return _descended(base, sgd(rates, momentum=0.9 if rule == "momentum" else 0), steps)["loss"]


def curvatures(activation):
    """Return the eigenvalues of the Hessian across the set of clones, at the start."""
    start = network(*weights("cloned"), activation)
    x, goal = problem()
    manifold = cloned_manifold(start, Partition.from_blocks(start, PAIRS), 1e-12)
    return np.linalg.eigvalsh(normal_hessian(start, manifold, x, goal) / x.shape[1]).tolist()
