# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Does it happen outside images?
#
# JL25 asks whether its symptoms and remedies carry over to language and to reinforcement learning. Here are small
# character models whose alphabet is drawn anew for every task, and agents on CartPole whose observations are
# shifted anew: in the committed records of several seeds, and in two short runs of your own. Beside each stands a
# *fresh* network that has lost nothing.

# %%
import dataclasses
import io

import numpy as np
import torch
from IPython.display import Image
from matplotlib.figure import Figure

import lop
from paper_figures.support import style
from torch_experiments.lab import experiments
from torch_experiments.lab import language as text
from torch_experiments.lab.campaign import items
from torch_experiments.lab.experiments import e08_language as e08
from torch_experiments.lab.experiments import e09_reinforcement as e09
from torch_experiments.lab.report import agents, language, page, series
from torch_experiments.lab.report.series import DEAD

torch.set_num_threads(1)

# %% [markdown]
# ## What the records say
#
# Every line is a claim of the ledger, judged by the 95 % intervals over seeds: *shown*, *not shown*, or *contrary*,
# a counterexample. Some of the claims go against the story: dead units do not tell what is lost, and a network
# without norm loses nothing at a rate at which layer norm does.

# %%
for module in (language, *page.AGENTS):
    for claim, judge in module.FINDINGS.items():
        found = judge(items.RESULTS)
        verdict = {True: "shown", False: "contrary" if found.contrary else "not shown", None: "open"}[found.shown]
        print(f"{claim:4} {verdict:9} {found.about}")

# %% [markdown]
# ## How much is lost, and where
#
# Language: held-out loss at the end of a task minus that of a fresh network, in nats a character; above zero
# plasticity is lost. Agents: return in the second half of the tasks minus that of a fresh agent, in points; *below*
# zero it is lost. Bars: 95 % intervals over seeds, five at least.

# %%
runs, found = series.runs(language.NAME), agents.agents()
cases = [cell for cell in runs.cells if not cell.startswith("fresh") and runs.seeds(cell, e08.fresh_of(cell))]
cells = [cell for cell in e09.configs("full") if len(found.seeds(cell, e09.fresh_of(cell))) >= 5]
kept = [cell for cell in cells if not cell.startswith("fresh")]
panels = {
    "gap in loss": {cell: language.behind(runs, cell) for cell in cases},
    "gap in return": {cell: found.difference(cell, e09.fresh_of(cell), "return") for cell in kept},
}
with style.context():
    figure = Figure(figsize=(style.WIDTH, 3.0))
    for k, (title, column) in enumerate(panels.items(), start=1):
        axis = figure.add_subplot(1, 2, k, title=title)
        for place, values in enumerate(column.values()):
            low, high = series.interval(values)
            axis.plot([low, high], [-place, -place], color=style.BLUE)
            axis.plot([values.mean()], [-place], "o", color=style.BLUE, markersize=3)
        axis.axvline(0, color="gray", linestyle=":")
        axis.set_yticks(-np.arange(len(column)), list(column))
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
Image(picture.getvalue(), width=860)

# %% [markdown]
# ## A character model of your own
#
# Four alphabets at the high rate, on the embedded sample, with layer norm. Then `diagnose` says what the heads of
# its attention do: how far they look (1: at all characters alike, 0: at one), whether some are idle or copies.

# %%
short = {"tasks": 4, "steps": 60, "context": 32, "free_every": 0}
config = dataclasses.replace(e08.configs("quick")[e08.PLAIN], **short)
both = {"layer norm": config, "fresh": dataclasses.replace(config, remedy="fresh")}
table = experiments.run(both, (0,), None)
for name in both:
    print(f"{name:11} held-out loss by task", experiments.over_tasks(table, name, "test_loss")[0].round(2))

run = text.Run(config, [0], text.load(config.data))
x = run.feed.probe(0, "train")[0]
model = run.networks.ensemble.models[0]
for when in ("at the start", "after a task"):
    for layer, values in lop.diagnose(model, x).items():
        if "attention_entropy" in values:
            names = ("attention_entropy", "idle_head_fraction", "duplicate_head_fraction", "value_rank")
            print(f"{when}, {layer}:", *(f"{name} {values[name]:.2f}" for name in names))
    for _ in range(config.steps if when == "at the start" else 0):
        run.advance()

# %% [markdown]
# ## Agents of your own
#
# Three tasks for a plain agent and a fresh one, by proximal policy optimisation. A task that returns about 9 is one
# in which the agent does the same whatever it sees: its softmax is saturated, with an entropy near zero.

# %%
quick = {name: dataclasses.replace(e09.configs("full")[name], tasks=3, episodes=32) for name in ("plain", "fresh")}
table = experiments.run(quick, (1,), None)
for name in quick:
    for metric in ("return", "policy_entropy", "largest_logit_gap", DEAD):
        print(f"{name:6} {metric:18}", experiments.over_tasks(table, name, metric)[0].round(2))

# %% [markdown]
# ## So does it?
#
# Yes, where what the network *reads* is new, in both; no, where labels alone are new, or natural text follows
# natural text. Dead units are a poor guide, and in language so is the certificate's free share. In agents there is
# a second mechanism, for which the paper has no word: a decided softmax, of which hardly a gradient returns (F4).
