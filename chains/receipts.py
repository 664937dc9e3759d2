"""A block's receipts to the logs an unfiltered `eth_getLogs` of that block would have answered. Pure.

For blocks with more logs than a provider answers with, and for blocks whose logs are doubted. A receipt carries all
logs of its transaction, so completeness is checked by transactions: every one the block lists has its receipt here.

What it does not do: hold the receipts against the header's receiptsRoot (`chains.proof`), or decode a transfer
(`chains.decode`, the same for logs of either source).
"""

from __future__ import annotations

from collections.abc import Sequence

from chains.errors import NodeInconsistent
from chains.hex import read_hash
from chains.model import LogQuery
from chains.wire import WireListing, WireLog, WireLogReceipt
from contracts_abi import TRANSFER_TOPIC

_TRANSFER_TOPIC_HEX = "0x" + TRANSFER_TOPIC.hex()


def transfer_logs(block: WireListing, receipts: Sequence[WireLogReceipt], query: LogQuery) -> list[WireLog]:
    """The `Transfer` logs of the query's tokens, to anybody: recipients are matched in `chains.decode`.

    Raises `NodeInconsistent` for a receipt of another block, a log of another transaction than its receipt, a receipt
    that comes twice, and a transaction of the block without a receipt. A receipt more than the block lists is no fault:
    some chains log for the block itself (Celo) or for bridged state (Polygon).
    """
    block_hash = read_hash(block.hash, "block hash")
    had: set[bytes] = set()
    for receipt in receipts:
        if read_hash(receipt.block_hash, "receipt blockHash") != block_hash:
            raise NodeInconsistent("a receipt of another block than its header")
        tx_hash = read_hash(receipt.transaction_hash, "receipt transactionHash")
        if tx_hash in had:
            raise NodeInconsistent("two receipts of one transaction")
        had.add(tx_hash)
    missing = {read_hash(each, "block transaction") for each in block.transactions} - had
    if missing:
        raise NodeInconsistent(f"{len(missing)} of the block's {len(block.transactions)} transactions have no receipt")
    tokens = {"0x" + token.hex() for token in query.tokens}
    return [log for receipt in receipts for log in receipt.logs if _belongs(log, receipt) and _is_asked(log, tokens)]


def _belongs(log: WireLog, receipt: WireLogReceipt) -> bool:
    if log.transaction_hash.lower() != receipt.transaction_hash.lower():
        raise NodeInconsistent("a log of another transaction than its receipt")
    if log.block_hash.lower() != receipt.block_hash.lower():
        raise NodeInconsistent("a log of another block than its receipt")
    return True


def _is_asked(log: WireLog, tokens: set[str]) -> bool:
    kind = log.topics.kind
    return log.address.lower() in tokens and isinstance(kind, str) and kind.lower() == _TRANSFER_TOPIC_HEX
