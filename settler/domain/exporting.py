"""What is exported, column by column: one row a settlement, a ledger line or a transfer, columns safe to sum. Pure.

Whatever column of amounts or counts is summed, over the whole file or over the rows of one currency (settlements) or
of one chain and token (ledger, transfers), the sum is a true statement:

settlements   `amount_requested`, `amount_settled`, `amount_surplus`, `payment_count` are 0 where a reversal stands
              beside the settlement (as of now, whenever it came): it counts for nothing any more, and an invoice that
              was settled again counts once. What the settlement said when it was made is in the columns that end in
              `_gross`; those are for looking up, their sums count what was undone. Amounts are in units of `currency`,
              beside them. A settlement may be paid in several tokens, on several chains: these are joined by `;`, as
              are the transactions. First and last block are of one chain, and left out where there are several.
ledger        `amount` is the debit, or less the credit, in units of the token: it sums to zero per chain and token, and
              per entry. The sum of an account's rows is its balance. Reversals are entries of their own, at their own
              time: for the books of a period, take these rather than the settlements.
transfers     `amount_final` is 0 unless the transfer is final and moves money (no orphan, nothing provisional, nothing
              an address sends to itself): its sum is what the ledger has received. `amount_gross` is what the log says.

No thousands separators, no merged or repeated cells, no amount without its unit beside it. Amounts are exact: decimal
strings in CSV and JSON lines, decimals in Parquet. Times are RFC 3339 UTC; hashes and addresses 0x-hex, addresses with
their EIP-55 checksum.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import TypeAlias

from settler.domain.invoices import TransferRecord, UnmatchedReason
from settler.domain.ledger import Line, Side
from settler.domain.money import format_amount
from settler.domain.records import Settlement
from settler.domain.views import Render, caip2, hex_text

JOINT = ";"
"""Between the several values of one cell. Chain names, token symbols and hashes do not hold it."""


class What(StrEnum):
    """What may be exported."""

    SETTLEMENTS = "settlements"
    LEDGER = "ledger"
    TRANSFERS = "transfers"


class Kind(StrEnum):
    """What the values of a column are; any may be left out (`None`)."""

    ID = "id"
    """Text of our own making: an id, a hash, an address, one of a few words."""
    TEXT = "text"
    """Text of others: of merchants, operators, configuration."""
    INTEGER = "integer"
    AMOUNT = "amount"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class Amount:
    """`units` of 10**-`scale`."""

    units: int
    scale: int

    def __str__(self) -> str:
        return format_amount(self.units, self.scale)

    def decimal(self) -> Decimal:
        """Exact, however many digits: made from digits, not by arithmetic, which rounds."""
        return Decimal((int(self.units < 0), tuple(map(int, str(abs(self.units)))), -self.scale))


Cell: TypeAlias = str | int | Amount | datetime | None
Row: TypeAlias = Sequence[Cell]
"""In the order of the columns."""
Columns: TypeAlias = dict[str, Kind]

SETTLEMENTS: Columns = {
    "settlement_id": Kind.ID,
    "invoice_id": Kind.ID,
    "merchant": Kind.TEXT,
    "reference": Kind.TEXT,
    "currency": Kind.TEXT,
    "amount_requested": Kind.AMOUNT,
    "amount_settled": Kind.AMOUNT,
    "amount_surplus": Kind.AMOUNT,
    "payment_count": Kind.INTEGER,
    "settled_at": Kind.TIME,
    "reversed_at": Kind.TIME,
    "reversal_id": Kind.ID,
    "amount_requested_gross": Kind.AMOUNT,
    "amount_settled_gross": Kind.AMOUNT,
    "amount_surplus_gross": Kind.AMOUNT,
    "payment_count_gross": Kind.INTEGER,
    "generation": Kind.INTEGER,
    "chains": Kind.TEXT,
    "tokens": Kind.TEXT,
    "first_block": Kind.INTEGER,
    "last_block": Kind.INTEGER,
    "tx_hashes": Kind.ID,
    "policy": Kind.TEXT,
}
LEDGER: Columns = {
    "entry_id": Kind.ID,
    "line": Kind.INTEGER,
    "kind": Kind.ID,
    "posted_at": Kind.TIME,
    "account": Kind.ID,
    "chain": Kind.TEXT,
    "chain_id": Kind.ID,
    "token": Kind.TEXT,
    "token_address": Kind.ID,
    "amount": Kind.AMOUNT,
    "amount_base": Kind.ID,
    "transfer_id": Kind.ID,
    "invoice_id": Kind.ID,
    "settlement_id": Kind.ID,
}
TRANSFERS: Columns = {
    "transfer_id": Kind.ID,
    "chain": Kind.TEXT,
    "chain_id": Kind.ID,
    "token": Kind.TEXT,
    "token_address": Kind.ID,
    "amount_final": Kind.AMOUNT,
    "amount_gross": Kind.AMOUNT,
    "amount_gross_base": Kind.ID,
    "status": Kind.ID,
    "allocation": Kind.ID,
    "reason": Kind.ID,
    "invoice_id": Kind.ID,
    "payer": Kind.ID,
    "pay_to": Kind.ID,
    "tx_hash": Kind.ID,
    "log_index": Kind.INTEGER,
    "block_number": Kind.INTEGER,
    "block_hash": Kind.ID,
    "block_time": Kind.TIME,
    "recorded_at": Kind.TIME,
    "final_at": Kind.TIME,
}
COLUMNS: dict[What, Columns] = {What.SETTLEMENTS: SETTLEMENTS, What.LEDGER: LEDGER, What.TRANSFERS: TRANSFERS}


@dataclass(frozen=True, slots=True, kw_only=True)
class PostedLine:
    """A line of the ledger with the entry it is of."""

    entry_id: str
    index: int
    kind: str
    posted_at: datetime
    line: Line


def settlement_row(settlement: Settlement) -> Row:
    s, lines, undone = settlement, settlement.lines, settlement.reversal
    gross = [Amount(units, s.scale) for units in (s.amount_requested, s.amount_settled, s.amount_surplus)]
    nothing = Amount(0, s.scale)
    net = gross if undone is None else [nothing] * len(gross)
    heights = [line.block_number for line in lines] if len({line.chain_id for line in lines}) == 1 else []
    return (
        s.id,
        s.invoice_id,
        s.merchant,
        s.reference,
        s.currency,
        *net,
        len(lines) if undone is None else 0,
        s.settled_at,
        None if undone is None else undone.reversed_at,
        None if undone is None else undone.id,
        *gross,
        len(lines),
        s.generation,
        _joined(line.chain for line in lines),
        _joined(line.token for line in lines),
        min(heights, default=None),
        max(heights, default=None),
        _joined(hex_text(line.tx_hash) for line in lines),
        json.dumps(dict(s.policy), sort_keys=True, separators=(",", ":"), ensure_ascii=False),
    )


def ledger_row(posted: PostedLine, render: Render) -> Row:
    line = posted.line
    token = render.tokens[line.chain_id, line.token]
    signed = line.amount if line.side is Side.DEBIT else -line.amount
    return (
        posted.entry_id,
        posted.index,
        posted.kind,
        posted.posted_at,
        line.account.value,
        render.chain_names[line.chain_id],
        caip2(line.chain_id),
        token.symbol,
        render.address(line.token),
        Amount(signed, token.decimals),
        str(signed),
        line.transfer_id,
        line.invoice_id,
        line.settlement_id,
    )


def transfer_row(transfer: TransferRecord, render: Render) -> Row:
    i = transfer.identity
    counts = transfer.is_final and transfer.reason is not UnmatchedReason.IGNORED_ZERO
    return (
        transfer.id,
        render.chain_names[i.chain_id],
        caip2(i.chain_id),
        render.tokens[i.chain_id, i.token].symbol,
        render.address(i.token),
        Amount(i.amount if counts else 0, transfer.decimals),
        Amount(i.amount, transfer.decimals),
        str(i.amount),
        transfer.status.value,
        transfer.allocation.value,
        None if transfer.reason is None else transfer.reason.value,
        transfer.invoice_id,
        render.address(i.sender),
        render.address(i.recipient),
        hex_text(i.tx_hash),
        transfer.log_index,
        transfer.block_number,
        hex_text(transfer.block_hash),
        transfer.block_time,
        transfer.recorded_at,
        transfer.final_at,
    )


FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What makes a spreadsheet read a cell as a formula (https://owasp.org/www-community/attacks/CSV_Injection)."""


def guarded(text: str) -> str:
    """Text of others, made harmless for a spreadsheet by an apostrophe before it. Never for numbers."""
    return "'" + text if text.startswith(FORMULA_STARTS) else text


def time_text(time: datetime) -> str:
    """RFC 3339 UTC to the microsecond, always as wide: sorted as text, it is sorted by time."""
    return time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _joined(values: Iterable[str]) -> str:
    """Each once, in the order they come."""
    return JOINT.join(dict.fromkeys(values))
