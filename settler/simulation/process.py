"""The daemon as one process of the simulated world: started as the supervisor builds it, stopped, killed, started
again.

    worker = Worker("one", make=outside_of, settings=settings)
    keeper = asyncio.create_task(worker.keep_alive())     # as systemd or Kubernetes would
    worker.life.kill()                                     # at any moment, from anywhere

What does not belong here: what the process connects to; `make` says it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from settler.config import Settings
from settler.runtime.outside import Outside
from settler.runtime.supervisor import daemon
from settler.simulation.life import Life
from settler.storage.errors import StorageUnavailable

RESTART_S = (0.5, 30.0)
"""Between these an orchestrator starts a process again that ended."""


class Worker:
    """Mutable: `life` is that of the process running now, or that ran last."""

    def __init__(
        self,
        name: str,
        *,
        settings: Settings,
        outside_of: Callable[[Life], Outside],
        restart_after_s: Callable[[], float],
    ) -> None:
        self.name = name
        self._settings = settings
        self._outside_of = outside_of
        self._restart_after_s = restart_after_s
        self._stop = asyncio.Event()
        self._is_wanted = True
        self.starts = 0
        self.life = Life(f"{name}.0")
        self.failures: list[BaseException] = []
        """Ends that nobody asked for and no fault explains."""

    @property
    def is_wanted(self) -> bool:
        """Not retired."""
        return self._is_wanted

    async def keep_alive(self) -> None:
        """Runs the process, again after each end, until `retire`."""
        while self._is_wanted:
            await self._run_once()
            if self._is_wanted:
                await asyncio.sleep(self._restart_after_s())

    def ask_to_stop(self) -> None:
        """As SIGTERM; `keep_alive` starts another process after it."""
        self._stop.set()

    def retire(self) -> None:
        """As SIGTERM, for good."""
        self._is_wanted = False
        self._stop.set()

    async def _run_once(self) -> None:
        self.starts += 1
        self.life = life = Life(f"{self.name}.{self.starts}")
        self._stop = asyncio.Event()
        if not self._is_wanted:
            return
        run = asyncio.create_task(daemon(self._settings, stop=self._stop, outside=self._outside_of(life)))
        run.set_name(f"process {life.name}")
        life.on_kill(lambda: _cancel(run))
        try:
            await asyncio.wait([run])
        finally:
            life.end()  # what is left of it, sends cut off say, does nothing more
            if not run.done():
                run.cancel()
                await asyncio.wait([run])
        self._look_back(run, life)

    def _look_back(self, run: asyncio.Task[int], life: Life) -> None:
        if run.cancelled():
            return
        error = run.exception()
        if error is None or life.died_early or isinstance(error, StorageUnavailable):
            return
        self.failures.append(error)


def _cancel(run: asyncio.Task[int]) -> None:
    if not run.done():
        run.cancel()
