"""Carries out what `assess` says of invoices: transitions, settlements, ledger entries, holds and events, in the
caller's transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from chains.model import ChainId
from settler.domain import ledger
from settler.domain.events import EventType
from settler.domain.finality import Tier
from settler.domain.ids import InvoiceId, SettlementId, TransferId, derived_id
from settler.domain.invoices import (
    Allocation,
    Invoice,
    InvoiceStatus,
    TransferRecord,
    TransferStatus,
    UnmatchedReason,
)
from settler.domain.lifecycle import advance
from settler.domain.money import FINEST_SCALE, format_amount, rescale_down
from settler.domain.records import Settlement, SettlementLine
from settler.domain.refunding import detached
from settler.domain.settlement import (
    Flags,
    Hold,
    Outcome,
    Processing,
    Settle,
    SettledPart,
    assess,
    at_stake,
    received,
    settle_as_it_is,
    settled_amount,
)
from settler.stages.recording import Recorded
from settler.stages.setup import Judgement
from settler.stages.turns import in_turns
from settler.storage import evidence, holds, invoices, reading, refunds, settlements, transfers
from settler.storage import ledger as ledger_store
from settler.storage.chains import ChainState
from settler.storage.reading import Surroundings

TIER = "tier"
"""Where the evidence of a payment that is final by a tier says by which: the amount it reaches to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessed:
    """What came of it."""

    changed: tuple[Invoice, ...] = ()
    settled: tuple[Settlement, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verdict:
    invoice: Invoice
    transfers: Sequence[TransferRecord]
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settled:
    """What was settled, and what that left of invoices' payments."""

    made: Mapping[InvoiceId, Settlement]
    left: Set[TransferId] = frozenset()
    """Payments that went from the invoice to suspense."""


async def assess_invoices(
    conn: AsyncConnection,
    ids: Iterable[InvoiceId],
    judgement: Judgement,
    *,
    now: datetime,
    recorded: Recorded | None = None,
) -> Assessed:
    """Looks at each invoice anew and writes what changed. Invoices that are settled or canceled are left alone.

    `recorded`: what this transaction recorded just now; what it read and locked for that is not read again.
    """
    wanted = set(ids)
    locked = {} if recorded is None else {i: recorded.locked[i] for i in wanted if i in recorded.locked}
    others = await invoices.get_many(conn, wanted - locked.keys(), lock=True)
    found = {**locked, **others}
    open_ = [
        found[id_] for id_ in sorted(found) if found[id_].status not in (InvoiceStatus.SETTLED, InvoiceStatus.CANCELED)
    ]
    if not open_:
        return Assessed()
    around = None if recorded is None or others else recorded.around
    if around is None:
        around = await reading.surroundings(conn)
    states = around.states
    paid = await transfers.of_invoices(conn, [i.id for i in open_])
    await _detach_refunded(conn, [i for i in open_ if i.status is InvoiceStatus.REVERSED], paid, now)
    stopped = await holds.stopped(conn, [i.id for i in open_])
    flags = await evidence.flags(conn, [t for i in open_ for t in paid[i.id] if t.is_final])
    verdicts = [
        _Verdict(
            invoice=i,
            transfers=paid[i.id],
            outcome=_outcome(
                i,
                _counted(i, paid[i.id], states, judgement),
                states,
                judgement,
                stopped.get(i.id, holds.Stopped()),
                flags,
            ),
        )
        async for i in in_turns(open_)
    ]
    settled = await _settle(conn, verdicts, around, judgement, now)
    made = settled.made
    changed: list[Invoice] = []
    told: list[tuple[Invoice, EventType]] = []
    for v in verdicts:
        step = advance(v.invoice, v.outcome)
        if not step.changes(v.invoice):
            continue
        settlement = made.get(v.invoice.id)
        after = replace(
            v.invoice,
            status=step.status,
            exceptions=step.exceptions,
            settled_at=v.invoice.settled_at if settlement is None else now,
            settlement_id=v.invoice.settlement_id if settlement is None else settlement.id,
            version=v.invoice.version + 1,
        )
        changed.append(after)
        told += [(after, event) for event in step.events]
    await invoices.save(conn, changed)
    await holds.place(
        conn,
        [(v.invoice.id, stop) for v in verdicts if isinstance(v.outcome, Hold) for stop in v.outcome.stops],
        now=now,
    )
    for id_ in made:
        paid[id_] = [t for t in paid[id_] if t.id not in settled.left]
    await reading.tell_of_invoices_at_hand(conn, told, paid=paid, settled=made, around=around, now=now)
    return Assessed(changed=tuple(changed), settled=tuple(made.values()))


async def settle_by_hand(
    conn: AsyncConnection,
    invoice: Invoice,
    paid: Sequence[TransferRecord],
    judgement: Judgement,
    *,
    marked: Mapping[str, object],
    now: datetime,
) -> Settlement:
    """Settles an invoice, whose row is locked, with the payments it has, all final: an operator says it is paid.

    `marked`: who and why, kept with the settlement's policy.
    """
    around = await reading.surroundings(conn)
    outcome = settle_as_it_is(invoice, [t for t in paid if t.is_final], judgement.policy)
    verdict = _Verdict(invoice=invoice, transfers=paid, outcome=outcome)
    made = (await _settle(conn, [verdict], around, judgement, now, marked=marked)).made[invoice.id]
    after = replace(
        invoice,
        status=InvoiceStatus.SETTLED,
        exceptions=outcome.exceptions,
        settled_at=now,
        settlement_id=made.id,
        version=invoice.version + 1,
    )
    await invoices.save(conn, [after])
    await reading.tell_of_invoices(conn, [(after, EventType.INVOICE_SETTLED)], now=now)
    return made


async def _detach_refunded(
    conn: AsyncConnection,
    reversed_: Sequence[Invoice],
    paid: dict[InvoiceId, list[TransferRecord]],
    now: datetime,
) -> None:
    """Takes off reversed invoices, also in `paid`, the payments whose surplus was sent back: what is left of them is
    less than they say, and would settle as the whole.
    """
    sent_back = await refunds.of_transfers(conn, [t.id for i in reversed_ for t in paid[i.id]])
    gone = [detached(t) for i in reversed_ for t in paid[i.id] if t.id in sent_back]
    await transfers.save(conn, gone)
    live = [(t, EventType.TRANSFER_UNMATCHED) for t in gone if t.is_canonical]
    await reading.tell_of_transfers(conn, live, now=now)
    for i in reversed_:
        paid[i.id] = [t for t in paid[i.id] if t.id not in sent_back]


def _outcome(
    invoice: Invoice,
    paid: Sequence[TransferRecord],
    states: Mapping[ChainId, ChainState],
    judgement: Judgement,
    stopped: holds.Stopped,
    flags: Flags,
) -> Outcome:
    outcome = assess(
        invoice,
        paid,
        scanned_to=_scanned_to(invoice, states),
        policy=judgement.policy,
        flags=flags,
        standing=stopped.standing,
        released=stopped.released,
    )
    if isinstance(outcome, Settle) and any(states[p.transfer.identity.chain_id].is_halted for p in outcome.parts):
        # nothing settles from a halted chain, also not through a payment on another one
        return Processing(exceptions=outcome.exceptions)
    return outcome


def _scanned_to(invoice: Invoice, states: Mapping[ChainId, ChainState]) -> datetime | None:
    """Up to which block time all chains of the invoice are read; `None` if one is not read at all."""
    times = [states[o.chain_id].scanned_time if o.chain_id in states else None for o in invoice.options]
    read = [t for t in times if t is not None]
    return min(read) if len(read) == len(times) else None


async def _settle(
    conn: AsyncConnection,
    verdicts: Sequence[_Verdict],
    around: Surroundings,
    judgement: Judgement,
    now: datetime,
    *,
    marked: Mapping[str, object] | None = None,
) -> _Settled:
    paid = [(v, v.outcome) for v in verdicts if isinstance(v.outcome, Settle)]
    if not paid:
        return _Settled(made={})
    generations = await settlements.generations(conn, [v.invoice.id for v, _ in paid])
    made = {
        v.invoice.id: _settlement(
            v.invoice, outcome.parts, generations.get(v.invoice.id, 0) + 1, around, judgement, now
        )
        async for v, outcome in in_turns(paid)
    }
    if marked is not None:
        made = {id_: replace(s, policy={**s.policy, "marked": dict(marked)}) for id_, s in made.items()}
    await settlements.add(conn, list(made.values()))
    await ledger_store.post(
        conn,
        [
            (
                ledger.EntryKind.SETTLEMENT,
                made[v.invoice.id].id,
                ledger.settlement(made[v.invoice.id].id, outcome.parts),
            )
            for v, outcome in paid
            if outcome.parts
        ],
        now=now,
    )
    left = [t for v, outcome in paid for t in _left_over(v, outcome)]
    await transfers.save(conn, left)
    await reading.tell_of_transfers(conn, [(t, EventType.TRANSFER_UNMATCHED) for t in left], now=now, around=around)
    told = [(s, EventType.SETTLEMENT_CREATED) for s in made.values()]
    await reading.tell_of_settlements(conn, told, now=now, around=around)
    return _Settled(made=made, left={t.id for t in left})


def _left_over(verdict: _Verdict, outcome: Settle) -> list[TransferRecord]:
    """Payments the settlement does not rest on: they came after it was paid, are not final yet, or are late and not
    accepted. They go to suspense, as they would have had they been seen only now.
    """
    used = {p.transfer.id for p in outcome.parts}
    return [
        replace(
            t,
            allocation=Allocation.UNMATCHED,
            reason=UnmatchedReason.SURPLUS,
            invoice_id=None,
            evidence={
                "candidates": [verdict.invoice.id],
                **({"labels": t.evidence["labels"]} if "labels" in t.evidence else {}),
            },
            version=t.version + 1,
        )
        for t in verdict.transfers
        if t.is_canonical and t.id not in used
    ]


def _settlement(
    invoice: Invoice,
    parts: Sequence[SettledPart],
    generation: int,
    around: Surroundings,
    judgement: Judgement,
    now: datetime,
) -> Settlement:
    settled = settled_amount(invoice, parts)
    return Settlement(
        id=SettlementId(derived_id("stl", now, invoice.id, generation)),
        invoice_id=invoice.id,
        generation=generation,
        merchant=invoice.merchant,
        reference=invoice.reference,
        currency=invoice.currency,
        scale=invoice.scale,
        amount_requested=invoice.amount,
        amount_settled=settled,
        amount_surplus=received(invoice, [p.transfer for p in parts]) - settled,
        policy=_policy(parts, around, judgement),
        settled_at=now,
        lines=tuple(_line(p, around) for p in parts),
        reversal=None,
    )


def _policy(parts: Sequence[SettledPart], around: Surroundings, judgement: Judgement) -> dict[str, Any]:
    """What was applied on each chain: `{"finality": {"base": "finalized"}, "quorum": {"base": 2}, …}`; where a tier
    was, that, and the amount it reaches to: `{"finality": {"base": "2"}, "tier": {"base": "50.00"}, …}`.
    """
    applied: dict[str, Any] = {"version": judgement.version} if judgement.version else {}
    for name in sorted({around.states[p.transfer.identity.chain_id].name for p in parts}):
        for what, value in judgement.reading.get(name, {}).items():
            applied.setdefault(what, {})[name] = value
    for t in (p.transfer for p in parts):
        name = around.states[t.identity.chain_id].name
        tier = _tier(t, around.states, judgement)
        if tier is not None:
            applied.setdefault("finality", {})[name] = str(tier.policy)
            applied.setdefault("tier", {})[name] = format_amount(tier.up_to, FINEST_SCALE)
    return applied


def _tier(t: TransferRecord, states: Mapping[ChainId, ChainState], judgement: Judgement) -> Tier | None:
    """The tier by which a final payment is so above the final height; `None` for one that the chain made final."""
    state = states[t.identity.chain_id]
    if not t.is_final or state.settled_number is None or t.block_number <= state.settled_number:
        return None
    tiers = judgement.tiers.get(state.name, ())
    return next((tier for tier in tiers if str(tier.up_to) == t.evidence.get(TIER)), None)


def _counted(
    invoice: Invoice, paid: Sequence[TransferRecord], states: Mapping[ChainId, ChainState], judgement: Judgement
) -> list[TransferRecord]:
    """The payments, those that are final by a tier alone as provisional where more is at stake than it takes by now."""
    counted = []
    for t in paid:
        settled = states[t.identity.chain_id].settled_number
        if t.is_final and settled is not None and t.block_number > settled:
            tier = _tier(t, states, judgement)
            if tier is None or at_stake(invoice, paid) > rescale_down(tier.up_to, invoice.scale):
                counted.append(replace(t, status=TransferStatus.DETECTED))
                continue
        counted.append(t)
    return counted


def _line(part: SettledPart, around: Surroundings) -> SettlementLine:
    t = part.transfer
    return SettlementLine(
        transfer_id=t.id,
        chain=around.states[t.identity.chain_id].name,
        chain_id=t.identity.chain_id,
        token=around.tokens[t.identity.chain_id, t.identity.token].symbol,
        token_address=t.identity.token,
        decimals=t.decimals,
        amount_settled=part.settled,
        amount_surplus=part.surplus,
        tx_hash=t.identity.tx_hash,
        log_index=t.log_index,
        block_number=t.block_number,
        block_hash=t.block_hash,
        payer=t.identity.sender,
        pay_to=t.identity.recipient,
    )
