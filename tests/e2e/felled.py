"""`settler run` that kills itself (SIGKILL) at a given moment of a given write: nothing runs on, nothing is tidied.

The daemon is as it ships. What is known of it here is what SQLAlchemy says to anybody who listens to its engines, and
which function waits for it.

    begin ── statements ── statement that writes the table ── more ── COMMIT ── done
      ^ before               ^ within                          ^ at     ^ during  ^ after
"""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final

import sqlalchemy as sa
from greenlet import getcurrent  # type: ignore[import-untyped]  # it has none
from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

import settler
from settler.cli import main as settler_main

VARIABLE: Final = "TEST_FELLED"
MOMENTS: Final = ("before", "within", "at", "during", "after")
COMMIT_TAKES_S = 0.002
"""Within it the kill "during" a commit comes."""
_HOME = str(Path(settler.__file__).parent) + os.sep
_WRITES = re.compile(r"\s*(?:INSERT INTO|UPDATE|DELETE FROM) \"?(\w+)")


@dataclass(frozen=True, kw_only=True)
class Felling:
    """When it is to die."""

    site: str
    """The function that writes: `stages/settle.py:_commit`."""
    table: str
    """Of those it writes: a transaction that leaves it alone does not count."""
    moment: str
    """One of `MOMENTS`."""
    count: int = 1
    """The how manieth of such it is."""
    delay: float = 0.0
    """Share of `COMMIT_TAKES_S` that passes before a kill during a commit."""

    def environ(self) -> dict[str, str]:
        return {VARIABLE: json.dumps(asdict(self))}


class _Axe:
    def __init__(self, felling: Felling) -> None:
        self._felling = felling
        self._seen = 0

    def begin(self, connection: sa.Connection) -> None:
        connection.info["site"], connection.info["wrote"] = _site(), set()
        connection.info["is_committed"] = False
        self._strike("before", connection.info)

    def executed(self, connection: sa.Connection, _cursor: object, statement: str, *_: object) -> None:
        found = _WRITES.match(statement)
        if found is not None and found[1] not in connection.info["wrote"]:
            connection.info["wrote"].add(found[1])
            if found[1] == self._felling.table:
                self._strike("within", connection.info)

    def commit(self, connection: sa.Connection) -> None:
        connection.info["is_committed"] = True
        if self._felling.table in connection.info["wrote"]:
            self._strike("at", connection.info)
            self._strike("during", connection.info)

    def returned(self, _connection: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
        info = record.info
        if info.get("is_committed") and self._felling.table in info["wrote"]:
            self._strike("after", info)

    def _strike(self, moment: str, info: dict[Any, Any]) -> None:
        if (info["site"], moment) != (self._felling.site, self._felling.moment):
            return
        self._seen += 1
        if self._seen == self._felling.count:
            os.write(2, f"{json.dumps({'event': 'felled', **asdict(self._felling)})}\n".encode())
            if moment == "during":
                threading.Thread(target=self._kill, args=(COMMIT_TAKES_S * self._felling.delay,)).start()
            else:
                self._kill()

    @staticmethod
    def _kill(after_s: float = 0.0) -> None:
        time.sleep(after_s)
        os.kill(os.getpid(), signal.SIGKILL)


def _site() -> str:
    """Which function of settler's waits for the connection: past SQLAlchemy's greenlet, and `Database` itself."""
    parent = getcurrent().parent
    frame: FrameType | None = None if parent is None else parent.gr_frame
    while frame is not None:
        place = frame.f_code.co_filename
        if place.startswith(_HOME) and not place.endswith("storage/engine.py"):
            return f"{place.removeprefix(_HOME)}:{frame.f_code.co_name}"
        frame = frame.f_back
    return ""


def main() -> int:
    axe = _Axe(Felling(**json.loads(os.environ[VARIABLE])))
    event.listen(sa.Engine, "begin", axe.begin)
    event.listen(sa.Engine, "after_cursor_execute", axe.executed)
    event.listen(sa.Engine, "commit", axe.commit)
    event.listen(sa.Pool, "checkin", axe.returned)
    return settler_main()
