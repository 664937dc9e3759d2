"""What is recorded as final, held against what a reading of the chain shows. Pure.

the chain shows it       recorded as final       it is
yes                      there                   matching
yes                      no                      unrecorded: missed, or orphaned wrongly
yes                      in another place        moved
another one there        there                   altered: that very log is another transfer
no                       there                   gone
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from chains.model import Address, BlockNumber, Transfer, TransferIdentity, TxHash
from settler.domain.ids import TransferId
from settler.domain.invoices import TransferRecord


class BreakKind(StrEnum):
    UNRECORDED = "unrecorded"
    MOVED = "moved"
    ALTERED = "altered"
    GONE = "gone"
    FORK = "fork"
    """The node has another block at the settled height."""
    LEDGER = "ledger"
    """The books contradict themselves, or what is recorded."""
    BALANCE = "balance"
    """An address holds another amount than went in and out of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """One thing that is not as it should be."""

    kind: BreakKind
    chain: str
    """Its name."""
    detail: str
    """What is wrong, in words."""
    remedy: str
    """What an operator does about it."""
    token: Address | None = None
    block_number: BlockNumber | None = None
    tx_hash: TxHash | None = None
    log_index: int | None = None
    address: Address | None = None
    """Where the money went."""
    amount_base: int | None = None
    transfer_id: TransferId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    matching: tuple[TransferRecord, ...]
    unrecorded: tuple[Transfer, ...]
    moved: tuple[tuple[TransferRecord, Transfer], ...]
    altered: tuple[tuple[TransferRecord, Transfer], ...]
    gone: tuple[TransferRecord, ...]

    @property
    def conflicts(self) -> int:
        """What contradicts the records, and is not merely missing from them."""
        return len(self.moved) + len(self.altered) + len(self.gone)


def compare(shown: Sequence[Transfer], final: Collection[TransferRecord], expected: Collection[TransferId]) -> Compared:
    """`final`: records that are final, of these blocks and of the transactions shown. `expected`: those of them that
    the reading had to show.
    """
    by_identity = {t.identity: t for t in final}
    by_place = {(t.identity.tx_hash, t.log_index): t for t in final}
    matching: list[TransferRecord] = []
    unrecorded: list[Transfer] = []
    moved: list[tuple[TransferRecord, Transfer]] = []
    altered: list[tuple[TransferRecord, Transfer]] = []
    for each in shown:
        held = by_identity.get(each.identity)
        instead = by_place.get((each.identity.tx_hash, each.log_index))
        if held is not None and (held.block_hash, held.log_index) == (each.block_hash, each.log_index):
            matching.append(held)
        elif held is not None:
            moved.append((held, each))
        elif instead is not None:
            altered.append((instead, each))
        else:
            unrecorded.append(each)
    accounted = {t.id for t in matching} | {t.id for t, _ in (*moved, *altered)}
    return Compared(
        matching=tuple(matching),
        unrecorded=tuple(unrecorded),
        moved=tuple(moved),
        altered=tuple(altered),
        gone=tuple(t for t in final if t.id in expected and t.id not in accounted),
    )


def with_altered(compared: Compared, altered: Sequence[tuple[TransferRecord, Transfer]]) -> Compared:
    """The same, with these known to be one: neither unrecorded nor gone."""
    held, shown = {t.id for t, _ in altered}, {t.identity for _, t in altered}
    return replace(
        compared,
        unrecorded=tuple(t for t in compared.unrecorded if t.identity not in shown),
        altered=(*compared.altered, *altered),
        gone=tuple(t for t in compared.gone if t.id not in held),
    )


def conflicts(chain: str, compared: Compared, *, remedy: str) -> list[Break]:
    """The breaks of records that the chain contradicts."""
    found = []
    for held, shown in compared.moved:
        where = f"it is shown as log {shown.log_index} of block {shown.block_number} (0x{shown.block_hash.hex()})"
        found.append(_of_record(BreakKind.MOVED, chain, held, f"final in another place; {where}", remedy))
    for held, shown in compared.altered:
        differ = [n for n in TransferIdentity.__slots__ if getattr(held.identity, n) != getattr(shown.identity, n)]
        said = ", ".join(f"{name} {_text(getattr(shown.identity, name))}" for name in differ)
        detail = f"the record was changed, or that log was another: the chain shows {said}"
        found.append(_of_record(BreakKind.ALTERED, chain, held, detail, remedy))
    found += [
        _of_record(BreakKind.GONE, chain, held, "recorded as final, and not on the chain", remedy)
        for held in compared.gone
    ]
    return found


def unrecorded(chain: str, transfers: Sequence[Transfer], *, remedy: str) -> list[Break]:
    """The breaks of payments that nobody recorded. `remedy` may name the block as `{block}`."""
    return [
        Break(
            kind=BreakKind.UNRECORDED,
            chain=chain,
            detail="on the chain, and not recorded as final",
            remedy=remedy.format(block=t.block_number),
            token=t.identity.token,
            block_number=t.block_number,
            tx_hash=t.identity.tx_hash,
            log_index=t.log_index,
            address=t.identity.recipient,
            amount_base=t.identity.amount,
        )
        for t in transfers
    ]


def _text(value: int | bytes) -> str:
    return f"0x{value.hex()}" if isinstance(value, bytes) else str(value)


def _of_record(kind: BreakKind, chain: str, held: TransferRecord, detail: str, remedy: str) -> Break:
    return Break(
        kind=kind,
        chain=chain,
        detail=detail,
        remedy=remedy.format(block=held.block_number),
        token=held.identity.token,
        block_number=held.block_number,
        tx_hash=held.identity.tx_hash,
        log_index=held.log_index,
        address=held.identity.recipient,
        amount_base=held.identity.amount,
        transfer_id=held.id,
    )
