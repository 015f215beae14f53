# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From trapped to free: recovery without a loss bump
#
# Copies and dead units waste a network's width, and gradient descent will not get it back. Noise on the weights
# would, at the price of a higher loss. It can be had for nothing (claim E2):
#
# - the out-weights of **clones** matter only through their sum, so they may be changed by any amounts that add up
#   to zero over the clones; from then on the clones get different gradients;
# - a **dead** unit says nothing, so its in-weights may be drawn again if its out-weights are set to zero first.
#
# Both leave the function as it is, to rounding.

# %%
from functools import partial

import torch
from IPython.display import Image

import lop
from paper_figures import freed
from paper_figures.support import registry
from torch_experiments.lab.images import pixels
from torch_experiments.lab.models import mlp

# %% [markdown]
# ## Trapped
#
# A network with four hidden units learns 500 digits, and is then cloned fourfold. The clone trains on, and stays on
# its manifold: sixteen units, the freedom of four.

# %%
config = freed.Config()
images = pixels.load("digits").floats(torch.float64)
x, y = images.train_x[:500], images.train_y[:500]
base = mlp(64, 10, width=4, depth=1, dtype=torch.float64)
freed.descend(base, freed.sgd(base, config), x, y, 500)
model = lop.clone(base, 4)
optimizer = freed.sgd(model, config)
losses = freed.descend(model, optimizer, x, y, 200)
trapped = lop.certify(model, x, optimizer, targets=y)
print(f"loss {losses[0]:.4f} -> {losses[-1]:.4f} in 200 steps")
print(f"free: {trapped.dimension} of {trapped.parameters} parameters; clones: {trapped.optimizer.clones}")

# %% [markdown]
# ## Free
#
# `Recovery` applies remedies when a `PlasticityMonitor` raises an alarm, or when a certificate says that the
# network is trapped. It reports what it changed: the outputs by nothing but rounding.

# %%
loss = partial(freed.loss_of, model, x, y)
escape = lop.remedies.Escape().on(model, optimizer, example_inputs=x, loss=loss)
recovery = lop.Recovery(None, escape)
(action,) = recovery.consult(trapped)
print(action.reason)
print(f"changed {', '.join(action.layers)}; change of the outputs {action.function_change:.0e}")
print(f"loss {action.loss_before:.12f} -> {action.loss_after:.12f}")

# %% [markdown]
# The same optimizer, the same data, the same rate; but now the width counts.

# %%
after = freed.descend(model, optimizer, x, y, 800)
free = lop.certify(model, x, optimizer, targets=y)
print(f"loss {losses[-1]:.4f} -> {after[0]:.4f} -> {after[-1]:.4f}")
print(f"free: {free.dimension} of {free.parameters} parameters")

# %% [markdown]
# ## Side by side, and with dead units
#
# Left, the base, the clone and the clone that escaped. Base and trapped clone have one loss, step by step: the base
# trains at the rates that the theory gives it (claim C7). Right, a network with three quarters of its units dead.
# At the dotted line nothing happens to the loss, and everything to its future.

# %%
data = freed.compute("quick")
Image(registry.png(freed, data), width=860)

# %%
for name, course in (("clones", data.clones), ("dead units", data.dead)):
    said = f"{name}: loss {course.action.loss_before:.12f} before, {course.action.loss_after:.12f} after the escape"
    print(said, f"and {course.freed[-1]:.4f} at the end, against {course.left[-1]:.4f} without")

# %% [markdown]
# In your own training: bind the remedy to model and optimizer, and let the monitor call for it.
#
# ```python
# escape = remedies.Escape().on(model, optimizer, example_inputs=x)
# with PlasticityMonitor(model, x, y, every=500) as monitor:
#     recovery = Recovery(monitor, escape)
#     for step in training:
#         ...
#         monitor.step(loss)
#         recovery.step()
# ```
