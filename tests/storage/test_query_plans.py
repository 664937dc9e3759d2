"""What is asked every tick, for every request or for every scrape finds its rows by an index, on both databases.

Each verb is run as it is, and the database explains each statement it sent. A whole table is read only where it is
small, or where the whole of it is what is asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncConnection

from chains.model import Address, BaseUnits, BlockNumber, BlockSpan, ChainId, TransferIdentity, TxHash
from settler.domain.delivery import DeliveryId, DeliveryStatus, EndpointId
from settler.domain.ids import InvoiceId, SettlementId, TransferId
from settler.domain.invoices import InvoiceStatus
from settler.domain.ledger import EntryKind
from settler.domain.matching import Arrival
from settler.domain.operator import By
from settler.domain.settlement import InvoicePolicy
from settler.stages.operating import Operating
from settler.stages.setup import Judgement
from settler.storage import (
    api_keys,
    candidates,
    chains,
    deposits,
    feed,
    holds,
    idempotency,
    invoices,
    ledger,
    refunds,
    schema,
    settlements,
    transfers,
    watched,
    webhooks,
)
from settler.storage.engine import Database
from tests.storage import crowd
from tests.support.db import on_sqlite

CHAIN = ChainId(crowd.CHAIN_ID)
INVOICES = [InvoiceId(crowd.invoice_id(n)) for n in (7, crowd.DONE + 1)]
TRANSFERS = [TransferId(crowd.transfer_id(n)) for n in (7, 8)]
SETTLEMENTS = [SettlementId(crowd.settlement_id(n)) for n in (7, 8)]
REPLAY = webhooks.Replay(since=None, until=crowd.NOW)
SMALL = {"chains", "tokens", "webhook_endpoints", "reversals", "alembic_version", "operator_actions"}
"""Some dozens of rows at most, or, the last, only its newest row is asked for."""
PARTIAL = {
    index.name
    for table in schema.metadata.sorted_tables
    for index in table.indexes
    if index.dialect_options["sqlite"]["where"] is not None
}
"""Indexes that hold only what is under way: reading the whole of one is what is meant."""


def _identity(n: int) -> TransferIdentity:
    return TransferIdentity(
        chain_id=CHAIN,
        tx_hash=TxHash(crowd.tx_hash(n)),
        token=Address(bytes(20)),
        sender=Address(bytes(20)),
        recipient=Address(crowd.address(n)),
        amount=BaseUnits(n),
        ordinal=1,
    )


ARRIVALS = [
    Arrival(identity=_identity(n), block_number=BlockNumber(crowd.DONE + 30), block_time=crowd.NOW)
    for n in (7, crowd.DONE + 1)
]


async def _follow_watched(conn: AsyncConnection) -> object:
    """What the look before saw nearly all of, and one slice that is compared."""
    place = await watched._place(conn)
    nobody = watched.Watched(addresses=frozenset(), labelled=frozenset())
    before = watched._Known(watched=nobody, place=place._replace(low=place.high - 1))
    return (
        await watched._followed(conn, before, place._replace(high=place.high + 1)),
        await watched._slice(conn, bytes(20), bytes(19) + b"\x09"),
    )


LONG_SPAN = [replace(ARRIVALS[0], identity=_identity(n), keys=frozenset([crowd.tx_hash(n)])) for n in range(600)]
"""SQLite takes other ways where a list is long."""
CLAIMS = [idempotency.Claim(scope="x", key=f"new {n}", request_hash=bytes(32)) for n in range(64)]

Verb = Callable[[AsyncConnection], Awaitable[object]]
VERBS: dict[str, Verb] = {
    "feed.find_after": lambda c: feed.find_after(c, "evt_3", merchant="merchant 3", limit=10),
    "feed.is_behind": feed.is_behind,
    "feed.place": lambda c: feed.place(c, 10),
    "api_keys.find_live": lambda c: api_keys.find_live(c, f"{api_keys.PREFIX}x", now=crowd.NOW),
    "chains.drop_blocks": lambda c: chains.drop_blocks(c, CHAIN, below=10),
    "chains.held_blocks of a span": lambda c: chains.held_blocks(c, CHAIN, first=7, last=crowd.DONE),
    "chains.held_blocks": lambda c: chains.held_blocks(c, CHAIN, first=crowd.DONE),
    "chains.watch_addresses": lambda c: chains.watch_addresses(c, [Address(crowd.address(7))], now=crowd.NOW),
    "watched.follow": _follow_watched,
    "holds.of_invoice": lambda c: holds.of_invoice(c, INVOICES[0]),
    "holds.stopped": lambda c: holds.stopped(c, INVOICES),
    "idempotency.claim": lambda c: idempotency.claim(
        c, idempotency.Claim(scope="x", key="7", request_hash=bytes(32)), now=crowd.NOW
    ),
    "idempotency.prune": lambda c: idempotency.prune(c, crowd.NOW.replace(year=2020)),
    "invoices.cancel": lambda c: Operating(Judgement(policy=InvoicePolicy())).cancel(
        c, InvoiceId(crowd.invoice_id(crowd.DONE)), By(who="a", reason="b", now=crowd.NOW)
    ),
    "invoices.candidates": lambda c: candidates.find(c, ARRIVALS),
    "invoices.due_for_expiry": lambda c: invoices.due_for_expiry(c, 100),
    "invoices.find by reference": lambda c: invoices.find(c, reference="order 7"),
    "invoices.find by merchant": lambda c: invoices.find(c, merchant="merchant 3", before=INVOICES[1]),
    "invoices.find by status": lambda c: invoices.find(c, status=InvoiceStatus.PENDING),
    "invoices.fingerprints": lambda c: invoices.fingerprints(c, INVOICES),
    "invoices.get_by_pay_token": lambda c: invoices.get_by_pay_token(c, "0" * 26),
    "invoices.get_many": lambda c: invoices.get_many(c, INVOICES, lock=True),
    "invoices.merchants": lambda c: invoices.merchants(c, INVOICES),
    "invoices.left_unfinished": lambda c: invoices.left_unfinished(c, None, 100),
    "invoices.left_unfinished above one": lambda c: invoices.left_unfinished(c, INVOICES[1], 100),
    "ledger.entry_lines": lambda c: ledger.entry_lines(c, next(iter(EntryKind)), TRANSFERS[0]),
    "refunds.at": lambda c: refunds.at(c, CHAIN, TxHash(crowd.tx_hash(7)), 7),
    "refunds.of_transfers": lambda c: refunds.of_transfers(c, TRANSFERS),
    "settlements.find by merchant": lambda c: settlements.find(c, merchant="merchant 3"),
    "settlements.find of an invoice": lambda c: settlements.find(c, invoice_id=INVOICES[0]),
    "settlements.generations": lambda c: settlements.generations(c, INVOICES),
    "settlements.get_many": lambda c: settlements.get_many(c, SETTLEMENTS),
    "settlements.in_force_on": lambda c: settlements.in_force_on(c, TRANSFERS),
    "transfers.by_identity": lambda c: transfers.by_identity(c, [_identity(7)]),
    "transfers.canonical_above": lambda c: transfers.canonical_above(c, CHAIN, crowd.DONE),
    "transfers.detected_in": lambda c: transfers.detected_in(
        c, CHAIN, BlockSpan(first=BlockNumber(crowd.DONE), last=BlockNumber(crowd.DONE + 9))
    ),
    "transfers.has_detected": lambda c: transfers.has_detected(c, CHAIN),
    "transfers.of_invoices": lambda c: transfers.of_invoices(c, INVOICES),
    "transfers.oldest_unsettled": transfers.oldest_unsettled,
    "transfers.unmatched_counts": transfers.unmatched_counts,
    "webhooks.attempts_of": lambda c: webhooks.attempts_of(c, DeliveryId("dlv_00007"), limit=10),
    "webhooks.bury": lambda c: webhooks.bury(c, 100),
    "webhooks.claim_due": lambda c: webhooks.claim_due(c, crowd.NOW, per_endpoint=2, limit=10, lease_s=30),
    "webhooks.fan_out": lambda c: webhooks.fan_out(c, crowd.NOW, 100),
    "webhooks.find_deliveries that are dead": lambda c: webhooks.find_deliveries(c, status=DeliveryStatus.DEAD),
    "webhooks.forget_attempts": lambda c: webhooks.forget_attempts(c, crowd.NOW.replace(year=2020), limit=10),
    "webhooks.has_work": lambda c: webhooks.has_work(c, crowd.NOW),
    "webhooks.outbox_stats": lambda c: webhooks.outbox_stats(c, crowd.NOW),
    "webhooks.replay of an hour": lambda c: webhooks.replay(
        c, replace(REPLAY, since=crowd.NOW - timedelta(hours=1)), crowd.NOW, after=None, limit=10
    ),
    "webhooks.replay of an hour to one": lambda c: webhooks.replay(
        c,
        replace(REPLAY, since=crowd.NOW - timedelta(hours=1), endpoint_id=EndpointId("whe_1")),
        crowd.NOW,
        after=None,
        limit=10,
    ),
    "webhooks.replay of the dead": lambda c: webhooks.replay(
        c, replace(REPLAY, is_dead_only=True), crowd.NOW, after=None, limit=10
    ),
}


@dataclass(frozen=True, slots=True)
class Sent:
    """A statement as the driver got it."""

    sql: str
    parameters: Any


LONG: dict[str, Verb] = {
    "invoices.candidates of a long span": lambda c: candidates.find(c, LONG_SPAN),
    "invoices.offered_before": lambda c: invoices.offered_before(c, [a.identity.recipient for a in LONG_SPAN]),
    "deposits.owners": lambda c: deposits.owners(c, [a.identity.recipient for a in LONG_SPAN], now=crowd.NOW),
    "idempotency.answered": lambda c: idempotency.answered(c, CLAIMS),
    "idempotency.keep": lambda c: idempotency.keep(
        c, [(each, idempotency.StoredAnswer(status=201, body="{}")) for each in CLAIMS], now=crowd.NOW
    ),
}


@on_sqlite
async def test_long_lists__on_sqlite__are_looked_up_one_by_one(db: Database) -> None:
    """PostgreSQL rightly reads such a table whole: a list of 600 is a third of it."""
    await _check(db, LONG)


async def test_hot_verbs__in_a_full_database__find_their_rows_by_an_index(db: Database) -> None:
    await _check(db, VERBS)


async def _check(db: Database, verbs: dict[str, Verb]) -> None:
    async with db.write() as conn:
        await crowd.fill(conn)
    faults: list[str] = []
    for name, verb in verbs.items():
        async with db.write() as conn:
            with _recorded(conn) as sent:
                await verb(conn)
            for statement in sent:
                found = await (_scans_on_sqlite if db.dialect == "sqlite" else _scans_on_postgresql)(conn, statement)
                faults += [f"{name}: {scan}\n    {' '.join(statement.sql.split())}" for scan in found]
            await conn.rollback()
    assert not faults, "\n" + "\n".join(faults)


async def test_check__a_look_up_without_an_index__is_found_out(db: Database) -> None:
    """The test of the test."""
    async with db.write() as conn:
        statement = Sent("SELECT * FROM transfers WHERE log_index = 7", ())
        assert await (_scans_on_sqlite if db.dialect == "sqlite" else _scans_on_postgresql)(conn, statement)


@contextmanager
def _recorded(conn: AsyncConnection) -> Iterator[list[Sent]]:
    sent: list[Sent] = []

    def record(_conn: Connection, _cursor: Any, sql: str, parameters: Any, _context: Any, executemany: bool) -> None:
        sent.append(Sent(sql, parameters[0] if executemany else parameters))

    assert conn.sync_connection is not None
    event.listen(conn.sync_connection, "before_cursor_execute", record)
    try:
        yield sent
    finally:
        event.remove(conn.sync_connection, "before_cursor_execute", record)


async def _scans_on_sqlite(conn: AsyncConnection, statement: Sent) -> list[str]:
    """https://www.sqlite.org/eqp.html: SCAN reads all of a table or index, SEARCH some of it."""
    plan = await conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement.sql}", statement.parameters)
    scans = []
    for row in plan:
        found = re.match(r"SCAN (?P<table>\w+)(?: USING (?:COVERING )?INDEX (?P<index>\w+))?", row.detail)
        if found and _is_large(found["table"]) and found["index"] not in PARTIAL:
            scans.append(row.detail)
    return scans


async def _scans_on_postgresql(conn: AsyncConnection, statement: Sent) -> list[str]:
    plan = await conn.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement.sql}", statement.parameters)
    answer = plan.scalar_one()
    top = (json.loads(answer) if isinstance(answer, str) else answer)[0]["Plan"]
    return [
        f"{node['Node Type']} {node.get('Index Name', '')} on {node.get('Relation Name', '')}"
        for node in _nodes(top)
        if _is_scan(node)
    ]


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", []):
        yield from _nodes(child)


def _is_scan(node: dict[str, Any]) -> bool:
    if node["Node Type"] == "Seq Scan":
        return _is_large(node["Relation Name"])
    if node["Node Type"] in {"Index Scan", "Index Only Scan", "Bitmap Index Scan"}:
        is_whole = "Index Cond" not in node and node["Index Name"] not in PARTIAL
        return is_whole and _is_large(node.get("Relation Name", ""))
    return False


def _is_large(table: str) -> bool:
    return table in schema.metadata.tables and table not in SMALL
