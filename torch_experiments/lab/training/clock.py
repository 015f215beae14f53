"""Where the time of a run goes.

A device computes behind the host's back. So the clock waits for it where a measurement or a checkpoint begins, and
counts that as the model's time; within a step it does not, so that of the time of steps ``data`` and ``model`` tell
which the host spent on either, and only their sum is the device's too.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

RARE = ("metrics", "checkpoints")  # parts before and after which a device is waited for
PARTS = ("data", "model", "metrics", "checkpoints")


@dataclass
class Clock:
    """Seconds spent on each of `PARTS`; what is none of them is the overhead of the loop.

    Attributes:
        device: that of the networks.
        spent: seconds by part.
        started: reading of `time.perf_counter` at which a run of so many seconds would have begun.
    """

    device: str = "cpu"
    spent: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    started: float = field(default_factory=time.perf_counter)

    @contextmanager
    def on(self, part: str) -> Iterator[None]:
        """Add the time of a block to a part."""
        start = time.perf_counter()
        if part in RARE:
            synchronise(self.device)
            waited = time.perf_counter()
            self.spent["model"] += waited - start
            start = waited
        yield
        if part in RARE:
            synchronise(self.device)
        self.spent[part] += time.perf_counter() - start

    @property
    def seconds(self) -> float:
        """Return the seconds since the start of the run, those of processes before this one included."""
        return time.perf_counter() - self.started

    def shares(self) -> dict[str, float]:
        """Return all seconds, and the share of them that is metrics, and that is none of the parts."""
        total = self.seconds
        rest = total - sum(self.spent.values())
        shares = {"metrics_share": self.spent["metrics"] / total, "overhead_share": rest / total}
        return {"seconds": round(total, 3)} | {name: round(share, 5) for name, share in shares.items()}

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"spent": dict(self.spent), "seconds": self.seconds}

    def go_on(self, state: Mapping[str, Any]) -> None:
        """Count from where a checkpoint stopped."""
        self.spent |= state["spent"]
        self.started -= state["seconds"]


def synchronise(device: str) -> None:
    """Wait for a CUDA device; the CPU is never behind."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
