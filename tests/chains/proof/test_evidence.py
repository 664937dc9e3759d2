"""A proof shows its transfer and nothing else; whatever is altered, on the node or in the store, is refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence

import msgspec
import pytest
from eth_hash.auto import keccak
from hypothesis import given, settings
from hypothesis import strategies as st

from chains.errors import NodeInconsistent
from chains.model import Address, BaseUnits, BlockHash, BlockNumber, ChainId, Transfer, TxHash
from chains.proof import (
    ProofFailed,
    ProvenBlock,
    ReceiptProof,
    WireReceipt,
    from_json,
    profile_of,
    prove_block,
    to_json,
    verify,
)
from tests.chains.proof.reference import trie_root
from tests.chains.proof.samples import (
    ETHEREUM,
    block_of,
    encoded,
    hash_of,
    receipt,
    transfer_in,
    transfer_log,
    tx_hash_of,
)

COUNT = 20
PAID = 7
"""The transaction that pays: a stranger's log first, then two equal payments."""

RECEIPTS = [
    receipt(index, transfer_log(1), transfer_log(), transfer_log())
    if index == PAID
    else receipt(index, transfer_log(9))
    for index in range(COUNT)
]
BLOCK = block_of([encoded(each) for each in RECEIPTS])
PAYMENT = transfer_in(BLOCK, PAID)


def proven(receipts: Sequence[WireReceipt] = RECEIPTS, block: dict[str, object] = BLOCK) -> ProvenBlock:
    return prove_block(block, receipts, block_hash=hash_of(BLOCK), profile=ETHEREUM)


PROOF = proven().prove(PAYMENT)


def with_identity(**changes: object) -> Transfer:
    identity = dataclasses.replace(PAYMENT.identity, **changes)  # type: ignore[arg-type]  # a test's choice of fields
    return dataclasses.replace(PAYMENT, identity=identity)


# -- what is true passes -----------------------------------------------------------------------------------------------


def test_prove__payment__is_at_its_position() -> None:
    assert (PROOF.tx_index, PROOF.log_position, PROOF.is_transaction_proven) == (PAID, 1, False)
    verify(PROOF, PAYMENT)


def test_prove__second_of_two_equal_logs__is_the_second() -> None:
    second = transfer_in(BLOCK, PAID, ordinal=1)
    proof = proven().prove(second)
    assert proof.log_position == 2
    verify(proof, second)


def test_from_json__what_to_json_gave__is_the_same_proof() -> None:
    stored = json.dumps(to_json(PROOF))
    again = from_json(json.loads(stored))
    assert again == PROOF
    verify(again, PAYMENT)


def test_prove_block__whole_transactions_in_the_block__serve_as_well() -> None:
    listed = [{"hash": "0x" + tx_hash_of(index).hex(), "type": "0x2"} for index in range(COUNT)]
    assert proven(block={**BLOCK, "transactions": listed}).prove(PAYMENT) == PROOF


# -- a node that lies --------------------------------------------------------------------------------------------------


def _changed(index: int, **changes: object) -> list[WireReceipt]:
    altered = msgspec.structs.replace(RECEIPTS[index], **changes)
    return [altered if at == index else each for at, each in enumerate(RECEIPTS)]


LIES: dict[str, list[WireReceipt]] = {
    "changed amount": _changed(PAID, logs=(transfer_log(1), transfer_log(6_000_000), transfer_log())),
    "omitted log": _changed(PAID, logs=(transfer_log(1), transfer_log())),
    "added log": _changed(3, logs=(transfer_log(9), transfer_log())),
    "swapped logs": _changed(PAID, logs=(transfer_log(), transfer_log(1), transfer_log())),
    "swapped token": _changed(PAID, logs=(transfer_log(1), transfer_log(token=b"\x99" * 20), transfer_log())),
    "other payee": _changed(PAID, logs=(transfer_log(1), transfer_log(to=b"\x99" * 20), transfer_log())),
    "failed made good": _changed(3, status="0x0"),
    "other type": _changed(3, type="0x1"),
    "other gas": _changed(3, cumulative_gas_used="0x1"),
    "other bloom": _changed(3, logs_bloom="0x" + "00" * 255 + "01"),
    "short bloom": _changed(3, logs_bloom="0x" + "00" * 255),
    "dropped first": RECEIPTS[1:],
    "dropped last": RECEIPTS[:-1],
    "doubled last": [*RECEIPTS, RECEIPTS[-1]],
    "swapped receipts": [RECEIPTS[1], RECEIPTS[0], *RECEIPTS[2:]],
    "none": [],
}


@pytest.mark.parametrize("lie", LIES)
def test_prove_block__lie_about_receipts__is_refused(lie: str) -> None:
    with pytest.raises(NodeInconsistent, match="do not give its receiptsRoot"):
        proven(LIES[lie])


@pytest.mark.parametrize("field", ["receiptsRoot", "number", "timestamp", "stateRoot", "parentBeaconBlockRoot"])
def test_prove_block__altered_header__is_refused(field: str) -> None:
    text = str(BLOCK[field])
    altered = {**BLOCK, field: text[:-1] + ("1" if text[-1] == "0" else "0")}
    with pytest.raises(NodeInconsistent, match="do not hash"):
        proven(block=altered)


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        (None, "without its transactions"),
        ([7], "no hash"),
        (["0x" + "00" * 32] * 2, "twice"),
        ([], "0 transactions with 20 receipts"),
        (["0x" + tx_hash_of(index ^ 1).hex() for index in range(COUNT)], "different transactions"),
    ],
)
def test_prove_block__transactions_that_do_not_fit__are_refused(listed: object, message: str) -> None:
    with pytest.raises(NodeInconsistent, match=message):
        proven(block={**BLOCK, "transactions": listed})


def test_prove__transfer_that_was_invented__fails() -> None:
    invented = [
        (with_identity(tx_hash=TxHash(b"\x77" * 32)), "does not list"),
        (with_identity(amount=BaseUnits(4)), "has 0 such logs"),
        (with_identity(ordinal=2), "has 2 such logs"),
        (dataclasses.replace(PAYMENT, block_hash=BlockHash(bytes(32))), "another block"),
    ]
    for transfer, message in invented:
        with pytest.raises(ProofFailed, match=message):
            proven().prove(transfer)


@pytest.mark.parametrize(
    ("one", "message"),
    [
        (receipt(0, transfer_log(), status="0x0"), "transaction failed"),
        (receipt(0, transfer_log(), type=None, status=None, root="0x" + "01" * 32), "before Byzantium"),
        (receipt(0, msgspec.structs.replace(transfer_log(), topics=transfer_log().topics * 2)), "0 such logs"),
        (receipt(0, msgspec.structs.replace(transfer_log(), data="0x")), "0 such logs"),
    ],
)
def test_prove__receipt_that_pays_nobody__fails(one: WireReceipt, message: str) -> None:
    block = block_of([encoded(one)])
    whole = prove_block(block, [one], block_hash=hash_of(block), profile=ETHEREUM)
    with pytest.raises(ProofFailed, match=message):
        whole.prove(transfer_in(block, 0))


# -- stored evidence that was altered, or belongs to something else ----------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: dataclasses.replace(PROOF, log_position=0), "not this transfer"),
        (lambda: dataclasses.replace(PROOF, log_position=2), "not number 1 of the equal ones"),
        (lambda: dataclasses.replace(PROOF, log_position=3), "none at position"),
        (lambda: dataclasses.replace(PROOF, log_position=-1), "none at position"),
        (lambda: dataclasses.replace(PROOF, tx_index=8), "leads elsewhere|another"),
        (lambda: dataclasses.replace(PROOF, tx_hash=tx_hash_of(8)), "another transaction"),
        (lambda: dataclasses.replace(PROOF, path=PROOF.path[:-1]), "ends before"),
        (lambda: dataclasses.replace(PROOF, path=()), "ends before"),
        (lambda: dataclasses.replace(PROOF, header=PROOF.header + b"\x00"), "hash"),
        (lambda: dataclasses.replace(PROOF, header=b""), "hash"),
        (lambda: dataclasses.replace(PROOF, transaction_path=PROOF.path), "another hash"),
    ],
)
def test_verify__altered_proof__fails(change: Callable[[], ReceiptProof], message: str) -> None:
    with pytest.raises(ProofFailed, match=message):
        verify(change(), PAYMENT)


@pytest.mark.parametrize(
    ("transfer", "message"),
    [
        (with_identity(amount=BaseUnits(5_000_001)), "not this transfer"),
        (with_identity(recipient=Address(b"\x33" * 20)), "not this transfer"),
        (with_identity(sender=Address(b"\x33" * 20)), "not this transfer"),
        (with_identity(token=Address(b"\x33" * 20)), "another contract"),
        (with_identity(ordinal=1), "not number 2"),
        (with_identity(tx_hash=tx_hash_of(8)), "another transaction"),
        (dataclasses.replace(PAYMENT, block_hash=BlockHash(bytes(32))), "not the block's hash"),
        (dataclasses.replace(PAYMENT, block_number=BlockNumber(5)), "another height"),
    ],
)
def test_verify__proof_of_another_transfer__fails(transfer: Transfer, message: str) -> None:
    with pytest.raises(ProofFailed, match=message):
        verify(PROOF, transfer)


def test_verify__forged_path_with_its_own_root__fails() -> None:
    """A whole trie of the forger's making, true in itself: its root is not the header's."""
    forged = [receipt(index, transfer_log(10**12)) for index in range(COUNT)]
    block = block_of([encoded(each) for each in forged])
    rich = transfer_in(block, PAID, amount=10**12)
    own = prove_block(block, forged, block_hash=hash_of(block), profile=ETHEREUM).prove(rich)
    with pytest.raises(ProofFailed, match="another hash"):
        verify(dataclasses.replace(own, header=PROOF.header), dataclasses.replace(rich, block_hash=hash_of(BLOCK)))
    with pytest.raises(ProofFailed, match="not the block's hash"):
        verify(own, dataclasses.replace(rich, block_hash=hash_of(BLOCK)))


@settings(deadline=None)
@given(st.data())
def test_verify__any_stored_byte_altered__fails(data: st.DataObject) -> None:
    stored = to_json(PROOF)
    texts = [str(stored["header"]), *PROOF_PATH]
    which = data.draw(st.integers(0, len(texts) - 1))
    at = data.draw(st.integers(2, len(texts[which]) - 1))
    digit = data.draw(st.sampled_from("0123456789abcdef").filter(lambda digit: digit != texts[which][at]))
    texts[which] = texts[which][:at] + digit + texts[which][at + 1 :]
    with pytest.raises(ProofFailed):
        verify(from_json({**stored, "header": texts[0], "path": texts[1:]}), PAYMENT)


PROOF_PATH = ["0x" + node.hex() for node in PROOF.path]


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"version": None},
        {"header": None},
        {"header": "f9"},
        {"header": "0xf"},
        {"header": "0xzz"},
        {"header": ""},
        {"path": "0x"},
        {"path": [7]},
        {"path": ["0x"] * 11},
        {"tx_index": "7"},
        {"tx_index": True},
        {"tx_index": -1},
        {"log_position": 1.0},
        {"tx_hash": "0x00"},
        {"transaction_path": 0},
    ],
)
def test_from_json__what_to_json_never_gave__fails(change: dict[str, object]) -> None:
    with pytest.raises(ProofFailed, match="stored evidence"):
        from_json({**to_json(PROOF), **change})


# -- the transaction's hash --------------------------------------------------------------------------------------------

RAWS = [b"\x02" + bytes([index]) * 100 for index in range(3)]
RAW_RECEIPTS = [
    msgspec.structs.replace(receipt(index, transfer_log()), transaction_hash="0x" + keccak(raw).hex())
    for index, raw in enumerate(RAWS)
]


def raw_block() -> dict[str, object]:
    block = block_of([encoded(each) for each in RAW_RECEIPTS], transactions_root=trie_root(RAWS))
    return {**block, "transactions": [each.transaction_hash for each in RAW_RECEIPTS]}


def test_prove__raw_transactions_given__the_transactions_hash_is_proven() -> None:
    block = raw_block()
    whole = prove_block(block, RAW_RECEIPTS, block_hash=hash_of(block), profile=ETHEREUM, raw_transactions=RAWS)
    transfer = transfer_in(block, 1)
    transfer = dataclasses.replace(
        transfer, identity=dataclasses.replace(transfer.identity, tx_hash=TxHash(keccak(RAWS[1])))
    )
    proof = whole.prove(transfer)
    assert proof.is_transaction_proven
    verify(from_json(json.loads(json.dumps(to_json(proof)))), transfer)
    other = TxHash(keccak(RAWS[2]))
    renamed = dataclasses.replace(transfer, identity=dataclasses.replace(transfer.identity, tx_hash=other))
    with pytest.raises(ProofFailed, match="another hash"):
        verify(dataclasses.replace(proof, tx_hash=other), renamed)


@pytest.mark.parametrize("raws", [RAWS[:2], [RAWS[1], RAWS[0], RAWS[2]], [b"", b"", b""], []])
def test_prove_block__raw_transactions_of_another_block__are_refused(raws: list[bytes]) -> None:
    block = raw_block()
    with pytest.raises(NodeInconsistent, match="raw transaction"):
        prove_block(block, RAW_RECEIPTS, block_hash=hash_of(block), profile=ETHEREUM, raw_transactions=raws)


def test_prove_block__raw_transactions_under_other_hashes__are_refused() -> None:
    """Both lists of the node agree with each other, and are a lie."""
    block = {**raw_block(), "transactions": ["0x" + tx_hash_of(index).hex() for index in range(3)]}
    receipts = [
        msgspec.structs.replace(each, transaction_hash="0x" + tx_hash_of(index).hex())
        for index, each in enumerate(RAW_RECEIPTS)
    ]
    with pytest.raises(NodeInconsistent, match="other transaction hashes"):
        prove_block(block, receipts, block_hash=hash_of(block), profile=ETHEREUM, raw_transactions=RAWS)


# -- Polygon before Madhugiri ------------------------------------------------------------------------------------------

POLYGON = profile_of(ChainId(137))
SYNTHETIC = receipt(2, transfer_log(), type="0x0", sender="0x" + "00" * 20)
REAL = [receipt(0, transfer_log(), sender="0x" + "11" * 20), receipt(1, sender="0x" + "11" * 20)]


def test_prove_block__polygon_appends_a_receipt__it_is_left_out() -> None:
    """Made up: not yet seen on a recorded block (see chains/data/proof.toml)."""
    block = block_of([encoded(each) for each in REAL], listed=3)
    whole = prove_block(block, [*REAL, SYNTHETIC], block_hash=hash_of(block), profile=POLYGON)
    whole.prove(transfer_in(block, 0))
    with pytest.raises(ProofFailed, match="no trie holds"):
        whole.prove(transfer_in(block, 2))


@pytest.mark.parametrize(("profile", "last"), [(ETHEREUM, SYNTHETIC), (POLYGON, receipt(2, sender="0x" + "11" * 20))])
def test_prove_block__a_receipt_too_many__is_refused_but_for_polygons_own(profile: object, last: WireReceipt) -> None:
    block = block_of([encoded(each) for each in REAL], listed=3)
    with pytest.raises(NodeInconsistent, match="receiptsRoot"):
        prove_block(block, [*REAL, last], block_hash=hash_of(block), profile=profile)  # type: ignore[arg-type]
