"""What happens when the chain replaced blocks that were settled: a finality violation (RULES.md section 1).

The chain halts: nothing settles on it until an operator resumes it. Settlements that rested on vanished blocks get
a reversal,
a contra record beside them; they are never changed. The cursors go back to the highest block that still stands, so
that `watch`
records what the chain shows now, and, once resumed, `settle` decides those heights anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from chains.errors import BlockNotFound, NodeInconsistent
from chains.model import BlockHash, BlockNumber, BlockRef
from chains.pool import Pool
from settler.domain.events import EventType
from settler.domain.invoices import TransferRecord, TransferStatus
from settler.stages.agreement import agreed_headers
from settler.stages.assessing import assess_invoices
from settler.stages.recording import moves_money
from settler.stages.setup import Judgement
from settler.stages.undoing import locked, reverse, unbook
from settler.storage import chains, reading, risks, settlements, transfers
from settler.storage.chains import ChainState
from settler.storage.engine import Database

PROBE_BATCH = 50
"""Heights asked at once, going down, until one still has the block we know."""


async def halt_chain(
    state: ChainState, *, pool: Pool, quorum: int, db: Database, judgement: Judgement, now: datetime
) -> int:
    """Halts the chain and reverses what rested on vanished blocks, in one transaction; how many settlements that
    were. Which blocks vanished is what `quorum` providers show alike.
    """
    ancestor = await _ancestor(state, pool, quorum, db)
    reason = (
        f"finality violation: block {state.settled_number} (0x{(state.settled_hash or b'').hex()}) was settled "
        "and is no longer "
        f"in the chain; the highest block that still stands is {ancestor.number}"
    )
    async with db.write() as conn:
        await chains.advance(
            conn,
            state,
            now=now,
            guard=("settled_number", "settled_hash", "halted_at"),
            halted_at=now,
            halt_reason=reason,
            settled_number=ancestor.number,
            settled_hash=ancestor.hash,
            settled_time=ancestor.time,
            scanned_number=ancestor.number,
            scanned_hash=ancestor.hash,
            scanned_time=ancestor.time,
            # the one time these go back: they are of a fork that is gone, and are looked up anew
            final_number=ancestor.number,
            final_time=ancestor.time,
            head_number=ancestor.number,
            head_time=ancestor.time,
            risks_number=BlockNumber(min(ancestor.number, state.risks_number or ancestor.number)),
        )
        await chains.drop_blocks(conn, state.chain_id, above=ancestor.number)
        await chains.hold_blocks(conn, state.chain_id, [ancestor])
        await risks.forget(conn, state.chain_id, above=ancestor.number)
        found = await transfers.canonical_above(conn, state.chain_id, ancestor.number)
        vanished = await locked(conn, found)
        reversed_ = await settlements.in_force_on(conn, [t.id for t in vanished])
        await reverse(conn, reversed_, reason=reason, now=now)
        await _orphan(conn, vanished, now)
        touched = {t.invoice_id for t in vanished if t.invoice_id is not None}
        await assess_invoices(conn, touched, judgement, now=now)
    return len(reversed_)


async def _ancestor(state: ChainState, pool: Pool, quorum: int, db: Database) -> BlockRef:
    """The highest block we know, at or below the settled height, that the chain still has."""
    async with db.read() as conn:
        held = await chains.held_blocks(conn, state.chain_id, last=state.settled_number)
        paid = await transfers.final_places(conn, state.chain_id)
    # what a tier made final above it is no block that was settled
    settled = {number: hash_ for number, hash_ in paid.items() if number <= (state.settled_number or 0)}
    known: dict[BlockNumber, BlockHash] = {**{b.number: b.hash for b in held}, **settled}
    heights = sorted(known, reverse=True)
    for at in range(0, len(heights), PROBE_BATCH):
        batch = heights[at : at + PROBE_BATCH]
        for number, shown in zip(batch, await agreed_headers(pool, batch, quorum=quorum), strict=True):
            if shown is None:
                raise BlockNotFound(f"the node has no block {number}, which we hold: it is behind")
            if shown.hash == known[number]:
                return shown
    below = BlockNumber(max(0, heights[-1] - 1))
    (shown,) = await agreed_headers(pool, [below], quorum=quorum)
    if shown is None:
        raise NodeInconsistent(f"the node has no block {below} but has higher ones")
    return shown


async def _orphan(conn: AsyncConnection, vanished: Sequence[TransferRecord], now: datetime) -> None:
    await unbook(conn, vanished, now=now)
    gone = [replace(t, status=TransferStatus.ORPHANED, final_at=None, version=t.version + 1) for t in vanished]
    await transfers.save(conn, gone)
    await reading.tell_of_transfers(
        conn,
        [
            (t, EventType.PAYMENT_ORPHANED if t.invoice_id is not None else EventType.TRANSFER_UNMATCHED)
            for t in gone
            if moves_money(t)
        ],
        now=now,
    )
