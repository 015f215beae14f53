"""Cost of a certificate of GPT-2 with random weights, on one thread, beside an older build of ours.

Each line is a process of its own, since its peak memory is measured too. A forward pass of the same batch is the
unit; the older build is exported from the repository into a temporary folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.older_build import OLDER, ROOT, exported

PARTS = {"trace and copies": [], "all but stability": ["frozen", "near", "optimizer"]}
MEASURED = """
import json, resource, sys, time, warnings
warnings.filterwarnings("ignore")
import torch
from transformers import GPT2Config, GPT2LMHeadModel
from torch_experiments import certify

parts, layers, width, batch = json.loads(sys.argv[1])
torch.set_num_threads(1)
torch.manual_seed(0)
model = GPT2LMHeadModel(GPT2Config(n_layer=layers, n_embd=width)).eval()
x = torch.randint(50257, (batch, 64))
took = []
for act in (lambda: model(x), lambda: model(x), lambda: certify(model, {"input_ids": x}, parts=parts)):
    start = time.process_time()
    act()
    took.append(time.process_time() - start)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"forward": took[1], "certify": took[2], "peak": peak / 2**20,
                  "parameters": sum(p.numel() for p in model.parameters())}))
"""


def main() -> None:
    """Print GPT-2 in both builds, then cost against layers, width and batch in the present one."""
    if find_spec("transformers") is None:
        print("transformers is not installed: pip install transformers")
        return
    head = f"{'parameters':>11}  {'forward s':>9}  {'certify s':>9}  {'forwards':>8}  {'GiB':>5}"
    print(f"{'':>26}  {'build':>8}  {head}")
    with TemporaryDirectory() as folder:
        older = exported(Path(folder))
        for words, parts in PARTS.items():
            found = [measured(root, parts, 12, 768, 2) for root in (ROOT, older) if root is not None]
            for name, row in zip(("present", OLDER), found, strict=False):
                show(words, name, row)
            if len(found) == 2:
                print(f"{'':>26}  {found[0]['certify'] / found[1]['certify']:.2f} of the time of {OLDER}")
    for layers, width, batch in ((6, 768, 2), (24, 768, 2), (12, 384, 2), (12, 768, 8), (12, 768, 32)):
        words = f"{layers} layers, {width}, batch {batch}"
        show(words, "present", measured(ROOT, PARTS["all but stability"], layers, width, batch))


def measured(root: Path, parts: list[str], layers: int, width: int, batch: int) -> dict[str, Any]:
    """Return CPU-seconds and GiB of one certificate, in a process that imports the build below ``root``."""
    command = [sys.executable, "-P", "-c", MEASURED, json.dumps([parts, layers, width, batch])]
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def show(words: str, build: str, row: dict[str, Any]) -> None:
    """Print one line."""
    forwards = row["certify"] / row["forward"]
    shown = f"{row['parameters']:>11,}  {row['forward']:>9.2f}  {row['certify']:>9.2f}  {forwards:>8.1f}"
    print(f"{words:>26}  {build:>8}  {shown}  {row['peak']:>5.2f}", flush=True)
