"""Freed memory stays in the process: a second large block costs no page faults."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
from c3.common.memory import keep_freed_memory

LARGE = """
import ctypes, resource, sys
from contextlib import nullcontext
from c3.common.memory import freed_memory_kept, keep_freed_memory

def faults_of_a_large_block():
    library = ctypes.CDLL(None)
    library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = library.malloc(ctypes.c_size_t(SIZE))
    ctypes.memset(block, 1, SIZE)
    library.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

SIZE = 64 << 20
if sys.argv[1] == "kept":
    assert keep_freed_memory()
with freed_memory_kept() if sys.argv[1] in ("in the block", "after it") else nullcontext():
    faults_of_a_large_block()
    if sys.argv[1] != "after it":
        print(faults_of_a_large_block())
if sys.argv[1] == "after it":
    print(faults_of_a_large_block() and faults_of_a_large_block())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
@pytest.mark.parametrize(
    ("mode", "pages"),
    [
        ("default", range(1000, 20_000)),
        ("kept", range(100)),
        ("in the block", range(100)),
        ("after it", range(1000, 20_000)),
    ],
)
def test_a_second_large_block_needs_new_pages_unless_memory_is_kept(mode: str, pages: range) -> None:
    found = subprocess.run([sys.executable, "-c", LARGE, mode], capture_output=True, text=True, check=True)
    assert int(found.stdout) in pages


def test_another_c_library_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not keep_freed_memory()
