"""Objects of the pure core for tests: a sensible default for every field, and only what matters to the test named."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from chains.model import Address, BaseUnits, BlockHash, BlockNumber, ChainId, Token, TransferIdentity, TxHash
from settler.domain.ids import InvoiceId, SettlementId, TransferId
from settler.domain.invoices import (
    Allocation,
    Invoice,
    InvoiceStatus,
    Match,
    Option,
    TransferRecord,
    TransferStatus,
)
from settler.domain.records import Settlement, SettlementLine

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
EXPIRES = T0 + timedelta(hours=1)
MONITORED = EXPIRES + timedelta(days=1)
CHAIN = ChainId(8453)
OTHER_CHAIN = ChainId(1)
USDC = Address(b"\x0c" * 20)
DAI = Address(b"\x0d" * 20)
SHOP = Address(b"\x05" * 20)
PAYER = Address(b"\xaa" * 20)
_numbers = itertools.count(1)


def a_token(symbol: str = "USDC", *, decimals: int = 6, **changes: Any) -> Token:
    made = Token(chain_id=CHAIN, symbol=symbol, address=USDC, decimals=decimals, currency="USD")
    return replace(made, **changes)


def an_option(**changes: Any) -> Option:
    made = Option(
        index=0,
        chain="base",
        chain_id=CHAIN,
        token="USDC",
        token_address=USDC,
        decimals=6,
        pay_to=SHOP,
        match=Match.ADDRESS,
        amount_base=BaseUnits(100_000_000),
        tail_base=BaseUnits(0),
        from_block=None,
    )
    return replace(made, **changes)


def an_invoice(*options: Option, **changes: Any) -> Invoice:
    """Of 100.00 USD, in millionths, open, to be paid within the hour."""
    made = Invoice(
        id=InvoiceId(f"inv_{next(_numbers):026d}"),
        merchant="default",
        reference="order-42",
        status=InvoiceStatus.PENDING,
        exceptions=frozenset(),
        currency="USD",
        amount=100_000_000,
        scale=6,
        options=options or (an_option(),),
        created_at=T0,
        expires_at=EXPIRES,
        monitoring_until=MONITORED,
        settled_at=None,
        settlement_id=None,
        metadata={},
        version=1,
        pay_token=f"{next(_numbers):026d}",
    )
    return replace(made, **changes)


def an_identity(**changes: Any) -> TransferIdentity:
    made = TransferIdentity(
        chain_id=CHAIN,
        tx_hash=TxHash(next(_numbers).to_bytes(32)),
        token=USDC,
        sender=PAYER,
        recipient=SHOP,
        amount=BaseUnits(100_000_000),
        ordinal=0,
    )
    return replace(made, **changes)


def a_transfer(amount: int = 100_000_000, **changes: Any) -> TransferRecord:
    """Final, in time. Names of the identity's fields may be given beside those of the record."""
    of_identity = {name: changes.pop(name) for name in list(changes) if name in TransferIdentity.__slots__}
    n = next(_numbers)
    made = TransferRecord(
        id=TransferId(f"trf_{n:026d}"),
        identity=an_identity(amount=BaseUnits(amount), **of_identity),
        decimals=18 if of_identity.get("token") == DAI else 6,
        status=TransferStatus.FINAL,
        block_number=BlockNumber(1_000),
        block_hash=BlockHash(b"\xb0" * 32),
        block_time=T0 + timedelta(minutes=1),
        log_index=n,
        allocation=Allocation.UNMATCHED,
        reason=None,
        invoice_id=None,
        evidence={},
        recorded_at=T0 + timedelta(minutes=1),
        final_at=T0 + timedelta(minutes=2),
        version=1,
    )
    return replace(made, **changes)


def a_line(transfer: TransferRecord, **changes: Any) -> SettlementLine:
    """All of the transfer is settled, nothing is surplus."""
    i = transfer.identity
    made = SettlementLine(
        transfer_id=transfer.id,
        chain="base",
        chain_id=i.chain_id,
        token="USDC",
        token_address=i.token,
        decimals=transfer.decimals,
        amount_settled=i.amount,
        amount_surplus=BaseUnits(0),
        tx_hash=i.tx_hash,
        log_index=transfer.log_index,
        block_number=transfer.block_number,
        block_hash=transfer.block_hash,
        payer=i.sender,
        pay_to=i.recipient,
    )
    return replace(made, **changes)


def a_settlement(invoice: Invoice, *lines: SettlementLine, **changes: Any) -> Settlement:
    """In force, of all that is due."""
    made = Settlement(
        id=SettlementId(f"stl_{next(_numbers):026d}"),
        invoice_id=invoice.id,
        generation=1,
        merchant=invoice.merchant,
        reference=invoice.reference,
        currency=invoice.currency,
        scale=invoice.scale,
        amount_requested=invoice.amount,
        amount_settled=invoice.amount,
        amount_surplus=0,
        policy={"finality": {"base": "finalized"}},
        settled_at=EXPIRES,
        lines=lines,
        reversal=None,
    )
    return replace(made, **changes)
