"""Keep freed memory in the process, where the C library would give it back; say in one line that memory ran out."""

from __future__ import annotations

import ctypes
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import C3Error

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # of mallopt(3)
NEVER = -1
MOST_MAPS, LARGE = 65536, 32 << 20  # glibc's own, after it has freed a large block


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


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep freed memory inside the block, and give it back at its end: what comes next may ask how much is free."""
    kept = keep_freed_memory()
    try:
        yield
    finally:
        if kept:
            library = ctypes.CDLL(None)
            settings = {M_MMAP_MAX: MOST_MAPS, M_MMAP_THRESHOLD: LARGE, M_TRIM_THRESHOLD: 2 * LARGE}
            for name, value in settings.items():
                library.mallopt(name, value)
            library.malloc_trim(ctypes.c_size_t(0))


@contextmanager
def told_when_full(remedy: str) -> Iterator[None]:
    """Raise C3Error, which ends with `remedy`, where numpy or torch get no memory for an array, on any device."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not ran_out(error):
            raise
        asked = re.search(r"allocate ([\d.]+) ?(\w+)", str(error))
        size = " for a block of {} {}".format(*asked.groups()) if asked else ""
        raise C3Error(f"the memory does not suffice{size}; {remedy}") from error


def ran_out(error: BaseException) -> bool:
    """Return whether an error says that memory ran out. torch has a type for it on CUDA alone; nothing imports torch.

    >>> ran_out(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"))
    True
    """
    said = ("can't allocate memory", "Storage size calculation overflowed")
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or any(text in str(error) for text in said)
