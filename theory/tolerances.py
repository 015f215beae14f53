"""One policy for every tolerance, so that no test and no certificate invents its own.

Exact algebra compares with `==` and enclosures by containment; neither has a tolerance.
"""

from __future__ import annotations

import math

import numpy as np

EPS = float(np.finfo(np.float64).eps)
IDENTITY = 64  # eps: some tens of operations each, whose errors add up in the worst case


def float64_identity(scale: float = 0.0) -> float:
    """Return `64 eps (1 + scale)`: how far two float64 evaluations of one identity may lie apart."""
    return IDENTITY * EPS * (1 + abs(scale))


def float32_identity(scale: float = 0.0) -> float:
    """Return `10 √eps₃₂ (1 + scale)`; the same test belongs beside it in float64."""
    return 10 * math.sqrt(float(np.finfo(np.float32).eps)) * (1 + abs(scale))


def quadrature(estimate: float) -> float:
    """Return ten times the error that the quadrature rule estimates for itself."""
    return 10 * abs(estimate)


def ode(rtol: float) -> float:
    """Return a hundred times the relative tolerance given to the ODE solver."""
    return 100 * rtol


def monte_carlo(standard_error: float) -> float:
    """Return five standard errors."""
    return 5 * abs(standard_error)


# -------------------------------------------------------------------------------- simulations and networks in torch
# Multiples of eps, the rounding unit of the dtype in which a number was computed.

KRYLOV = 8  # of ‖A q‖: what two orthogonalisations leave of A q when its direction is in the Krylov space already
