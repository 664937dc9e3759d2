"""Contracts that are asked before money is trusted: price feeds and sanctions lists. Encodes and decodes; pure.

A feed is Chainlink's AggregatorV3Interface; a list is Chainalysis' `isSanctioned(address)`. An answer in any other
shape is no answer (`None`): who asks decides what that means, and it never means yes.
"""

from __future__ import annotations

from datetime import UTC, datetime

from chains.decode import MAX_TIMESTAMP_S
from chains.model import Address, Price

LATEST_ROUND_DATA = bytes.fromhex("feaf968c")
DECIMALS = bytes.fromhex("313ce567")
IS_SANCTIONED = bytes.fromhex("df592f7d")
_WORD = 32
_MAX_DECIMALS = 36
_SIGN = 1 << 255


def is_sanctioned_call(address: Address) -> bytes:
    return IS_SANCTIONED + address.rjust(_WORD, b"\0")


def read_flag(answer: bytes | None) -> bool | None:
    """A `bool`; `None` for a call that reverted, or answered something that is none."""
    if answer is None or len(answer) != _WORD or int.from_bytes(answer) > 1:
        return None
    return answer[-1] == 1


def read_price(round_data: bytes | None, decimals: bytes | None) -> Price | None:
    """`latestRoundData()` and `decimals()` of a feed; `None` where either is no answer."""
    if round_data is None or len(round_data) != 5 * _WORD or decimals is None or len(decimals) != _WORD:
        return None
    places = int.from_bytes(decimals)
    words = [int.from_bytes(round_data[at : at + _WORD]) for at in range(0, 5 * _WORD, _WORD)]
    answer, updated_at_s = words[1], words[3]
    if places > _MAX_DECIMALS or not 0 < updated_at_s <= MAX_TIMESTAMP_S:
        return None
    return Price(
        answer=answer - (1 << 256) if answer >= _SIGN else answer,
        decimals=places,
        updated_at=datetime.fromtimestamp(updated_at_s, tz=UTC),
    )
