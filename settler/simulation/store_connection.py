"""What SQLAlchemy takes for the driver's connections: each belongs to one process of the world, waits for its turn at
the one database there is, and meets the faults that were injected.

A statement runs in the loop's own thread at once: nothing is waited for but the turn, a frozen process, and a slow
database. Errors are raised where the driver would raise them, so that SQLAlchemy and `settler.storage.faults` see what
they would see.

What does not belong here: how a driver words its errors (`store_drivers`).
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import AdaptedConnection
from sqlalchemy.util import await_only

from settler.simulation import store_faults as kinds
from settler.simulation.life import Dead, Life
from settler.simulation.store_faults import StoreFaults

if TYPE_CHECKING:
    from settler.simulation.store import SimStore

_WRITES = re.compile(
    r"\s*(?:WITH\b.*?\b)?(?:INSERT\s+(?:OR\s+\w+\s+)?INTO|(?<!FOR )(?<! KEY )UPDATE|DELETE\s+FROM)\s+\"?(\w+)",
    re.DOTALL | re.IGNORECASE,
)
_READS = re.compile(r"\s*(?:SELECT|PRAGMA|SAVEPOINT|RELEASE|ROLLBACK|SHOW|SET)\b", re.IGNORECASE)
_MEMO_MAX = 5_000
_memo: dict[str, str | None] = {}


def written_table(statement: str) -> str | None:
    """Which table an INSERT, UPDATE or DELETE is about; `None` for all others."""
    try:
        return _memo[statement]
    except KeyError:
        if len(_memo) >= _MEMO_MAX:
            _memo.clear()
        found = None if _READS.match(statement) else _WRITES.match(statement)
        _memo[statement] = found and found.group(1)
        return _memo[statement]


class SimConnection(AdaptedConnection):
    """One connection of one process. All of them use the world's one, in turn."""

    __slots__ = (
        "_faults",
        "_life",
        "_store",
        "_trouble",
        "_written",
        "has_waited",
        "is_lost",
        "is_open",
        "is_reader",
        "statements",
    )

    def __init__(self, store: SimStore, life: Life, faults: StoreFaults, *, is_reader: bool) -> None:
        self._connection: Any = self
        self._store = store
        self._life = life
        self._faults = faults
        self._trouble: Exception | None = None
        self._written: dict[str, None] = {}
        self.has_waited = False
        """`wait_to_run` is done for all statements that come; else they do it themselves, in a greenlet."""
        self.is_reader = is_reader
        self.is_open = False
        """It has begun a transaction, and so has the turn."""
        self.is_lost = False
        self.statements = 0

    @property
    def life(self) -> Life:
        return self._life

    @property
    def has_written(self) -> bool:
        """What is not committed yet."""
        return self.is_open and bool(self._written)

    # -- a transaction -------------------------------------------------------------------------------------------------
    # What may have to wait is done first, so that the rest needs no greenlet; what went wrong while waiting is raised
    # where the driver would raise it.

    async def wait_to_begin(self) -> None:
        """Waits for its turn, as long as the database would let it. `begin` comes next."""
        await self._stand()
        if not self.is_lost and self._faults.lasts(kinds.GONE, self._life.name, may_begin=True):
            self._trouble = self._lose()
        turn, driver = self._store.turn, self._store.driver
        if self.is_lost or turn.take(self):
            return
        has_turn = await turn.wait(self, driver.wait_s)
        self._life.check()
        if not has_turn:
            self._trouble = driver.waited()

    async def wait_to_run(self) -> None:
        """The freeze and the slowness that a statement meets. `run` comes next."""
        await self._stand()
        if self._faults.is_calm:
            return
        delay_s = self._faults.delay_s(self._life.name)
        if delay_s:
            await self._delay(delay_s)

    async def wait_to_commit(self) -> None:
        """`commit` comes next."""
        await self._stand()

    def begin(self) -> None:
        self._raise_trouble()
        self._store.driver.begin(is_reader=self.is_reader)
        self.is_open = True
        self._written = {}
        self.statements = 0

    def run(self, statement: str, work: Callable[..., Any], *args: Any) -> None:
        """Runs one statement: `work` is the driver's method that does."""
        self._raise_trouble()
        table = written_table(statement)
        if table is not None and self.is_reader:
            raise self._store.driver.read_only()
        if not self._faults.is_calm:
            self._meet(table)
        work(statement, *args)
        self.statements += 1
        if table is not None:
            self._written[table] = None
            if not self._faults.is_calm and self._faults.strikes(kinds.CRASH_DURING, self._life.name):
                self._die()

    def commit(self) -> None:
        self._raise_trouble()
        if not self.is_open:
            return
        life, faults, driver = self._life, self._faults, self._store.driver
        if not faults.is_calm:
            if faults.lasts(kinds.GONE, life.name, may_begin=False):
                raise self._lose()
            if self._written and faults.strikes(kinds.SERIALIZATION, life.name):
                raise driver.serialization_failure()
            if self._written and faults.strikes(kinds.COMMIT_LOST, life.name):
                raise self._lose()
        driver.commit()
        self.is_open = False
        try:
            if self._written:
                self._store.committed(life, tuple(self._written), self.statements)
        finally:
            self._store.turn.release(self)
        if self._written and not faults.is_calm:
            if faults.strikes(kinds.CRASH_AFTER, life.name):
                self._die()
            if faults.strikes(kinds.COMMIT_DONE, life.name):
                raise self._lose()

    def rollback(self) -> None:
        self._roll_back()
        self._trouble = None
        if self._store.driver.dialect == "sqlite":
            self.is_lost = False  # there is no connection to lose, only a transaction

    def close(self) -> None:
        self._roll_back()
        self.is_lost = True

    terminate = close

    def _roll_back(self) -> None:
        if self.is_open:
            self.is_open = False
            self._store.driver.rollback()
        self._store.turn.release(self)

    # -- what goes wrong -----------------------------------------------------------------------------------------------

    def _meet(self, table: str | None) -> None:
        """The faults of one statement."""
        name, faults, driver = self._life.name, self._faults, self._store.driver
        if faults.lasts(kinds.GONE, name, may_begin=False):
            raise self._lose()
        if not self.is_reader and faults.strikes(kinds.SERIALIZATION, name):
            raise driver.serialization_failure()
        if table is None:
            return
        if not self._written and faults.strikes(kinds.CRASH_BEFORE, name):
            self._die()
        if faults.lasts(kinds.DISK_FULL, name, may_begin=not self._written):
            raise driver.disk_full()
        if faults.strikes(kinds.DEADLOCK, name):
            raise driver.deadlock()

    async def _delay(self, delay_s: float) -> None:
        limit_s = self._store.driver.statement_limit_s
        await asyncio.sleep(delay_s if limit_s is None else min(delay_s, limit_s))
        await self._stand()
        if limit_s is not None and delay_s > limit_s and self.is_open:
            self._trouble = self._store.driver.took_too_long()

    async def _stand(self) -> None:
        """Where a frozen process stands; the server cuts off one that keeps others waiting for too long.

        A reader goes on to the end of its transaction: nobody could tell when within it the process stopped.
        """
        life = self._life
        if life.is_dead or not life.is_frozen or (self.is_open and self.is_reader):
            life.check()
            return
        limit_s = self._store.driver.idle_limit_s
        if limit_s is None or not self.is_open:
            await life.gate()
            return
        timer = asyncio.get_running_loop().call_later(limit_s, self._lose)
        try:
            await life.gate()
        finally:
            timer.cancel()

    def _lose(self) -> Exception:
        """The connection is lost, and with it what is open."""
        self._roll_back()
        self.is_lost = True
        return self._store.driver.lost()

    def _raise_trouble(self) -> None:
        self._life.check()
        if self._trouble is not None:
            trouble, self._trouble = self._trouble, None
            raise trouble
        if self.is_lost:
            raise self._store.driver.lost()

    def _die(self) -> None:
        self._life.kill()
        raise Dead(self._life.name)

    # -- as SQLAlchemy's dialects call it ------------------------------------------------------------------------------

    def cursor(self, _name: str | None = None, *, server_side: bool = False) -> SimCursor:
        """`_name`, `server_side`: for results that are streamed; here they are read where they are all the same."""
        return SimCursor(self, self._store.driver.raw.cursor())

    def ping(self) -> None:
        """SQLAlchemy asks whether the connection lives, before it gives it out."""
        self._raise_trouble()
        if self._faults.lasts(kinds.GONE, self._life.name, may_begin=False):
            raise self._lose()

    # PostgreSQL's asks for these
    @property
    def closed(self) -> bool:
        return self.is_lost

    @property
    def broken(self) -> bool:
        return self.is_lost

    @property
    def info(self) -> Any:
        return self._store.driver.raw.info

    @property
    def adapters(self) -> Any:
        return self._store.driver.raw.adapters

    @property
    def read_only(self) -> bool:
        return self.is_reader

    def set_read_only(self, value: bool | None) -> None:
        self.is_reader = bool(value)

    def set_autocommit(self, value: bool) -> None:
        assert not value, "settler commits its transactions itself"

    def set_isolation_level(self, _level: object) -> None:
        """Follows from `is_reader`."""

    def set_deferrable(self, _value: object) -> None:
        """Never asked for."""

    def add_notice_handler(self, _handler: object) -> None:
        """Nobody reads notices."""

    def create_function(self, *_args: object, **_options: object) -> None:
        """Of SQLAlchemy's own functions for SQLite we use none."""


class SimCursor:
    """One statement and its rows, which are all fetched at once."""

    __slots__ = ("_connection", "_cursor", "_rows")
    server_side = False
    arraysize = 1

    def __init__(self, connection: SimConnection, cursor: Any) -> None:
        self._connection = connection
        self._cursor = cursor
        self._rows: deque[Any] = deque()

    @property
    def description(self) -> Any:
        return self._cursor.description

    @property
    def rowcount(self) -> int:
        return int(self._cursor.rowcount)

    @property
    def lastrowid(self) -> Any:
        return self._cursor.lastrowid

    def execute(self, statement: str, parameters: Any = None) -> None:
        args = () if parameters is None else (parameters,)
        self._run(statement, self._cursor.execute, *args)
        if self._cursor.description is not None:
            self._rows.extend(self._cursor.fetchall())

    def executemany(self, statement: str, parameters: Sequence[Any]) -> None:
        self._run(statement, self._cursor.executemany, parameters)

    def _run(self, statement: str, work: Callable[..., Any], *args: Any) -> None:
        connection = self._connection
        if not connection.has_waited:
            await_only(connection.wait_to_run())
        connection.run(statement, work, *args)

    def fetchone(self) -> Any:
        return self._rows.popleft() if self._rows else None

    def fetchmany(self, size: int | None = None) -> list[Any]:
        return [self._rows.popleft() for _ in range(min(size or self.arraysize, len(self._rows)))]

    def fetchall(self) -> list[Any]:
        rows = list(self._rows)
        self._rows.clear()
        return rows

    def setinputsizes(self, *_sizes: object) -> None:
        """Left to the driver."""

    def close(self) -> None:
        self._rows.clear()
        self._cursor.close()

    async def _async_soft_close(self) -> None:
        """Nothing is held that could be let go of before the rows are read."""
