# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # How non-linearities raise rank
#
# A layer whose units all say the same has lost its capacity to learn. Between two layers, correlations come from
# two sources: the weights mix, and the activation $\phi$ bends. This notebook follows the second. Take two
# pre-activations $X, Y$, Gaussian with correlation $\rho$. Centre and scale $\phi$ so that $\phi(X)$ has mean 0 and
# variance 1. Then the correlation after the activation depends on $\rho$ alone:
#
# $$K_\phi(\rho) = E\,\phi(X)\,\phi(Y) = \sum_{k \geq 1} c_k^2\, \rho^k .$$
#
# $K_\phi$ is the *dual kernel*, and $c_k$ are the coefficients of $\phi$ in Hermite polynomials.

# %%
from fractions import Fraction

import numpy as np
from IPython.display import Image

import lop
from paper_figures import modulation, rank_gain, recovery
from paper_figures.support import registry
from simulate.ensembles import sample_gaussian, unit_gram
from theory.activations import standardise
from theory.full_rank import least_eigenvalue
from theory.kernels import dual_kernel_enclosure, hermite_coefficients
from theory.rank import predict_sampled_rank, rank_gain_bound, ranks, renyi2_rank
from theory.rank import rank_gain as gain

lop.dual_kernel("relu", np.array([-1, -0.5, 0, 0.5, 0.9, 1]))

# %% [markdown]
# The coefficients $c_k^2$ add up to one, so $|K_\phi(\rho)| \leq |\rho|$: **an activation never strengthens a
# correlation** (claim K1). How much it weakens it depends on the share $c_1^2$ of its linear part.

# %%
for name in ("tanh", "sigmoid", "relu", "gelu", "square"):
    c = hermite_coefficients(name, 60)[1:]
    print(f"{name:8} c1² = {c[0] ** 2 / (c @ c):.3f}    K(0.5) = {lop.dual_kernel(name, 0.5):.4f}")

# %% [markdown]
# These are numbers in float64. Where a proof needs more, the same kernel comes as a ball that contains the true
# value:

# %%
dual_kernel_enclosure("gelu", Fraction(1, 2), prec=100).str(30)

# %% [markdown]
# ## Rank gain
#
# Weaker correlations mean that features fill more directions. There are several ways to count directions, and they
# do not agree. With the eigenvalues of the correlation matrix as shares $p$:

# %%
C = unit_gram(50, 10, np.random.default_rng(0))
print("before ", ranks(C))
print("ReLU   ", ranks(lop.dual_kernel("relu", C)))

# %% [markdown]
# They are ordered from the left to the right (claim R8). The hard rank jumps from 10 to 50, while the others rise
# far less: full rank says little about how many directions can be *used*.
#
# JL25's Theorem 3.1 is about the second, the rank of order 2: no activation lowers it. We can say by how much it
# must rise. Given $c_1^2$, the worst activation has all the rest of its weight on one Hermite polynomial, the
# second or the third (claim R2):

# %%
print(f"gain of ReLU {gain(C, 'relu'):.4f}, the least with its c1² {rank_gain_bound(C, 'relu'):.4f}")

# %%
Image(registry.png(rank_gain, rank_gain.compute("quick")), width=700)

# %% [markdown]
# ## Against samples
#
# Four hundred samples of the same 50 features give a lower rank than the kernel predicts: sampling adds noise to
# each of the 1,225 correlations. That effect can be predicted, too.

# %%
H = standardise("relu").value(sample_gaussian(C, 400, np.random.default_rng(1)))
print(f"sampled               {renyi2_rank(H.T @ H / len(H)):.2f}")
print(f"kernel                {renyi2_rank(lop.dual_kernel('relu', C)):.2f}")
print(f"kernel, 400 samples   {predict_sampled_rank(C, 'relu', 400):.2f}")

# %% [markdown]
# ## Full rank out of a singular matrix
#
# Three features in two dimensions have a singular correlation matrix. After any activation that is not a polynomial
# they have full rank (claim R4). The least eigenvalue below is a ball that does not contain 0: a certificate.

# %%
half = Fraction(1, 2)
triangle = [[1, half, -half], [half, 1, half], [-half, half, 1]]
for name in ("relu", "tanh", "softsign"):
    print(f"{name:9}", least_eigenvalue(triangle, name))

# %%
Image(registry.png(recovery, recovery.compute("quick")), width=700)

# %% [markdown]
# ## Centre first
#
# All this is about correlations. Second moments that include the mean do not obey it: raw ReLU turns independent
# features, which have the highest rank there is, into features that share their mean, and the rank falls from 50 to
# about 8 (claim R3).

# %%
raw, centred = 2 * lop.dual_kernel("relu", np.eye(50), standardised=False), lop.dual_kernel("relu", np.eye(50))
print(*(f"{renyi2_rank(matrix):.1f}" for matrix in (np.eye(50), raw, centred)))

# %%
Image(registry.png(modulation, modulation.compute("quick")), width=700)

# %% [markdown]
# What happens when layer follows layer, and correlations are pushed on and on? That is the next notebook.
