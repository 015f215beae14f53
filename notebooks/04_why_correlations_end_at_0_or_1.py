# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Why correlations end at 0 or 1
#
# Two inputs of a wide random network have a correlation $\rho$. One layer with the activation $\phi$ turns it into
# $K(\rho) = E[\phi(X) \phi(Y)]$, where $X, Y$ are Gaussians of correlation $\rho$. What do many layers do? The ends
# matter: at 0 there is no rank left to gain, and at 1 all inputs look the same, where cloning begins.

# %%
from fractions import Fraction

from IPython.display import Image

from paper_figures import depth, saturation, shannon, sine
from paper_figures.support import registry
from theory.depth import correlation_flow, critical_law, fixed_point_enclosure, fixed_points
from theory.enclosures import dual_kernel_enclosure
from theory.saturation import rescaled_softsign
from theory.strength import kink_coefficient, near_identity, strength_enclosure

# %% [markdown]
# ## Centred: everything ends at 0
#
# Let $\phi$ have mean 0 and variance 1. Then $K(\rho) = \sum_k c_k^2 \rho^k$ with weights that sum to one, so
# $|K(\rho)| \leq (c_1^2 + (1 - c_1^2)|\rho|) |\rho|$: every layer takes a share away. Fixed points and rates:

# %%
for name in ("tanh", "relu", "gelu"):
    print(f"{name:>5}", *(f"{point.value:+.0f} (rate {point.rate:.3f})" for point in fixed_points(name)))

# %% [markdown]
# ## Not centred: the slope at 1 decides
#
# Divided by its size but not centred, the map is convex with the fixed point 1. If its slope there is at most 1, as
# for sigmoid and ReLU, everything ends at 1. Otherwise there is one other fixed point, certified here in ball
# arithmetic by two signs:

# %%
for name in ("sigmoid", "relu", "gelu", "silu"):
    points = fixed_points(name, normalisation="raw")
    print(f"{name:>7}", *(f"{point.value:.4f} (rate {point.rate:.3f})" for point in points))
print("GELU:", fixed_point_enclosure("gelu"))

# %% [markdown]
# ReLU is the critical case, slope exactly 1. Its kink makes $1 - \rho_l$ fall like $(9 \pi^2 / 2) / l^2$:

# %%
flow = correlation_flow("relu", 0.0, 10_000, normalisation="raw")
for layer in (10, 100, 1000, 10_000):
    print(f"{layer:>6} {1 - flow[layer]:.3e} {critical_law('relu', layer):.3e}")

# %% [markdown]
# In the figure, dots are random networks of width 1000, drawn exactly.

# %%
Image(registry.png(depth, depth.compute("quick")), width=480)

# %% [markdown]
# ## How fast near 1? The strength of a nonlinearity
#
# $1 - K(1 - \epsilon)/K(1) = (1 + \alpha) \epsilon - k \epsilon^{3/2} + \ldots$, where $k$ weighs the kinks. The
# raw $\alpha$ says nothing about rank, the centred one does. The error bound of the expansion is proved:

# %%
for name in ("relu", "sigmoid", "gelu"):
    print(f"{name:>7} raw, centred:", *strength_enclosure(name), f" k = {kink_coefficient(name):.4f}")
near, eps = near_identity("relu", 1e-4), Fraction(1, 10_000)
print("true", 1 - dual_kernel_enclosure("relu", 1 - eps), "expansion", near.prediction, "±", near.error)

# %% [markdown]
# The Shannon rank of nearly identical features grows by about $\alpha \epsilon \ln(n/\epsilon)$. That is the
# leading logarithm; the full first order has a factor $1 - 1/n$ and a constant.

# %%
Image(registry.png(shannon, shannon.compute("quick")), width=480)

# %% [markdown]
# ## Does a strong nonlinearity freeze its unit?
#
# For $\phi(a z + b)$, yes: where $\alpha$ is large, almost all slopes are small.

# %%
Image(registry.png(saturation, saturation.measure(41)), width=480)

# %% [markdown]
# In general, no. The sine grows strong without saturating, and so does a softsign whose output is rescaled to unit
# variance: its strength explodes while its typical slopes approach 1.

# %%
for threshold in (6.0, 8.0, 10.0):
    strength, low, high = rescaled_softsign(threshold)
    print(f"strength {strength:.1e}, slopes {low:.2f} to {high:.2f}")
Image(registry.png(sine, sine.compute("quick")), width=480)
