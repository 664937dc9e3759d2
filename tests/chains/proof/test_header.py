"""Headers of real chains hash to their hashes, and what does not says why.

The blocks in golden/headers.json are answers of public nodes found in the tests and documentation of open projects
(lmittmann/w3, a16z/helios, GetBlock, coinbase/chainstorage). No word of theirs is trusted: that the fields hash to the
block's hash is the proof that they are the chain's.
"""

from __future__ import annotations

import pytest
from eth_hash.auto import keccak

from chains.errors import NodeInconsistent
from chains.model import ChainId
from chains.proof import Unprovable, encode_header, profile_of
from tests.chains.proof.samples import ETHEREUM, GoldenHeader, block_of, golden_headers, hash_of


@pytest.mark.parametrize("golden", golden_headers(), ids=lambda golden: golden.what)
def test_encode_header__real_chain__has_the_blocks_hash(golden: GoldenHeader) -> None:
    block_hash = hash_of(golden.block)
    encoded = encode_header(golden.block, block_hash, profile_of(ChainId(golden.chain_id)))
    assert keccak(encoded) == block_hash


@pytest.mark.parametrize("golden", golden_headers(), ids=lambda golden: golden.what)
def test_encode_header__any_hashed_field_altered__is_refused(golden: GoldenHeader) -> None:
    profile = profile_of(ChainId(golden.chain_id))
    for field in profile.header_fields:
        text = golden.block.get(field.name)
        if not isinstance(text, str) or text == "0x":
            continue
        altered = {**golden.block, field.name: text[:-1] + ("1" if text[-1] != "1" else "2")}
        with pytest.raises(NodeInconsistent):
            encode_header(altered, hash_of(golden.block), profile)


def test_encode_header__a_field_of_a_new_fork__is_named_with_the_remedy() -> None:
    """Amsterdam will append a field. Until it is known here nothing settles, and the message says what to do."""
    block = block_of([], blockAccessListHash="0x" + "08" * 32)
    block["hash"] = "0x" + "99" * 32  # of a header with that field
    with pytest.raises(Unprovable, match=r"'blockAccessListHash'.*update the program"):
        encode_header(block, hash_of(block), ETHEREUM)


def test_encode_header__a_field_nodes_add_for_themselves__does_no_harm() -> None:
    block = block_of([], milliTimestamp="0x1", author="0x" + "00" * 20)
    assert keccak(encode_header(block, hash_of(block), ETHEREUM)) == hash_of(block)


def test_encode_header__later_field_null__is_as_if_missing() -> None:
    block = {**block_of([]), "requestsHash": None}
    assert keccak(encode_header(block, hash_of(block), ETHEREUM)) == hash_of(block)


@pytest.mark.parametrize("missing", ["parentHash", "receiptsRoot", "nonce", "baseFeePerGas", "hash"])
def test_encode_header__field_missing__is_refused(missing: str) -> None:
    block = block_of([])
    with pytest.raises(NodeInconsistent):
        encode_header({name: block[name] for name in block if name != missing}, hash_of(block), ETHEREUM)


@pytest.mark.parametrize("value", ["", "0x", "zz", "0x123", "0x" + "00" * 31, 7, ["0x00"], "0x" + " " * 64])
def test_encode_header__field_of_another_shape__is_refused(value: object) -> None:
    block = block_of([])
    with pytest.raises(NodeInconsistent, match="stateRoot"):
        encode_header({**block, "stateRoot": value}, hash_of(block), ETHEREUM)


def test_encode_header__another_block__is_refused() -> None:
    with pytest.raises(NodeInconsistent, match="another block"):
        encode_header(block_of([]), hash_of(golden_headers()[0].block), ETHEREUM)


def test_encode_header__unverified_chain_does_not_hash__says_the_profile_may_be_wrong() -> None:
    block = {**block_of([]), "gasUsed": "0x1"}
    with pytest.raises(NodeInconsistent, match="op-stack profile is wrong"):
        encode_header(block, hash_of(block), profile_of(ChainId(8453)))
