# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Cloned for ever
#
# Take a trained network and copy every hidden unit: twice the width, four times the weights, the same function.
# JL25's Theorem 2.1 says that gradient descent will never use the new freedom: the copies stay copies. Here we
# watch that on images, and look for what breaks the spell.

# %%
import torch
from IPython.display import Image, Markdown

import lop
from paper_figures import optimizers, quotient
from paper_figures.support import registry
from paper_figures.support.results import RESULTS
from torch_experiments.cloning.chains import cloned_residual
from torch_experiments.lab import optimizer_table
from torch_experiments.lab.experiments import e01_cloning
from torch_experiments.lab.models import mlp

# %% [markdown]
# ## Cloning changes nothing
#
# A small multilayer perceptron for 8×8 images, and its clone. The weights from two copies are half of the
# original, so that their sum is what it was. Up to rounding, both compute the same function, and the clone solves
# the equations of its manifold: `rows` and `columns` are violations of equal incoming and outgoing block sums.

# %%
base = mlp(64, 10, width=32, depth=2, dtype=torch.float64)
twin = lop.clone(base, 2)
images = torch.rand(5, 64, dtype=torch.float64)
print("largest difference of outputs:", float((base(images) - twin(images)).abs().max().detach()))
cloned_residual(twin, 2)

# %% [markdown]
# ## Training changes nothing either, under some rules
#
# We train a base on scikit-learn's handwritten digits, clone it, and go on under four regimes. The score is 1 for
# exact copies and 0 for independent units; `forward` compares activations, `backward` their gradients.

# %%
config = e01_cloning.Config(
    arch_settings=(("width", 32), ("depth", 2)),
    base_epochs=5,
    epochs=5,
    seeds=(0,),
    regimes=("sgd", "adam", "noisy-elementwise", "dropout"),
)
table = e01_cloning.run(config, RESULTS)
for row in e01_cloning.end_values(table):
    if row["metric"] in ("forward_score", "backward_score"):
        print(f"{row['regime']:>18} {row['metric']:>15} {row['mean']:.12f}")

# %% [markdown]
# SGD and Adam are trapped; noise and dropout, which treat the two copies differently, are not. The figure
# `cloning` shows the same for a deeper network and more seeds, with losses and ranks: `lop figures cloning`.
#
# ## What the trapped network does instead
#
# It learns exactly like a small one: the base itself, with the learning rate of every weight multiplied by the
# ratio of the block sizes of its ends. The two curves agree step by step, to rounding. With equal rates they do
# not.

# %%
curves = quotient.measure(quotient.Config(width=32, depth=2, steps=300), RESULTS)
Image(registry.png(quotient, curves), width=480)

# %% [markdown]
# ## Which update rules keep copies?
#
# Rules that treat equal gradients equally. There are finer distinctions: copies may differ in scale (ReLU) or
# sign (tanh), or have equal sums of weights but different weights. Numbers are relative distances from the
# manifold, three copies of a unit.

# %%
rules = ("SGD", "Adam", "AdamW", "Adam, coupled L2", "SGD, gradient noise")
Markdown(optimizer_table.markdown(optimizers.measure(optimizers.Config(steps=60, rules=rules), RESULTS)))

# %% [markdown]
# So the trap is not a matter of the loss or the data: a rule escapes it if it breaks the symmetry between the
# copies, and only then. All update rules of `torch.optim` are in the figure `optimizers`: `lop figures
# optimizers`.
