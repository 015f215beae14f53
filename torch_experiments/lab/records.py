"""One small file a run: a parquet table of numbers whose schema metadata say what produced them."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from simulate.checksums import sealed, unsealed
from simulate.files import replacing

METADATA = b"lop"
PACKAGES = ("torch", "numpy", "scikit-learn", "pyarrow")


@dataclass(frozen=True)
class Record:
    """A finished run: its numbers, and what made them.

    Attributes:
        config: everything that determines the numbers, as JSON values.
        table: the numbers, one row a measurement.
        environment: versions and device, which are reported and do not enter the key.

    >>> record = Record({"experiment": "mine", "seed": 0}, pa.table({"loss": [0.5]}), environment())
    >>> record.table["loss"].to_pylist(), record.environment["device"]
    ([0.5], 'cpu')
    """

    config: Mapping[str, Any]
    table: pa.Table
    environment: Mapping[str, Any]


def key(config: Mapping[str, Any]) -> str:
    """Return 16 hex digits that depend on the content of ``config`` only, not on the order of its keys.

    Raises:
        TypeError: for a value that JSON does not have.
        ValueError: for a nan or an infinity.

    >>> key({"lr": 0.1, "seed": 0}) == key({"seed": 0, "lr": 0.1}) != key({"seed": 1, "lr": 0.1})
    True
    """
    return hashlib.sha256(_canonical(config).encode()).hexdigest()[:16]


def path(folder: str | Path, config: Mapping[str, Any]) -> Path:
    """Return where the record of ``config`` belongs: another content, another file.

    >>> str(path("results", {"experiment": "mine", "seed": 0}))
    'results/mine-f6bc3cb630defc5d.parquet'
    """
    return Path(folder) / f"{config.get('experiment', 'run')}-{key(config)}.parquet"


def save(folder: str | Path, record: Record) -> Path:
    """Write ``record`` below ``folder`` at once (a temporary file, then a rename) and return its path.

    A reader sees the whole file or none. A second run of the same config replaces the first one; another
    config has another path.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     file = save(folder, Record({"seed": 0}, pa.table({"loss": [0.5]}), {}))
    ...     file.name == path(folder, {"seed": 0}).name, load(file).config
    (True, {'seed': 0})
    """
    target = path(folder, record.config)
    about = sealed({"config": record.config, "environment": record.environment}, _parts(_reread(record.table)))
    text = json.dumps(about, allow_nan=False)
    table = record.table.replace_schema_metadata({METADATA: text.encode()})
    with replacing(target) as partial:
        pq.write_table(table, partial)
    return target


def load(file: str | Path) -> Record:
    """Return the record in ``file``.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is not a record of this project, or damaged: its numbers are not those of its checksum.
            Records of before have none.

    >>> load("nowhere.parquet")
    Traceback (most recent call last):
    FileNotFoundError: file: no record at nowhere.parquet
    """
    if not Path(file).is_file():
        raise FileNotFoundError(f"file: no record at {file}")
    try:
        table = pq.read_table(file)
        about = unsealed(json.loads((table.schema.metadata or {})[METADATA]), _parts(table))
        return Record(about["config"], table.replace_schema_metadata(None), about["environment"])
    except Exception as error:  # whatever Arrow and JSON raise for a damaged file
        raise ValueError(f"file: {file} is no record of this project, or damaged ({error!r})") from error


def find(folder: str | Path, config: Mapping[str, Any]) -> Record | None:
    """Return the finished record of exactly this ``config``, or None.

    Raises:
        ValueError: when the file at its path holds another config.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     file = save(folder, Record({"seed": 0}, pa.table({"loss": [0.5]}), {}))
    ...     find(folder, {"seed": 0}).table["loss"].to_pylist(), find(folder, {"seed": 1})
    ([0.5], None)
    """
    target = path(folder, config)
    if not target.exists():
        return None
    record = load(target)
    if _canonical(record.config) != _canonical(config):
        raise ValueError(f"folder: {target} holds another config; move it away")
    return record


def environment(device: str = "cpu") -> dict[str, Any]:
    """Return the versions of Python and of the packages that make the numbers, the platform and ``device``.

    >>> sorted(environment("cuda"))
    ['device', 'numpy', 'platform', 'pyarrow', 'python', 'scikit-learn', 'torch']
    """
    versions = {package: version(package) for package in PACKAGES}
    return {"python": platform.python_version(), "platform": platform.platform(), "device": device} | versions


@cache
def git_state(folder: Path = Path(__file__).parent) -> dict[str, Any]:
    """Return the commit of the working tree around ``folder`` and whether tracked files differ; nothing
    outside git.

    It is looked up once: a process computes with the code that it has loaded, whatever happens to the files later.
    """
    try:
        commit, changes = (_git(folder, *command) for command in (["rev-parse", "HEAD"], ["status", "-s", "-uno"]))
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"commit": commit, "changed": bool(changes)}


def _git(folder: Path, *command: str) -> str:
    found = subprocess.run(["git", "-C", folder, *command], capture_output=True, check=True, timeout=10, text=True)
    return found.stdout.strip()


def _reread(table: pa.Table) -> pa.Table:
    """Return a table as readers will find it: parquet has not all types of Arrow."""
    file = io.BytesIO()
    pq.write_table(table, file)
    return pq.read_table(file)


def _parts(table: pa.Table) -> dict[str, bytes]:
    """Return the values of each column as text, which other versions of Arrow write alike."""
    kinds = [(field.name, str(field.type), field.nullable) for field in table.schema]
    columns = [(kind, column.to_pylist()) for kind, column in zip(kinds, table.columns, strict=True)]
    return {f"{place}": json.dumps(column, default=repr).encode() for place, column in enumerate(columns)}


def _canonical(config: Mapping[str, Any]) -> str:
    return json.dumps(config, sort_keys=True, allow_nan=False)
