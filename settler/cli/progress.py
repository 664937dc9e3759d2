"""How far long work is: a bar on a terminal, a plain line now and then elsewhere, nothing into a program's JSON."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LINES = 10
"""Plain lines for the whole of the work, but for work so long that it is told of by the clock."""

Advance = Callable[[int, str], None]
"""Told how much is done in all, and what came of it so far."""


@contextmanager
def progress(
    what: str, total: int, *, as_json: bool, unit: str = "blocks", every_s: float = math.inf
) -> Iterator[Advance]:
    """`what` is done to `total` (above 0) of `unit`. The bar is drawn on stderr: stdout is the result's. `every_s`: a
    plain line at least so often, for work of hours.
    """
    if sys.stderr.isatty():
        yield from _bar(what, total)
    elif as_json:
        yield lambda _done, _said: None
    else:
        yield lines(what, total, unit, every_s=every_s)


def _bar(what: str, total: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[said]}", markup=False),
    )
    to_terminal = sys.stdout.isatty()  # else what the command prints meanwhile would end on stderr
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=to_terminal) as bar:
        task = bar.add_task(what, total=total, said="")
        yield lambda done, said: bar.update(task, completed=done, said=said)


def lines(
    what: str, total: int, unit: str, *, every_s: float = math.inf, monotonic: Callable[[], float] = time.monotonic
) -> Advance:
    """Prints where something else than a terminal reads."""
    told, told_s = 0, monotonic()

    def advance(done: int, said: str) -> None:
        nonlocal told, told_s
        tenth = done * LINES // total
        if tenth > told or monotonic() - told_s >= every_s:
            told, told_s = tenth, monotonic()
            print(f"{what}: {done} of {total} {unit}; {said}", flush=True)

    return advance
