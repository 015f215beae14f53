"""The folder of an unfinished run: one writer, whole checkpoints or none, never of another configuration.

A checkpoint is a folder ``step-00001200`` with the weights (safetensors), the state of optimizer and remedies
(``torch.save``, read with ``weights_only``), the measurements so far (parquet) and the configuration (JSON), with a
checksum of all four. It is written beside its place and renamed, and only then is the one before removed; a process
that dies leaves the last whole one.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import torch as safetensors
from torch import Tensor

from simulate.checksums import sealed, unsealed
from simulate.files import filling

Rows = Sequence[Mapping[str, Any]]
WEIGHTS, STATE, ROWS, ABOUT = "weights.safetensors", "state.pt", "rows.parquet", "about.json"


class CheckpointError(ValueError):
    """A checkpoint cannot be used, or must not be touched."""


class InUse(CheckpointError):
    """Another process works in the folder."""


@dataclass(frozen=True)
class Checkpoint:
    """What a run needs to go on.

    Attributes:
        config: identity of the run, as JSON values.
        step: optimizer steps taken.
        weights: parameters and buffers by name.
        state: of optimizer, remedies and averages; tensors, numbers, strings, lists and dicts of them.
        rows: the measurements so far.
    """

    config: Mapping[str, Any]
    step: int
    weights: Mapping[str, Tensor]
    state: Mapping[str, Any]
    rows: Rows


def save(folder: Path, checkpoint: Checkpoint, prefix: str = "step") -> Path:
    """Write ``checkpoint`` below ``folder``, remove older ones of this prefix, and return its path."""
    target = folder / f"{prefix}-{checkpoint.step:010d}"
    if target.exists():
        return target
    with filling(target) as partial:
        _write(partial, checkpoint)
    for old in found(folder, prefix)[:-1]:
        shutil.rmtree(old)
    return target


def latest(folder: Path, config: Mapping[str, Any]) -> Checkpoint | None:
    """Return the last whole checkpoint below ``folder``, None if there is none.

    Raises:
        CheckpointError: when it is of another configuration (the message lists what differs), or unreadable.
    """
    paths = found(folder)
    return read(paths[-1], config) if paths else None


def read(path: Path, config: Mapping[str, Any]) -> Checkpoint:
    """Return the checkpoint at ``path``; errors as `latest`."""
    try:
        about = unsealed(json.loads((path / ABOUT).read_text()), _parts(path))
        differing = _differing(about["config"], json.loads(json.dumps(config)))
        if differing:
            raise CheckpointError(f"{path} is of another configuration ({differing}); move it away or set these")
        weights = safetensors.load_file(path / WEIGHTS)
        state = torch.load(path / STATE, map_location="cpu", weights_only=True)
        step, rows = int(about["step"]), pq.read_table(path / ROWS).to_pylist()
    except CheckpointError:
        raise
    except Exception as error:  # whatever the four libraries raise for a damaged file
        raise CheckpointError(f"{path} cannot be read ({_first_line(error)}); remove it to begin anew") from error
    return Checkpoint(about["config"], step, weights, state, rows)


def found(folder: Path, prefix: str = "step") -> list[Path]:
    """Return the whole checkpoints below ``folder``, the oldest first."""
    return sorted(folder.glob(f"{prefix}-*"))


@contextmanager
def locked(folder: Path) -> Iterator[Path]:
    """Hold ``folder`` for this process alone; the lock goes with the process, however it ends.

    Raises:
        InUse: when another process holds it; the message names it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise InUse(f"{folder} is in use by {holder}; wait for it, or choose another --out") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
        yield folder


def _write(partial: Path, checkpoint: Checkpoint) -> None:
    weights = {name: value.detach().clone().contiguous() for name, value in checkpoint.weights.items()}
    (partial / WEIGHTS).write_bytes(safetensors.save(weights))
    (partial / STATE).write_bytes(_saved(dict(checkpoint.state)))
    pq.write_table(pa.Table.from_pylist([dict(row) for row in checkpoint.rows]), partial / ROWS)
    about = {"config": checkpoint.config, "step": checkpoint.step}
    (partial / ABOUT).write_text(json.dumps(sealed(about, _parts(partial))))


def _parts(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in (WEIGHTS, STATE, ROWS)}


def _saved(state: Any) -> bytes:
    """Return what torch.save writes; into a file, it tells a full disk as a RuntimeError about positions."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    names = [n for n in {**old, **new} if old.get(n) != new.get(n)]
    return ", ".join(f"{n} is {old.get(n)!r} there and {new.get(n)!r} here" for n in names)
