"""`ProvenBlock.transfers`: what a block's receipts hold, found without decoding those that cannot hold any of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chains.model import Address, LogQuery, TransferIdentity
from chains.proof import ProofFailed, ProvenBlock, WireReceipt, WireReceiptLog, prove_block, verify
from chains.proof.evidence import remembering
from tests.chains.proof.samples import (
    CHAIN,
    ETHEREUM,
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

OTHER = Address(b"\x33" * 20)
QUERY = LogQuery(tokens=frozenset([TOKEN]), recipients=frozenset([PAYEE]))


def proven(receipts: list[WireReceipt]) -> ProvenBlock:
    block = block_of([encoded(each) for each in receipts])
    return prove_block(block, receipts, block_hash=hash_of(block), profile=ETHEREUM)


def paid(index: int, amount: int, ordinal: int = 0) -> TransferIdentity:
    block = block_of([])
    return transfer_in(block, index, amount=amount, ordinal=ordinal).identity


def raw_hex(log: WireReceiptLog) -> str:
    """A log as it stands in a receipt, in hex."""
    whole = encoded(receipt(0, log))
    return whole[whole.index(bytes.fromhex(log.address[2:])) - 1 :].hex()


@settings(deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from([TOKEN, OTHER]), st.sampled_from([PAYEE, OTHER]), st.integers(0, 3))),
        max_size=5,
    ),
    st.booleans(),
)
def test_transfers__any_logs__are_all_that_are_wanted(
    txs: list[list[tuple[Address, Address, int]]], to_anybody: bool
) -> None:
    query = replace(QUERY, recipients=None) if to_anybody else QUERY
    receipts = [
        receipt(index, *(transfer_log(amount, token=token, to=to) for token, to, amount in logs))
        for index, logs in enumerate(txs)
    ]
    expected: list[TransferIdentity] = []
    for index, logs in enumerate(txs):
        for position, (token, to, amount) in enumerate(logs):
            if token == TOKEN and (to == PAYEE or to_anybody):
                ordinal = logs[:position].count((token, to, amount))
                expected.append(replace(paid(index, amount, ordinal), recipient=to))
    assert proven(receipts).transfers(CHAIN, query) == frozenset(expected)


def test_transfers__of_a_failed_transaction__are_none() -> None:
    assert proven([receipt(0, transfer_log(), status="0x0")]).transfers(CHAIN, QUERY) == frozenset()


def test_transfers__the_bytes_of_one_in_a_strangers_data__are_no_transfer() -> None:
    """A contract may log anything: also what looks like a payment."""
    posing = WireReceiptLog(address="0x" + OTHER.hex(), topics=(), data="0x" + raw_hex(transfer_log()))
    assert proven([receipt(0, posing)]).transfers(CHAIN, QUERY) == frozenset()


def test_transfers__a_true_one_behind_what_looks_like_one__is_found() -> None:
    posing = WireReceiptLog(
        address="0x" + OTHER.hex(), topics=(), data="0x" + raw_hex(transfer_log(token=OTHER, to=OTHER))
    )
    block = proven([receipt(0, posing, transfer_log(7))])
    assert block.transfers(CHAIN, QUERY) == {paid(0, 7)}


def test_transfers__of_another_token_or_to_another__are_not_wanted() -> None:
    logs = (transfer_log(token=OTHER), transfer_log(to=OTHER))
    assert proven([receipt(0, *logs)]).transfers(CHAIN, QUERY) == frozenset()


@pytest.mark.parametrize("data", ["0x", "0x01", "0x" + "00" * 64])
def test_transfers__a_log_without_one_amount__is_no_transfer(data: str) -> None:
    like = transfer_log()
    odd = WireReceiptLog(address=like.address, topics=like.topics, data=data)
    assert proven([receipt(0, odd)]).transfers(CHAIN, QUERY) == frozenset()


def test_verify__with_readers_that_remember__refuses_what_it_refuses_without() -> None:
    """They have read the true proof before: nothing of it is believed of another."""
    receipts = [receipt(index, transfer_log(index + 1)) for index in range(40)]
    block = block_of([encoded(each) for each in receipts])
    made = prove_block(block, receipts, block_hash=hash_of(block), profile=ETHEREUM)
    readers = remembering()
    payments = [transfer_in(block, index, amount=index + 1) for index in range(40)]
    proofs = [made.prove(payment) for payment in payments]
    for proof, payment in zip(proofs, payments, strict=True):
        verify(proof, payment, readers=readers)
    for proof, payment in zip(proofs, payments[1:], strict=False):
        with pytest.raises(ProofFailed):
            verify(proof, payment, readers=readers)
    root, *rest = proofs[3].path
    altered = root[:-40] + bytes([root[-40] ^ 1]) + root[-39:]
    with pytest.raises(ProofFailed, match="another hash"):
        verify(replace(proofs[3], path=(altered, *rest)), payments[3], readers=readers)
    with pytest.raises(ProofFailed, match="not the block's hash"):
        verify(replace(proofs[3], header=proofs[3].header + b"\x80"), payments[3], readers=readers)


def test_prove__two_payments_of_one_transaction__each_at_its_place() -> None:
    receipts = [receipt(0), receipt(1, transfer_log(), transfer_log(), transfer_log(3))]
    block = block_of([encoded(each) for each in receipts])
    made = prove_block(block, receipts, block_hash=hash_of(block), profile=ETHEREUM)
    proofs = [made.prove(transfer_in(block, 1, ordinal=n)) for n in (0, 1)] + [
        made.prove(transfer_in(block, 1, amount=3))
    ]
    assert [proof.log_position for proof in proofs] == [0, 1, 2]
    assert {proof.tx_hash for proof in proofs} == {tx_hash_of(1)}
