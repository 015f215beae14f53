"""Numbers as JSON knows them: RFC 8259 has neither infinity nor NaN."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def strict(item: Any) -> Any:
    """Return nested lists, tuples and mappings with ``"inf"``, ``"-inf"`` and ``"nan"`` in place of such floats.

    >>> strict({"radius": float("inf"), "sizes": (1, 2.5)})
    {'radius': 'inf', 'sizes': [1, 2.5]}
    """
    if isinstance(item, float) and not math.isfinite(item):
        return str(item)
    if isinstance(item, Mapping):
        return {key: strict(value) for key, value in item.items()}
    return [strict(value) for value in item] if isinstance(item, list | tuple) else item
