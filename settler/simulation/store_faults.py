"""What the database may do to us, or the machine while we write to it. Each kind strikes with the probability it was
injected with, whenever there is an opportunity for it, and is counted when it did.

    crash before a write       the process dies as its transaction is about to write the first time
    crash during a write       after a statement that wrote, before COMMIT
    crash after a write        COMMIT is done; the process dies before it learns of it
    commit unknown, done       COMMIT is done; the connection is lost before the answer
    commit unknown, lost       the connection is lost, and the transaction with it
    serialization failure      at a statement of a transaction that writes, or at its COMMIT
    deadlock                   at a statement that writes
    database gone              for a while nothing is answered; an open transaction is lost
    disk full                  for a while nothing is written; reads go on
    slow database              one statement takes long, at times longer than anybody waits for it

What does not belong here: how a driver tells of it (`store_drivers`).
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable

CRASH_BEFORE = "crash before a write"
CRASH_DURING = "crash during a write"
CRASH_AFTER = "crash after a write"
COMMIT_DONE = "commit unknown, done"
COMMIT_LOST = "commit unknown, lost"
SERIALIZATION = "serialization failure"
DEADLOCK = "deadlock"
GONE = "database gone"
DISK_FULL = "disk full"
SLOW = "slow database"

STORE_FAULTS = (
    CRASH_BEFORE,
    CRASH_DURING,
    CRASH_AFTER,
    COMMIT_DONE,
    COMMIT_LOST,
    SERIALIZATION,
    DEADLOCK,
    GONE,
    DISK_FULL,
    SLOW,
)

SPELL_S = (1.0, 120.0)
"""How long the database is gone or its disk full."""
LONG_RATE = 0.05
"""Of slow statements: those that take longer than `WRITER_WAIT_S`."""
SHORT_S, LONG_S = (0.05, 5.0), (31.0, 70.0)

Clock = Callable[[], float]


class StoreFaults:
    """Which kinds strike how often. `struck` counts those that did."""

    def __init__(self, *, random: random.Random, on_strike: Callable[[str, str], None] | None = None) -> None:
        """`on_strike` is told the process's name and the fault's."""
        self.struck: Counter[str] = Counter()
        self.is_calm = True
        """Nothing can strike: not worth asking."""
        self._random = random
        self.on_strike = on_strike
        self._rates: dict[str, float] = {}
        self._until_s: dict[str, float] = {}

    def inject(self, name: str, probability: float) -> None:
        """From now on `name` strikes at each opportunity with `probability`."""
        if name not in STORE_FAULTS:
            raise ValueError(f"no fault of a database: {name!r}")
        if not 0.0 <= probability <= 1.0:
            raise ValueError(f"not a probability: {probability}")
        self._rates[name] = probability
        self._note()

    def withdraw(self, name: str) -> None:
        """`name` does not strike any more, and ends if it lasts."""
        self._rates.pop(name, None)
        self._until_s.pop(name, None)
        self._note()

    def heal(self) -> None:
        """Withdraws all."""
        self._rates.clear()
        self._until_s.clear()
        self._note()

    def strikes(self, name: str, process: str) -> bool:
        """To be asked once an opportunity."""
        rate = self._rates.get(name)
        if not rate or self._random.random() >= rate:
            return False
        self.struck[name] += 1
        if self.on_strike is not None:
            self.on_strike(process, name)
        return True

    def lasts(self, name: str, process: str, *, may_begin: bool) -> bool:
        """Whether the spell of `name` is on. `may_begin`: this is an opportunity for a new one."""
        if self.is_calm:
            return False
        now_s = asyncio.get_running_loop().time()
        until_s = self._until_s.get(name)
        if until_s is not None:
            if now_s < until_s:
                return True
            del self._until_s[name]
            self._note()
        if not may_begin or not self.strikes(name, process):
            return False
        self._until_s[name] = now_s + self._random.uniform(*SPELL_S)
        self._note()
        return True

    def delay_s(self, process: str) -> float:
        """How long the next statement takes; nearly always 0."""
        if not self.strikes(SLOW, process):
            return 0.0
        return self._random.uniform(*(LONG_S if self._random.random() < LONG_RATE else SHORT_S))

    def _note(self) -> None:
        self.is_calm = not self._until_s and not any(self._rates.values())
