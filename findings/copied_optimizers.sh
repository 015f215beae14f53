#!/usr/bin/env bash
# A copied optimizer is not the optimizer: copy.deepcopy keeps its state and its groups and drops all else.
#
# Seen with torch 2.13.0 (CPU). Of (network, optimizer) copied together, as agents, checkpoints in memory and audits
# do it, the copy's parameters are those of the copied network and its moments are equal; but
#   - step hooks are gone, without a word: a regulariser or a remedy that was registered with
#     register_step_post_hook acts on the original alone (10 calls of 10, 0 of 10 on the copy);
#   - a scheduler copied along works on the copy, and warns that `optimizer.step()` has been overridden, which nobody did;
#   - LBFGS, whose list of parameters is an attribute, cannot take a step at all: AttributeError '_params'.
# Cause: Optimizer.__getstate__ returns defaults, state and param_groups only (documented nowhere).
# What follows: copy the attributes one by one into an object made by __new__, as certificates/audit.py does.
#
# Fails if any of this changes. Needs a network and a few hundred megabytes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import copy
import warnings

import torch
from torch import nn

print("torch", torch.__version__)
x, y = torch.ones(4, 2), torch.zeros(4, 1)


def trained(model, optimizer, steps=10):
    def closure():
        optimizer.zero_grad()
        loss = ((model(x) - y) ** 2).mean()
        loss.backward()
        return loss

    for _ in range(steps):
        optimizer.step(closure)


model = nn.Linear(2, 1)
optimizer = torch.optim.Adam(model.parameters())
calls = []
optimizer.register_step_post_hook(lambda own, *_: calls.append(own))
twin, copied = copy.deepcopy((model, optimizer))
trained(model, optimizer)
trained(twin, copied)
counts = [sum(own is one for own in calls) for one in (optimizer, copied)]
same = all(torch.equal(p, q) for p, q in zip(model.parameters(), twin.parameters()))
print("calls of the hook: original", counts[0], "copy", counts[1], "| the copy trains alike:", same)
assert counts == [10, 0] and same

model = nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
twin, copied, plan = copy.deepcopy((model, optimizer, scheduler))
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    trained(twin, copied, 1)
    plan.step()
told = [str(w.message)[:80] for w in seen]
print("scheduler of the copy says:", told)
assert len(told) == 1 and "`optimizer.step()` has been overridden" in told[0]

model = nn.Linear(2, 1)
optimizer = torch.optim.LBFGS(model.parameters())
twin, copied = copy.deepcopy((model, optimizer))
trained(model, optimizer, 1)
try:
    trained(twin, copied, 1)
    said = "no error"
except AttributeError as error:
    said = str(error)
print("LBFGS, copied:", said)
assert said == "'LBFGS' object has no attribute '_params'"
PY
echo "seen as described"
