# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What small batches do to near-clones
#
# On a cloned manifold every batch keeps clones equal. *Near* it, clones that differ by a little, $v = (\epsilon,
# \alpha)$ in in- and out-weights, follow one random matrix after the other:
#
# $$v \leftarrow (I - \eta H_t)\, v, \qquad H_t = \begin{pmatrix} a A_t & b_t \\ b_t^T & 0 \end{pmatrix}, \qquad
# b = \ell' \phi'(z)\, x, \quad A = \ell' \phi''(z)\, x x^T.$$
#
# Whether they part is decided by the Lyapunov exponent $\lambda$ of this product. The Hessian is the mean of $H_t$;
# it is not the whole story, and one batch is even less of it.

# %%
from dataclasses import replace

import numpy as np
import torch
from IPython.display import Image
from torch import nn

from paper_figures import stochastic_stability
from paper_figures.support import registry
from simulate.stochastic import Setting, exponents, follow, independent, noise_matrix, shuffled
from torch_experiments import clone, layout
from torch_experiments.certificates import certify, long_run

# %% [markdown]
# ## Batch size 1
#
# A ReLU unit whose targets are noisy, a sample a step. Its largest exponent is 0, that of its own weights (claim
# C14): clones $(s_k w, s_k a)$ keep their ratio for ever. All others are negative: near-clones become proportional.
# A matrix of second moments predicts them (claim S2).

# %%
relu = follow(Setting.matched(3, rate=0.04, noise=0.5), 200_000, warmup=20_000)
print("measured: ", (exponents(relu).values / 0.04**2).round(3))
print("predicted:", (-np.linalg.eigvalsh(noise_matrix(relu)) / 2).round(3))

# %% [markdown]
# It is tempting to take the steps for independent. Then the number of directions of noise decides: one attracts,
# two are neutral, three part (claim S1).

# %%
for d in (1, 2, 3):
    found = exponents(independent(np.eye(d) / d, 200_000, rate=0.2), 1)
    print(f"{d} directions: {found.values[0] / 0.04:+.4f} ± {found.errors[0] / 0.04:.4f}")

# %% [markdown]
# In the network above there are three directions, and nothing parts. The *order* of its steps is what counts: they
# add up to the move of the weights, which stays small. Shuffle the very same matrices, without their mean, and the
# law of independent noise is back (claim S4).

# %%
mixed = shuffled(replace(relu, b=relu.b - relu.b.mean(axis=0), rate=0.16))
print("in order:", (exponents(relu, 1).values / 0.04**2).round(3))
print("shuffled:", (exponents(mixed, 1).values / 0.16**2).round(3))

# %% [markdown]
# ## Batch, rate and dimension
#
# For smooth units that cannot fit their targets the Hessian decides, whatever the batch (claim S3).

# %%
measured = stochastic_stability.measure(stochastic_stability.Size(3, 60_000, 100, 6), (1, 2, 3))
Image(registry.png(stochastic_stability, measured), width=900)

# %% [markdown]
# ## Near the manifold instead of on it
#
# The product is exact only in the limit. A pair of clones that is really trained, from three distances: a ReLU's
# kinks spoil the largest, since a sample that falls between those of two clones moves them by the rate itself.

# %%
base, other = np.array([[0.8, 0.6], [-0.5, 0.9]]), np.array([[1.0, 0.3], [-0.4, 1.1]])
options = {"rate": 0.05, "noise": 0.3}
for size in (1e-10, 1e-6, 1e-2):
    ends = []
    for s in (1, -1):
        W = np.vstack([base[:1] + s * size, base[:1] - s * size, base[1:]])
        moved = Setting(W, np.array([0.5, 0.5, 1.0]), other, np.ones(2), copies=1, **options)
        ends.append(follow(moved, 4_000).weights[-1])
    print(f"from {size:g}: apart by {np.linalg.norm(ends[0] - ends[1]) / 2 / size / np.sqrt(2):.3f} times as much")

# %% [markdown]
# ## Rich and lazy
#
# Multiply the output by $s$, start at zero with two units of opposite sign, and divide the rate by $s^2$: for large
# $s$ the weights hardly move while the network learns (the lazy regime). Near-clones then hardly part either.

# %%
for scale in (1, 3, 10, 30):
    lazy = Setting(base[[0, 0]], np.array([0.5, -0.5]), other, np.ones(2), output=scale, **options)
    record = follow(lazy, 3_000)
    moved = np.linalg.norm(record.weights[-1] - record.weights[0]) / np.linalg.norm(record.weights[0])
    print(
        f"s = {scale:2}: weights move by {moved:6.1%}, near-clones by {exponents(record, 1).values[0] * 3_000:+.3f}"
    )

# %% [markdown]
# ## Your own network
#
# `certify` says of each set of copies whether the Hessian decides at this rate and batch, or noise, or whether one
# state does not tell. Then `long_run` follows training on a copy, and has an error bar.

# %%
_ = torch.manual_seed(0)
small = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1)).double()
model, x = clone(small, 2), torch.randn(64, 3).double()
y, rule = (x[:, :1] * x[:, 1:2]).sin(), torch.optim.SGD(model.parameters(), lr=0.05)
print(certify(model, x, rule, targets=y, batch=1).minibatches)
samples = [(x[k : k + 1], y[k : k + 1]) for k in torch.randint(64, (330,)).tolist()]
print(long_run(model, layout(small, 2), rule, nn.functional.mse_loss, samples, steps=264))
