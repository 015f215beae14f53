# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Certify your own network
#
# You have a network, a batch and an optimizer. Which of its units can training still use? `certify` answers for any
# `nn.Module` that can be traced: it finds units that are **frozen** (no gradient on their weights) and units that
# are **copies** of each other (weights that can only move together), and says whether your optimizer could ever
# undo that.

# %%
import torch
from IPython.display import Image
from torch import nn
from torch.nn.functional import cross_entropy

import lop
from paper_figures import certificate
from paper_figures.support import registry
from torch_experiments.lab.images import pixels

# %% [markdown]
# ## A network, a batch, an optimizer
#
# Replace the next cell by your own: nothing below depends on what the model is.

# %%
torch.manual_seed(0)
images = pixels.load("digits").floats(torch.float64)
x, y = images.train_x[:500], images.train_y[:500]
features = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
model = nn.Sequential(features, nn.Linear(128, 32), nn.ReLU(), nn.Linear(32, 10)).double()
optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
for _ in range(100):
    optimizer.zero_grad()
    loss = cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
print(f"loss {loss.item():.2g}")

# %% [markdown]
# ## The certificate
#
# A frozen unit is certified for one of three reasons, which are never mixed up: by the **signs** of its weights,
# for all data; **in a box** of inputs, by interval bounds; or just **on the batch**. The rate of this training was
# too high: almost half of the hidden units have died. The table also tells what the optimizer will do: Adam's
# buffers still carry the weights of dead units a little further, but by too little to matter.

# %%
found = lop.certify(model, x, optimizer, targets=y)
print(found)

# %% [markdown]
# The parts of it can be used in code: `found.to_dict()` is JSON, `found.to_html()` a page.

# %%
print(f"{found.free_fraction:.1%} of {found.parameters} parameters are free")
for unit in found.frozen.units[:3]:
    print(unit.layer, unit.unit, unit.reason, "|", unit.inequality)

# %% [markdown]
# ## A wider network that is no larger
#
# Now every unit is doubled without a change of the function, as when a model is grown. There are almost four times
# as many parameters, but training has no more freedom than before. In exact arithmetic Adam keeps the copies
# together for ever; the verdict names the claims on which it rests.

# %%
wide = lop.clone(model, 2, example_inputs=x)
adam = torch.optim.Adam(wide.parameters(), lr=0.001)
doubled = lop.certify(wide, x, adam, targets=y)
print(doubled)

# %%
print(f"parameters {found.parameters} -> {doubled.parameters}, free {found.dimension} -> {doubled.dimension}")

# %% [markdown]
# ## Seen at a glance
#
# A certificate as a picture: layers as rows, units as squares. Here copies, scaled copies, near-clones and frozen
# units were planted in a small CNN, and all of them are found, with nothing else (`lop figures certificate`).
# Weights alone take time in proportion to their number: 100 million parameters a few seconds (`lop figures
# certificate_cost`).

# %%
Image(registry.png(certificate, certificate.compute("quick")), width=860)

# %% [markdown]
# What to do about it is the subject of the next notebook.
