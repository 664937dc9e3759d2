"""The chains the conformance suite runs over, behind one handle: a real node, and the simulated one, read as it is or
through a node's JSON-RPC.

The real one needs no compiler: a few bytes of code, put at an address, emit one ERC-20 `Transfer` for each 96 bytes of
calldata.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

import aiohttp
from eth_abi.abi import encode

from chains.evm import EvmReader
from chains.logs_window import LogsWindow
from chains.model import Address, BaseUnits, ChainId, TxHash
from chains.reader import ChainReader, ProviderReader
from chains.rpc import RpcProvider
from chains.simulated import SimTransfer, SimTx, SimulatedChain, SimulatedReader
from chains.simulated_node import SimulatedNode
from chains.spans import WindowedReader
from contracts_abi import TRANSFER_TOPIC, artifact
from settler.anvil import Anvil
from tests.support.node_session import NodeSession

TOKEN = Address(bytes.fromhex("70" * 20))
OTHER_TOKEN = Address(bytes.fromhex("71" * 20))
NFT = Address(bytes.fromhex("72" * 20))
ALICE = Address(bytes.fromhex("a1" * 20))
BOB = Address(bytes.fromhex("b0" * 20))
SHOP = Address(bytes.fromhex("5a" * 20))
CHAIN = ChainId(31337)

EMIT_TRANSFERS = bytes.fromhex(
    "6000"  # offset
    "5b803611156045 57".replace(" ", "")  # loop: until the calldata ends
    + "8060400135600052"  # memory[0] = amount
    + "80602001358135"  # recipient, sender
    + "7f" + TRANSFER_TOPIC.hex() + "60206000a3"  # Transfer(sender, recipient, amount)
    + "6060016002565b00"  # offset += 96
)  # fmt: skip
EMIT_ERC721 = bytes.fromhex("604035602035600035" + "7f" + TRANSFER_TOPIC.hex() + "60006000a400")
GAS = "0x7a120"
GAS_PRICE = "0x174876e800"
"""Stated with the nonce, so that a transaction sent again after a reorg has the same hash."""


@dataclass
class CountedCalls:
    calls: Counter[str] = field(default_factory=Counter)

    def on_call(self, method: str, outcome: str, seconds: float) -> None:
        self.calls[method] += 1


def windowed(reader: ProviderReader, *, width: int) -> WindowedReader:
    """Reads in pieces of `width` blocks and never widens, at a clock that stands still."""
    return WindowedReader(reader, monotonic=lambda: 0.0, window=LogsWindow(width=width, cap=width))


class World(Protocol):
    """A chain that can be written to, and a reader of it. `tx` prepares, `mine` puts into one block."""

    reader: ChainReader
    """What the suite holds to its promises."""
    counted: CountedCalls

    @property
    def provider_reader(self) -> ProviderReader:
        """The one provider below it."""
        ...

    async def tx(self, *transfers: SimTransfer) -> SimTx: ...
    async def mine(self, *txs: SimTx) -> None: ...
    async def mine_empty(self, count: int) -> None: ...
    async def undo(self, depth: int) -> None:
        """The chain becomes shorter by `depth` blocks."""
        ...

    async def replace(self, depth: int) -> None:
        """The top `depth` blocks become others, without transactions."""
        ...


def sent(amount: int, *, to: Address = SHOP, sender: Address = ALICE, token: Address = TOKEN) -> SimTransfer:
    return SimTransfer(token=token, sender=sender, recipient=to, amount=BaseUnits(amount))


class _OnSimulatedChain:
    chain: SimulatedChain

    async def tx(self, *transfers: SimTransfer) -> SimTx:
        return self.chain.tx(*transfers)

    async def mine(self, *txs: SimTx) -> None:
        self.chain.mine(txs)

    async def mine_empty(self, count: int) -> None:
        self.chain.mine_empty(count)

    async def undo(self, depth: int) -> None:
        self.chain.reorg(depth, length=0)

    async def replace(self, depth: int) -> None:
        replaced = [block for number in range(self.chain.head.number + 1) if (block := self.chain.block_at(number))]
        self.chain.reorg(depth, drop={tx.hash for block in replaced[-depth:] for tx in block.txs})


class SimulatedWorld(_OnSimulatedChain):
    def __init__(self) -> None:
        self.chain = SimulatedChain(seed=1, chain_id=CHAIN)
        self.counted = CountedCalls()
        self.provider_reader = SimulatedReader(self.chain, observer=self.counted)
        self.reader: ChainReader = self.provider_reader


class NodeWorld(_OnSimulatedChain):
    """The simulated chain behind JSON-RPC: the client as it ships, over an honest node without a socket."""

    def __init__(self, *, check_bloom: bool = False) -> None:
        self.chain = SimulatedChain(seed=1, chain_id=CHAIN, has_real_headers=True)
        self.counted = CountedCalls()
        session = NodeSession(SimulatedNode(self.chain))
        self.provider = RpcProvider(
            "http://node.test/", session=cast(aiohttp.ClientSession, session), observer=self.counted
        )
        self.provider_reader = EvmReader(self.provider, chain_id=CHAIN, check_bloom=check_bloom)
        self.reader: ChainReader = self.provider_reader


class AnvilWorld:
    """A node that mines only when told to. Every transaction has an account of its own, so that any may be left out."""

    def __init__(self, anvil: Anvil, *, check_bloom: bool = False) -> None:
        self._anvil = anvil
        self._requests: dict[TxHash, dict[str, str]] = {}
        self.counted = CountedCalls()
        self.provider = RpcProvider(anvil.url, observer=self.counted)
        self.provider_reader = EvmReader(self.provider, chain_id=CHAIN, check_bloom=check_bloom)
        self.reader: ChainReader = self.provider_reader

    async def prepare(self) -> None:
        for token in (TOKEN, OTHER_TOKEN):
            await self._anvil.rpc("anvil_setCode", "0x" + token.hex(), "0x" + EMIT_TRANSFERS.hex())
        await self._anvil.rpc("anvil_setCode", "0x" + NFT.hex(), "0x" + EMIT_ERC721.hex())
        await self._anvil.rpc("anvil_autoImpersonateAccount", True)

    async def tx(self, *transfers: SimTransfer) -> SimTx:
        """Sends it once to learn its hash, and takes it out of the pool again."""
        (token,) = {each.token for each in transfers}
        sender = "0x" + (0xACC0 + len(self._requests)).to_bytes(20).hex()
        await self._anvil.rpc("anvil_setBalance", sender, hex(10**20))
        request = {
            "from": sender,
            "to": "0x" + token.hex(),
            "data": "0x" + b"".join(map(_calldata, transfers)).hex(),
            "nonce": "0x0",
            "gas": GAS,
            "gasPrice": GAS_PRICE,
        }
        tx_hash = await self._anvil.rpc("eth_sendTransaction", request)
        await self._anvil.rpc("anvil_dropTransaction", tx_hash)
        tx = SimTx(hash=TxHash(bytes.fromhex(tx_hash[2:])), transfers=transfers)
        self._requests[tx.hash] = request
        return tx

    async def mine(self, *txs: SimTx) -> None:
        for tx in txs:
            assert await self._anvil.rpc("eth_sendTransaction", self._requests[tx.hash]) == "0x" + tx.hash.hex()
        await self._anvil.rpc("evm_mine")

    async def mine_empty(self, count: int) -> None:
        await self._anvil.rpc("anvil_mine", hex(count))

    async def undo(self, depth: int) -> None:
        await self._anvil.rpc("anvil_rollback", depth)

    async def replace(self, depth: int) -> None:
        await self._anvil.rpc("anvil_reorg", depth, [])

    async def deploy_stablecoin(self, *, name: str, symbol: str, decimals: int) -> Address:
        made = artifact("TestStablecoin")
        arguments = encode(["string", "string", "uint8"], [name, symbol, decimals])
        deployer = self._anvil.accounts[0].address
        request = {"from": deployer, "data": "0x" + (made.bytecode + arguments).hex(), "gas": "0x4c4b40"}
        tx_hash = await self._anvil.rpc("eth_sendTransaction", request)
        await self._anvil.rpc("evm_mine")
        receipt = await self._anvil.rpc("eth_getTransactionReceipt", tx_hash)
        return Address(bytes.fromhex(receipt["contractAddress"][2:]))


def _calldata(transfer: SimTransfer) -> bytes:
    words: Sequence[bytes] = (transfer.sender, transfer.recipient, transfer.amount.to_bytes(32))
    return b"".join(word.rjust(32, b"\0") for word in words)
