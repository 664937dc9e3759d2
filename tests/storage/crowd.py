"""A database after a while in service: thousands of things that are done with, a few that are under way."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Table, insert, text
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.storage import schema
from tests.storage import samples

DONE = 2_000
OPEN = 20
CHAIN_ID = 1
NOW = datetime(2026, 6, 1, tzinfo=UTC)


def invoice_id(n: int) -> str:
    return f"inv_{n:05}"


def transfer_id(n: int) -> str:
    return f"trf_{n:05}"


def settlement_id(n: int) -> str:
    return f"stl_{n:05}"


def address(n: int) -> bytes:
    return n.to_bytes(20)


def tx_hash(n: int) -> bytes:
    return n.to_bytes(32)


async def fill(conn: AsyncConnection) -> None:
    """Number n of everything belongs to number n of everything else; `DONE` and above are under way."""
    everything, done = range(DONE + OPEN), range(DONE)
    await _add(conn, schema.chains, [{"chain_id": CHAIN_ID, "scanned_time": NOW, "scanned_number": DONE + OPEN}])
    await _add(conn, schema.tokens, [{"chain_id": CHAIN_ID}])
    await _add(conn, schema.blocks, [{"chain_id": CHAIN_ID, "number": n} for n in everything])
    await _add(conn, schema.watched_addresses, [{"address": address(n)} for n in everything])
    await _add(conn, schema.invoices, [_invoice(n) for n in everything])
    await _add(
        conn,
        schema.invoice_options,
        [{"invoice_id": invoice_id(n), "index": 0, "pay_to": address(n), "chain_id": CHAIN_ID} for n in everything],
    )
    await _add(
        conn,
        schema.amount_reservations,
        [{"chain_id": CHAIN_ID, "amount": n, "pay_to": address(n), "invoice_id": invoice_id(n)} for n in everything],
    )
    await _add(conn, schema.transfers, [_transfer(n) for n in everything])
    await _add(conn, schema.settlements, [_settlement(n) for n in done])
    await _add(
        conn,
        schema.settlement_lines,
        [{"settlement_id": settlement_id(n), "index": 0, "transfer_id": transfer_id(n)} for n in done],
    )
    await _add(conn, schema.webhook_endpoints, [{"id": "whe_1", "types": ["invoice.created"]}])
    await _add(conn, schema.events, [_event(n) for n in everything])
    await _add(conn, schema.webhook_deliveries, [_delivery(n) for n in everything])
    await _add(conn, schema.webhook_attempts, [{"delivery_id": f"dlv_{n:05}", "at": _at(n)} for n in everything])
    await _add(conn, schema.idempotency_keys, [{"key": str(n), "created_at": _at(n)} for n in everything])
    await _add(conn, schema.api_keys, [{"id": f"key_{n}", "key_hash": tx_hash(n)} for n in done])
    await _add(conn, schema.ledger_entries, [{"id": f"led_{n}", "ref": transfer_id(n)} for n in done])
    await _add(conn, schema.ledger_lines, [{"entry_id": f"led_{n}", "index": i} for n in done for i in range(2)])
    await _add(conn, schema.holds, [_hold(n) for n in done])
    await _add(
        conn,
        schema.refunds,
        [{"id": f"rfd_{n}", "transfer_id": transfer_id(n), "tx_hash": tx_hash(DONE + n)} for n in done],
    )
    if conn.dialect.name == "postgresql":
        await conn.execute(text("ANALYZE"))  # as autovacuum would; SQLite is left without, as it is in service


def _at(n: int) -> datetime:
    return NOW - timedelta(minutes=DONE + OPEN - n)


def _invoice(n: int) -> dict[str, Any]:
    row = {
        "id": invoice_id(n),
        "reference": f"order {n}",
        "merchant": f"merchant {n % 200}",
        "expires_at": _at(n),
        "pay_token": f"{n:026}",
    }
    if n < DONE:
        return row | {"status": "settled", "settled_at": _at(n), "settlement_id": settlement_id(n)}
    return row | {"status": ("pending", "processing")[n % 2], "settled_at": None, "settlement_id": None}


def _settlement(n: int) -> dict[str, Any]:
    return {"id": settlement_id(n), "invoice_id": invoice_id(n), "generation": 1, "merchant": f"merchant {n % 200}"}


def _transfer(n: int) -> dict[str, Any]:
    is_final = n < DONE
    return {
        "id": transfer_id(n),
        "chain_id": CHAIN_ID,
        "tx_hash": tx_hash(n),
        "block_number": n,
        "status": "final" if is_final else "detected",
        "allocation": "invoice",
        "invoice_id": invoice_id(n),
    }


def _event(n: int) -> dict[str, Any]:
    return {
        "id": f"evt_{n}",
        "type": "invoice.created",
        "object_id": invoice_id(n),
        "merchant": f"merchant {n % 200}",
        "is_fanned_out": n < DONE,
        "position": n + 1 if n < DONE else None,
    }


def _hold(n: int) -> dict[str, Any]:
    return {"id": f"hld_{n:05}", "invoice_id": invoice_id(n), "reason": "late", "subject": ""}


def _delivery(n: int) -> dict[str, Any]:
    row = {"id": f"dlv_{n:05}", "endpoint_id": "whe_1", "event_id": f"evt_{n}"}
    if n < DONE:
        return row | {"status": "delivered", "next_attempt_at": None}
    return row | {"status": "pending", "next_attempt_at": _at(n)}


async def _add(conn: AsyncConnection, table: Table, rows: list[dict[str, Any]]) -> None:
    await conn.execute(insert(table), [samples.row(table) | row for row in rows])
