"""Who leads each chain. The rules are in `settler.domain.leading`; here is what makes them hold on a database.

    taking     compare-and-set of what was seen; the fencing number grows by one
    renewing   only under the same fencing number
    fencing    each transaction of a leader locks its lease row, shared, and is refused if the number is another

A taker waits for the transactions that hold that lock, and every later one of the old leader finds the new number: an
old leader that wakes up commits nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from chains.model import ChainId
from settler.domain.leading import LeaseRow
from settler.storage import schema
from settler.storage.chains import CursorMoved
from settler.storage.sql import insert_missing

_t = schema.leases
# Statements of every look and of every leader's transaction are built once.
_ALL = select(_t.c.chain_id, _t.c.holder, _t.c.fencing, _t.c.renewals).order_by(_t.c.chain_id)
_FENCE = select(_t.c.fencing).where(_t.c.chain_id == bindparam("chain")).with_for_update(read=True)
_HELD = (_t.c.chain_id == bindparam("chain"), _t.c.fencing == bindparam("number"))
_RENEW = update(_t).where(*_HELD).values(renewals=_t.c.renewals + 1, renewed_at=bindparam("now"))
_TAKE = (
    update(_t)
    .where(*_HELD, _t.c.renewals == bindparam("seen"))
    .values(
        holder=bindparam("worker"),
        fencing=_t.c.fencing + 1,
        renewals=0,
        since=bindparam("now"),
        renewed_at=bindparam("now"),
    )
)
STANDSTILL_S = 2
"""Of a session, before it may be ended: well below the time after which a leader counts as dead."""
_CUT_OFF = text("""
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = current_database() AND usename = current_user
      AND application_name = current_setting('application_name') AND pid <> pg_backend_pid()
      AND backend_xid IS NOT NULL AND state_change < clock_timestamp() - make_interval(secs => :standstill_s)
      AND (wait_event = 'ClientRead' OR wait_event_type = 'Lock')
""")
TAKE_WAIT_S = 1
"""A taker that has to wait for a lock looks again, and cuts off who holds it."""
_TAKE_WAIT = text(f"SELECT set_config('lock_timeout', '{TAKE_WAIT_S}s', true)")
NEVER_LED = LeaseRow(holder=None, fencing=0, renewals=0)
_GIVE_BACK = update(_t).where(*_HELD).values(holder=None, renewed_at=bindparam("now"))


@dataclass(frozen=True, slots=True)
class Lease:
    """A chain led by this process, until another one takes it."""

    chain_id: ChainId
    fencing: int
    """Larger than that of every leader before."""


class LeaseLost(CursorMoved):
    """Another worker leads the chain by now: the transaction is dropped, and so is this worker's lead."""


async def all_rows(conn: AsyncConnection) -> dict[ChainId, LeaseRow]:
    """Every lease there is."""
    return {
        ChainId(row.chain_id): LeaseRow(holder=row.holder, fencing=row.fencing, renewals=row.renewals)
        for row in await conn.execute(_ALL)
    }


async def holders(conn: AsyncConnection) -> dict[ChainId, str]:
    """Who leads each chain that anybody leads. The holder of a lease may be dead, until another worker takes over."""
    return {chain_id: row.holder for chain_id, row in (await all_rows(conn)).items() if row.holder is not None}


async def take(
    conn: AsyncConnection, chain_id: ChainId, *, worker: str, seen: LeaseRow | None, now: datetime
) -> Lease | None:
    """Makes `worker` the leader if the lease is still as it was seen (`None`: there was none); else `None`."""
    if seen is None:
        seen = NEVER_LED
        never = {"chain_id": chain_id, "holder": None, "fencing": 0, "renewals": 0, "since": now, "renewed_at": now}
        await insert_missing(conn, _t, [never], key=["chain_id"])
    if conn.dialect.name == "postgresql":
        await conn.execute(_TAKE_WAIT)
    given = {"chain": chain_id, "number": seen.fencing, "seen": seen.renewals, "worker": worker, "now": now}
    taken = await conn.execute(_TAKE, given)
    return Lease(chain_id, seen.fencing + 1) if taken.rowcount == 1 else None


async def renew(conn: AsyncConnection, leases: Sequence[Lease], *, now: datetime) -> list[Lease]:
    """A sign of life for each; those that are another worker's by now."""
    lost = []
    for lease in sorted(leases, key=lambda lease: lease.chain_id):
        renewed = await conn.execute(_RENEW, {"chain": lease.chain_id, "number": lease.fencing, "now": now})
        if renewed.rowcount != 1:
            lost.append(lease)
    return lost


async def cut_off(conn: AsyncConnection) -> int:
    """Ends the sessions of workers that hold locks and stand still: how many. To be called when a leader looks dead.

    They wait for a process that was stopped, or for the lock of a session that does: of one stopped process all have to
    go at once, since one that is granted the lock of another begins a new silence. PostgreSQL's own time-out of idle
    transactions does not reach a session in the midst of a pipeline, which is how many rows at once are sent: it would
    keep its locks for ever. A session that is sent anything at all does not stand still; a request of a live worker
    that waits for such a lock is cut off too, answered 503, and may be sent again. On SQLite there is nothing to do:
    its one writer is this process.
    """
    if conn.dialect.name != "postgresql":
        return 0
    return int((await conn.execute(_CUT_OFF, {"standstill_s": STANDSTILL_S})).scalar_one())


async def give_back(conn: AsyncConnection, lease: Lease, *, now: datetime) -> None:
    """Lets others take over at once; nothing if it was lost already."""
    await conn.execute(_GIVE_BACK, {"chain": lease.chain_id, "number": lease.fencing, "now": now})


async def check(conn: AsyncConnection, lease: Lease) -> None:
    """Raises `LeaseLost` unless the lease still holds; if it does, it holds until the transaction ends."""
    found = (await conn.execute(_FENCE, {"chain": lease.chain_id})).scalar_one_or_none()
    if found != lease.fencing:
        raise LeaseLost(
            f"another worker leads chain {lease.chain_id} now (fencing number {found}, ours is {lease.fencing})"
        )
