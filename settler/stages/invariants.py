"""The invariants (RULES.md section 8) checked over a database and readers of its chains. Changes nothing.

    check_records    I2, I4, I6, I7, and of I3 and I8 what the database tells by itself; page by page
    check_chain      I1, I3, I8 against a reader, piece by piece
    same_outcome     I5, of two databases

A healthy database in service gives none, at any moment. What must hold only once everything has come to rest
(`is_quiescent`) is left out otherwise. What is judged how stands in `settler.domain.invariants`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from chains.model import BlockNumber, BlockRef, BlockSpan, ChainId, LogQuery
from chains.reader import ChainReader
from settler.domain import invariants as judge
from settler.domain.events import EventType
from settler.domain.ids import InvoiceId, TransferId
from settler.domain.invariants import Cursors, Invariant, InvoiceFacts, Violation
from settler.domain.invoices import TransferRecord
from settler.domain.records import Settlement
from settler.domain.settlement import InvoicePolicy
from settler.stages.rereading import compared_with, pieces
from settler.storage import books, chains, checking, evidence, holds, invoices, schema, transfers, webhook_endpoints
from settler.storage.chains import ChainState
from settler.storage.engine import Database
from settler.storage.outcome import outcome
from settler.storage.watched import watched_now

FOUND_MAX = 10_000
"""Violations after which a check stops looking, give or take a page's: where so much is wrong, it is the database."""
PIECE_BLOCKS = 2_000
"""Blocks of one reading; a reader that wants fewer says so, or divides by itself."""
SHOWN_MAX = 5
"""Rows that are shown of what differs between two outcomes."""
ENDPOINT_MARGIN = timedelta(minutes=1)
"""An event this much younger than an endpoint was surely written after it: two workers' clocks, and a transaction that
takes its time, leave the order of closer ones open."""
_OF_INVOICES = tuple(t.value for t in EventType if t.startswith("invoice."))
_OF_SETTLEMENTS = (EventType.SETTLEMENT_CREATED.value, EventType.SETTLEMENT_REVERSED.value)
_OF_TRANSFERS = tuple(t.value for t in EventType if t.startswith(("payment.", "transfer.")))
MARK, ASSIGN = "invoice.mark", "transfer.assign"
"""What the audit log calls an operator's mark and assignment."""


async def check(
    db: Database,
    readers: Mapping[ChainId, ChainReader],
    *,
    policy: InvoicePolicy,
    is_quiescent: bool = False,
) -> list[Violation]:
    """All of them. `readers`: whom to believe, for each chain that is to be held against one; raises `ChainError`."""
    found = await check_records(db, policy=policy, is_quiescent=is_quiescent)
    found += await ledger_balances(db)
    found += await delivered_once(db)
    for chain_id, reader in readers.items():
        found += await check_chain(db, chain_id, reader)
    return found


async def check_records(
    db: Database, *, policy: InvoicePolicy, version: str | None = None, is_quiescent: bool = False
) -> list[Violation]:
    """What the database says by itself, but for the sums of its books (`ledger_balances`) and its deliveries
    (`delivered_once`).

    `policy`: by which invoices are judged now. `version`: `Judgement.version` of these rules, where the database may
    hold settlements made under others.
    """
    found = await check_invoices(db, policy=policy, version=version, is_quiescent=is_quiescent)
    found += await check_transfers(db)
    found += await cursors_agree(db)
    return found


async def check_invoices(
    db: Database, *, policy: InvoicePolicy, version: str | None = None, is_quiescent: bool = False
) -> list[Violation]:
    """I2 and I6 of invoices; I3, I6 and I8 of their settlements."""
    found: list[Violation] = []
    async for conn, names in checking.pages(db, schema.invoices):
        ids = [InvoiceId(name) for name in names]
        settled = await checking.settlements_of(conn, ids)
        made = [s for each in settled.values() for s in each]
        records = await transfers.get_many(conn, {line.transfer_id for s in made for line in s.lines})
        assigned = {TransferId(id_) for id_ in await checking.audited(conn, ASSIGN, sorted(records))}
        told = await checking.told_of(conn, _OF_INVOICES, ids)
        told |= await checking.told_of(conn, _OF_SETTLEMENTS, [s.id for s in made])
        every = await _invoice_facts(conn, ids, settled, records)
        for id_, facts in every.items():
            found += judge.settled_iff_paid(facts, policy, version=version, is_quiescent=is_quiescent)
            found += judge.invoice_told_once(facts.invoice, facts.settlements, told.get(id_, []))
        for s in made:
            found += judge.settlement_told_once(s, told.get(s.id, []))
            found += judge.rests_on_records(s, records)
            found += judge.backed_by_records(s, every[s.invoice_id].invoice, records, assigned=assigned)
        if len(found) >= FOUND_MAX:
            break
    return found


async def _invoice_facts(
    conn: AsyncConnection,
    ids: Sequence[InvoiceId],
    settled: Mapping[InvoiceId, Sequence[Settlement]],
    records: Mapping[TransferId, TransferRecord],
) -> dict[InvoiceId, InvoiceFacts]:
    allocated = await transfers.of_invoices(conn, ids)
    stopped = await holds.stopped(conn, ids)
    marked = await checking.audited(conn, MARK, ids)
    flags = await evidence.flags(conn, [t for each in allocated.values() for t in each if t.is_final])
    states = await chains.all_states(conn)
    facts = {}
    for id_, invoice in (await invoices.get_many(conn, ids)).items():
        by_holds = stopped.get(id_, holds.Stopped())
        facts[id_] = InvoiceFacts(
            invoice=invoice,
            allocated=allocated[id_],
            settlements=settled.get(id_, []),
            records=records,
            is_mark_audited=id_ in marked,
            standing=by_holds.standing,
            released=by_holds.released,
            flagged={t.id: tuple(flags[t.id]) for t in allocated[id_] if t.id in flags},
            settled={s.chain_id: s.settled_number for s in states if s.settled_number is not None},
            halted=frozenset(s.chain_id for s in states if s.is_halted),
        )
    return facts


async def check_transfers(db: Database) -> list[Violation]:
    """I4 and I6 of each transfer; I8: it backs one settlement."""
    found: list[Violation] = []
    async for conn, names in checking.pages(db, schema.transfers):
        ids = [TransferId(id_) for id_ in names]
        kept = await checking.books_of(conn, ids)
        told = await checking.told_of(conn, _OF_TRANSFERS, ids)
        backed = await checking.in_force_on(conn, ids)
        for id_, transfer in (await transfers.get_many(conn, ids)).items():
            found += judge.books_agree(transfer, kept[id_])
            found += judge.transfer_told_once(transfer, told.get(id_, []))
            found += judge.backs_one(id_, backed.get(id_, []))
        if len(found) >= FOUND_MAX:
            break
    return found


async def ledger_balances(db: Database) -> list[Violation]:
    """I4 of the ledger as a whole: each entry, and all of a chain and token."""
    async with db.read() as conn:
        kept = {state.name: await books.books(conn, state.chain_id) for state in await chains.all_states(conn)}
    found: list[Violation] = []
    for name, of_chain in kept.items():
        for (entry, token), total in of_chain.lopsided.items():
            found += judge.entry_sums_to_zero(entry, token, total)
        for token in sorted(of_chain.tokens):
            accounts = {account: total for (of, account), total in of_chain.accounts.items() if of == token}
            found += judge.arrived_is_accounted_for(name, token, accounts, of_chain.final.get(token, 0))
    return found


async def delivered_once(db: Database) -> list[Violation]:
    """I6 of deliveries: one of each event to each live endpoint that was there before it and wants it. What an endpoint
    missed before it was enabled again is for a replay.

    A shadow run makes no deliveries, on purpose, and leaves no trace of having been one: of its events these violations
    mean nothing.
    """
    async with db.read() as conn:
        live = await webhook_endpoints.live_endpoints(conn)
        enabled_at = await checking.enabled_at(conn)
    found: list[Violation] = []
    if not live:
        return found
    since = {e.id: max(e.created_at, enabled_at.get(e.id, e.created_at)) + ENDPOINT_MARGIN for e in live}
    async for page in checking.fanned_out_pages(db):
        for event in page:
            there = [e for e in live if since[e.id] < event.created_at]
            found += judge.delivered_once(event.id, event.type, event.merchant, there, event.deliveries)
        if len(found) >= FOUND_MAX:
            break
    return found


async def cursors_agree(db: Database) -> list[Violation]:
    """I7 of this moment. Over time: show `cursors` to a `CursorWatch`, again and again."""
    async with db.read() as conn:
        found: list[Violation] = []
        for state in await chains.all_states(conn):
            held = await chains.held_blocks(conn, state.chain_id)
            found += judge.cursors_agree(_cursors(state, halts=""), held)
    return found


async def cursors(db: Database) -> list[Cursors]:
    """Where each chain's readings are."""
    async with db.read() as conn:
        states = await chains.all_states(conn)
        resumed = await checking.count_resumed(conn)
    return [_cursors(s, halts=f"{s.halted_at} {resumed.get(str(s.chain_id), 0)}") for s in states]


def _cursors(state: ChainState, *, halts: str) -> Cursors:
    return Cursors(
        chain=state.name,
        scanned=state.scanned_number,
        scanned_hash=state.scanned_hash,
        settled=state.settled_number,
        settled_hash=state.settled_hash,
        final=state.final_number,
        halts=halts,
    )


# -- the chain ---------------------------------------------------------------------------------------------------------


async def check_chain(
    db: Database, chain_id: ChainId, reader: ChainReader, *, width: int = PIECE_BLOCKS
) -> list[Violation]:
    """I1 up to the settled height; I3 and I8 of every settlement in force, also above it. Raises `ChainError`."""
    async with db.read() as conn:
        state = await chains.get(conn, chain_id)
        first = await books.first_block(conn, chain_id)
        highest = await checking.highest_line(conn, chain_id)
    if state is None or state.settled_number is None or first is None:
        return []
    last = BlockNumber(max(state.settled_number, highest or 0))
    found: list[Violation] = []
    for piece in pieces(BlockSpan(first=min(first, last), last=last), lambda: width):
        found += await _check_piece(db, state, reader, piece)
        if len(found) >= FOUND_MAX:
            break
    return found


async def _check_piece(db: Database, state: ChainState, reader: ChainReader, piece: BlockSpan) -> list[Violation]:
    async with db.read() as conn:
        watched = (await watched_now(conn)).addresses
        promised = await books.promised(conn, state.chain_id)
        tokens = frozenset(t.address for t in await chains.tokens_of(conn, state.chain_id))
        lines = await checking.lines_in_force(conn, state.chain_id, piece)
    found: list[Violation] = []
    assert state.settled_number is not None, "a chain that was read has a settled height"
    if piece.first <= state.settled_number:
        span = BlockSpan(first=piece.first, last=min(piece.last, state.settled_number))
        query = LogQuery(tokens=tokens, recipients=watched)
        read = await reader.read_span(span, query)
        async with db.read() as conn:
            compared = await compared_with(conn, state, read, query)
        due = [t for t in compared.unrecorded if promised.covers(t, read.block_of(t).time)]
        found += judge.recorded_once(due, compared)
    if not lines:
        return found
    payees = LogQuery(tokens=tokens, recipients=frozenset(line.pay_to for _, line in lines))
    heights = [line.block_number for _, line in lines]
    read = await reader.read_span(BlockSpan(first=min(heights), last=max(heights)), payees)
    shown = {(t.identity.tx_hash, t.log_index): t for t in read.transfers}
    for settlement_id, line in lines:
        there = shown.get((line.tx_hash, line.log_index))
        if there is not None and there.block_hash == line.block_hash:
            block: BlockRef | None = read.block_of(there)
        else:
            (block,) = await reader.headers([line.block_number])
        found += judge.stands_on_chain(settlement_id, line, there, block)
    return found


# -- two databases -----------------------------------------------------------------------------------------------------


async def same_outcome(one: Database, other: Database) -> list[Violation]:
    """I5: what two runs over the same chain came to, however often either was killed."""
    async with one.read() as conn:
        here = await outcome(conn)
    async with other.read() as conn:
        there = await outcome(conn)
    found: list[Violation] = []
    for table, rows in here.tables.items():
        mine, theirs = Counter(map(repr, rows)), Counter(map(repr, there.tables[table]))
        for whose, only in (("the first", mine - theirs), ("the second", theirs - mine)):
            if only:
                some = "; ".join(list(only.elements())[:SHOWN_MAX])
                detail = f"{only.total()} rows are only in {whose}: {some}"
                found.append(Violation(invariant=Invariant.I5, subject=table, detail=detail))
    return found
