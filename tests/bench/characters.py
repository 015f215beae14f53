"""CPU-seconds a step of the character GPT in our runner against a bare torch loop, in turn, on one thread.

The bare loop draws pieces of the same text, and has the same network, loss and optimizer, and nothing else. Both
take turns of some steps, and the best turn of each counts, so that other work of the machine does not.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator

import torch
from torch.nn.functional import cross_entropy

from torch_experiments.lab import language
from torch_experiments.lab.experiments import e08_language
from torch_experiments.lab.language import Config, Texts, networks
from torch_experiments.support.threads import flushed

TURNS, STEPS = 60, 5
MOST = 0.05  # that the runner may add


def bare(config: Config, texts: Texts) -> Iterator[None]:
    """Train step by step."""
    model = networks.build(config.arch, len(texts.alphabet), config.context, {}, norm=config.norm)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr, fused=True)
    text, places = texts.whole.train, torch.arange(config.context + 1)
    while True:
        starts = torch.randint(len(text) - config.context, (config.batch,))
        pieces = text[starts[:, None] + places].long()
        loss = cross_entropy(model(pieces[:, :-1]).flatten(0, 1), pieces[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield


def turn(step: Callable[[], object]) -> float:
    """Return CPU-seconds a step of some steps."""
    start = time.process_time()
    for _ in range(STEPS):
        step()
    return (time.process_time() - start) / STEPS


def compared(config: Config, texts: Texts) -> tuple[float, float]:
    """Return CPU-seconds a step of the bare loop and of the runner."""
    long = dataclasses.replace(config, tasks=1, steps=10**6, measure_every=10**6)
    run, loop = language.Run(long, [0], texts), bare(long, texts)
    with flushed():  # as a run has it; numbers next to zero slow down both
        turns = [(turn(loop.__next__), turn(run.advance)) for _ in range(TURNS)]
    plain, ours = zip(*turns, strict=True)
    return min(plain), min(ours)


def main() -> None:
    """Print both, and what the runner adds."""
    torch.set_num_threads(1)
    texts = language.load(language.SAMPLE)
    for label in (e08_language.PLAIN, e08_language.BARE):
        plain, ours = compared(e08_language.configs("quick")[label], texts)
        share = ours / plain - 1
        verdict = "" if share <= MOST else f", more than {MOST:.0%}"
        times = f"bare {plain * 1e3:.2f} ms, ours {ours * 1e3:.2f} ms, {share:+.1%}{verdict}"
        print(f"{label:>12}: {times}", flush=True)
