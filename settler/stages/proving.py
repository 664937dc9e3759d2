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
from contextlib import suppress
from dataclasses import dataclass

from chains.errors import Disagreement, MethodUnsupported, NodeInconsistent
from chains.model import BlockHash, BlockRef, LogQuery, SpanRead, Transfer, TransferIdentity
from chains.pool import Pool
from chains.proof import Profile, ProofFailed, ProvenBlock, Unprovable
from chains.reader import ChainReader
from settler.stages.proven import NOTHING, Ahead, Json, Proofs, in_parallel, moves_money, proofs_of, proven_block
from settler.stages.setup import ChainSetup
from settler.storage.evidence import Evidence, PaymentEvidence

TRIES = 3
"""Ticks in a row in which no provider's receipts fit a block, until its payments are recorded and held: either all
nodes are wrong, or this program is about how the chain hashes them. An operator decides which."""


@dataclass(frozen=True, slots=True)
class _Proven:
    block: ProvenBlock
    transfers: frozenset[TransferIdentity]
    """All that are wanted of it."""
    proofs: Proofs
    """Those that are made already."""


class Prover:
    """Of one chain. Without a profile nothing is proven, and the evidence says who gave the logs."""

    def __init__(self, *, chain: ChainSetup, pool: Pool) -> None:
        self._chain = chain
        self._pool = pool
        self._misfits: Counter[BlockHash] = Counter()
        self._ahead = None if chain.proof is None else Ahead(pool=pool, profile=chain.proof)

    @property
    def ahead(self) -> Ahead | None:
        """Where blocks are proven before they are final; `None` without a profile."""
        return self._ahead

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
        to_prove = [] if profile is None else [h for h, held in by_block.items() if any(map(moves_money, held))]
        proven: dict[BlockHash, _Proven | str] = {}
        for some in in_parallel(to_prove):
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
                    evidence = await _evidence(whole, held, sources)
            found |= evidence
        return found

    async def _proven(
        self, block_hash: BlockHash, held: Sequence[Transfer], query: LogQuery, profile: Profile
    ) -> _Proven | str:
        """The block, or why nobody can prove anything in it."""
        read = {t.identity for t in held}

        def fitting(block: ProvenBlock, proofs: Proofs = NOTHING) -> _Proven:
            transfers = block.transfers(self._chain.chain_id, query)
            _check_names(transfers, read, block_hash)
            return _Proven(block, transfers, proofs)

        async def question(reader: ChainReader) -> _Proven:
            return fitting(await proven_block(reader, block_hash, profile))

        kept = None if self._ahead is None else self._ahead.take(block_hash)
        if kept is not None:
            with suppress(NodeInconsistent):
                return fitting(kept.block, kept.proofs)
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
        if self._ahead is not None:
            self._ahead.succeeded()
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
    whole: _Proven, held: Sequence[Transfer], sources: tuple[str, ...]
) -> dict[TransferIdentity, PaymentEvidence]:
    proofs = await proofs_of(whole.block, held, whole.proofs)
    return {identity: _evidence_of(proof, sources) for (identity, _), proof in proofs.items()}


def _evidence_of(proof: Json | ProofFailed, sources: tuple[str, ...]) -> PaymentEvidence:
    if isinstance(proof, ProofFailed):
        return PaymentEvidence(sources=sources, failure=str(proof))
    return PaymentEvidence(sources=sources, proof=proof)
