"""Verifies a settlement again: from its stored evidence, without any node, and by what a node says. Writes nothing.

records   the settlement's lines say what its transfers say, and add up
proof     the stored proof shows the payment in the block the settlement names
node      it has that very block at that height, and the payment at that place in it

A payment is verified when its records agree, nothing contradicts it, and its proof or a node speaks for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from chains.model import BaseUnits, BlockSpan, ChainId, LogQuery, Transfer, TransferIdentity
from chains.proof import ProofFailed, from_json, verify
from chains.reader import ChainReader
from settler.domain.ids import TransferId
from settler.domain.money import rescale_exact
from settler.domain.records import Settlement
from settler.storage.evidence import SettledPayment


class ProofSays(StrEnum):
    PROVEN = "proven"
    MISSING = "missing"
    FAILED = "failed"


class NodeSays(StrEnum):
    CONFIRMED = "confirmed"
    CONTRADICTED = "contradicted"
    NOT_ASKED = "not_asked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """One payment's outcome."""

    payment: SettledPayment
    proof: ProofSays
    node: NodeSays
    reasons: tuple[str, ...]
    """What speaks against it, in words; and where nothing does but its proof is missing, why that is."""
    is_verified: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """What a node says of one payment."""

    says: NodeSays
    reason: str = ""


NOT_ASKED = Word(says=NodeSays.NOT_ASKED)


def payment_of(payment: SettledPayment) -> Transfer:
    """The payment as the settlement states it: what is to be verified."""
    line = payment.line
    return Transfer(
        identity=TransferIdentity(
            chain_id=line.chain_id,
            tx_hash=line.tx_hash,
            token=line.token_address,
            sender=line.payer,
            recipient=line.pay_to,
            amount=BaseUnits(line.amount_settled + line.amount_surplus),
            ordinal=payment.transfer.identity.ordinal,
        ),
        block_number=line.block_number,
        block_hash=line.block_hash,
        log_index=line.log_index,
    )


def verified(payment: SettledPayment, word: Word = NOT_ASKED) -> Verified:
    """What the proof, the records and the node's word come to. Asks nobody."""
    reasons = list(_of_records(payment))
    proof, said = _of_proof(payment)
    if word.says is NodeSays.CONTRADICTED:
        reasons.append(word.reason)
    is_spoken_for = proof is ProofSays.PROVEN or word.says is NodeSays.CONFIRMED
    is_verified = not reasons and is_spoken_for and proof is not ProofSays.FAILED
    if said:
        reasons.append(said)
    return Verified(payment=payment, proof=proof, node=word.says, reasons=tuple(reasons), is_verified=is_verified)


def contradictions(settlement: Settlement) -> list[str]:
    """What the settlement's sums and lines contradict each other in, in words."""
    found = []
    ids = [line.transfer_id for line in settlement.lines]
    if len(set(ids)) != len(ids):
        found.append("two of its lines are of one transfer")
    sums = [
        name for name in ("amount_settled", "amount_surplus") if _sum(settlement, name) != getattr(settlement, name)
    ]
    return found + [f"its {name} is not the sum of its lines" for name in sums]


async def words(
    reader: ChainReader, chain_id: ChainId, payments: Sequence[SettledPayment]
) -> Mapping[TransferId, Word]:
    """What a node of that chain says of each payment on it; three calls each. Raises `ChainError`."""
    asked = [payment for payment in payments if payment.line.chain_id == chain_id]
    return {payment.line.transfer_id: await _word(reader, payment_of(payment)) for payment in asked}


async def _word(reader: ChainReader, stated: Transfer) -> Word:
    number, identity = stated.block_number, stated.identity
    (block,) = await reader.headers([number])
    if block is None:
        return _no(f"the node has no block {number}")
    if block.hash != stated.block_hash:
        return _no(f"the node has another block at height {number}: 0x{block.hash.hex()}")
    query = LogQuery(tokens=frozenset([identity.token]), recipients=frozenset([identity.recipient]))
    read = await reader.read_span(BlockSpan(first=number, last=number), query)
    if read.end.hash != stated.block_hash:
        return _no(f"block {number} was replaced while the node was asked")
    shown = next((each for each in read.transfers if each.identity == identity), None)
    if shown is None:
        return _no(f"block {number} holds no such transfer")
    if shown.log_index != stated.log_index:
        return _no(f"the transfer is log {shown.log_index} of block {number}, not {stated.log_index}")
    return Word(says=NodeSays.CONFIRMED)


def _no(reason: str) -> Word:
    return Word(says=NodeSays.CONTRADICTED, reason=reason)


def _of_records(payment: SettledPayment) -> list[str]:
    """What the settlement says otherwise than the transfer it names."""
    stated, recorded = payment_of(payment).identity, payment.transfer.identity
    differ = [name for name in TransferIdentity.__slots__ if getattr(stated, name) != getattr(recorded, name)]
    return [f"the settlement and its transfer differ in {', '.join(differ)}"] if differ else []


def _of_proof(payment: SettledPayment) -> tuple[ProofSays, str]:
    stored = payment.stored
    if stored is None:
        return ProofSays.MISSING, "no evidence is stored for this block"
    if stored.evidence.proof is None:
        why = stored.evidence.failure
        return ProofSays.MISSING, f"it could not be proven: {why}" if why else "it was settled without a proof"
    try:
        verify(from_json(stored.evidence.proof), payment_of(payment))
    except ProofFailed as error:
        return ProofSays.FAILED, f"its proof does not hold: {error}"
    return ProofSays.PROVEN, ""


def _sum(settlement: Settlement, name: str) -> int | None:
    """Of the lines at par, in the settlement's scale; `None` where it cannot be said in it."""
    if any(line.decimals > settlement.scale for line in settlement.lines):
        return None
    return sum(rescale_exact(getattr(line, name), line.decimals, settlement.scale) for line in settlement.lines)
