"""A limit on memory, so that a size beyond it is an error that can be told, not the end of the process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None  # type: ignore[assignment]

GROUP = Path("/sys/fs/cgroup/memory.max")  # of a container


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Refuse the process more private memory than the machine, or its container, has; afterwards as before."""
    if resource is None or not (size := physical()):
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    least = min(bound for bound in (soft, hard, size) if bound != resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_DATA, (least, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def physical() -> int:
    """Return the bytes of memory that there are; 0 where that is not known."""
    try:
        size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0
    group = GROUP.read_text(encoding="ascii").strip() if GROUP.is_file() else ""
    return min(size, int(group)) if group.isdigit() else size
