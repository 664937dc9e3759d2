"""How far long work is: a bar on a terminal, a plain line now and then elsewhere, nothing into a program's JSON."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LINES = 10
"""Plain lines at most, for the whole of the work."""

Advance = Callable[[int, str], None]
"""Told how much is done in all, and what came of it so far."""


@contextmanager
def progress(what: str, total: int, *, as_json: bool, unit: str = "blocks") -> Iterator[Advance]:
    """`what` is done to `total` (above 0) of `unit`. The bar is drawn on stderr: stdout is the result's."""
    if sys.stderr.isatty():
        yield from _bar(what, total)
    elif as_json:
        yield lambda _done, _said: None
    else:
        yield _lines(what, total, unit)


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
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total, said="")
        yield lambda done, said: bar.update(task, completed=done, said=said)


def _lines(what: str, total: int, unit: str) -> Advance:
    told = 0

    def advance(done: int, said: str) -> None:
        nonlocal told
        tenth = done * LINES // total
        if tenth > told:
            told = tenth
            print(f"{what}: {done} of {total} {unit}; {said}", flush=True)

    return advance
