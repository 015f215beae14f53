# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Watching a network lose its plasticity
#
# A network learns one task after the other. Some day it does not learn the next one any more, though no task is
# harder than the first. Which signs come before, how early, and what does a remedy change?
#
# The tasks: random labels for the same 500 digits, new ones each time, 150 steps of Adam. Nothing carries over from
# one task to the next, so a network that has kept its plasticity learns all of them equally well.

# %%
import io

import numpy as np
import torch
from IPython.display import Image, display
from matplotlib.figure import Figure
from torch.nn.functional import cross_entropy

import lop
from paper_figures.support import style, tasks
from torch_experiments.lab.campaign import items
from torch_experiments.lab.images import pixels
from torch_experiments.lab.models import mlp

torch.set_num_threads(1)
TASKS, STEPS = 22, 150
x = pixels.load("digits").floats().train_x[:500]

# %% [markdown]
# ## Two networks, watched
#
# The same training twice: plain, and with continual backprop (Dohare et al. 2024), which draws units of little use
# again. A `PlasticityMonitor` looks at the end of every task and raises alarms; it sees no labels. A certificate
# says what share of the parameters training can still move. Printed: means of the first and the last five tasks.

# %%
cbp = lop.remedies.make("cbp", rate=1e-3, maturity=50, second_moments="mean")
chosen = {"plain": lop.remedies.make("none"), "continual backprop": cbp}
curves = {name: {"accuracy while learning": [], "dead units": [], "rank": [], "free share": []} for name in chosen}
alarms = {name: [] for name in chosen}

for name, remedy in chosen.items():
    source = torch.Generator().manual_seed(0)
    model = mlp(64, 10, width=64, depth=3, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, fused=True)
    remedy.on(model, optimizer, example_inputs=x).attach()
    with lop.PlasticityMonitor(model, x, every=STEPS, budget=None, on_alarm=alarms[name].append) as monitor:
        for _ in range(TASKS):
            y, hits = torch.randint(10, (500,), generator=source), 0
            for _ in range(STEPS):
                batch = torch.randint(500, (128,), generator=source)
                output = model(x[batch])
                loss = cross_entropy(output, y[batch])
                hits += int((output.argmax(dim=1) == y[batch]).sum())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                seen = monitor.step(loss.detach())
            share = lop.certify(model, x, parts=("frozen",)).unheld_fraction
            values = (hits / STEPS / 128, seen.mean("dead_fraction"), seen.mean("shannon_rank_centred"), share)
            for curve, value in zip(curves[name].values(), values, strict=True):
                curve.append(value)
    print(name, *(f"| {curve}: {np.mean(v[:5]):.2f} -> {np.mean(v[-5:]):.2f}" for curve, v in curves[name].items()))

# %% [markdown]
# ## The signs, and how early they come
#
# Plasticity counts as lost once the accuracy while learning, a mean over five tasks, is a third below its best. The
# lead of an alarm is the training between the two.

# %%
for name, found in curves.items():
    smooth = np.convolve(found["accuracy while learning"], np.ones(5) / 5, mode="valid")
    late = np.flatnonzero(smooth < 2 / 3 * np.maximum.accumulate(smooth))
    lost = (late[0] + 5) * STEPS if len(late) else None
    print(f"{name}: plasticity is " + (f"lost at step {lost}" if lost else "not lost"))
    for alarm in alarms[name]:
        lead = f" (lead: {lost - alarm.step} steps)" if lost else ""
        print(f"  {alarm}{lead}")

# %% [markdown]
# An alarm is a question, not a verdict; a negative lead is an alarm that came too late. The certificate says why:
# no gradient reaches the weights into dead units, and those between two. Dotted: the plain network's first alarm.

# %%
with style.context():
    figure = Figure(figsize=(style.WIDTH, 2.8))
    for k, metric in enumerate(curves["plain"], start=1):
        axis = figure.add_subplot(2, 2, k, title=metric)
        for (name, found), color in zip(curves.items(), style.PALETTE, strict=False):
            axis.plot(np.arange(1, TASKS + 1), found[metric], color=color, label=name)
        for alarm in alarms["plain"][:1]:
            axis.axvline(alarm.step / STEPS, color="gray", linestyle=":")
        axis.set(ylim=(0, 1.05 * axis.get_ylim()[1]), xlabel="task" if k > 2 else None)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
Image(picture.getvalue(), width=860)

# %% [markdown]
# ## Tiny ImageNet
#
# The plain MLP of JL25 at its published size, 40 tasks of five classes and 500 steps each, from the committed
# records (`lop campaign mlp` makes them). Here every task brings new images with true labels; look at the course of
# accuracy, dead units and free share before you take the digits for the rule.

# %%
records = items.found("mlp")
if records is None:
    print("no records yet: lop campaign mlp --data FOLDER")
else:
    with style.context():
        figure = Figure(figsize=(style.WIDTH, 2.8))
        for k, metric in enumerate((*tasks.PANELS[:3], "free_fraction"), start=1):
            axis = figure.add_subplot(2, 2, k, title=tasks.LABELS.get(metric, "free share"))
            tasks.band(axis, records.table, "none", metric, color=style.BLUE)
            axis.set(ylim=(0, 1.05 * axis.get_ylim()[1]), xlabel="task" if k > 2 else None)
        picture = io.BytesIO()
        figure.savefig(picture, format="png")
    display(Image(picture.getvalue(), width=860))
    print(f"{sum(cell == 'none' for cell, _ in records.environments)} seeds; band: their range")
