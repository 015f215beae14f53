"""Samples per CPU-second of slowly changing regression: compiled, in NumPy and in torch, on the same samples."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from simulate import learner_kernels, learner_reference, learners
from simulate.bit_flipping import Config, begun, run, segments, world
from simulate.learners import Segment, Settings, State
from tests.older_build import OLDER, ROOT, exported

WIDTHS = (5, 10, 50, 100)
LEARNERS = ("sgd", "cbp", "momentum", "adam", "shrink-perturb", "redo", "escape")
FAST, SLOW, REPETITIONS = 300_000, 3_000, 3
BESIDE = ("sgd", "cbp", "momentum", "adam", "shrink-perturb")
SEEDS = 16
RUN = """
import json, sys, time
from simulate.bit_flipping import Config, run
learner, hidden, seeds, steps = json.loads(sys.argv[1])
run(Config(learner, hidden, 2000, range(seeds), 1000), threads=1)  # compile
start = time.process_time()
run(Config(learner, hidden, steps, range(seeds), steps), threads=1)
print(json.dumps(seeds * steps / (time.process_time() - start)))
"""  # in either build


def main() -> None:
    """Print samples per CPU-second (one thread, best of three) by learner and width, and of seeds side by side."""
    torch.set_num_threads(1)
    print(f"{'learner':>15} {'hidden':>7} {'compiled':>12} {'NumPy':>8} {'torch':>8}  samples per CPU-second")
    for learner in LEARNERS:
        for hidden in WIDTHS if learner in ("sgd", "cbp") else WIDTHS[::3]:
            compiled = speed(learner, hidden, learner_kernels.advance, FAST)
            numpy = speed(learner, hidden, learner_reference.advance, SLOW)
            other = f"{speed(learner, hidden, torch_loop, SLOW):,.0f}" if learner == "sgd" else ""
            print(f"{learner:>15} {hidden:>7} {compiled:>12,.0f} {numpy:>8,.0f} {other:>8}")
    print(f"{'seeds':>15} {'threads':>7} {'steps/s':>12}  of cbp with 5 units, metrics included, wall clock")
    for seeds, threads in ((1, 1), (4, 1), (4, 2), (16, 2)):
        print(f"{seeds:>15} {threads:>7} {side_by_side(seeds, threads):>12,.0f}")
    beside_older()


def speed(learner: str, hidden: int, advance: Callable[[State, Segment, Settings], float], steps: int) -> float:
    """Return samples per CPU-second, the drawing of the samples included."""
    config = Config(learner, hidden, steps, (0,), steps)
    seen, numbers = world(config, 0), learners.settings(config.settings)
    for segment in segments(config, 0, seen, 0, 10):  # compile
        advance(begun(config).states[0], segment, numbers)
    times = []
    for _ in range(REPETITIONS):
        state, start = begun(config).states[0], time.process_time()
        total = sum(advance(state, segment, numbers) for segment in segments(config, 0, seen, 0, steps))
        times.append(time.process_time() - start)
        assert np.isfinite(total)
    return steps / min(times)


def side_by_side(seeds: int, threads: int) -> float:
    """Return samples per second of whole runs, over all seeds."""
    config, start = Config("cbp", 5, 400_000, range(seeds)), time.perf_counter()
    run(config, threads=threads)
    return seeds * config.steps / (time.perf_counter() - start)


def beside_older() -> None:
    """Print samples per CPU-second of whole runs of many seeds on one thread, in this build and the older one."""
    with TemporaryDirectory() as folder:
        older = exported(Path(folder))
        if older is None:
            return
        print(f"{'learner':>15} {'hidden':>7} {'present':>12} {OLDER:>12} {'ratio':>6}  {SEEDS} seeds, one thread")
        for learner in BESIDE:
            for hidden in WIDTHS[::3]:
                new, old = (whole(root, learner, hidden) for root in (ROOT, older))
                print(f"{learner:>15} {hidden:>7} {new:>12,.0f} {old:>12,.0f} {new / old:>6.2f}", flush=True)


def whole(root: Path, learner: str, hidden: int) -> float:
    """Return samples per CPU-second of a run in a process that imports the build below ``root``."""
    steps = 10_000 if learner == "shrink-perturb" or hidden > 5 else 100_000
    command = [sys.executable, "-P", "-c", RUN, json.dumps([learner, hidden, SEEDS, steps])]
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def torch_loop(state: State, segment: Segment, s: Settings) -> float:
    """Train a torch model from the state's weights by plain SGD; the state stays as it is."""
    bits, hidden = segment.inputs.shape[1], len(state.mean)
    W, b, v, c = learners.unpack(state.weights, hidden)
    model = torch.nn.Sequential(torch.nn.Linear(bits, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 1))
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), (W.T, b, v[None], np.array([c])), strict=True):
            parameter.copy_(torch.tensor(value))
    optimizer = torch.optim.SGD(model.parameters(), lr=s.rate)
    inputs, targets = (torch.tensor(a, dtype=torch.float32) for a in (segment.inputs, segment.targets))
    total = 0.0
    for p in segment.order:
        loss = torch.nn.functional.mse_loss(model(inputs[p]), targets[p : p + 1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total
