"""Receipts of every type encode as their chains hash them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chains.errors import NodeInconsistent
from chains.model import ChainId
from chains.proof import RECEIPTS, Unprovable, WireReceipt, WireReceiptLog, profile_of, receipts_root
from chains.proof.receipt import Log, decode_receipt, encode_receipt
from tests.chains.proof.reference import bloom, trie_root
from tests.chains.proof.samples import ETHEREUM, GOLDEN, NO_BLOOM, encoded, receipt, transfer_log

OP, CELO, ARBITRUM, POLYGON = (profile_of(ChainId(number)) for number in (10, 42220, 42161, 137))


def test_receipts_root__ethereum_46147__is_the_headers() -> None:
    """The first transaction ever: its receipt has a state root. Of the header in golden/headers.json."""
    root = "0x96a8e009d2b88b1483e6941e6812e32263b05683fac202abc622a3e31aed1957"
    first = receipt(type=None, status=None, root=root)
    assert receipts_root([first], ETHEREUM).hex() == "fe2bf2a941abf41d72637e5b91750332a30283efd40c424dc522b77e6f0ed8c4"


def test_receipts_root__one_plain_payment__is_the_well_known_one() -> None:
    """Every block of one legacy transfer of ether has it; here from go-ethereum, internal/ethapi/testdata."""
    root = receipts_root([receipt(type="0x0")], ETHEREUM)
    assert root.hex() == "056b23fbba480696b65fe5a59b8f2148a1299103c4f57df839233af2cf4ca2d2"


def test_receipts_root__typed_with_a_log__is_that_of_alloy() -> None:
    """alloy-consensus, `check_receipt_root_optimism`."""
    one = WireReceipt(
        transaction_hash="0x" + "00" * 32,
        cumulative_gas_used=hex(102_068),
        logs_bloom="0x" + "00" * 255 + "01",
        logs=(WireReceiptLog("0x" + "00" * 20, (), "0x"),),
        type="0x1",
        status="0x1",
    )
    assert receipts_root([one], ETHEREUM).hex() == "fe70ae4a136d98944951b2123859698d59ad251a381abc9960fa81cae3d0d4a0"


def test_receipts_root__base_goerli_before_canyon__leaves_the_deposit_nonce_out() -> None:
    """A real block; receipts and root from op-reth, `check_optimism_receipt_root`, blooms computed here."""
    answered: list[dict[str, Any]] = msgspec.json.decode((GOLDEN / "receipts-base-goerli.json").read_bytes())
    for each in answered:
        each["logsBloom"] = "0x" + bloom(each["logs"]).hex()
    receipts = RECEIPTS.decode(msgspec.json.encode(answered))
    assert receipts is not None
    assert receipts[0].deposit_nonce is not None
    assert receipts_root(receipts, OP).hex() == "e255fed45eae7ede0556fe4fabc77b0d294d18781a5a581cab09127bc4cd9ffb"


def test_encode_receipt__deposit_of_canyon__hashes_nonce_and_version() -> None:
    deposit = receipt(type="0x7E", deposit_nonce="0x3d3bff", deposit_receipt_version="0x1")
    assert encode_receipt(deposit, OP) == encoded(deposit, 0x3D3BFF, 1)


@pytest.mark.parametrize(("base_fee", "tail"), [(None, ()), ("0x5d21dba00", (0x5D21DBA00,))])
def test_encode_receipt__celo_fee_currency__hashes_the_base_fee_where_given(
    base_fee: str | None, tail: tuple[int, ...]
) -> None:
    one = receipt(type="0x7b", base_fee=base_fee)
    assert encode_receipt(one, CELO) == encoded(one, *tail)


@pytest.mark.parametrize("number", ["0x64", "0x65", "0x66", "0x68", "0x69", "0x6a"])
def test_encode_receipt__arbitrum_types__are_byte_and_four_fields(number: str) -> None:
    one = receipt(0, transfer_log(), type=number)
    assert encode_receipt(one, ARBITRUM) == encoded(one)


def test_encode_receipt__real_polygon_state_sync__is_byte_and_four_fields() -> None:
    one = receipt(0, transfer_log(), type="0x7f")
    assert encode_receipt(one, POLYGON) == encoded(one)


@pytest.mark.parametrize(
    ("number", "chain_id"), [("0x5", 1), ("0x7e", 1), ("0x6a", 8453), ("0x7b", 10), ("0x78", 42161), ("0x7d", 42220)]
)
def test_encode_receipt__type_the_chain_does_not_have__is_named_with_the_remedy(number: str, chain_id: int) -> None:
    with pytest.raises(Unprovable, match=rf"type {int(number, 16):#04x}.*update the program"):
        encode_receipt(receipt(type=number), profile_of(ChainId(chain_id)))


@pytest.mark.parametrize("wrong", ["0x", "0x2", "1", "yes"])
def test_encode_receipt__status_that_is_none__is_refused(wrong: str) -> None:
    with pytest.raises(NodeInconsistent, match="status"):
        encode_receipt(receipt(status=wrong), ETHEREUM)


def test_encode_receipt__neither_status_nor_root__is_refused() -> None:
    with pytest.raises(NodeInconsistent, match="neither status nor root"):
        encode_receipt(receipt(status=None), ETHEREUM)


def test_encode_receipt__a_log_that_is_no_hex__is_refused() -> None:
    with pytest.raises(NodeInconsistent, match="no hex"):
        encode_receipt(receipt(0, WireReceiptLog("0x" + "zz" * 20, (), "0x")), ETHEREUM)


def hex_of(size: int) -> st.SearchStrategy[str]:
    return st.binary(min_size=size, max_size=size).map(lambda raw: "0x" + raw.hex())


logs = st.builds(
    WireReceiptLog,
    address=hex_of(20),
    topics=st.lists(hex_of(32), max_size=4).map(tuple),
    data=st.binary(max_size=300).map(lambda raw: "0x" + raw.hex())
    | hex_of(1).map(str.upper).map(lambda t: "0x" + t[2:]),
)


@settings(deadline=None)
@given(
    st.lists(
        st.builds(
            WireReceipt,
            transaction_hash=st.just("0x" + "00" * 32),
            cumulative_gas_used=st.integers(0, 2**64 - 1).map(hex),
            logs_bloom=hex_of(256) | st.just(NO_BLOOM),
            logs=st.lists(logs, max_size=4).map(tuple),
            type=st.sampled_from([None, "0x0", "0x1", "0x02", "0x3", "0x4"]),
            status=st.sampled_from(["0x0", "0x1"]),
        ),
        max_size=20,
    )
)
def test_receipts_root__any_receipts__equals_the_reference(receipts: list[WireReceipt]) -> None:
    assert receipts_root(receipts, ETHEREUM) == trie_root([encoded(each) for each in receipts])
    for each in receipts:
        decoded = decode_receipt(encode_receipt(each, ETHEREUM))
        assert decoded.is_success is (each.status == "0x1")
        assert decoded.logs == tuple(
            Log(
                address=bytes.fromhex(log.address[2:]),
                topics=tuple(bytes.fromhex(topic[2:]) for topic in log.topics),
                data=bytes.fromhex(log.data[2:]),
            )
            for log in each.logs
        )
