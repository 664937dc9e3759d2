"""What a process that runs for months does about its memory: Python looks for cycles of garbage seldom, and the C
library gives back what it holds free.

Nearly all garbage here is freed when its last reference goes. What the collector looks through meanwhile is alive: the
rows and records of a block being settled, 28 % of what a payment costs at Python's own pace.
"""

from __future__ import annotations

import ctypes
import functools
import gc
from typing import Final

ALLOCATED: Final = 50_000
"""Containers that came and stayed until the young ones are looked through: some 10 MB, and more than settling a few
hundred payments makes. Python's own: 700.
"""
OLDER: Final = 10
"""So many times that until the next older ones are."""
KIB: Final = 1024
HEAPS: Final = {-8: 2, -3: 256 * KIB, -1: 1024 * KIB}
"""glibc's `mallopt`, by number (malloc.h). M_ARENA_MAX: heaps at most, in place of one a thread, each as large as its
largest statement was; SQLite's connections alone are eleven threads. M_MMAP_THRESHOLD: from that size on memory
comes from the system and goes back to it; glibc's own rises to 32 MiB with what is freed, and then great lists leave
holes in the heaps. M_TRIM_THRESHOLD: what may stay free at a heap's end.
"""


def keep_steady() -> None:
    """For this process from now on; to be called before it starts threads. What was imported so far is never looked
    through for garbage again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(ALLOCATED, OLDER, OLDER)
    if (libc := _glibc()) is not None:
        for parameter, value in HEAPS.items():
            libc.mallopt(parameter, value)


def give_back() -> None:
    """Gives the system what the C library's heaps hold free between what is in use: a thread of SQLite's grows its heap
    with each large statement and keeps it. A few ms; nothing where the C library is another than glibc.
    """
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL(None)
        _ = (libc.malloc_trim, libc.mallopt, libc.gnu_get_libc_version)
    except (AttributeError, OSError, TypeError):
        return None
    return libc
