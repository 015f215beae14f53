# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What is a loss-of-plasticity manifold?
#
# A network has lost plasticity when training goes on but some of its weights can no longer use it. JL25 (Joudaki
# et al., *Barriers for Learning in an Evolving World*, arXiv 2510.00304) explain this by sets of weights that
# gradient descent cannot leave. A set $M$ is such a trap if at each of its points the gradient is tangent to
# $M$. Two kinds matter: units that are **copies** of each other, and units that are **frozen**.
#
# This notebook looks at both on networks small enough for exact arithmetic: with fractions, "equal" means equal.

# %%
from fractions import Fraction

from IPython.display import Image

from paper_figures import frozen, partitions
from paper_figures.support import registry
from simulate.descent import descend
from simulate.optimizers import sgd
from theory.certificates import certify_cloned
from theory.network import Network, SquaredError, as_scalars, forward, gradient
from theory.partitions import coarsest_equitable_partition

# %% [markdown]
# ## Copies
#
# An input $x$ feeds two hidden units, these feed two more, and those feed the output $y$. The weights into $c$
# are 3 and 1, those into $d$ are 1 and 3: not the same, but with the same sum.

# %%
weights = {("x", "a"): 1, ("x", "b"): 1, ("a", "c"): 3, ("b", "c"): 1, ("a", "d"): 1, ("b", "d"): 3}
weights |= {("c", "y"): 2, ("d", "y"): 2}
weights = {edge: Fraction(weight) for edge, weight in weights.items()}
network = Network.from_edges(weights, dict.fromkeys("abcd", "relu") | {"y": "linear"}, ["x"], ["y"])
coarsest_equitable_partition(network).named(network)

# %% [markdown]
# Colour refinement has found two blocks, $\{a, b\}$ and $\{c, d\}$. Within a block all units receive equal sums
# of weights from each block (*row-equitable*) and send equal sums to each block (*column-equitable*). So on every
# sample they carry the same activation:

# %%
x = as_scalars([Fraction(1), Fraction(2)])[None]
goal = SquaredError(as_scalars([Fraction(5), Fraction(6)])[None])
for unit, h in zip(network.units, forward(network, x).h, strict=True):
    print(unit, *h)

# %% [markdown]
# They also receive the same error signal, so the gradient is one number for each pair of blocks. Adding such
# numbers keeps the sums equal. The reachable weights form a flat set, the cloned manifold, and the gradient has
# no component normal to it:

# %%
certificate = certify_cloned(network)
print(certificate.validity)
print("normal component:", *certificate.manifold.project_normal(gradient(network, x, goal.gradient)))

# %% [markdown]
# After five steps of gradient descent the weights have moved, and they still lie on the manifold, exactly:

# %%
*_, later = descend(network, [(x, goal)] * 5, sgd(Fraction(1, 1000)))
[round(float(w), 3) for w in later.weights], certificate.manifold.contains(later.parameters)

# %% [markdown]
# Equal sums alone are no trap. Below, copies share a colour. In the networks marked ✗ the copies have unequal
# numbers of edges, and descent parts them: a hypothesis that the theorem needs.

# %%
Image(registry.png(partitions, partitions.compute("quick")), width=480)

# %% [markdown]
# ## Frozen units
#
# A ReLU unit whose pre-activation is negative on all samples passes no gradient to its incoming weights. Does it
# stay dead? Not if the units before it go on learning. On the left, training upstream revives the unit $v$; on
# the right one sign differs, and $v$ stays dead.

# %%
runs = frozen.compute("quick")
Image(registry.png(frozen, runs), width=480)

# %% [markdown]
# A certificate says why, and for how long. That of the left unit speaks of the given samples and weights alone;
# that of the right unit holds for every input:

# %%
for run in (runs.revived, runs.persistent):
    print(f"{run.certificate.reason}: {run.certificate.inequality}; valid for {run.certificate.validity}")

# %% [markdown]
# The next notebook, *Cloned for ever*, does this with a real network on real images.
