"""One checksum of what a file holds: text about it in JSON, and its parts as bytes. A flipped bit is then an error.

It is of the content, not of the file: one that is packed anew, or whose padding was hit, is still whole. Files of
before have none and are read as they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

SEAL = "sha256"


def checksum(about: Mapping[str, Any], parts: Mapping[str, bytes]) -> str:
    """Return the SHA-256 of JSON values and of named bytes, whatever the order of names.

    >>> checksum({"a": 1, "b": (2,)}, {}) == checksum({"b": [2], "a": 1}, {}) != checksum({"a": 1, "b": 2}, {})
    True
    """
    found = hashlib.sha256(_canonical(about))
    for name in sorted(parts):
        found.update(f"\n{json.dumps(name)} {len(parts[name])}\n".encode())
        found.update(parts[name])
    return found.hexdigest()


def sealed(about: Mapping[str, Any], parts: Mapping[str, bytes]) -> dict[str, Any]:
    """Return ``about`` with the checksum of itself and of ``parts``, under ``"sha256"``.

    >>> sorted(sealed({"seed": 0}, {"loss": b"0.5"}))
    ['seed', 'sha256']
    """
    return {**about, SEAL: checksum(about, parts)}


def unsealed(about: Mapping[str, Any], parts: Mapping[str, bytes]) -> dict[str, Any]:
    """Return ``about`` without its checksum, which has to be right where there is one.

    Raises:
        ValueError: it is that of another content.

    >>> unsealed(sealed({"seed": 0}, {"loss": b"0.5"}), {"loss": b"0.5"})
    {'seed': 0}
    >>> unsealed(sealed({"seed": 0}, {"loss": b"0.5"}), {"loss": b"0.7"})
    Traceback (most recent call last):
    ValueError: the content is not that of its checksum
    """
    rest = {name: value for name, value in about.items() if name != SEAL}
    if SEAL in about and about[SEAL] != checksum(rest, parts):
        raise ValueError("the content is not that of its checksum")
    return rest


def of_array(array: np.ndarray[Any, Any]) -> bytes:
    """Return type, shape and numbers of an array as bytes, whatever its layout.

    >>> of_array(np.array([[1.0]]))[:8], of_array(np.eye(2)) == of_array(np.asfortranarray(np.eye(2)))
    (b'<f8 (1, ', True)
    """
    return f"{array.dtype.str} {array.shape}\n".encode() + array.tobytes()


def _canonical(values: Any) -> bytes:
    """Return JSON as it is after reading: tuples are lists by then, and all keys strings."""
    return json.dumps(json.loads(json.dumps(values)), sort_keys=True).encode()
