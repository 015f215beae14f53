#!/usr/bin/env bash
# The moments of a weight that gets no gradient never reach zero in torch's optimizers: they stop at a subnormal
# number, and from then on every step of the optimizer takes several times as long on a CPU.
#
# Seen with torch 2.13.0 (CPU, x86-64, one thread). A momentum of 0.9 takes a float32 buffer from 1 into subnormal
# numbers in about 850 steps and to 4 times the smallest one, 5.6e-45, in about 1,000; 0.9 times that is rounded to
# itself, so that it stays for good. SGD with momentum, Adam, NAdam and RMSprop with momentum all end there. Of a
# million weights a step of SGD then took 10 to 12 times as long as before, one of Adam 3 to 20 times; the factors
# differ by machine and load, and the script asks for 1.5 and 1.2. Weights move no more by it: what is lost is time.
# A network whose units die, or which is frozen by masks rather than requires_grad, so trains slower the longer it
# trains, which reads as a slow machine. The remedy is there and off by default: torch.set_flush_denormal(True)
# sets the buffers to zero at the next step, and the time is that of before.
# What follows: our compiled learners set what decays below 1e-290 to zero (simulate/learner_kernels.py), which made
# momentum 12 and Adam 6 times as fast; docs/your-network.md names the switch.
#
# Fails if any of this changes. Needs a network and a few hundred megabytes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import time

import torch

print("torch", torch.__version__)
torch.set_num_threads(1)
RULES = {
    "SGD": (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), "momentum_buffer", 1.5),
    "Adam": (lambda p: torch.optim.Adam(p, lr=1e-3), "exp_avg", 1.2),
    "NAdam": (lambda p: torch.optim.NAdam(p, lr=1e-3), "exp_avg", 1.2),
    "RMSprop": (lambda p: torch.optim.RMSprop(p, lr=1e-3, momentum=0.9), "momentum_buffer", 1.2),
}


def step_time(optimizer):
    times = []
    for _ in range(10):
        start = time.perf_counter()
        optimizer.step()
        times.append(time.perf_counter() - start)
    return min(times)


for name, (make, moment, least) in RULES.items():
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(1000, 1000))
    optimizer = make([weight])
    weight.grad = torch.randn_like(weight)
    optimizer.step()
    weight.grad = torch.zeros_like(weight)  # the unit has died
    before = step_time(optimizer)
    for _ in range(1400):
        optimizer.step()
    after, stuck = step_time(optimizer), optimizer.state[weight][moment].abs().max().item()
    for _ in range(1000):
        optimizer.step()
    still = optimizer.state[weight][moment].abs().max().item()
    torch.set_flush_denormal(True)
    optimizer.step()
    flushed = step_time(optimizer)
    torch.set_flush_denormal(False)
    print(f"{name}: {moment} {stuck:.2g}, 1,000 steps later {still:.2g}; a step takes {after / before:.1f} times as")
    print(f"  long as before, with set_flush_denormal {flushed / before:.1f}")
    assert 0 < stuck == still < torch.finfo(torch.float32).tiny
    assert after > least * before and flushed < after / 1.2
    assert not optimizer.state[weight][moment].any()
PY
echo "seen as described"
