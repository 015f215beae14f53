"""Settings of runs that take a fraction of a second, and what tests read of them."""

import dataclasses
from functools import cache

from torch_experiments.lab.images.pixels import load
from torch_experiments.lab.training import Config, Run, checkpoints, keeping

DATA = load("digits")
PAIRS = (("size", 2),)
MLP = Config(
    stream_settings=PAIRS,
    tasks=3,
    steps=20,
    measure_every=8,
    batch=16,
    arch_settings=(("width", 16), ("depth", 2)),
    probe_train=60,
    probe_test=40,
    padding=1,
    flip=True,
    jitter=0.1,
    remedy="cbp",
    remedy_settings=(("rate", 0.02), ("maturity", 5)),
)
VIT = dataclasses.replace(
    MLP,
    arch="vit",
    arch_settings=(("depth", 1), ("heads", 2), ("patch", 2), ("width", 16)),
    norm="batch",
    dropout=0.1,
    remedy="redo",
    remedy_settings=(("every", 10),),
)
CNN = dataclasses.replace(
    VIT,
    arch="cnn",
    arch_settings=(("depth", 2), ("hidden", 16), ("width", 4)),
    precision="float64",
    tasks=2,
    steps=12,
)
RESNET = dataclasses.replace(CNN, arch="resnet18", arch_settings=(("stages", (1, 1)), ("width", 4)), dropout=0.0)


def values(record, metric, layer=0):
    """Return the values of a metric by task and step."""
    rows = record.table.to_pylist()
    return {(r["task"], r["step"]): r["value"] for r in rows if r["metric"] == metric and r["layer"] == layer}


def to_the_end(found):
    """Return all weights at the end of a run, and its rows."""
    with found.precisely():
        while not found.done:
            found.advance()
    return found.networks.weights(), found.rows


@cache
def unbroken(config, seed=3):
    """Return the weights at the end of a run that nothing interrupts, and its rows."""
    return to_the_end(Run(config, [seed], DATA))


def resumed(config, folder, seed=3):
    """Return the step of the checkpoint below ``folder``, and what `unbroken` returns, from there on."""
    found = Run(config, [seed], DATA)
    checkpoint = checkpoints.latest(keeping.folder_of(found, folder), keeping.about(found))
    keeping.restore(found, checkpoint)
    return checkpoint.step, *to_the_end(found)
