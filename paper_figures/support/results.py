"""Finished results: what took more than seconds is computed once and read afterwards."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pyarrow as pa

from torch_experiments.lab import records
from torch_experiments.support.threads import one_thread

Profile = Literal["quick", "full"]
RESULTS = Path("results/local")


class Missing(LookupError):
    """A figure only reads finished runs, and there are none; it is left out, which is no failure."""


def remembered(folder: Path, config: Mapping[str, Any], compute: Callable[[], pa.Table]) -> pa.Table:
    """Return the table recorded for `config` below `folder`; compute and record it if there is none."""
    record = records.find(folder, config)
    if record is None:
        with one_thread():
            record = records.Record(config, compute(), records.environment())
        records.save(folder, record)
    return record.table


def code_of(*modules: ModuleType) -> str:
    """Return a hash of the source of these modules, so that a record does not outlive the code that made it."""
    text = "".join(inspect.getsource(module) for module in modules)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
