"""Chains: their cursors, the headers we hold, their tokens, and whether they are halted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Row, Update, bindparam, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from chains.model import Address, BlockHash, BlockNumber, BlockRef, ChainId, Token
from settler.domain.errors import Conflict, NotFound
from settler.storage import operator_actions, schema
from settler.storage.sql import insert_missing, is_one_of, upsert

_t, _b = schema.chains, schema.blocks

# Statements of every tick are built once: building one costs more than running it.
_OF_CHAIN = _t.c.chain_id == bindparam("chain")
_GET = select(_t).where(_OF_CHAIN)
_LOCK = _GET.with_for_update()
_ALL = select(_t).order_by(_t.c.name)
_BLOCKS_OF_CHAIN = _b.c.chain_id == bindparam("chain")
_HELD_FROM = select(_b).where(_BLOCKS_OF_CHAIN, _b.c.number >= bindparam("first")).order_by(_b.c.number)
_HELD_WITHIN = _HELD_FROM.where(_b.c.number <= bindparam("last"))
_DROP_ABOVE = delete(_b).where(_BLOCKS_OF_CHAIN, _b.c.number > bindparam("above"))
_DROP_BELOW = delete(_b).where(_BLOCKS_OF_CHAIN, _b.c.number < bindparam("below"))
_DROP_BETWEEN = _DROP_ABOVE.where(_b.c.number < bindparam("below"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainState:
    """One row of `chains`. Numbers are `None` until the chain was read."""

    chain_id: ChainId
    name: str
    scanned_number: BlockNumber | None
    """Blocks up to here were read by watch."""
    scanned_hash: BlockHash | None
    scanned_time: datetime | None
    settled_number: BlockNumber | None
    """Blocks up to here were decided by settle."""
    settled_hash: BlockHash | None
    settled_time: datetime | None
    head_number: BlockNumber | None
    """The newest block a node reported."""
    head_time: datetime | None
    final_number: BlockNumber | None
    """The highest final height by policy; never goes back."""
    final_time: datetime | None
    risks_number: BlockNumber | None
    """The tokens' own announcements were read up to here."""
    halted_at: datetime | None
    halt_reason: str | None
    updated_at: datetime

    @property
    def is_halted(self) -> bool:
        return self.halted_at is not None

    @property
    def settled(self) -> BlockRef:
        """Where the second reading stands, as a header (its parent is not kept and not needed)."""
        number, block_hash, time = self.settled_number, self.settled_hash, self.settled_time
        assert number is not None and block_hash is not None and time is not None, f"{self.name} was not opened"
        return BlockRef(number=number, hash=block_hash, parent_hash=block_hash, time=time)

    @property
    def is_started(self) -> bool:
        """Its cursors are set: it was read at least once."""
        return self.settled_number is not None


class CursorMoved(Exception):
    """Another worker, or an operator, changed the chain's row since the tick began. The tick is dropped; the next
    starts anew.
    """


def _state(row: Row[Any]) -> ChainState:
    return ChainState(**row._mapping)


async def register(
    conn: AsyncConnection, *, chain_id: ChainId, name: str, tokens: Sequence[Token], now: datetime
) -> None:
    """Makes the chain and its tokens known. Raises `Conflict` when the database knows them as something else."""
    row = {"chain_id": chain_id, "name": name, "updated_at": now}
    await insert_missing(conn, _t, [row], key=["chain_id"])
    known = await get(conn, chain_id)
    assert known is not None, "the row was just inserted or there before"
    if known.name != name:
        raise Conflict(
            f"chains.{name}.chain_id",
            f"the database knows chain id {chain_id} as {known.name!r}; keep that name, or use another database",
        )
    rows = [
        {
            "chain_id": chain_id,
            "address": t.address,
            "symbol": t.symbol,
            "decimals": t.decimals,
            "currency": t.currency,
            "first_seen_at": now,
        }
        for t in tokens
    ]
    await insert_missing(conn, schema.tokens, rows, key=["chain_id", "address"])
    stored = {t.address: t for t in await tokens_of(conn, chain_id)}
    for t in tokens:
        if stored[t.address].decimals != t.decimals:
            raise Conflict(
                f"chains.{name}.token.{t.symbol}.decimals",
                f"{t.decimals} is configured, but the database has recorded amounts of this token with "
                f"{stored[t.address].decimals}; correct the configuration",
            )


async def get(conn: AsyncConnection, chain_id: ChainId) -> ChainState | None:
    row = (await conn.execute(_GET, {"chain": chain_id})).one_or_none()
    return None if row is None else _state(row)


async def all_states(conn: AsyncConnection) -> list[ChainState]:
    return [_state(row) for row in await conn.execute(_ALL)]


async def tokens_of(conn: AsyncConnection, chain_id: ChainId | None = None) -> list[Token]:
    """Every token ever configured (of one chain, or of all)."""
    t = schema.tokens
    query = select(t) if chain_id is None else select(t).where(t.c.chain_id == chain_id)
    return [
        Token(
            chain_id=ChainId(row.chain_id),
            symbol=row.symbol,
            address=Address(row.address),
            decimals=row.decimals,
            currency=row.currency,
        )
        for row in await conn.execute(query)
    ]


async def advance(
    conn: AsyncConnection, before: ChainState, *, now: datetime, guard: Sequence[str], **changes: Any
) -> ChainState:
    """Writes `changes` to the row a tick started from, and locks it until the transaction ends; returns the row as
    it is now.

    `guard`: columns that must still be as the tick saw them, else `CursorMoved`: cursors are moved by compare-and-set,
    never by hope. Heights in `changes` that never go back (head, final) are to be given as the caller wants them kept.
    """
    row = (await conn.execute(_LOCK, {"chain": before.chain_id})).one_or_none()
    if row is None:
        raise CursorMoved(f"the row of {before.name} is gone")
    current = _state(row)
    moved = [name for name in guard if getattr(current, name) != getattr(before, name)]
    if moved:
        raise CursorMoved(f"{', '.join(moved)} of {before.name} changed while a tick was reading")
    after = replace(current, **changes, updated_at=now)
    values = {f"_{name}": getattr(after, name) for name in (*changes, "updated_at")}
    await conn.execute(_writing((*changes, "updated_at")), {"chain": before.chain_id, **values})
    return after


@cache
def _writing(names: tuple[str, ...]) -> Update:
    """The statement that writes these columns of a row: ticks write few sets of them."""
    return update(_t).where(_OF_CHAIN).values({name: bindparam(f"_{name}") for name in names})


async def lock(conn: AsyncConnection, chain_id: ChainId) -> ChainState:
    """The chain's row as it is now, which nobody else changes until the transaction ends. For who writes transfers
    without moving a cursor.
    """
    row = (await conn.execute(_LOCK, {"chain": chain_id})).one_or_none()
    if row is None:
        raise CursorMoved(f"the row of chain {chain_id} is gone")
    return _state(row)


async def lock_many(conn: AsyncConnection, chain_ids: Iterable[ChainId]) -> dict[ChainId, ChainState]:
    """As `lock`, of several, in the order of their ids against deadlock; those that are not known are left out.

    To be called before invoices are locked, as the stages do.
    """
    wanted = sorted(set(chain_ids))
    query = select(_t).where(_t.c.chain_id.in_(wanted)).order_by(_t.c.chain_id).with_for_update()
    return {ChainId(row.chain_id): _state(row) for row in await conn.execute(query)}


async def held_blocks(
    conn: AsyncConnection, chain_id: ChainId, *, first: int = 0, last: int | None = None
) -> list[BlockRef]:
    """The headers we hold at heights `first .. last` (inclusive; `None`: no upper bound), ascending."""
    within: dict[str, int] = {"chain": chain_id, "first": first}
    held = (
        await conn.execute(_HELD_FROM, within)
        if last is None
        else await conn.execute(_HELD_WITHIN, {**within, "last": last})
    )
    return [
        BlockRef(
            number=BlockNumber(row.number),
            hash=BlockHash(row.hash),
            parent_hash=BlockHash(row.parent_hash),
            time=row.time,
        )
        for row in held
    ]


async def hold_blocks(conn: AsyncConnection, chain_id: ChainId, blocks: Iterable[BlockRef]) -> None:
    rows = {
        b.number: {
            "chain_id": chain_id,
            "number": b.number,
            "hash": b.hash,
            "parent_hash": b.parent_hash,
            "time": b.time,
        }
        for b in blocks
    }
    await upsert(conn, _b, list(rows.values()), key=["chain_id", "number"])


async def drop_blocks(
    conn: AsyncConnection, chain_id: ChainId, *, above: int | None = None, below: int | None = None
) -> None:
    """Lets go of held headers strictly above a height, strictly below one, or, given both, between the two."""
    if above is None:
        assert below is not None, "a height is given"
        await conn.execute(_DROP_BELOW, {"chain": chain_id, "below": below})
    elif below is None:
        await conn.execute(_DROP_ABOVE, {"chain": chain_id, "above": above})
    else:
        await conn.execute(_DROP_BETWEEN, {"chain": chain_id, "above": above, "below": below})


async def resume(conn: AsyncConnection, chain_id: ChainId, *, now: datetime, who: str, reason: str) -> ChainState:
    """An operator lets a halted chain settle again. Raises `NotFound`, or `Conflict` if it is not halted."""
    state = await get(conn, chain_id)
    if state is None:
        raise NotFound(f"chain {chain_id} is not known")
    if not state.is_halted:
        raise Conflict("chain", f"{state.name} is not halted; there is nothing to resume")
    after = await advance(conn, state, now=now, guard=("halted_at",), halted_at=None, halt_reason=None)
    await operator_actions.add(conn, action="chain.resume", object_id=f"{chain_id}", who=who, reason=reason, now=now)
    return after


async def expect_references(conn: AsyncConnection, addresses: Iterable[Address]) -> None:
    """From now on what is paid to these watched addresses is read with the references of its transaction."""
    t = schema.watched_addresses
    await conn.execute(update(t).where(t.c.address.in_(sorted(set(addresses)))).values(has_references=True))


async def watch_addresses(conn: AsyncConnection, addresses: Iterable[Address], *, now: datetime) -> None:
    """Watches addresses from now on, also such as were retired."""
    t = schema.watched_addresses
    wanted = sorted(set(addresses))
    await insert_missing(
        conn, t, [{"address": a, "watched_since": now, "has_references": False} for a in wanted], key=["address"]
    )
    is_back = is_one_of(conn, t.c.address, wanted), t.c.retired_at.is_not(None)
    await conn.execute(update(t).where(*is_back).values(retired_at=None))


def names(states: Iterable[ChainState]) -> Mapping[ChainId, str]:
    return {s.chain_id: s.name for s in states}
