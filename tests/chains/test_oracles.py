from __future__ import annotations

from datetime import UTC, datetime

import pytest
from eth_utils.crypto import keccak

from chains import oracles
from chains.model import Address, Price
from chains.oracles import is_sanctioned_call, read_flag, read_price


@pytest.mark.parametrize(
    ("selector", "signature"),
    [
        (oracles.LATEST_ROUND_DATA, "latestRoundData()"),
        (oracles.DECIMALS, "decimals()"),
        (oracles.IS_SANCTIONED, "isSanctioned(address)"),
    ],
)
def test_selectors__are_those_of_their_signatures(selector: bytes, signature: str) -> None:
    assert keccak(text=signature)[:4] == selector


def test_is_sanctioned_call__one_padded_address() -> None:
    assert is_sanctioned_call(Address(b"\xaa" * 20)) == bytes.fromhex("df592f7d" + "00" * 12 + "aa" * 20)


@pytest.mark.parametrize(
    ("answer", "flag"),
    [
        ((1).to_bytes(32), True),
        (bytes(32), False),
        ((2).to_bytes(32), None),
        (b"\x01", None),
        (bytes(64), None),
        (b"\x01" + bytes(31), None),
        (None, None),
    ],
)
def test_read_flag__anything_but_a_bool_is_no_answer(answer: bytes | None, flag: bool | None) -> None:
    assert read_flag(answer) is flag


def words(*values: int) -> bytes:
    return b"".join((v % 2**256).to_bytes(32) for v in values)


def test_read_price__signed_answer_and_time_of_its_update() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    for answer in (99_990_000, -1, 2**255 - 1, -(2**255)):
        data = words(1, answer, 5, int(at.timestamp()), 1)
        assert read_price(data, words(8)) == Price(answer=answer, decimals=8, updated_at=at)


@pytest.mark.parametrize(
    ("data", "decimals"),
    [
        (None, words(8)),
        (words(1, 1, 1, 1, 1), None),
        (words(1, 1, 1, 1), words(8)),
        (words(1, 1, 1, 1, 1, 1), words(8)),
        (words(1, 1, 1, 0, 1), words(8)),
        (words(1, 1, 1, 2**64, 1), words(8)),
        (words(1, 1, 1, 1, 1), words(37)),
        (words(1, 1, 1, 1, 1), b"\x08"),
    ],
)
def test_read_price__another_shape_is_no_answer(data: bytes | None, decimals: bytes | None) -> None:
    assert read_price(data, decimals) is None
