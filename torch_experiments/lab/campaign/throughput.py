"""Images a second of training against what the device could do at most: its roofline.

A step of ``S`` networks on batches of ``b`` images takes at least ``max(S b F / P, 40 S p / M)`` seconds: ``F`` are
the floating-point operations of an image forward and backward, ``P`` the device's peak at the precision, ``p`` the
parameters of a network and ``M`` the memory's bandwidth. A parameter moves 40 bytes a step with Adam in float32: it
is read forward and backward, its gradient is written, and Adam reads four and writes three numbers (Williams,
Waterman & Patterson 2009, "Roofline"). What else is moved is left out, so that the roofline is a bound.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import torch
from rich.table import Table
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from torch_experiments.lab import records, training
from torch_experiments.lab.images.pixels import Pixels
from torch_experiments.lab.training import Config, run_identity

ADAM_BYTES = 40  # a parameter a step
STACK = 100  # networks of a stack whose speed is measured
WARM, STEPS = 20, 100  # the first steps compile, allocate and choose kernels
Shape = tuple[int, int, int]


class Peak(NamedTuple):
    """What a device does at most: operations a second by precision, dense, and bytes of memory a second."""

    operations: Mapping[str, float]
    bytes: float


HOPPER = {"bf16": 989e12, "tf32": 494.5e12, "float32": 67e12, "float64": 67e12}
PEAKS: Mapping[str, Peak] = {  # by what the name of the device holds; NVIDIA's data sheets
    "H200": Peak(HOPPER, 4.8e12),
    "H100": Peak(HOPPER, 3.35e12),
}


@dataclass(frozen=True)
class Speed:
    """How fast a configuration trains.

    Attributes:
        label, arch: of what.
        device: its name.
        seeds: networks trained at once.
        warm: images a second of all networks over warm steps, without metrics; None if it was not measured.
        whole: the same over a whole run, from its record; None if there is none.
        bound: the roofline, None for a device whose peak is not known.
    """

    label: str
    arch: str
    device: str
    seeds: int
    warm: float | None
    whole: float | None
    bound: float | None

    def row(self) -> tuple[str, ...]:
        """Return the row of `table`."""
        share = f"{self.warm / self.bound:.1%}" if self.warm and self.bound else ""
        numbers = ("" if x is None else f"{x:,.0f}" for x in (self.warm, self.whole, self.bound))
        return self.label, self.device, str(self.seeds), *numbers, share


def table(speeds: Sequence[Speed]) -> Table:
    """Return measured images a second, rooflines and shares."""
    names = ("run", "device", "networks", "measured", "whole run", "roofline", "share")
    found = Table(*names, title="images a second")
    for speed in speeds:
        found.add_row(*speed.row())
    return found


def operations(config: Config, shape: Shape, outputs: int) -> float:
    """Return the floating-point operations of an image forward and backward, of matrix products and convolutions.

    A product of ``m × k`` and ``k × n`` counts ``2 m k n``; what is elementwise is left out.
    """
    return _counted(_plain(config), shape, outputs)[0]


def parameters(config: Config, shape: Shape, outputs: int) -> int:
    """Return the number of parameters of a network."""
    return _counted(_plain(config), shape, outputs)[1]


def arithmetic(config: Config) -> float:
    """Return the operations of training a run, whose shape is that of the digits or of Tiny ImageNet."""
    edge = config.size or 64
    about: tuple[Shape, int] = ((1, 8, 8), 10) if config.data == "digits" else ((3, edge, edge), 200)
    return operations(config, *about) * config.batch * config.steps * config.tasks


def roofline(config: Config, shape: Shape, outputs: int, seeds: int, peak: Peak) -> float:
    """Return the images a second of ``seeds`` networks together that no implementation exceeds."""
    images = seeds * config.batch
    computing = images * operations(config, shape, outputs) / peak.operations[config.precision]
    moving = seeds * parameters(config, shape, outputs) * ADAM_BYTES / peak.bytes
    return images / max(computing, moving)


def peak_of(device: str) -> Peak | None:
    """Return the peak of a device by its name, None for one that is not known."""
    return next((peak for name, peak in PEAKS.items() if name in device), None)


def name_of(device: str) -> str:
    """Return the name of a device such as ``"cuda"``."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def measured(config: Config, stack: int, data: Pixels, out: Path, *, steps: int | None = None) -> float:
    """Return the images a second of ``stack`` networks over warm steps, data and augmentation included.

    The number is kept in the folder ``out``, and read the next time.
    """
    found = known(config, stack, data, out)
    if found is None:
        rate = _timed(config, stack, data, steps or STEPS)
        about = _about(config, stack, data)
        table = pa.table({"images_per_second": [rate]})
        records.save(out, records.Record(about, table, records.environment(about["on"]) | records.git_state()))
    return found or rate


def known(config: Config, stack: int, data: Pixels, out: Path) -> float | None:
    """Return what `measured` has found on a device of this name, None if it has not been called."""
    found = records.find(out, _about(config, stack, data))
    return float(found.table["images_per_second"][0].as_py()) if found else None


def speed(label: str, config: Config, stack: int, data: Pixels, warm: float | None, whole: float | None) -> Speed:
    """Return measured numbers beside the roofline of the device."""
    device = name_of(config.device)
    peak = peak_of(device)
    shape = (data.shape[0], config.size or data.shape[1], config.size or data.shape[2])
    outputs = training.make_stream(config, data, 0).outputs
    bound = roofline(config, shape, outputs, stack, peak) if peak else None
    return Speed(label, config.arch, device, stack, warm, whole, bound)


def _about(config: Config, stack: int, data: Pixels) -> dict[str, Any]:
    lengths: dict[str, Any] = {"tasks": 1, "steps": 1, "measure_every": 1, "trapped": False}
    about = run_identity(dataclasses.replace(config, experiment="throughput", **lengths), 0, data.fingerprint)
    return about | {"stacked": stack, "on": name_of(config.device)}


def _timed(config: Config, stack: int, data: Pixels, steps: int) -> float:
    long = dataclasses.replace(config, steps=max(config.steps, WARM + steps), trapped=False)
    return stack * config.batch / training.Run(long, range(stack), data).pace(WARM, steps)


def of_record(config: Config, environment: Mapping[str, Any]) -> float:
    """Return the images a second of a finished run, metrics and checkpoints included."""
    images = config.batch * config.steps * config.tasks * environment["stacked"]
    return images / float(environment["seconds"])


def _plain(config: Config) -> Config:
    """Return a configuration with the same arithmetic and one identity for all lengths and devices."""
    given = ("arch", "arch_settings", "norm", "affine", "activation")
    return Config(**{name: getattr(config, name) for name in given})


@cache
def _counted(config: Config, shape: Shape, outputs: int) -> tuple[float, int]:
    model = _without_numbers(config, shape, outputs)
    x, y = torch.empty(2, *shape, device="meta"), torch.empty(2, dtype=torch.int64, device="meta")
    with FlopCounterMode(display=False) as counter:
        cross_entropy(model(x), y).backward()
    return counter.get_total_flops() / len(x), sum(p.numel() for p in model.parameters())


def _without_numbers(config: Config, shape: Shape, outputs: int) -> nn.Module:
    """Return a network of shapes alone; to draw weights takes longer than to count, but a clone needs some."""
    drawn = "clones" in dict(config.arch_settings)
    with contextlib.nullcontext() if drawn else torch.device("meta"):
        return training.build(config, shape, outputs, 0).to("meta")
