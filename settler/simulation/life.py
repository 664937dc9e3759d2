"""The life of one simulated process: everything it does to the world passes through here, so that it can die or stand
still between any two steps, as `kill -9` and `SIGSTOP` would have it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Dead(BaseException):
    """The process does not exist any more. Not an `Exception`: nothing of the daemon may catch it."""


class Life:
    """Handed to all that connects a process with the world. `name` is for the trace."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_dead = False
        self.died_early = False
        """Killed, not ended."""
        self._on_kill: list[Callable[[], None]] = []
        self._moves = asyncio.Event()
        self._moves.set()

    def __repr__(self) -> str:
        return f"Life({self.name}{', dead' if self.is_dead else ''})"

    @property
    def is_frozen(self) -> bool:
        return not self._moves.is_set()

    def on_kill(self, callback: Callable[[], None]) -> None:
        """`callback` is called once, at the moment of death, in the order of registration; it must not wait."""
        self._on_kill.append(callback)

    def kill(self) -> None:
        """`kill -9`: from now on the process does nothing. Idempotent."""
        if not self.is_dead:
            self.died_early = True
            self.end()

    def end(self) -> None:
        """It has ended by itself: what is left of it does nothing more. Idempotent."""
        if self.is_dead:
            return
        self.is_dead = True
        self._moves.set()  # who waits at the gate has to learn of it
        callbacks, self._on_kill = self._on_kill, []
        for callback in callbacks:
            callback()

    def freeze(self) -> None:
        """Stands still until `thaw`: as under SIGSTOP, clocks go on."""
        if not self.is_dead:
            self._moves.clear()

    def thaw(self) -> None:
        self._moves.set()

    def check(self) -> None:
        """Raises `Dead` if it is. For steps that cannot wait."""
        if self.is_dead:
            raise Dead(self.name)

    async def gate(self) -> None:
        """Before every step outward. Waits while frozen; raises `Dead`."""
        if not self._moves.is_set():
            await self._moves.wait()
        self.check()
