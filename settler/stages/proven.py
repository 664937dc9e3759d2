"""Blocks held against their hashes: one when it is asked for, and those whose payments wait to be final ahead of that,
so that then nobody waits for megabytes of receipts and their proofs.

    #  settled         final        head
    #     100           104          110        payments in 105, 107, 110: 105 and 107 are proven now, 110 may yet move

What is proven is so by the block's hash alone, whoever gave the material and whether or not the block stays. Whether it
does, and what of it is wanted, is for the second reading to say, as ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from chains.errors import BlockNotFound, ChainError, MethodUnsupported
from chains.model import BlockHash, BlockNumber, BlockSpan, Transfer, TransferIdentity
from chains.pool import Pool
from chains.proof import Profile, ProofFailed, ProvenBlock, Unprovable, prove_block, to_json
from chains.reader import ChainReader

KEPT_BYTES = 4 * 2**20
"""Of receipts, in blocks that are kept: with what is read of them, some 30 MB. Beyond that none is proven ahead."""
AHEAD_BLOCKS = 16
"""Heights looked at in one go."""
PARALLEL_PROOFS = 4
"""Blocks asked for side by side: each may be megabytes of receipts."""
PAYMENTS_A_TURN = 100
"""Payments of a block that are proven in one go, some 5 ms: the loop is others' too."""

Json = Mapping[str, object]
Proofs = Mapping[tuple[TransferIdentity, BlockNumber], Json | ProofFailed]
"""As they are stored, of each payment at its height, or why there is none."""
NOTHING: Proofs = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenAhead:
    """A block, and the proofs of the payments that were known to wait in it."""

    block: ProvenBlock
    number: BlockNumber
    """As of the payments."""
    proofs: Proofs
    receipts_bytes: int


class Ahead:
    """One chain's blocks that are proven already. In memory alone: what is lost is asked for again."""

    def __init__(self, *, pool: Pool, profile: Profile) -> None:
        self._pool = pool
        self._profile = profile
        self._kept: dict[BlockHash, ProvenAhead] = {}
        self._looked_to = -1
        self._is_possible = True

    def succeeded(self) -> None:
        """A block was proven after all: it is worth trying again."""
        self._is_possible = True

    def due(self, settled: BlockNumber, scanned: BlockNumber) -> BlockSpan | None:
        """The heights whose payments are to be proven next; the newest is left alone, for it changes most. Blocks up to
        `settled` are forgotten.
        """
        self._kept = {hash_: kept for hash_, kept in self._kept.items() if kept.number > settled}
        first = max(settled, self._looked_to) + 1
        last = min(scanned - 1, first + AHEAD_BLOCKS - 1)
        kept_bytes = sum(kept.receipts_bytes for kept in self._kept.values())
        if not self._is_possible or last < first or kept_bytes >= KEPT_BYTES:
            return None
        return BlockSpan(first=BlockNumber(first), last=BlockNumber(last))

    async def prove(self, span: BlockSpan, waiting: Iterable[Transfer]) -> int:
        """Proves the blocks of the payments, all that wait in the span, and keeps them; how many blocks.

        Raises no `ChainError`: what fails here is asked again, and told, when it is needed. Where nobody can prove
        anything, nothing more is tried until it `succeeded`.
        """
        self._looked_to = span.last
        by_block: dict[BlockHash, list[Transfer]] = {}
        for t in waiting:
            by_block.setdefault(t.block_hash, []).append(t)
        proven = 0
        for hashes in in_parallel(list(by_block)):
            outcomes = await asyncio.gather(*(self._proven(h, by_block[h]) for h in hashes), return_exceptions=True)
            for block_hash, outcome in zip(hashes, outcomes, strict=True):
                if isinstance(outcome, ProvenAhead):
                    self._kept[block_hash] = outcome
                    proven += 1
                elif isinstance(outcome, MethodUnsupported | Unprovable):
                    self._is_possible = False
                elif not isinstance(outcome, ChainError):
                    raise outcome
        return proven

    def take(self, block_hash: BlockHash) -> ProvenAhead | None:
        """The block, if it was proven; it is kept no longer."""
        return self._kept.pop(block_hash, None)

    async def _proven(self, block_hash: BlockHash, waiting: Sequence[Transfer]) -> ProvenAhead:
        async def question(reader: ChainReader) -> ProvenBlock | BlockNotFound:
            try:
                return await proven_block(reader, block_hash, self._profile)
            except BlockNotFound as error:
                # one provider alone showed it: that others lack it is not held against them
                return error

        (answer,) = await self._pool.ask(question)
        if isinstance(answer.value, BlockNotFound):
            raise answer.value
        proofs = await proofs_of(answer.value, waiting)
        return ProvenAhead(
            block=answer.value,
            number=waiting[0].block_number,
            proofs=proofs,
            receipts_bytes=sum(map(len, answer.value.receipts)),
        )


async def proven_block(reader: ChainReader, block_hash: BlockHash, profile: Profile) -> ProvenBlock:
    """What one provider shows of the block. Raises as `prove_block` and `ChainReader.proof_material`."""
    block, receipts = await reader.proof_material(block_hash)
    await asyncio.sleep(0)  # decoding megabytes was one turn of the loop, hashing them is another
    proven = prove_block(block, receipts, block_hash=block_hash, profile=profile)
    await asyncio.sleep(0)
    return proven


async def proofs_of(block: ProvenBlock, transfers: Sequence[Transfer], known: Proofs = NOTHING) -> Proofs:
    """Of each of the block's transfers; `ProofFailed` in place of what a transaction has that the node appended, for no
    trie holds its receipt. `known`: what was proven of this block already.
    """
    found: dict[tuple[TransferIdentity, BlockNumber], Json | ProofFailed] = {}
    for at, transfer in enumerate(transfers):
        if at % PAYMENTS_A_TURN == 0:
            await asyncio.sleep(0)
        place = (transfer.identity, transfer.block_number)
        found[place] = known.get(place) or _proof_of(block, transfer)
    return found


def _proof_of(block: ProvenBlock, transfer: Transfer) -> Json | ProofFailed:
    try:
        return to_json(block.prove(transfer), hex_of=block.readers.hex_of)
    except ProofFailed as error:
        return error


def moves_money(transfer: Transfer) -> bool:
    """Nothing else is proven."""
    return transfer.identity.amount > 0


def in_parallel(hashes: Sequence[BlockHash]) -> Iterator[Sequence[BlockHash]]:
    """So many at a time as may be asked for side by side."""
    for at in range(0, len(hashes), PARALLEL_PROOFS):
        yield hashes[at : at + PARALLEL_PROOFS]
