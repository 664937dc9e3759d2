"""Child processes that do not outlive us: the demo's node, and what benchmarks and tests start."""

from __future__ import annotations

import ctypes
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with_parent() -> Callable[[], None] | None:
    """A `preexec_fn`, for the child before it becomes its program: be ended (SIGTERM) when this process dies without a
    word (SIGKILL). `None` but on Linux. The kernel goes by the thread that starts it: start it from the main one.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
