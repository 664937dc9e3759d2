"""Two workers on one PostgreSQL, and a witness in the database that no worker knows of.

The witness is triggers: each write that only a chain's leader may make is noted with who made it (each worker's
sessions have a setting that says so) and whom the lease named at that moment. So whatever a worker that was stopped and
woken believes, what it committed stands there under its name.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psutil
import psycopg
from psycopg.rows import dict_row

from tests.ha.shop import Shop
from tests.support.daemon import Process, until

CHAIN_ID = 31337
CHANGES_HANDS_WITHIN_S = 40.0
"""Far more than the 15 s that are promised: so that a failure says how long it took."""
WITNESS = """
CREATE TABLE witness (
    at timestamptz NOT NULL DEFAULT clock_timestamp(), what text NOT NULL, author text NOT NULL,
    leader text, fencing bigint
);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO witness (what, author, leader, fencing)
        SELECT TG_TABLE_NAME, current_setting('witness.name', true), holder, leases.fencing FROM leases
        WHERE chain_id = NEW.chain_id;
    RETURN NULL;
END $$;
CREATE TRIGGER note AFTER INSERT ON transfers FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER note AFTER INSERT ON blocks FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER note AFTER UPDATE OF scanned_number, settled_number ON chains FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER note AFTER UPDATE OF fencing ON leases FOR EACH ROW EXECUTE FUNCTION note();
"""
"""`UPDATE OF` fires for a statement that names the column: cursors are set by leaders alone, and the last trigger notes
who took a lease, and when."""


@dataclass(kw_only=True)
class Crew:
    shop: Shop
    database: str
    """URL over TCP, without parameters."""
    workers: dict[str, Process] = field(default_factory=dict)

    def lay_witness(self) -> None:
        """Once the tables are there."""
        with self._asked() as cursor:
            cursor.execute(WITNESS)

    async def start(self, *names: str, main: str | None = None, **environ: str) -> list[Process]:
        """Workers by name; `main`: the module of another release. Returns when they listen."""
        for name in names:
            config = self.shop.config(name, f"{self.database}?options=-cwitness.name%3D{name}")
            self.workers[name] = Process(config) if main is None else Process(config, main=main)
            await self.workers[name].start(**environ)
        for name in names:
            await self.workers[name].listening()
        return [self.workers[name] for name in names]

    def lease(self) -> tuple[str | None, int]:
        """Who leads, and the fencing number."""
        with self._asked() as cursor:
            row = cursor.execute("SELECT holder, fencing FROM leases WHERE chain_id = %s", [CHAIN_ID]).fetchone()
        return (None, 0) if row is None else (row["holder"], row["fencing"])

    async def led_by(self, *names: str) -> str:
        """Returns once one of these leads: which."""

        async def holder() -> str | None:
            return self.lease()[0]

        found = await until(
            holder, lambda name: name in names, what=f"{names} to lead", within_s=CHANGES_HANDS_WITHIN_S, every_s=0.05
        )
        assert found is not None
        return found

    def taken_at(self, fencing: int) -> float:
        """When that lease was taken, by the clock of this machine (Unix seconds)."""
        with self._asked() as cursor:
            row = cursor.execute(
                "SELECT min(extract(epoch FROM at)) AS at FROM witness WHERE what = 'leases' AND fencing = %s",
                [fencing],
            ).fetchone()
        assert row is not None and row["at"] is not None, f"nobody took the lease {fencing}"
        return float(row["at"])

    def is_in_write(self, name: str) -> bool:
        """Whether that worker has a transaction open that has locked something."""
        ports = [c.laddr.port for c in psutil.Process(self.workers[name].pid).net_connections("tcp")]
        with self._asked() as cursor:
            row = cursor.execute(
                "SELECT count(*) AS n FROM pg_stat_activity WHERE client_port = ANY(%s) AND backend_xid IS NOT NULL",
                [ports],
            ).fetchone()
        assert row is not None
        return bool(row["n"])

    def usurped(self) -> list[dict[str, Any]]:
        """What was committed by one worker while another led: nothing, if fencing works."""
        with self._asked() as cursor:
            return cursor.execute(
                "SELECT * FROM witness WHERE what <> 'leases' AND author IS DISTINCT FROM leader"
            ).fetchall()

    def witnessed(self) -> dict[str, int]:
        """Leaders' writes by author."""
        with self._asked() as cursor:
            rows = cursor.execute(
                "SELECT author, count(*) AS n FROM witness WHERE what <> 'leases' GROUP BY author ORDER BY author"
            ).fetchall()
        return {row["author"]: row["n"] for row in rows}

    async def dismiss(self) -> None:
        """Whatever happened. What they said stays in the shop's folder, for whoever asks why a test failed."""
        for name, worker in self.workers.items():
            await worker.kill()
            (self.shop.folder / f"{name}.log").write_text("".join(worker.errors))

    @contextmanager
    def _asked(self) -> Iterator[psycopg.Cursor[dict[str, Any]]]:
        with (
            psycopg.connect(self.database, autocommit=True, row_factory=dict_row) as connection,
            connection.cursor() as cursor,
        ):
            yield cursor


@dataclass(frozen=True, kw_only=True)
class Takeover:
    """How one round went, in seconds from the signal."""

    how: str
    taken_s: float
    """Until another worker had the lease."""
    reads_s: float
    """Until it had read a block that was mined after the signal."""
    was_in_write: bool = False


def table(takeovers: Sequence[Takeover]) -> str:
    """A line for each way: rounds, and the seconds of the middle and of the slowest."""
    lines = []
    for how in sorted({t.how for t in takeovers}):
        of = [t for t in takeovers if t.how == how]
        taken, reads = sorted(t.taken_s for t in of), sorted(t.reads_s for t in of)
        inside = sum(t.was_in_write for t in of)
        lines.append(
            f"{how:8} {len(of):2} rounds, {inside:2} within a transaction; "
            f"lease taken after {taken[len(of) // 2]:.1f} s (slowest {taken[-1]:.1f}), "
            f"reads on after {reads[len(of) // 2]:.1f} s (slowest {reads[-1]:.1f})"
        )
    return "\n".join(lines)


def now() -> float:
    """Unix seconds, as the database's clock has them: it is the same machine's."""
    return time.time()
