"""Records that money was sent back, as the chain shows it: the daemon holds no keys and sends nothing itself.

    any provider    in which block the transaction stands, and that it did not fail
    a quorum        the settled height still stands, and what the token's logs in that block are
    one transaction the refund, its ledger entry, what becomes of the payment, the audit log

A refund may be recorded once its block is at or below the settled height: as final as the payment it gives back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from chains.errors import BlockNotFound, ChainError, NodeInconsistent
from chains.model import BlockNumber, BlockSpan, LogQuery, Transfer, TxHash
from chains.pool import Pool
from chains.quorum import gist
from chains.transactions import Mined
from settler.clock import Clock
from settler.domain import ledger
from settler.domain.errors import Conflict, NotFound
from settler.domain.events import EventType
from settler.domain.ids import InvoiceId, TransferId
from settler.domain.invoices import Allocation, TransferRecord
from settler.domain.operator import By
from settler.domain.records import Refund
from settler.domain.refunding import Refundable, after_refund, refund, refundable, returned
from settler.stages.agreement import Agreement, agreed_headers
from settler.stages.assessing import assess_invoices
from settler.stages.operating import lock_invoice
from settler.stages.setup import ChainSetup, Judgement
from settler.storage import chains, holds, invoices, operator_actions, reading, refunds, settlements, transfers
from settler.storage import ledger as ledger_store
from settler.storage.chains import ChainState
from settler.storage.engine import Database


class Locator(Protocol):
    """One provider that says where a transaction stands; `chains.transactions.Transactions` is one."""

    async def find(self, tx_hash: TxHash) -> Mined | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Refunded:
    refund: Refund
    payment: TransferRecord
    """As it is now."""
    left_base: int
    """What may still be sent back of it."""


class Refunding:
    """Of one chain."""

    def __init__(
        self,
        *,
        chain: ChainSetup,
        pool: Pool,
        locators: Sequence[Locator],
        db: Database,
        clock: Clock,
        judgement: Judgement,
    ) -> None:
        self._chain = chain
        self._pool = pool
        self._locators = locators
        self._db = db
        self._clock = clock
        self._judgement = judgement

    async def record(
        self, id_: TransferId, tx_hash: TxHash, *, log_index: int | None, who: str, reason: str
    ) -> Refunded:
        """Records that `tx_hash` sent money of this payment back. `log_index`: by which of its logs.

        Raises `NotFound`, `Conflict` (in it: not final yet, and from which block on it is), `ChainError`,
        `StorageUnavailable`. Recorded once, it is a `Conflict` again.
        """
        async with self._db.read() as conn:
            payment = await _payment(conn, id_)
            await _refundable(conn, payment)
            state = await chains.get(conn, self._chain.chain_id)
        assert state is not None, "a payment's chain has a row"
        mined = await self._mined(tx_hash)
        _refuse_unsettled(mined.block_number, state)
        shown = await self._shown(mined, payment, state)
        async with self._db.read() as conn:
            ours = await refunds.ours(conn, (t.identity.recipient for t in shown if t.identity.tx_hash == tx_hash))
        sent = returned(payment, shown, tx_hash, ours=ours, log_index=log_index)
        async with self._db.write() as conn:
            return await self._write(conn, id_, sent, By(who=who, reason=reason, now=self._clock.now()))

    # -- what the chain shows ------------------------------------------------------------------------------------------

    async def _mined(self, tx_hash: TxHash) -> Mined:
        """Raises `Conflict` if no provider has it in a block, or it failed; `ChainError` if none could say."""
        errors: list[ChainError] = []
        for locator in self._locators:
            try:
                found = await locator.find(tx_hash)
            except ChainError as error:
                errors.append(error)
                continue
            if found is None:
                continue
            if found.has_failed:
                raise Conflict("tx", f"0x{tx_hash.hex()} failed: it sent nothing; give the one that succeeded")
            return found
        if len(errors) == len(self._locators):
            raise errors[0]
        raise Conflict(
            "tx", f"0x{tx_hash.hex()} is in no block of {self._chain.name} yet; check the hash, or try again later"
        )

    async def _shown(self, mined: Mined, payment: TransferRecord, state: ChainState) -> Sequence[Transfer]:
        """The token's transfers in that block, as a quorum reads them on the chain that we settled."""
        assert state.settled_number is not None, "checked before"
        quorum = self._chain.quorum
        (settled,) = await agreed_headers(self._pool, [state.settled_number], quorum=quorum)
        if settled is None:
            raise BlockNotFound(
                f"the providers have no block {state.settled_number}, which is settled: they are behind"
            )
        if settled.hash != state.settled_hash:
            raise NodeInconsistent(f"the providers show another block at the settled height {state.settled_number}")
        number = mined.block_number
        query = LogQuery(tokens=frozenset([payment.identity.token]), recipients=None)
        asked = Agreement(
            self._pool,
            lambda reader: reader.read_span(BlockSpan(first=number, last=number), query),
            quorum=quorum,
            gist=gist,
            what=f"block {number}",
            reaching=number,
        )
        return (await asked.reached()).value.transfers

    # -- the books -----------------------------------------------------------------------------------------------------

    async def _write(self, conn: AsyncConnection, id_: TransferId, sent: Transfer, by: By) -> Refunded:
        """Everything is looked at again: by now the chain is locked, and nobody moves the payment."""
        payment, state = await self._locked(conn, id_)
        _refuse_unsettled(sent.block_number, state)
        may = await _refundable(conn, payment)
        await _refuse_known(conn, sent)
        made = refund(payment, may, sent, now=by.now, who=by.who, reason=by.reason)
        await refunds.add(conn, made)
        lines = ledger.refund(payment, made.amount, made.settlement_id)
        await ledger_store.post(conn, [(ledger.EntryKind.REFUND, made.id, lines)], now=by.now)
        every = (await refunds.of_transfers(conn, [id_]))[id_]
        after = after_refund(payment, may, every)
        await transfers.save(conn, [after])
        if may.leaves_invoice and payment.invoice_id is not None:
            if after.allocation is Allocation.UNMATCHED:
                await reading.tell_of_transfers(conn, [(after, EventType.TRANSFER_UNMATCHED)], now=by.now)
            await _release_holds_on(conn, payment, payment.invoice_id, by)
            await assess_invoices(conn, [payment.invoice_id], self._judgement, now=by.now)
        await operator_actions.add(
            conn,
            action="transfer.refund",
            object_id=id_,
            who=by.who,
            reason=by.reason,
            now=by.now,
            detail={"refund_id": made.id, "tx_hash": f"0x{made.tx_hash.hex()}", "amount_base": str(made.amount)},
        )
        return Refunded(refund=made, payment=after, left_base=may.left - made.amount)

    async def _locked(self, conn: AsyncConnection, id_: TransferId) -> tuple[TransferRecord, ChainState]:
        before = await _payment(conn, id_)
        if before.invoice_id is None:
            state = await chains.lock(conn, self._chain.chain_id)
        else:
            state = (await lock_invoice(conn, before.invoice_id, [self._chain.chain_id])).states[self._chain.chain_id]
        payment = await _payment(conn, id_)
        if payment.invoice_id != before.invoice_id:
            raise Conflict("transfer", f"{id_} was allocated to another invoice meanwhile; look at it and try again")
        return payment, state


async def _payment(conn: AsyncConnection, id_: TransferId) -> TransferRecord:
    found = await transfers.get(conn, id_)
    if found is None:
        raise NotFound(f"there is no transfer {id_}")
    return found


async def _refundable(conn: AsyncConnection, payment: TransferRecord) -> Refundable:
    """Raises `Conflict` where nothing of it may be sent back."""
    invoice = None if payment.invoice_id is None else await invoices.get(conn, payment.invoice_id)
    settlement = None
    if invoice is not None and invoice.settlement_id is not None:
        settlement = await settlements.get(conn, invoice.settlement_id)
    known = await refunds.of_transfers(conn, [payment.id])
    return refundable(payment, invoice, settlement, known.get(payment.id, ()))


async def _release_holds_on(conn: AsyncConnection, payment: TransferRecord, invoice_id: InvoiceId, by: By) -> None:
    """What stopped the invoice because of this payment stops it no more: the payment is gone."""
    for hold in await holds.of_invoice(conn, invoice_id):
        if hold.stands and hold.stop.transfer_id == payment.id:
            why = f"{payment.id} was sent back: {by.reason}"
            await holds.release(conn, replace(hold, released_at=by.now, released_by=by.who, release_reason=why))


async def _refuse_known(conn: AsyncConnection, sent: Transfer) -> None:
    i = sent.identity
    known = await refunds.at(conn, i.chain_id, i.tx_hash, sent.log_index)
    if known is not None:
        raise Conflict(
            "tx",
            f"log {sent.log_index} of 0x{i.tx_hash.hex()} is recorded already, as {known.id} of {known.transfer_id}",
        )


def _refuse_unsettled(number: BlockNumber, state: ChainState) -> None:
    if state.is_halted:
        raise Conflict("chain", f"{state.name} is halted; resume it first")
    if state.settled_number is None or number > state.settled_number:
        raise Conflict(
            "tx",
            f"it is in block {number} and not final yet: {state.name} is settled up to {state.settled_number}; "
            f"try again after block {number}",
        )
