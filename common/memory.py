"""Keep freed memory in the process: the C library would give large blocks back, and get them again page by page."""

from __future__ import annotations

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of mallopt(3)
NEVER = -1


def keep_freed_memory() -> bool:
    """Let the allocations of this process reuse what it freed, from now on; return whether the C library can.

    By default glibc maps every block above 32 MiB anew and unmaps it when it is freed. The maps between the layers of a
    network are such blocks: the system clears their pages again for every batch, which takes up to half the time of a
    network of many small layers (docs/benchmarks.md). Afterwards blocks come from the heap, which is never cut: the
    process keeps as much memory as it used at its peak. Other C libraries are left as they are.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    return bool(library.mallopt(M_MMAP_MAX, 0) and library.mallopt(M_TRIM_THRESHOLD, NEVER))
