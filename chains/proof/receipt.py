"""Receipts as the bytes that stand in the trie, and back. Pure.

Encoding is lenient where the trie's root judges it anyway: text that is no hash of 32 bytes gives an encoding nobody
committed to. It puts the hex together and converts it once a receipt, which is where the speed comes from. Decoding
judges alone and is strict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from chains.errors import NodeInconsistent
from chains.hex import read_quantity
from chains.model import UINT256_MAX
from chains.proof import rlp
from chains.proof.errors import Unprovable
from chains.proof.profile import REMEDY, Profile
from chains.proof.wire import WireReceipt, WireReceiptLog

_LEGACY = 0
_ADDRESS_SIZE = 20
_TOPIC_SIZE = 32
_BLOOM_SIZE = 256
_COMMON_FIELDS = 4
_FIRST_UNTYPED = 0xC0
"""The least first byte of an encoded list; types are below 0x80 (EIP-2718)."""

_TAIL: Mapping[str, Callable[[WireReceipt], str | None]] = {
    "depositNonce": lambda receipt: receipt.deposit_nonce,
    "depositReceiptVersion": lambda receipt: receipt.deposit_receipt_version,
    "baseFee": lambda receipt: receipt.base_fee,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    address: bytes
    """20 bytes: the contract that wrote it."""
    topics: tuple[bytes, ...]
    """0 to 4, each of 32 bytes."""
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a receipt commits to, as far as transfers go."""

    is_success: bool | None
    """`None`: before Byzantium, when receipts did not say."""
    logs: tuple[Log, ...]


def encode_receipt(receipt: WireReceipt, profile: Profile) -> bytes:
    """The value that stands in the trie. Raises `Unprovable` for a type the profile does not have, `NodeInconsistent`
    for what is not hex."""
    number = _LEGACY if receipt.type is None else _type_number(receipt.type)
    tail = profile.receipt_types.get(number)
    if tail is None:
        raise Unprovable(f"a receipt of type {number:#04x}, which the {profile.family} profile does not have: {REMEDY}")
    logs = "".join([_log_hex(log) for log in receipt.logs])
    text = (
        _outcome_hex(receipt),
        rlp.encode_int(read_quantity(receipt.cumulative_gas_used, "receipt cumulativeGasUsed")).hex(),
        "b90100",
        receipt.logs_bloom[2:],
        _prefix_hex(len(logs)),
        logs,
        _tail_hex(receipt, tail) if tail else "",
    )
    try:
        payload = bytes.fromhex("".join(text))
    except ValueError as error:
        raise NodeInconsistent(f"a receipt with something that is no hex: {error}") from error
    encoded = rlp.prefix(len(payload)) + payload
    return encoded if number == _LEGACY else bytes((number,)) + encoded


def decode_receipt(encoded: bytes) -> Receipt:
    """Raises `rlp.Malformed` for anything that is not exactly a receipt."""
    is_typed = encoded[:1] < bytes((_FIRST_UNTYPED,))
    fields = rlp.decode(encoded[1:] if is_typed else encoded)
    if not isinstance(fields, list) or len(fields) < _COMMON_FIELDS:
        raise rlp.Malformed("a receipt with too few fields")
    outcome, _, bloom, logs = fields[:_COMMON_FIELDS]
    if not isinstance(bloom, bytes) or len(bloom) != _BLOOM_SIZE or not isinstance(logs, list):
        raise rlp.Malformed("a receipt without bloom or logs")
    return Receipt(is_success=_is_success(outcome), logs=tuple(_log(log) for log in logs))


# -- to bytes ----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _type_number(text: str) -> int:
    return read_quantity(text, "receipt type")


def _outcome_hex(receipt: WireReceipt) -> str:
    if receipt.status == "0x1":
        return "01"
    if receipt.status is not None:
        return "01" if read_quantity(receipt.status, "receipt status", maximum=1) else "80"
    if receipt.root is None:
        raise NodeInconsistent("a receipt with neither status nor root")
    return "a0" + receipt.root[2:]


def _tail_hex(receipt: WireReceipt, tail: tuple[str, ...]) -> str:
    values = [_TAIL[name](receipt) for name in tail]
    given = [value for value in values if value is not None]
    if len(given) != len(values):
        return ""
    return "".join(rlp.encode_int(read_quantity(value, "receipt tail", maximum=UINT256_MAX)).hex() for value in given)


def _log_hex(log: WireReceiptLog) -> str:
    topics = "".join(log.topics).replace("0x", "a0")  # the prefix of each is where its RLP prefix stands
    data = log.data[2:]
    if len(data) == 2 and data < "80":
        before = ""  # one small byte is its own encoding
    else:
        before = _string_hex(len(data))
    text = f"94{log.address[2:]}{_prefix_hex(len(topics))}{topics}{before}{data}"
    return _prefix_hex(len(text)) + text


@lru_cache(maxsize=4_096)
def _prefix_hex(digits: int) -> str:
    """What stands before a list of so many hex digits."""
    return rlp.prefix(digits // 2).hex()


@lru_cache(maxsize=4_096)
def _string_hex(digits: int) -> str:
    """What stands before a string of so many hex digits."""
    return rlp.prefix(digits // 2, 0x80).hex()


# -- from bytes --------------------------------------------------------------------------------------------------------


def _is_success(outcome: rlp.Item) -> bool | None:
    if outcome == b"\x01":
        return True
    if outcome == b"":
        return False
    if isinstance(outcome, bytes) and len(outcome) == _TOPIC_SIZE:
        return None
    raise rlp.Malformed("a receipt whose status is neither 0 nor 1")


def _log(item: rlp.Item) -> Log:
    if not isinstance(item, list) or len(item) != 3:
        raise rlp.Malformed("a log that has not three fields")
    address, topics, data = item
    if not isinstance(address, bytes) or len(address) != _ADDRESS_SIZE or not isinstance(data, bytes):
        raise rlp.Malformed("a log without address or data")
    if not isinstance(topics, list):
        raise rlp.Malformed("a log without topics")
    return Log(address=address, topics=tuple(_topics(topics)), data=data)


def _topics(items: list[rlp.Item]) -> list[bytes]:
    topics: list[bytes] = []
    for item in items:
        if not isinstance(item, bytes) or len(item) != _TOPIC_SIZE:
            raise rlp.Malformed("a topic that has not 32 bytes")
        topics.append(item)
    return topics
