"""How often cycles are looked for."""

from __future__ import annotations

import gc
import sys
import weakref
from subprocess import run

from settler.runtime import collecting

_SAYS = """
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
