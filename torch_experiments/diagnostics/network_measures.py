"""Metrics of the whole network that need many passes: computed on request only.

Costs are in training steps of batch 128, for a network where the arithmetic dominates; small networks pay more, as
single samples use the hardware badly.
"""

from __future__ import annotations

import torch

from theory.tolerances import KERNEL
from torch_experiments.diagnostics.probe import Probe
from torch_experiments.diagnostics.registry import network_metric
from torch_experiments.metrics import parameters, spectra


@network_metric("Yin et al. (2018), arXiv 1706.05699")
def gradient_diversity(p: Probe) -> float | None:
    """Return ``Σ‖g_i‖² / ‖Σ g_i‖²`` over 16 samples: 1/16 for equal gradients, 1 for orthogonal ones.

    Cost: 16 passes of one sample, 1 step.
    """
    return None if p.gradient_products is None else parameters.gradient_diversity(p.gradient_products)


@network_metric("Lyle et al. (2023), arXiv 2303.01486 (gradient covariance, normalised)")
def gradient_cosine(p: Probe) -> float | None:
    """Return the mean of ``cos(g_i, g_j)`` over pairs of different samples; 0 with a sample without gradient.

    Cost: shared with `gradient_diversity`.
    """
    return None if p.gradient_products is None else parameters.gradient_cosine(p.gradient_products)


@network_metric("Lyle et al. (2023), arXiv 2303.01486; R8, order 1")
def gradient_rank(p: Probe) -> float | None:
    """Return the Shannon rank of the gradients of 16 samples, at most 16. Cost: as `gradient_diversity`, shared."""
    K = p.gradient_products
    return None if K is None else spectra.shannon_rank(spectra.singular_values(K))


@network_metric("Lyle et al. (2024), arXiv 2402.18762 (rank of the empirical NTK)")
def ntk_rank(p: Probe) -> float | None:
    """Return how many eigenvalues of the empirical NTK exceed rounding, ``128 eps`` of the largest.

    The NTK is that of 16 samples and up to 4 evenly spread outputs of each, fewer samples where the Jacobian would
    have more than 2·10⁸ entries. Cost: 64 backward passes of one sample, 1 step.
    """
    if p.ntk is None:
        return None
    eigenvalues = spectra.singular_values(p.ntk).square()
    eps = torch.finfo(p.parameters[0].dtype).eps
    return spectra.hard_rank(eigenvalues, KERNEL * eps * eigenvalues[0])


@network_metric("Lyle et al. (2024), arXiv 2402.18762; R8, order 1")
def ntk_shannon_rank(p: Probe) -> float | None:
    """Return the Shannon rank of the empirical NTK's eigenvalues. Cost: shared with `ntk_rank`."""
    return None if p.ntk is None else spectra.shannon_rank(spectra.singular_values(p.ntk))


@network_metric("Lyle et al. (2023), arXiv 2303.01486; largest eigenvalue of the Hessian, by Lanczos")
def sharpness(p: Probe) -> float | None:
    """Return the largest eigenvalue of the Hessian of the mean loss, from below, by 20 Lanczos steps.

    Cost: 20 Hessian-vector products on the samples of the backward pass, 20 to 50 steps, and the memory
    of 20 gradients.
    """
    found = p.hessian_spectrum
    return None if found is None else max(float(theta[-1]) for theta, _ in found.nodes)


@network_metric("After Lewandowski et al. (2023), arXiv 2312.00246, who approximate it; here order 1 of |λ|")
def hessian_shannon_rank(p: Probe) -> float | None:
    """Return ``exp(−Σ q ln q)``, ``q = |λ| / Σ|λ|``, of the Hessian's eigenvalues.

    By stochastic Lanczos quadrature: with ``P`` parameters that the loss reads and bends (the others' rows are
    zero, however many there are), ``S₁ = P E Σ τ|θ|`` and ``S₂ = P E Σ τ|θ| ln|θ|`` over
    random directions, it is ``exp(ln S₁ − S₂/S₁)``. One direction: an estimate, good for many parameters.
    Cost: shared with `sharpness`.
    """
    if p.hessian_spectrum is None:
        return None
    size, nodes = p.hessian_spectrum
    theta, tau = (torch.cat(parts) for parts in zip(*nodes, strict=True))
    return spectra.quadrature_rank(theta, tau, size / len(nodes))


@network_metric("Own definition, by the gap of the logits (F4)")
def saturated_softmax_fraction(p: Probe) -> float | None:
    """Return the share of rows of softmaxes (policies, attention) whose largest entry is 1 to rounding.

    Rows with one choice that is not masked do not count; None without a softmax. Cost: one forward pass.
    """
    saturated, rows = p.softmaxes
    return saturated / rows if rows else None
