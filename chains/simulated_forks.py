"""Which transactions stand where after a reorg, and what became of the others. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from chains.model import BlockNumber, TxHash
from chains.simulated_txs import SimTx


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What became of a transaction whose block was replaced."""

    tx: SimTx
    was_at: BlockNumber
    is_at: BlockNumber | None
    """`None`: it is in no block now; it may be mined again, unless another took its place."""
    replaced_by: TxHash | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """What stands in the new blocks, and who gave way to whom."""

    blocks: tuple[tuple[SimTx, ...], ...]
    replaced_by: Mapping[TxHash, TxHash]


def branch(
    replaced: Sequence[Sequence[SimTx]],
    *,
    length: int,
    drop: Collection[TxHash],
    shift: int,
    add: Sequence[SimTx],
    swap: Mapping[TxHash, SimTx],
    delay: Mapping[TxHash, int],
    is_reversed: bool,
) -> Branch:
    """`replaced`: the old blocks' transactions; `length`: of the new branch. As `SimulatedChain.reorg` has it."""
    winners = {(tx.sender, tx.nonce): tx for tx in (*add, *swap.values()) if tx.nonce is not None}
    blocks: list[list[SimTx]] = [[] for _ in range(length)]
    if blocks:
        blocks[0].extend(add)
    replaced_by: dict[TxHash, TxHash] = {}
    for place, txs in enumerate(replaced):
        for tx in txs:
            stands = swap.get(tx.hash, tx)
            winner = stands if stands.nonce is None else winners.get((stands.sender, stands.nonce), stands)
            if winner is not tx:
                replaced_by[tx.hash] = winner.hash
            elif tx.hash in drop:
                continue
            to = min(place + shift, length - 1) + delay.get(tx.hash, 0)
            if winner is stands and 0 <= to < length:
                blocks[to].append(stands)
    return Branch(
        blocks=tuple([tuple(reversed(txs)) if is_reversed else tuple(txs) for txs in blocks]), replaced_by=replaced_by
    )
