# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A world that flips bits
#
# Slowly changing regression (Dohare et al. 2024): inputs of 20 bits and one target. Fifteen of the bits hold for
# 10,000 samples, then they change; the other five are drawn anew every time. The target is the output of a fixed
# network of 100 threshold units. A learner with a handful of ReLU units cannot represent it. It has to *track*
# it: learn the part of the world that it is in, one sample a step, and learn again when the world changes.

# %%
import numpy as np
from IPython.display import Image
from rich import print as show

from paper_figures import bitflip
from paper_figures.support import registry
from paper_figures.support.results import RESULTS
from simulate.bit_flipping import Config, run, summary
from simulate.learners import LEARNERS

# %% [markdown]
# ## Plasticity lost
#
# Five ReLU units, plain SGD, the squared error before each step:

# %%
few = {"hidden": 5, "steps": 400_000, "seeds": (0, 1, 2)}
plain = run(Config("sgd", **few))
show(summary(plain, "plain SGD"))

# %% [markdown]
# The error *rises* from task to task, although all tasks are equally hard. On the inputs of the task at hand most
# of the five units fall silent, and the effective rank of the rest falls to one. Silent units are on the frozen
# manifold of the first notebook: no gradient reaches them until the world changes.

# %%
names = ("recent_roy_vetterli_rank", "recent_dead_fraction", "recent_duplicate_fraction")
for name in names:
    first, last = plain.metrics[name][:, 0].mean(), plain.end(name).mean()
    print(f"{name:27} {first:.2f} → {last:.2f}")

# %% [markdown]
# ## Plasticity kept
#
# Continual backprop re-draws units of little use now and then. The function-preserving escape does it only where
# it costs nothing: it looks for dead and duplicate units, leaves what the network computes unchanged, and gives
# them new in-weights (claim E2).

# %%
print("learners:", ", ".join(LEARNERS))
for learner in ("linear", "cbp", "escape"):
    result = run(Config(learner, **few))
    renewed = result.metrics["renewed"][:, -1].mean()
    print(f"{learner:7} error {result.loss[:, 0].mean():.2f} → {result.end().mean():.2f}, {renewed:.0f} re-drawn")

# %% [markdown]
# A learner that is linear in its inputs does not lose anything, and has little to lose. At the end plain SGD is
# worse than that.
#
# Runs depend on the config and its seeds alone, not on the number of threads:

# %%
again = run(Config("sgd", **few), threads=1)
print(np.array_equal(plain.loss, again.loss))

# %% [markdown]
# ## Both worlds
#
# Left, the world above. On the right that of JL25, where a single bit flips at the end of a task, over the number
# of units. The runs are short here; `lop figures bitflip --profile full` does them in full length.

# %%
data = bitflip.measure(bitflip.Config(400_000, 200_000, (5,), (0, 1, 2), 20), RESULTS)
Image(registry.png(bitflip, data), width=700)
