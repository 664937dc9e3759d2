"""How often Python looks for cycles of garbage: seldom, in a process that runs for months.

Nearly all garbage here is freed when its last reference goes. What the collector looks through meanwhile is alive: the
rows and records of a block being settled, 28 % of what a payment costs at Python's own pace.
"""

from __future__ import annotations

import gc

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
