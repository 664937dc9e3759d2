"""A header's `logsBloom`: which addresses and topics the block's logs may have. Pure.

    said to be absent     certainly absent: such a log, if answered, is invented
    said to be present    perhaps present: the fuller the bloom, the less that says

Three bits of 2048 an item, from its Keccak hash (Yellow Paper, section 4.3.1; execution-specs `bloom.py`). Only for
chains whose header commits to its own logs: elsewhere blooms of zeros (zkSync) or of ones are answered.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache

from chains.errors import NodeInconsistent
from chains.hex import read_bytes
from chains.model import Address, LogQuery, TransferIdentity
from chains.proof.keccak import keccak
from contracts_abi import TRANSFER_TOPIC

BLOOM_BYTES = 256
BLOOM_BITS = 8 * BLOOM_BYTES
BITS_AN_ITEM = 3

CHANCE_MAX = 0.05
"""A bloom that would say `perhaps` to what is not there more often than this is not asked: a full mainnet block (about
three quarters of the bits) says so to one address in two."""

_PADDING = bytes(12)


def read_bloom(text: str) -> int:
    """The bits of a `logsBloom`, as one integer."""
    return int.from_bytes(read_bytes(text, "block logsBloom", BLOOM_BYTES))


def check_held(bloom: int, identity: TransferIdentity) -> None:
    """Raises `NodeInconsistent` for a transfer that no log of this block can be."""
    items = (identity.token, TRANSFER_TOPIC, _word(identity.sender), _word(identity.recipient))
    if not all(_may_hold(bloom, item) for item in items):
        raise NodeInconsistent("a transfer that the logsBloom of its block rules out: the log is invented")


def is_doubtful(bloom: int, query: LogQuery, *, recipients: Collection[Address] | None) -> bool:
    """Whether this bloom speaks against an answer without any log of its block.

    `recipients`: those that were in the filter, `None` if the logs were asked unfiltered. A bloom too full to tell
    speaks against nothing.
    """
    guesses = len(query.tokens) if recipients is None else len(recipients)
    if _chance(bloom, guesses) > CHANCE_MAX or not _may_hold(bloom, TRANSFER_TOPIC):
        return False
    return any(_may_hold(bloom, token) for token in query.tokens) and (
        recipients is None or any(_may_hold(bloom, _word(recipient)) for recipient in recipients)
    )


def _chance(bloom: int, guesses: int) -> float:
    """How likely it is that one of so many items seems present though none is."""
    filled = bloom.bit_count() / BLOOM_BITS
    return 1.0 - float((1.0 - filled**BITS_AN_ITEM) ** guesses)


def _may_hold(bloom: int, item: bytes) -> bool:
    bits = _bits(item)
    return bloom & bits == bits


@lru_cache(maxsize=4_096)
def _bits(item: bytes) -> int:
    digest = keccak(item)
    return sum({1 << (int.from_bytes(digest[at : at + 2]) % BLOOM_BITS) for at in (0, 2, 4)})


def _word(address: Address) -> bytes:
    return _PADDING + address
