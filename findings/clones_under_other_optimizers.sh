#!/usr/bin/env bash
# What optimizers of other packages do to clones, and to rows of a weight whose gradient is exactly zero.
#
# Seen with torch 2.13.0 (CPU), pytorch_optimizer 4.1.0, heavyball 3.2.1, lion-pytorch 0.2.3; docs/optimizers.md has the
# table.
#   - SOAP (both packages) parts identical copies by 1 to 3 % of their layer in two float32 steps, and moves rows without
#     gradient: gradients of copies have rank below that of their matrix, so Σ GGᵀ has a null space; in its basis
#     the rotated gradient is rounding noise, which Adam divides by its own size.
#   - PSGD Kron (both) fits its preconditioner to Gaussian probes, which differ between copies: they part at once.
#   - heavyball rounds bfloat16 weights at random, whatever the rule: copies part at the first step. Its Muon parts
#     them in float32 too.
#   - Lion keeps copies, to the bit while no sign is in doubt, and rows without gradient where they are.
#   - Shampoo's roots of matrices part copies by a bit, which grows; rows without gradient stay.
# What follows: certificates judge these classes by name (certificates/optimizer/third_party.py), with these numbers.
#
# Fails if a sign of this changes. Needs a network, a gigabyte and some minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check -c constraints.txt -e . \
    pytorch_optimizer==4.1.0 heavyball==3.2.1 lion-pytorch==0.2.3
OMP_NUM_THREADS=1 "$folder/venv/bin/python" - <<'PY'
import warnings

import heavyball
import lion_pytorch
import pytorch_optimizer
import torch

from torch_experiments.lab.rounding_table import Setting, dead_rows, gaps, of_packages, parting
from torch_experiments.lab.rules import Rule

warnings.simplefilter("ignore")
heavyball.utils.compile_mode = None  # the same formulas, without a compiler
other, heavy = "pytorch_optimizer 4.1.0", "heavyball 3.2.1"
still = {"weight_decay": 0.0}
rules = {
    other: [
        Rule("SOAP", pytorch_optimizer.SOAP, {"lr": 3e-3} | still),
        Rule("Kron", pytorch_optimizer.Kron, still),
        Rule("Lion", pytorch_optimizer.Lion, {"lr": 1e-3} | still),
        Rule("Shampoo", pytorch_optimizer.Shampoo, still),
    ],
    heavy: [
        Rule("SOAP", heavyball.SOAP, {"lr": 3e-3} | still),
        Rule("PSGDKron", heavyball.PSGDKron, still),
        Rule("Muon", heavyball.Muon, still),
        Rule("AdamW", heavyball.AdamW, {"lr": 0.01} | still),
        Rule("SGD", heavyball.SGD, {"lr": 0.05} | still),
    ],
    "lion-pytorch 0.2.3": [Rule("Lion", lion_pytorch.Lion, {"lr": 1e-3} | still)],
}
print("torch", torch.__version__)
print(of_packages(rules))

named = {(package.split()[0], rule.name): rule for package, several in rules.items() for rule in several}
single = Setting("float32", 2, "interleaved", 12, 0)
for package in ("pytorch_optimizer", "heavyball"):
    assert gaps(named[package, "SOAP"], single)[0] > 1e-3 and dead_rows(named[package, "SOAP"]) > 0.01
assert dead_rows(named["pytorch_optimizer", "Kron"]) > 0.01 and dead_rows(named["heavyball", "PSGDKron"]) > 0.01
assert parting(named["heavyball", "Muon"], single, 1).parted == 1
for name in ("AdamW", "SGD"):
    assert parting(named["heavyball", name], Setting("bfloat16", 2, "interleaved", 12, 0), 1).parted == 1
for package in ("pytorch_optimizer", "lion-pytorch"):
    assert parting(named[package, "Lion"], single, 100).parted is None and dead_rows(named[package, "Lion"]) == 0
print("seen as described")
PY
