"""What a payment's proof, its records and a node's word come to, with a proof made by the reference code."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from chains.model import Address, BaseUnits, TxHash
from chains.proof import to_json
from settler.domain.ids import InvoiceId, SettlementId, TransferId
from settler.domain.invoices import Allocation, TransferRecord, TransferStatus
from settler.domain.records import Settlement, SettlementLine
from settler.stages.verifying import NOT_ASKED, NodeSays, ProofSays, Word, contradictions, verified
from settler.storage.evidence import PaymentEvidence, SettledPayment, StoredEvidence
from tests.chains.proof.test_evidence import PAYMENT, PROOF

NOW = datetime(2026, 1, 1, tzinfo=UTC)
IDENTITY = PAYMENT.identity
LINE = SettlementLine(
    transfer_id=TransferId("trf_1"),
    chain="mainnet",
    chain_id=IDENTITY.chain_id,
    token="USDC",
    token_address=IDENTITY.token,
    decimals=6,
    amount_settled=BaseUnits(IDENTITY.amount - 1),
    amount_surplus=BaseUnits(1),
    tx_hash=IDENTITY.tx_hash,
    log_index=PAYMENT.log_index,
    block_number=PAYMENT.block_number,
    block_hash=PAYMENT.block_hash,
    payer=IDENTITY.sender,
    pay_to=IDENTITY.recipient,
)
RECORD = TransferRecord(
    id=TransferId("trf_1"),
    identity=IDENTITY,
    decimals=6,
    status=TransferStatus.FINAL,
    block_number=PAYMENT.block_number,
    block_hash=PAYMENT.block_hash,
    block_time=NOW,
    log_index=PAYMENT.log_index,
    allocation=Allocation.INVOICE,
    reason=None,
    invoice_id=InvoiceId("inv_1"),
    evidence={},
    recorded_at=NOW,
    final_at=NOW,
    version=1,
)
SETTLEMENT = Settlement(
    id=SettlementId("stl_1"),
    invoice_id=InvoiceId("inv_1"),
    generation=1,
    merchant="default",
    reference="order-1",
    currency="USD",
    scale=8,
    amount_requested=(IDENTITY.amount - 1) * 100,
    amount_settled=(IDENTITY.amount - 1) * 100,
    amount_surplus=100,
    policy={},
    settled_at=NOW,
    lines=(LINE,),
    reversal=None,
)
CONFIRMED = Word(says=NodeSays.CONFIRMED)


def payment(*, line: SettlementLine = LINE, record: TransferRecord = RECORD, **evidence: Any) -> SettledPayment:
    given = PaymentEvidence(**{"sources": ("a", "b"), "proof": to_json(PROOF), **evidence})
    stored = StoredEvidence(evidence=given, block_hash=line.block_hash, read_at=NOW)
    return SettledPayment(line=line, transfer=record, stored=stored)


def test_proof_that_holds__is_enough() -> None:
    found = verified(payment())
    assert (found.is_verified, found.proof, found.node, found.reasons) == (
        True,
        ProofSays.PROVEN,
        NodeSays.NOT_ASKED,
        (),
    )
    assert contradictions(SETTLEMENT) == []


@pytest.mark.parametrize(("word", "is_verified"), [(NOT_ASKED, False), (CONFIRMED, True)])
def test_no_proof__takes_a_nodes_word(word: Word, is_verified: bool) -> None:
    found = verified(payment(proof=None, failure="no receipts"), word)
    assert (found.is_verified, found.proof) == (is_verified, ProofSays.MISSING)
    assert found.reasons == ("it could not be proven: no receipts",)


def test_node_that_contradicts__outweighs_a_proof() -> None:
    """The proof shows the payment in its block; the node, that the block is not in the chain."""
    found = verified(payment(), Word(says=NodeSays.CONTRADICTED, reason="another block"))
    assert (found.is_verified, found.proof, found.reasons) == (False, ProofSays.PROVEN, ("another block",))


@pytest.mark.parametrize(
    "both",
    [
        {"amount": BaseUnits(1)},
        {"sender": Address(b"\x09" * 20)},
        {"recipient": Address(b"\x09" * 20)},
        {"token": Address(b"\x09" * 20)},
        {"tx_hash": TxHash(b"\x09" * 32)},
        {"ordinal": 1},
    ],
    ids=str,
)
def test_settlement_and_transfer_changed_alike__the_proof_tells(both: dict[str, Any]) -> None:
    record = replace(RECORD, identity=replace(IDENTITY, **both))
    i = record.identity
    line = replace(
        LINE,
        payer=i.sender,
        pay_to=i.recipient,
        token_address=i.token,
        tx_hash=i.tx_hash,
        amount_settled=i.amount,
        amount_surplus=BaseUnits(0),
    )
    found = verified(payment(line=line, record=record), CONFIRMED)
    assert (found.is_verified, found.proof) == (False, ProofSays.FAILED)
    assert "its proof does not hold" in found.reasons[0]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"amount_settled": 1}, "its amount_settled is not the sum of its lines"),
        ({"amount_surplus": 0}, "its amount_surplus is not the sum of its lines"),
        ({"scale": 2}, "its amount_settled is not the sum of its lines"),
        ({"lines": (LINE, LINE)}, "two of its lines are of one transfer"),
    ],
    ids=str,
)
def test_settlement_that_contradicts_itself__says_how(changed: dict[str, Any], reason: str) -> None:
    assert reason in contradictions(replace(SETTLEMENT, **changed))
