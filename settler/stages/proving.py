"""Proves that payments are in the blocks a quorum agreed on, before they settle (RULES.md section 1, Proof).

the log is not in the receipts that give the block's hash      the readings are false: nothing of the span settles
the receipts hold a wanted log that the readings lack           likewise
the header has another time than the readings                   likewise
the node names other transactions for the same logs             another is asked
nobody can say what the receipts are, or how they are hashed    recorded as final, and held: `proof_failed`
nobody answers just now                                         the tick fails and is tried again
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass

from chains.errors import Disagreement, MethodUnsupported, NodeInconsistent
from chains.model import BlockHash, BlockRef, LogQuery, SpanRead, Transfer, TransferIdentity
from chains.pool import Pool
from chains.proof import Profile, ProofFailed, ProvenBlock, Unprovable, prove_block, to_json
from chains.reader import ChainReader
from settler.stages.setup import ChainSetup
from settler.storage.evidence import Evidence, PaymentEvidence

PARALLEL_PROOFS = 4
"""Blocks asked for side by side: each may be megabytes of receipts."""
PAYMENTS_A_TURN = 100
"""Payments of a block that are proven in one go, some 5 ms: the loop is others' too."""
TRIES = 3
"""Ticks in a row in which no provider's receipts fit a block, until its payments are recorded and held: either all
nodes are wrong, or this program is about how the chain hashes them. An operator decides which."""


@dataclass(frozen=True, slots=True)
class _Proven:
    block: ProvenBlock
    transfers: frozenset[TransferIdentity]
    """All that are wanted of it."""


class Prover:
    """Of one chain. Without a profile nothing is proven, and the evidence says who gave the logs."""

    def __init__(self, *, chain: ChainSetup, pool: Pool) -> None:
        self._chain = chain
        self._pool = pool
        self._misfits: Counter[BlockHash] = Counter()

    async def evidence(self, read: SpanRead, query: LogQuery, sources: tuple[str, ...]) -> Evidence:
        """What each transfer of the reading rests on. Two calls a block that holds money.

        Raises `Disagreement` if a block's receipts contradict the reading, other `ChainError` when it cannot be told
        now.
        """
        by_block: defaultdict[BlockHash, list[Transfer]] = defaultdict(list)
        for transfer in read.transfers:
            by_block[transfer.block_hash].append(transfer)
        found: dict[TransferIdentity, PaymentEvidence] = {}
        profile = self._chain.proof
        to_prove = [] if profile is None else [h for h, held in by_block.items() if any(map(_moves_money, held))]
        proven: dict[BlockHash, _Proven | str] = {}
        for some in _batched(to_prove):
            assert profile is not None, "nothing is to be proven without one"
            asking = [self._proven(h, by_block[h], query, profile) for h in some]
            # all are waited for: what goes on behind a tick that failed, the next tick would ask again beside it
            for block_hash, outcome in zip(some, await asyncio.gather(*asking, return_exceptions=True), strict=True):
                if isinstance(outcome, BaseException):
                    raise outcome
                proven[block_hash] = outcome
        for block_hash, held in by_block.items():
            match proven.get(block_hash):
                case None:
                    evidence = dict.fromkeys((t.identity for t in held), PaymentEvidence(sources=sources))
                case str(failure):
                    unproven = PaymentEvidence(sources=sources, failure=failure)
                    evidence = dict.fromkeys((t.identity for t in held), unproven)
                case whole:
                    self._check_whole(whole, read.blocks[block_hash], held, query, sources)
                    evidence = await _evidence(whole.block, held, sources)
            found |= evidence
        return found

    async def _proven(
        self, block_hash: BlockHash, held: Sequence[Transfer], query: LogQuery, profile: Profile
    ) -> _Proven | str:
        """The block, or why nobody can prove anything in it."""
        read = {t.identity for t in held}

        async def question(reader: ChainReader) -> _Proven:
            block, receipts = await reader.proof_material(block_hash)
            await asyncio.sleep(0)  # decoding megabytes was one turn of the loop, hashing them is another
            proven = prove_block(block, receipts, block_hash=block_hash, profile=profile)
            await asyncio.sleep(0)
            transfers = proven.transfers(self._chain.chain_id, query)
            _check_names(transfers, read, block_hash)
            return _Proven(proven, transfers)

        try:
            (answer,) = await self._pool.ask(question)
        except (MethodUnsupported, Unprovable) as error:
            return str(error)
        except NodeInconsistent as error:
            self._misfits[block_hash] += 1
            if self._misfits[block_hash] < TRIES:
                raise
            del self._misfits[block_hash]
            return str(error)
        self._misfits.pop(block_hash, None)
        return answer.value

    def _check_whole(
        self,
        whole: _Proven,
        header: BlockRef,
        held: Sequence[Transfer],
        query: LogQuery,
        sources: Collection[str],
    ) -> None:
        """The reading has exactly the transfers that the proven receipts have, at the time that the header has. Raises
        `Disagreement`.
        """
        block, true = whole.block, whole.transfers
        if block.timestamp_s != header.time.timestamp():
            self._pool.differed(tuple(sources), f"the time of block 0x{block.hash.hex()}: its header has another")
            raise Disagreement(
                f"{', '.join(sources)} gave block 0x{block.hash.hex()} another time than its header has; "
                "nothing settles"
            )
        self._check_labels(block, held, query, sources)
        read = {t.identity for t in held}
        invented = {i for i in read - true if block.has_receipt_of(i.tx_hash) or not block.lists(i.tx_hash)}
        omitted = true - read
        if not invented and not omitted:
            return
        what = f"the logs of block 0x{block.hash.hex()}: its proven receipts hold others"
        self._pool.differed(tuple(sources), what)
        raise Disagreement(
            f"{', '.join(sources)} agreed on {len(invented)} transfers that are not in the receipts of block "
            f"0x{block.hash.hex()}, and left out {len(omitted)} that are; nothing settles"
        )

    def _check_labels(
        self, block: ProvenBlock, held: Sequence[Transfer], query: LogQuery, sources: Collection[str]
    ) -> None:
        """What the readings say payments are for is what the proven receipts say. Raises `Disagreement`."""
        labelled = [t for t in held if query.wants_labels(t.identity)]
        # one that is in no receipt is told of elsewhere
        proven = block.labels(labelled, query)
        for t in labelled:
            if t.labels != proven.get(t.identity, t.labels):
                what = f"the references in block 0x{block.hash.hex()}: its proven receipts hold others"
                self._pool.differed(tuple(sources), what)
                raise Disagreement(
                    f"{', '.join(sources)} gave payments other references than the receipts of block "
                    f"0x{block.hash.hex()} hold; nothing settles"
                )


def _check_names(true: Set[TransferIdentity], read: Set[TransferIdentity], block_hash: BlockHash) -> None:
    """Receipts do not hold the hash of their transaction: beside true ones a node may list any. Raises
    `NodeInconsistent` where that alone is what differs, so that another is asked.
    """
    missing, extra = Counter(map(_unnamed, true - read)), Counter(map(_unnamed, read - true))
    if missing and missing == extra:
        raise NodeInconsistent(
            f"the receipts of block 0x{block_hash.hex()} are right, but not in the transactions their logs were read in"
        )


def _unnamed(identity: TransferIdentity) -> tuple[object, ...]:
    return (identity.token, identity.sender, identity.recipient, identity.amount)


async def _evidence(
    block: ProvenBlock, held: Sequence[Transfer], sources: tuple[str, ...]
) -> dict[TransferIdentity, PaymentEvidence]:
    found: dict[TransferIdentity, PaymentEvidence] = {}
    for at in range(0, len(held), PAYMENTS_A_TURN):
        await asyncio.sleep(0)
        found |= {t.identity: _evidence_of(block, t, sources) for t in held[at : at + PAYMENTS_A_TURN]}
    return found


def _evidence_of(block: ProvenBlock, transfer: Transfer, sources: tuple[str, ...]) -> PaymentEvidence:
    try:
        return PaymentEvidence(sources=sources, proof=to_json(block.prove(transfer)))
    except ProofFailed as error:
        # of a transaction that the node appended: no trie holds its receipt
        return PaymentEvidence(sources=sources, failure=str(error))


def _moves_money(transfer: Transfer) -> bool:
    return transfer.identity.amount > 0


def _batched(hashes: Sequence[BlockHash]) -> list[Sequence[BlockHash]]:
    return [hashes[at : at + PARALLEL_PROOFS] for at in range(0, len(hashes), PARALLEL_PROOFS)]
