from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chains.address import parse_address, to_checksum
from chains.model import Address

# the specification's own examples: https://eips.ethereum.org/EIPS/eip-55
SPECIFIED = [
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
    "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
    "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
    "0x52908400098527886E0F7030069857D2E4169EE7",
    "0xde709f2102306220921060314715629080e2fb77",
]


@pytest.mark.parametrize("text", SPECIFIED)
def test_parse_address__examples_of_the_specification(text: str) -> None:
    assert to_checksum(parse_address(text)) == text


@given(st.binary(min_size=20, max_size=20).filter(any))
def test_parse_address__round_trip(raw: bytes) -> None:
    assert parse_address(to_checksum(Address(raw))) == raw


@given(st.binary(min_size=20, max_size=20).filter(any), st.data())
def test_parse_address__any_other_case__is_refused_with_the_right_one(raw: bytes, data: st.DataObject) -> None:
    right = to_checksum(Address(raw))
    letters = [at for at, char in enumerate(right) if char.isalpha() and at > 1]
    if not letters:
        return
    at = data.draw(st.sampled_from(letters))
    wrong = right[:at] + right[at].swapcase() + right[at + 1 :]
    with pytest.raises(ValueError, match=right) as raised:
        parse_address(wrong)
    assert wrong in str(raised.value)


@pytest.mark.parametrize("text", [SPECIFIED[0].lower(), "0x" + SPECIFIED[0][2:].upper()])
def test_parse_address__without_checksum__is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"if it is meant, write {SPECIFIED[0]}"):
        parse_address(text)


@pytest.mark.parametrize(
    "text",
    ["", "0x", SPECIFIED[0][2:], SPECIFIED[0] + "00", SPECIFIED[0][:-1], "0X" + SPECIFIED[0][2:], " " + SPECIFIED[0],
     SPECIFIED[0] + "\n", "0x" + "g" * 40, "0x" + "٣" * 40, "vitalik.eth", "\x1b[2J" * 20],
)  # fmt: skip
def test_parse_address__no_address__is_refused_and_shown_harmlessly(text: str) -> None:
    with pytest.raises(ValueError, match="no address") as raised:
        parse_address(text)
    assert str(raised.value).isprintable()


def test_parse_address__zero__is_refused() -> None:
    with pytest.raises(ValueError, match="zero address"):
        parse_address("0x" + "0" * 40)
