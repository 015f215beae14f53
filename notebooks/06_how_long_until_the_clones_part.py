# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # How long until the clones part?
#
# A cloned manifold is a saddle: descent leaves it if something pushes. Close to the manifold a perturbation
# $\delta$ follows $\dot\delta = -H(t)\, \delta$, with the Hessian $H$ across the manifold. For a pair of ReLU
# clones in one hidden layer one direction grows, at the rate
#
# $$\|b\| = \|\partial L / \partial w\| \, / \, |a|$$
#
# of the base unit with in-weights $w$ and out-weight $a$ (claim C10 iii). All of it can be computed *on* the
# manifold, that is, from the small network alone, before any clone has parted.

# %%
from itertools import repeat

import numpy as np
from IPython.display import Image

from paper_figures import escape
from paper_figures.support import registry
from simulate import clones
from simulate.escape import function_preserving_split, measure_escape_time, predict_escape_time, unstable_rate
from theory.manifolds import cloned_manifold
from theory.network import Network, SquaredError, loss
from theory.partitions import coarsest_equitable_partition

# %% [markdown]
# ## Predict, then measure
#
# Four ReLU units and their clones on random data; `x` and `y` are scaled so that the loss is a mean.

# %%
problem = clones.random_problem(4, 5, 60, np.random.default_rng(0), rate=0.05)
x, goal = problem.x / np.sqrt(60), SquaredError(problem.y[None] / np.sqrt(60))
base = Network.layered([problem.W, problem.a[None]], "relu")
network = Network.layered([np.repeat(problem.W, 2, 0), np.repeat(problem.a[None] / 2, 2, 1)], "relu")
manifold = cloned_manifold(network, coarsest_equitable_partition(network))
print(f"{manifold.dimension} dimensions on the manifold, {manifold.codimension} across it")
print(f"rate at the start: {unstable_rate(base, x, goal):.3f}")

# %% [markdown]
# Now push, by a random normal vector of length $10^{-2}$, and wait until the distance is $0.1$:

# %%
push = manifold.project_normal(np.random.default_rng(1).standard_normal(len(network.parameters)))
push = 1e-2 * push / np.linalg.norm(push)
options = {"rate": problem.rate, "goal": 0.1, "longest": 2000}
pushed = network.with_parameters(network.parameters + push)
print("predicted:", predict_escape_time(network, manifold, x, goal, start=push, **options).steps, "steps")
print("measured: ", measure_escape_time(pushed, manifold, repeat((x, goal)), **options), "steps")

# %% [markdown]
# The rate does not stay: it is proportional to the gradient of the base unit, and falls as the network learns.

# %%
b, _ = clones.base_path(problem, 2000)
for step in (0, 100, 500, 1999):
    print(f"step {step:4}: growth of the fastest pair {np.linalg.norm(b[step], axis=1).max():.4f}")

# %% [markdown]
# Hence small perturbations wait much longer than the logarithm of their size would suggest. Many seeds, four
# sizes:

# %%
for size in (1e-2, 1e-3, 1e-4, 1e-5):
    start = clones.perturbations(problem, size, 24, np.random.default_rng(1))
    times = clones.first_passage(clones.predicted_distances(b, *start, problem.rate), 0.1)
    print(f"{size:g}: {(times > 0).mean():4.0%} predicted to part in 2,000 steps, the last at step {times.max()}")

# %% [markdown]
# ## Noise
#
# Gradient noise pushes at every step (claim E1). It makes a difference whether its size $\sigma_0 \|g\|$ is meant
# for each *entry*, as in the code of JL25, or for the whole *vector*: the former is $\sqrt d$ times stronger. The
# expected distance obeys a linear recursion for the covariance; dots below are medians over seeds, lines are the
# recursion.

# %%
measured = escape.measure(16, 2000)
slope, r2 = escape.fit(measured)
print(f"measured against predicted times: slope {slope:.2f}, R² {r2:.3f}")

# %%
Image(registry.png(escape, measured), width=700)

# %% [markdown]
# ## Without paying for it
#
# Noise changes what the network computes. There is a push that does not: shift outgoing weight between clones, with
# zero sum for every target. It is the null cone of the last notebook (claim E2).

# %%
rng, before = np.random.default_rng(2), loss(network, x, goal)
split = function_preserving_split(network, manifold, 0.05, rng)
noise = manifold.project_normal(rng.standard_normal(len(network.parameters)))
noisy = network.with_parameters(network.parameters + 0.05 * noise / np.linalg.norm(noise))
for name, one in (("split", split), ("noise", noisy)):
    steps = measure_escape_time(one, manifold, repeat((x, goal)), **options)
    print(f"{name}: loss changes by {loss(one, x, goal) - before:+.1e} and clones part after {steps} steps")

# %% [markdown]
# From then on the gradients of the clones differ, and they learn different things. Does it help a network that
# has lost its plasticity while the world changed? That is the next notebook.
