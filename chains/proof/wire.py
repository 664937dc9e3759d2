"""The shapes of the two answers a proof is made from, as msgspec structs. No meaning, only shape.

Of a receipt only what is hashed is decoded, and the transaction hash. Of a block everything is, since a field that is
not known has to be named.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import msgspec

WireBlock: TypeAlias = Mapping[str, object]
"""`eth_getBlockByNumber(…, false)` or `eth_getBlockByHash`."""


class WireReceiptLog(msgspec.Struct, frozen=True, gc=False):
    address: str
    topics: tuple[str, ...]
    data: str


class WireReceipt(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """One entry of `eth_getBlockReceipts`."""

    transaction_hash: str
    cumulative_gas_used: str
    logs_bloom: str
    logs: tuple[WireReceiptLog, ...]
    type: str | None = None
    """Missing from nodes that know legacy transactions only."""
    status: str | None = None
    root: str | None = None
    """Before Byzantium, the state after the transaction, in place of a status."""
    deposit_nonce: str | None = None
    deposit_receipt_version: str | None = None
    base_fee: str | None = None
    sender: str | None = msgspec.field(default=None, name="from")


BLOCK: msgspec.json.Decoder[dict[str, object] | None] = msgspec.json.Decoder(dict[str, object] | None)
RECEIPTS: msgspec.json.Decoder[list[WireReceipt] | None] = msgspec.json.Decoder(list[WireReceipt] | None)
