"""How many processors this process may use, and how many threads an operation is shared by."""

import os
from contextlib import suppress
from functools import cache
from pathlib import Path

CONTROL = Path("/sys/fs/cgroup")  # where a container sees its own limits
THREADS = "OMP_NUM_THREADS"


def processors() -> float:
    """How many processors this process may use; a container may have a part of one."""
    known = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    count = float(len(known))
    with suppress(OSError, ValueError):
        quota, period = map(int, (CONTROL / "cpu.max").read_text().split())
        return min(count, quota / period)
    return count


@cache
def threads() -> int:
    """As many threads as there are whole processors, or fewer if OMP_NUM_THREADS asks for fewer."""
    most = max(int(processors()), 1)
    asked = os.environ.get(THREADS, "").split(",")[0]
    return min(most, max(int(asked), 1)) if asked.isdecimal() else most
