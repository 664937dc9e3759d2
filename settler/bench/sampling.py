"""Where a process spends its processor time, by sampling: every so many milliseconds of it, what is being run.

A sample counts for the first of the given steps that the innermost known frame belongs to. Time in the driver's thread
of SQLite counts for the database.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from types import FrameType, TracebackType

EVERY_S = 0.001
"""Of processor time; a sample costs some microseconds."""


class Sampler:
    """Samples what runs within it: `with Sampler(steps) as seen: …`, then `seen.shares()`. In the main thread only."""

    def __init__(self, steps: Mapping[str, Sequence[str]], *, idle: str, other_thread: str) -> None:
        """`steps`: parts of file names, with `/`, that belong to each. `idle`: the step of samples in which nothing of
        them runs (the event loop itself). `other_thread`: the step of such samples while another thread works.
        """
        self._parts = [(part, step) for step, parts in steps.items() for part in parts]
        self._idle = idle
        self._other_thread = other_thread
        self._seen: Counter[str] = Counter()
        self._of_file: dict[str, str | None] = {}

    def __enter__(self) -> Sampler:
        self._before = signal.signal(signal.SIGPROF, self._sample)
        signal.setitimer(signal.ITIMER_PROF, EVERY_S, EVERY_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, self._before)

    def shares(self) -> dict[str, float]:
        """Of 1, the largest first."""
        total = max(1, self._seen.total())
        return {step: count / total for step, count in self._seen.most_common()}

    def _sample(self, _signal: int, frame: FrameType | None) -> None:
        step = self._step(frame)
        if step is None:
            main = threading.main_thread().ident
            others = [self._step(each) for thread, each in sys._current_frames().items() if thread != main]
            step = self._other_thread if any(others) else self._idle
        self._seen[step] += 1

    def _step(self, frame: FrameType | None) -> str | None:
        while frame is not None:
            name = frame.f_code.co_filename
            if name not in self._of_file:
                self._of_file[name] = next((step for part, step in self._parts if part in name), None)
            if (step := self._of_file[name]) is not None:
                return step
            frame = frame.f_back
        return None
