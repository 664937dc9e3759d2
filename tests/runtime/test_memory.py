"""How often cycles are looked for."""

from __future__ import annotations

import ctypes
import gc
import sys
import weakref
from subprocess import run

import pytest

from settler.runtime import memory

_SAYS = """
import ctypes
import gc
from settler.runtime.memory import keep_steady
keep_steady()
print(*gc.get_threshold(), gc.get_freeze_count() > 0)
"""


def test_keep_steady__in_a_process__sets_its_pace_and_leaves_out_what_was_there() -> None:
    said = run([sys.executable, "-c", _SAYS], capture_output=True, text=True, check=True).stdout
    assert said.split() == [str(memory.ALLOCATED), str(memory.OLDER), str(memory.OLDER), "True"]


def test_cycle__made_afterwards__is_still_freed() -> None:
    class Node:
        other: Node

    before = gc.get_threshold()
    try:
        memory.keep_steady()
        first, second = Node(), Node()
        first.other, second.other = second, first
        gone = weakref.ref(first)
        del first, second
        gc.collect()
        assert gone() is None
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


_HEAPS = """
import ctypes
import threading
from settler.runtime.memory import keep_steady
keep_steady()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = libc.free.argtypes = [ctypes.c_size_t]
libc.fdopen.restype = ctypes.c_void_p
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
for size in (8 << 20, 300 << 10):  # freed once, the larger would raise glibc's own threshold
    held = libc.malloc(size)
    libc.free(held)
together = threading.Barrier(8)
def allocate():
    libc.malloc(10_000)
    together.wait()
threads = [threading.Thread(target=allocate) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
class Info(ctypes.Structure):  # of malloc.h; m: how many are mapped
    _fields_ = [(name, ctypes.c_size_t) for name in "abcmdefghi"]
libc.mallinfo2.restype = Info
mapped = [libc.mallinfo2().m, libc.malloc(300 << 10) and libc.mallinfo2().m]
print(*mapped, flush=True)
libc.malloc_info(0, libc.fdopen(1, b"w"))
libc.fflush(None)
"""


def test_keep_steady__threads_and_large_blocks__two_heaps_and_a_mapping_of_its_own() -> None:
    said = run([sys.executable, "-c", _HEAPS], capture_output=True, text=True, check=True).stdout
    before, after = said.splitlines()[0].split()
    assert int(after) - int(before) == 1
    assert said.count("<heap nr=") == 2


_GIVES_BACK = """
import ctypes
from settler.runtime.memory import give_back

def resident_mib():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096 / 2**20

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
held = [libc.malloc(16_000) for _ in range(4_000)]
for at in held:
    ctypes.memset(at, 1, 16_000)
for number, at in enumerate(held[:-1]):  # the last keeps the heap from shrinking by itself
    libc.free(at)
before = resident_mib()
give_back()
print(before - resident_mib())
"""


def test_give_back__what_is_free_below_what_is_in_use__goes_to_the_system() -> None:
    said = run([sys.executable, "-c", _GIVES_BACK], capture_output=True, text=True, check=True).stdout
    assert float(said) > 30, "of 61 MiB"


def test_give_back__another_c_library__does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    memory._glibc.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())
    try:
        memory.give_back()
    finally:
        memory._glibc.cache_clear()
