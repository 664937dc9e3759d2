"""What tests of proving share: made-up blocks whose headers commit to their receipts, and nodes that answer by them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from chains.errors import ChainError, Timeout
from chains.model import BlockHash, BlockRef, BlockSpan, LogQuery, SpanRead, Transfer
from chains.pool import Pool
from chains.proof import WireBlock, WireReceipt
from chains.simulated import SimulatedChain, SimulatedReader
from chains.spans import WindowedReader
from settler.domain.finality import Depth
from settler.stages.proving import Prover
from settler.stages.setup import ChainSetup
from tests.chains.proof.samples import (
    CHAIN,
    ETHEREUM,
    NUMBER,
    PAYEE,
    TOKEN,
    block_of,
    encoded,
    hash_of,
    receipt,
    transfer_in,
    transfer_log,
    tx_hash_of,
)

QUERY = LogQuery(tokens=frozenset([TOKEN]), recipients=frozenset([PAYEE]))
RECEIPTS = (receipt(0, transfer_log()), receipt(1), receipt(2, transfer_log(7)))
BLOCK = block_of([encoded(each) for each in RECEIPTS])
PAYMENTS = (transfer_in(BLOCK, 0), transfer_in(BLOCK, 2, amount=7))
SOURCES = ("a", "b")
TIME = datetime.fromtimestamp(1_700_000_000, UTC)

Material = tuple[WireBlock, Sequence[WireReceipt]]
TRUE: Material = (BLOCK, RECEIPTS)


class Node(SimulatedReader):
    """Answers one thing when asked for proof material, or raises it."""

    def __init__(self, name: str, answers: Material | ChainError) -> None:
        super().__init__(SimulatedChain(seed=1, chain_id=CHAIN), name=name)
        self.answers = answers
        self.asked = 0
        self.gate: asyncio.Event | None = None
        self.running = 0

    async def proof_material(self, block_hash: BlockHash) -> Material:
        self.asked += 1
        self.running += 1
        try:
            if self.gate is not None and block_hash == hash_of(BLOCK):
                await self.gate.wait()
            if isinstance(self.answers, ChainError):
                raise self.answers
            if block_hash != hash_of(BLOCK):
                raise Timeout("of another block nothing comes")
            return self.answers
        finally:
            self.running -= 1


@dataclass
class Proving:
    nodes: list[Node]
    pool: Pool
    prover: Prover
    seconds: float = 0.0


def proving(*answers: Material | ChainError, is_proven: bool = True) -> Proving:
    nodes = [Node(name, answer) for name, answer in zip("abc", answers, strict=False)]
    made: Proving

    def monotonic() -> float:
        return made.seconds

    pool = Pool([WindowedReader(n, monotonic=monotonic) for n in nodes], chain_id=CHAIN, monotonic=monotonic)
    setup = ChainSetup(
        name="ethereum",
        chain_id=CHAIN,
        tokens=(),
        finality=Depth(blocks=1),
        start_block="latest",
        quorum=2,
        proof=ETHEREUM if is_proven else None,
    )
    made = Proving(nodes=nodes, pool=pool, prover=Prover(chain=setup, pool=pool))
    return made


def reading(*transfers: Transfer, time: datetime = TIME) -> SpanRead:
    homes = {
        t.block_hash: BlockRef(number=t.block_number, hash=t.block_hash, parent_hash=BlockHash(b"\x01" * 32), time=time)
        for t in transfers
    }
    end = BlockRef(number=NUMBER, hash=hash_of(BLOCK), parent_hash=BlockHash(b"\x01" * 32), time=time)
    return SpanRead(span=BlockSpan(first=NUMBER, last=NUMBER), end=end, anchor=None, transfers=transfers, blocks=homes)


def swapped() -> Material:
    """True receipts, whose transactions the node names otherwise: a receipts trie does not commit to their hashes."""
    names = {0: 2, 1: 1, 2: 0}
    hashes = ["0x" + tx_hash_of(names[index]).hex() for index in range(3)]
    given = [
        WireReceipt(**{**{f: getattr(each, f) for f in each.__struct_fields__}, "transaction_hash": named})
        for each, named in zip(RECEIPTS, hashes, strict=True)
    ]
    return {**BLOCK, "transactions": hashes}, given


def appended() -> Material:
    """The payment's transaction is listed at the end, where no trie holds a receipt, and another in its place."""
    hashes = ["0x" + tx_hash_of(9).hex(), *["0x" + tx_hash_of(index).hex() for index in (1, 2, 0)]]
    fields = {f: getattr(RECEIPTS[0], f) for f in RECEIPTS[0].__struct_fields__}
    first = WireReceipt(**{**fields, "transaction_hash": hashes[0]})
    return {**BLOCK, "transactions": hashes}, [first, *RECEIPTS[1:]]
