"""What a process that runs for months does about its memory: Python looks for cycles of garbage seldom, and the C
library gives back what it holds free.

Nearly all garbage here is freed when its last reference goes. What the collector looks through meanwhile is alive: the
rows and records of a block being settled, 28 % of what a payment costs at Python's own pace.
"""

from __future__ import annotations

import ctypes
import functools
import gc
from collections.abc import Callable

ALLOCATED = 50_000
"""Containers that came and stayed until the young ones are looked through: some 10 MB, and more than settling a few
hundred payments makes. Python's own: 700.
"""
OLDER = 10
"""So many times that until the next older ones are."""


def collect_seldom() -> None:
    """For this process from now on. What was imported so far is never looked through again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(ALLOCATED, OLDER, OLDER)


def give_back() -> None:
    """Gives the system what the C library's heaps hold free between what is in use: a thread of SQLite's grows its heap
    with each large statement and keeps it. A few ms; nothing where the C library is another than glibc.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
