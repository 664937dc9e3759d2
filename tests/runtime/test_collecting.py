"""How often cycles are looked for."""

from __future__ import annotations

import ctypes
import gc
import sys
import weakref
from subprocess import run

import pytest

from settler.runtime import collecting

_SAYS = """
import ctypes
import gc
from settler.runtime.collecting import collect_seldom
collect_seldom()
print(*gc.get_threshold(), gc.get_freeze_count() > 0)
"""


def test_collect_seldom__in_a_process__sets_its_pace_and_leaves_out_what_was_there() -> None:
    said = run([sys.executable, "-c", _SAYS], capture_output=True, text=True, check=True).stdout
    assert said.split() == [str(collecting.ALLOCATED), str(collecting.OLDER), str(collecting.OLDER), "True"]


def test_cycle__made_afterwards__is_still_freed() -> None:
    class Node:
        other: Node

    before = gc.get_threshold()
    try:
        collecting.collect_seldom()
        first, second = Node(), Node()
        first.other, second.other = second, first
        gone = weakref.ref(first)
        del first, second
        gc.collect()
        assert gone() is None
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


_GIVES_BACK = """
import ctypes
from settler.runtime.collecting import give_back

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
    collecting._malloc_trim.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())
    try:
        collecting.give_back()
    finally:
        collecting._malloc_trim.cache_clear()
