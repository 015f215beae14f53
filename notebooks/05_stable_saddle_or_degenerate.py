# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Stable, saddle or degenerate?
#
# In exact arithmetic, gradient descent that starts on a cloned manifold stays on it for ever. What if it starts
# *beside* it? To second order the loss across the manifold is the quadratic form
#
# $$q(v) = v^T \, \nabla^2 L \; v, \qquad v \text{ normal to the manifold.}$$
#
# If $q > 0$ for all $v$ the manifold attracts: it is *stable*. If $q < 0$ it is *unstable*, with both signs a
# *saddle*, and *degenerate* in all other cases (definition D2). JL25 ask which of them occur.

# %%
from fractions import Fraction

import numpy as np
from IPython.display import Image

from paper_figures import portrait, stability
from paper_figures.support import registry
from simulate.stability import classify
from theory.curvature import Curvature
from theory.manifolds import cloned_manifold, frozen_manifold
from theory.network import Network, SquaredError, as_scalars, loss, outputs
from theory.partitions import coarsest_equitable_partition

# %% [markdown]
# ## A pair of clones, in exact arithmetic
#
# A ReLU unit with in-weights $(2, -1)$, and its clone. Weights and data are rational, so that the signs of all
# eigenvalues are exact:

# %%
one, half = Fraction(1), Fraction(1, 2)
network = Network.layered([as_scalars([[2 * one, -one], [2 * one, -one]]), as_scalars([[half, half]])], "relu")
manifold = cloned_manifold(network, coarsest_equitable_partition(network))
x, y = as_scalars([[one, 3 * one, -one], [one, -one, 2 * one]]), as_scalars([[3 * one, one, one]])
found = classify(network, manifold, x, SquaredError(y))
print(found.kind, "- eigenvalues that are positive, negative, zero:", found.inertia)
print(f"from {found.lowest:.4f} to {found.highest:.4f}")

# %% [markdown]
# One direction grows, one shrinks, at the same rate. That is no accident: for one hidden layer of ReLU the
# eigenvalues are $\pm \|b\|$ and zeros, where $b = E[\ell' \sigma'(z) x]$ (claim C10 iii).

# %% [markdown]
# ## Never strictly stable
#
# Shift weight from the outgoing edge of one clone to that of the other. Clones have the same activation, so
# nothing changes: not the function, not the loss. This direction $v$ is normal to the manifold, and $q(v) = 0$.

# %%
v = as_scalars([0 * one] * 4 + [one, -one])
shifted = network.with_parameters(network.parameters + v)
print("loss before and after:", loss(network, x, SquaredError(y)), loss(shifted, x, SquaredError(y)))
print("q(v) =", v @ Curvature(network, x, SquaredError(y)).times(v))

# %% [markdown]
# So there is a *null cone* in the normal space, for any activation and depth (claim C10 i). **A cloned manifold
# on which some unit has two edges from one block is neither stable nor unstable.** What is left is saddle or
# degenerate.
#
# Degenerate it is where no error remains. Here the targets are the network's own outputs:

# %%
solved = SquaredError(outputs(network, x))
print(classify(network, manifold, x, solved).kind, classify(network, manifold, x, solved).inertia)

# %% [markdown]
# Frozen manifolds are flat as well: the weights into a dead unit do not matter until it comes alive. Below, the
# first of two units is dead on both samples.

# %%
W, positive = as_scalars([[-2 * one, -one], [one, one]]), as_scalars([[one, 2 * one], [2 * one, one]])
dead = Network.layered([W, as_scalars([[one, 2 * one]])], "relu")
flat = classify(dead, frozen_manifold(dead, [(1, 0)]), positive, SquaredError(as_scalars([[3 * one, one]])))
print(flat.kind, flat.inertia)

# %% [markdown]
# ## What a saddle looks like
#
# A plane through a point of the manifold, along its fastest growing and its fastest shrinking direction.
# Trajectories that start beside the manifold come closer at first. That does not mean that it attracts them.

# %%
Image(registry.png(portrait, portrait.compute("quick")), width=700)

# %% [markdown]
# ## Which type occurs?
#
# Random networks of four activations with two copies of each hidden unit, at four moments of training. The rate
# of escape is minus the lowest eigenvalue.

# %%
measured = stability.measure(3, (0, 10, 30, 100), (1, 2))
kinds, counts = np.unique([point.found.kind for point in measured.points], return_counts=True)
print(dict(zip(kinds.tolist(), counts.tolist(), strict=True)))

# %%
Image(registry.png(stability, measured), width=700)

# %% [markdown]
# Saddles nearly everywhere, and flatter ones the better the network fits. Descent *can* leave, if something
# pushes it off the manifold. How long that takes is the next notebook.
