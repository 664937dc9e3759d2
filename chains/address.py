"""Addresses as people write them: EIP-55 only. Pure.

A typing error in an all-lower-case address cannot be seen, and money sent to it is gone; so only the checksummed form
is accepted, and the message says what the checksummed form would be. https://eips.ethereum.org/EIPS/eip-55
"""

from __future__ import annotations

import functools
import re

from eth_typing import ChecksumAddress, HexAddress, HexStr

from chains.model import Address
from chains.proof.keccak import keccak

ZERO_ADDRESS = Address(bytes(20))
"""Mints and burns name it; nobody can be paid there."""

CHECKSUMS_KEPT = 16_384
"""Addresses whose checksummed form is remembered: each costs a keccak, and tokens and payees come again and again."""

_SHAPE = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)
_SHOWN_CHARS = 60


def parse_address(text: str) -> Address:
    """The 20 bytes of an EIP-55 checksummed address. Raises `ValueError`, naming the value and what to do."""
    if _SHAPE.fullmatch(text) is None:
        raise ValueError(f"{text[:_SHOWN_CHARS]!a} is no address: it must be 0x and 40 hex digits")
    address = Address(bytes.fromhex(text[2:]))
    if address == ZERO_ADDRESS:
        raise ValueError(f"{text} is the zero address: nobody can receive there")
    checksummed = to_checksum(address)
    if text == checksummed:
        return address
    raise ValueError(
        f"{text} has no valid EIP-55 checksum; compare every digit with its source, and if it is meant, "
        f"write {checksummed}"
    )


@functools.lru_cache(maxsize=CHECKSUMS_KEPT)
def to_checksum(address: Address) -> ChecksumAddress:
    """`0x…` in EIP-55 mixed case: a letter is upper case where the hash of them all has 8 or more."""
    digits = address.hex()
    hashed = keccak(digits.encode()).hex()
    return ChecksumAddress(
        HexAddress(HexStr("0x" + "".join([c.upper() if h > "7" else c for c, h in zip(digits, hashed, strict=False)])))
    )
