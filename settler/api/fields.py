"""The kinds of values that requests are made of; each says what it takes, for the check and the schema alike."""

from __future__ import annotations

import json
import unicodedata
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, JsonValue

from chains.address import parse_address
from settler.domain.drafting import REFERENCE_BYTES_MAX, REFERENCE_BYTES_MIN, parse_reference
from settler.domain.errors import InvalidInput
from settler.domain.money import parse_positive

MODEL = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)
"""Of every model: a number is no string, and a name we do not know is a mistake to tell of."""

REFERENCE_CHARS = 200
REASON_CHARS = 500
MERCHANT_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
METADATA_KEYS = 50
METADATA_BYTES = 8_192
AMOUNT_CHARS = 160
"""78 digits before the point and as many after it, and some zeros."""
NAME_CHARS = 64

_CONTROL = {"Cc", "Zl", "Zp"}
"""Unicode categories: control characters, line and paragraph separators."""


def without_controls(text: str) -> str:
    """One line of text. Raises `ValueError`."""
    for position, char in enumerate(text):
        if unicodedata.category(char) in _CONTROL:
            raise ValueError(f"has the control character U+{ord(char):04X} at position {position}; leave it out")
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty; give your own name for the invoice, e.g. an order number")
    return text


def _no_number(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f'{value} is a JSON number, which may lose digits; write it as a string, like "100.00"')
    return value


def _plain_amount(text: str) -> str:
    """Positive and plain decimal; how many decimals can be paid, the chosen token decides (`drafting`)."""
    decimals = len(text.partition(".")[2].rstrip("0"))
    try:
        parse_positive(text, decimals, field="amount")
    except InvalidInput as error:
        raise ValueError(error.problem) from error
    return text


def _checksummed(text: str) -> str:
    parse_address(text)
    return text


def _onchain_reference(text: str) -> str:
    try:
        parse_reference(text)
    except InvalidInput as error:
        raise ValueError(error.problem) from error
    return text


def _bounded(metadata: dict[str, JsonValue]) -> dict[str, JsonValue]:
    if len(metadata) > METADATA_KEYS:
        raise ValueError(f"has {len(metadata)} keys; at most {METADATA_KEYS} are kept")
    size = len(json.dumps(metadata, ensure_ascii=False, separators=(",", ":")).encode())
    if size > METADATA_BYTES:
        raise ValueError(f"is {size} bytes of JSON; at most {METADATA_BYTES} are kept")
    return metadata


Amount = Annotated[
    str,
    BeforeValidator(_no_number, json_schema_input_type=str),
    Field(max_length=AMOUNT_CHARS, description="What is owed, a plain decimal string above zero", examples=["100.00"]),
    AfterValidator(_plain_amount),
]
Reference = Annotated[
    str,
    Field(
        max_length=REFERENCE_CHARS,
        description="Your own name for the invoice, unique per merchant",
        examples=["order-42"],
    ),
    AfterValidator(_not_blank),
    AfterValidator(without_controls),
]
Merchant = Annotated[str, Field(pattern=MERCHANT_PATTERN, description="Whose invoice it is", examples=["default"])]
Reason = Annotated[
    str,
    Field(max_length=REASON_CHARS, description="Why, for the audit log"),
    AfterValidator(without_controls),
]
Name = Annotated[str, Field(min_length=1, max_length=NAME_CHARS), AfterValidator(without_controls)]
ChecksummedAddress = Annotated[
    str,
    Field(
        max_length=100,
        description="EIP-55 checksummed address",
        examples=["0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"],
    ),
    AfterValidator(_checksummed),
]
OnchainReference = Annotated[
    str,
    Field(
        max_length=1_000,
        description=f"What a payment carries on chain, {REFERENCE_BYTES_MIN} to {REFERENCE_BYTES_MAX} bytes in 0x-hex, "
        "where match is reference; left out: one is made",
        examples=["0xa0098add01acc736"],
    ),
    AfterValidator(_onchain_reference),
]
Metadata = Annotated[
    dict[str, JsonValue],
    Field(description=f"Kept and shown as it is; at most {METADATA_KEYS} keys and {METADATA_BYTES} bytes"),
    AfterValidator(_bounded),
]
