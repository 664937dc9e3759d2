"""Breaks between the chain and the records, as `settler rescan` and `settler reconcile` show them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from settler.cli.text import Columns, print_list

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chains.model import Address, Token
    from settler.domain.reconciling import Break

COLUMNS: Columns = {
    "chain": lambda b: b["chain"],
    "break": lambda b: b["kind"],
    "block": lambda b: b["block_number"],
    "tx hash": lambda b: b["tx_hash"],
    "log": lambda b: b["log_index"],
    "address": lambda b: b["address"],
    "token": lambda b: b["token"],
    "amount": lambda b: b["amount"],
    "transfer": lambda b: b["transfer_id"],
    "detail": lambda b: b["detail"],
    "remedy": lambda b: b["remedy"],
}


def break_view(found: Break, tokens: Mapping[Address, Token]) -> dict[str, Any]:
    """`tokens`: of the chain, by address."""
    from chains.address import to_checksum
    from settler.domain.money import format_amount
    from settler.domain.views import hex_text

    token = None if found.token is None else tokens.get(found.token)
    amount = found.amount_base

    def hexed(value: bytes | None, write: Callable[[Any], str] = hex_text) -> str | None:
        return None if value is None else write(value)

    return {
        "kind": found.kind.value,
        "chain": found.chain,
        "block_number": found.block_number,
        "tx_hash": hexed(found.tx_hash),
        "log_index": found.log_index,
        "address": hexed(found.address, to_checksum),
        "token": None if token is None else token.symbol,
        "token_address": hexed(found.token, to_checksum),
        "amount": None if amount is None or token is None else format_amount(amount, token.decimals),
        "amount_base": None if amount is None else str(amount),
        "transfer_id": found.transfer_id,
        "detail": found.detail,
        "remedy": found.remedy,
    }


def print_breaks(breaks: Sequence[Mapping[str, Any]]) -> None:
    """A table; nothing where there are none."""
    if breaks:
        print_list(breaks, COLUMNS, as_json=False, nothing="")
