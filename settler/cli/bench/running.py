"""How commands run a benchmark."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from settler.cli.failures import Failure

T = TypeVar("T")


@contextmanager
def benchmark() -> Iterator[None]:
    """Logs tell errors only meanwhile; what cannot be measured here ends the command with a line that says why."""
    from settler import logs
    from settler.anvil import AnvilError
    from settler.bench.measuring import Unmeasurable

    logs.configure("console", "error")
    try:
        yield
    except (AnvilError, Unmeasurable) as error:
        raise Failure(str(error)) from error


def run_as_daemon(work: Coroutine[Any, Any, T]) -> T:
    """In an event loop like the daemon's own."""
    import asyncio

    from settler.runtime.supervisor import loop_factory

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(work)
