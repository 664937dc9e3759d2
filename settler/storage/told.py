"""What a transaction told of, for those in this process who want to know once it is committed: traces.

Nothing waits for it and nothing rests on it: who must not miss an event reads the feed. An event of a savepoint that is
rolled back is forgotten with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from settler.domain.events import Event

_TOLD = "settler.told"
_MARKS = "settler.told.marks"
"""How many events there were at each open savepoint, the outermost first."""


def attach(engine: AsyncEngine) -> None:
    """Makes savepoints of the engine's connections forget what they undo."""
    event.listen(engine.sync_engine, "savepoint", _mark)
    event.listen(engine.sync_engine, "rollback_savepoint", _forget)
    event.listen(engine.sync_engine, "release_savepoint", _unmark)


def begin(conn: AsyncConnection) -> list[Event]:
    """To be called as a transaction begins; what will be in the list when it is committed was told."""
    info = _info(conn)
    told: list[Event] = []
    info[_TOLD], info[_MARKS] = told, []
    return told


def note(conn: AsyncConnection, events: Sequence[Event]) -> None:
    """To be called for events as they are written."""
    _info(conn).setdefault(_TOLD, []).extend(events)


def _info(conn: AsyncConnection) -> dict[Any, Any]:
    assert conn.sync_connection is not None, "a connection in use is connected"
    return conn.sync_connection.info


def _mark(connection: Connection, _name: str) -> None:
    connection.info.setdefault(_MARKS, []).append(len(connection.info.get(_TOLD, ())))


def _unmark(connection: Connection, _name: str, _context: None) -> None:
    connection.info[_MARKS].pop()


def _forget(connection: Connection, _name: str, _context: None) -> None:
    if connection.invalidated:  # it broke, and what it knew is gone with the whole transaction
        return
    del connection.info.get(_TOLD, [])[connection.info[_MARKS].pop() :]
