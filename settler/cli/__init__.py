"""The command line: `settler …`. Reads arguments, calls the verbs of the layers below, prints tables or JSON.

Promises: exit 0 fine, 1 a problem was found, 2 wrong usage or configuration; an expected error is one line on
stderr that says what, where and what to do, and nothing was stored then; `--json` prints the objects of the
API and nothing else on stdout. What does not belong here: decisions, SQL. Modules load what is heavy inside
their commands, so that `settler --help` answers at once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TextIO

__all__ = ["main"]

INTERRUPTED, TERMINATED = 130, 143
"""128 and the signal's number, as shells have it."""


def main(args: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code. `args`: default those of the process."""
    import typer

    was_terminated = _interrupt_at_sigterm() if args is None else bool
    if sys.stdout is None:  # closed by whoever started us: nobody reads
        sys.stdout = _nowhere()
    from settler.cli.app import app
    from settler.cli.failures import lines_and_code

    try:
        code = app(list(sys.argv[1:] if args is None else args), standalone_mode=False, prog_name="settler")
        sys.stdout.flush()  # what cannot be written is to be seen here, not by Python as it ends
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        _close_stdout()
        return 1
    except Exception as error:
        explained = lines_and_code(error)
        if explained is None:
            raise
        if isinstance(error, OSError):
            _close_stdout()
        lines, code = explained
        for line in lines:
            print(line, file=sys.stderr)
    return TERMINATED if code == INTERRUPTED and was_terminated() else int(code or 0)


def _interrupt_at_sigterm() -> Callable[[], bool]:
    """SIGTERM ends a command as Ctrl-C does: what is under way is rolled back. The first process of a container would
    else not end at all: the kernel gives it no default. The daemon has a way of its own, which drains. Returns whether
    it came.
    """
    import signal

    came: list[int] = []

    def interrupt(number: int, _frame: object) -> None:
        came.append(number)
        signal.raise_signal(signal.SIGINT)

    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # so shells start what runs in the background, and SIGTERM would be handed on in vain
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, interrupt)
    return lambda: bool(came)


def _nowhere() -> TextIO:
    import os
    from pathlib import Path

    return Path(os.devnull).open("w", encoding="utf-8")


def _close_stdout() -> None:
    """The reader went away (`| head`), or the disk is full: without this Python complains once more when it flushes at
    the end.
    """
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
