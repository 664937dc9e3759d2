"""The shapes of JSON-RPC and of the answers that reading a chain takes, as msgspec structs. No meaning, only shape.

Logs go bytes -> struct -> `Transfer`; web3.py's formatters and dicts cost fifty times that and stay off this path.
Unknown fields are ignored (chains add their own); a missing or mistyped one fails the decoding.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec


class WireHeader(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """`eth_getBlockByNumber(…, false)`, as far as following a chain needs it."""

    number: str
    hash: str
    parent_hash: str
    timestamp: str
    logs_bloom: str | None = None
    """Believed only where it is asked for (`chains.bloom`)."""


class WireTopics(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A log's topics, of which there are at most four. No tuple: a hundred thousand of those keep the collector of
    garbage busy. `UNSET`: it has not so many.
    """

    kind: str | msgspec.UnsetType = msgspec.UNSET
    """The topic0: of which event it is."""
    second: str | msgspec.UnsetType = msgspec.UNSET
    third: str | msgspec.UnsetType = msgspec.UNSET
    fourth: str | msgspec.UnsetType = msgspec.UNSET

    def __iter__(self) -> Iterator[str]:
        for topic in (self.kind, self.second, self.third, self.fourth):
            if topic is msgspec.UNSET:
                return
            yield topic


class WireLog(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """One entry of `eth_getLogs`. A pending log has `null` for its block and so fails the decoding."""

    address: str
    topics: WireTopics
    data: str
    block_number: str
    block_hash: str
    transaction_hash: str
    log_index: str
    removed: bool = False


class WireListing(WireHeader, frozen=True, gc=False, kw_only=True, rename="camel"):
    """A header with the hashes of its transactions: what the receipts of the block must be complete to."""

    transactions: tuple[str, ...]


class WireLogReceipt(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """`eth_getTransactionReceipt`, or an entry of `eth_getBlockReceipts`, as far as its logs need it.

    `chains.proof.wire` has what is hashed.
    """

    transaction_hash: str
    block_hash: str
    logs: tuple[WireLog, ...]
    status: str | None = None
    """Missing before Byzantium."""


class WireError(msgspec.Struct, frozen=True):
    """The `error` member, by its usual shape."""

    message: str = ""
    code: int | float | str | None = None
    data: msgspec.Raw = msgspec.Raw()


class WireReply(msgspec.Struct, frozen=True):
    """One reply. `result` is undecoded: empty when the member is missing, `null` when it is null."""

    id: int | float | str | None = None
    result: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()


HEADER: msgspec.json.Decoder[WireHeader | None] = msgspec.json.Decoder(WireHeader | None)
LISTING: msgspec.json.Decoder[WireListing | None] = msgspec.json.Decoder(WireListing | None)
LOG_RECEIPTS: msgspec.json.Decoder[list[WireLogReceipt] | None] = msgspec.json.Decoder(list[WireLogReceipt] | None)
LOG_RECEIPT: msgspec.json.Decoder[WireLogReceipt | None] = msgspec.json.Decoder(WireLogReceipt | None)
LOGS: msgspec.json.Decoder[list[WireLog]] = msgspec.json.Decoder(list[WireLog])
TEXT: msgspec.json.Decoder[str] = msgspec.json.Decoder(str)
ANYTHING: msgspec.json.Decoder[object] = msgspec.json.Decoder(object)
