"""`Transactions`: where a transaction stands, by one provider. For who was told a hash and has to find its block.

It says where to look and nothing more: what the block holds is read, and agreed on, by `ChainReader`.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from chains.decode import MAX_HEIGHT
from chains.errors import NodeInconsistent
from chains.hex import read_hash, read_quantity, to_hex
from chains.model import BlockHash, BlockNumber, TxHash
from chains.rpc import RpcProvider


@dataclass(frozen=True, slots=True, kw_only=True)
class Mined:
    """A transaction that is in a block."""

    block_number: BlockNumber
    block_hash: BlockHash
    has_failed: bool
    """It was reverted: nothing of what it would have done was done."""


class _WireMined(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """`eth_getTransactionReceipt`, as far as its place needs it. Null for a block: some nodes answer pending ones."""

    transaction_hash: str
    block_number: str | None = None
    block_hash: str | None = None
    status: str | None = None


_RECEIPT: msgspec.json.Decoder[_WireMined | None] = msgspec.json.Decoder(_WireMined | None)


class Transactions:
    """Of one provider. Raises `ChainError`."""

    def __init__(self, provider: RpcProvider) -> None:
        self._provider = provider

    async def find(self, tx_hash: TxHash) -> Mined | None:
        """Where the transaction stands; `None`: this provider knows of none that is mined. One call."""
        found = await self._provider.call("eth_getTransactionReceipt", [to_hex(tx_hash)], _RECEIPT)
        if found is None or found.block_number is None or found.block_hash is None:
            return None
        if read_hash(found.transaction_hash, "receipt transactionHash") != tx_hash:
            raise NodeInconsistent(f"{self._provider.name}: the receipt of another transaction than asked")
        status = 1 if found.status is None else read_quantity(found.status, "receipt status", maximum=1)
        return Mined(
            block_number=BlockNumber(read_quantity(found.block_number, "receipt blockNumber", maximum=MAX_HEIGHT)),
            block_hash=BlockHash(read_hash(found.block_hash, "receipt blockHash")),
            has_failed=status == 0,
        )

    async def close(self) -> None:
        await self._provider.close()
