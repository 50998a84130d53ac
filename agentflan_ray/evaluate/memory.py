"""How much of the machine's memory may still be taken."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")


def free_memory(cgroup: Path = _CGROUP) -> int:
    """Bytes that are available: the machine's, or what a container's limit (cgroup v2) leaves where that is less.

    Of a container's use, files that were read and may be dropped (``inactive_file``) do not count.
    """
    free: int = psutil.virtual_memory().available
    with suppress(OSError, ValueError, KeyError):  # no container, one of version 1, or "max"
        limit = int((cgroup / "memory.max").read_text())
        used = int((cgroup / "memory.current").read_text())
        details = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        free = min(free, limit - used + int(details["inactive_file"]))
    return max(0, free)
