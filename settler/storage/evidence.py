"""What each final payment rests on: who gave its log, and the proof that it is in its block."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Text, cast, select
from sqlalchemy.ext.asyncio import AsyncConnection

from chains.model import BlockHash, TransferIdentity
from settler.domain.ids import TransferId
from settler.domain.invoices import TransferRecord
from settler.domain.records import Settlement, SettlementLine
from settler.domain.settlement import Flags, HoldReason
from settler.storage import schema, transfers
from settler.storage.sql import chunks, is_one_of, upsert

_t = schema.payment_evidence
# Proofs are long, and what is against a payment is short and rare: only that is read. However {} is written otherwise,
# it is read too, and says nothing.
_SPEAKING_AGAINST = select(_t.c.transfer_id, _t.c.block_hash, _t.c.proof_failure, _t.c.flags).where(
    _t.c.proof_failure.is_not(None) | (cast(_t.c.flags, Text) != "{}")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentEvidence:
    sources: tuple[str, ...]
    """Providers whose readings agreed, by name. One: it had one source."""
    proof: Mapping[str, Any] | None = None
    """`chains.proof.to_json`; `None` where the chain is read without proofs, or it failed."""
    failure: str | None = None
    """Why there is no proof although there should be one."""
    flags: Mapping[HoldReason, str] = field(default_factory=dict)
    """What policies found against it, and why."""


Evidence = Mapping[TransferIdentity, PaymentEvidence]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvidence:
    evidence: PaymentEvidence
    block_hash: BlockHash
    """Of the block the payment was read in."""
    read_at: datetime


Stored = Mapping[TransferId, StoredEvidence]


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledPayment:
    """A payment that a settlement rests on."""

    line: SettlementLine
    """As it was settled, with its place at that moment."""
    transfer: TransferRecord
    """As it stands now: elsewhere, if the chain replaced its block since."""
    stored: StoredEvidence | None
    """Of the block it was settled in."""


async def add(conn: AsyncConnection, finalized: Sequence[TransferRecord], found: Evidence, *, now: datetime) -> None:
    """Keeps the evidence of payments that became final. Read again in the same block, the newer replaces the older, but
    for what spoke against it when it became final: that is an operator's to let pass.
    """
    rows = []
    for t in finalized:
        given = found[t.identity]
        rows.append(
            {
                "transfer_id": t.id,
                "block_hash": t.block_hash,
                "sources": given.sources,
                "proof": given.proof,
                "proof_failure": given.failure,
                "flags": {reason.value: why for reason, why in given.flags.items()},
                "read_at": now,
            }
        )
    await upsert(conn, _t, rows, key=["transfer_id", "block_hash"], keeping=["flags"])


async def of_payments(
    conn: AsyncConnection, payments: Iterable[tuple[TransferId, BlockHash]]
) -> dict[TransferId, StoredEvidence]:
    """By transfer, for the blocks named; those without any are left out."""
    wanted = dict(payments)
    found: dict[TransferId, StoredEvidence] = {}
    for chunk in chunks(wanted):
        for row in await conn.execute(select(_t).where(is_one_of(conn, _t.c.transfer_id, chunk))):
            if wanted[row.transfer_id] != row.block_hash:
                continue
            found[TransferId(row.transfer_id)] = StoredEvidence(
                evidence=_evidence(row),
                block_hash=BlockHash(row.block_hash),
                read_at=row.read_at,
            )
    return found


async def of_settlement(conn: AsyncConnection, settlement: Settlement) -> list[SettledPayment]:
    """What each of its payments rests on, in the order of its lines."""
    recorded = await transfers.get_many(conn, {line.transfer_id for line in settlement.lines})
    stored = await of_payments(conn, [(line.transfer_id, line.block_hash) for line in settlement.lines])
    return [
        SettledPayment(line=line, transfer=recorded[line.transfer_id], stored=stored.get(line.transfer_id))
        for line in settlement.lines
    ]


async def flags(conn: AsyncConnection, final: Iterable[TransferRecord]) -> Flags:
    """What speaks against each of the payments where it stands now; those without anything are left out."""
    places = {t.id: t.block_hash for t in final}
    found: dict[TransferId, Mapping[HoldReason, str]] = {}
    for chunk in chunks(places):
        query = _SPEAKING_AGAINST.where(is_one_of(conn, _t.c.transfer_id, chunk))
        for id_, block_hash, failure, flagged in await conn.execute(query):
            unproven = {} if failure is None else {HoldReason.PROOF_FAILED: failure}
            if places[id_] == block_hash and (unproven or flagged):
                found[TransferId(id_)] = {**_flags(flagged), **unproven}
    return found


def _evidence(row: Row[Any]) -> PaymentEvidence:
    return PaymentEvidence(
        sources=tuple(row.sources),
        proof=row.proof,
        failure=row.proof_failure,
        flags=_flags(row.flags),
    )


def _flags(stored: Mapping[str, str]) -> dict[HoldReason, str]:
    return {HoldReason(reason): why for reason, why in stored.items()}
