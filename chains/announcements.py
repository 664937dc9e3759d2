"""What a token's contract announces of itself: that it is paused, was upgraded, froze somebody. Pure.

The words differ from issuer to issuer; `KINDS` lists those that are known, each by its topic 0. What follows from an
announcement is not said here, nor whether anybody believes it.
"""

from __future__ import annotations

from collections.abc import Iterable

from chains.decode import MAX_HEIGHT
from chains.errors import NodeInconsistent
from chains.hex import read_bytes, read_hash, read_quantity
from chains.model import Address, Announcement, AnnouncementKind, BlockNumber, BlockSpan, TxHash
from chains.wire import WireLog
from contracts_abi import topics

_PAUSED, _UNPAUSED = AnnouncementKind.PAUSED, AnnouncementKind.UNPAUSED
_BLOCKED, _UNBLOCKED = AnnouncementKind.BLOCKED, AnnouncementKind.UNBLOCKED

KINDS = {
    topics.PAUSE: _PAUSED,
    topics.PAUSED: _PAUSED,
    topics.UNPAUSE: _UNPAUSED,
    topics.UNPAUSED: _UNPAUSED,
    topics.PAUSE_STATE_UPDATE: _PAUSED,
    topics.UPGRADED: AnnouncementKind.UPGRADED,
    topics.DEPRECATE: AnnouncementKind.DEPRECATED,
    topics.BLACKLISTED: _BLOCKED,
    topics.BLACKLISTED_FLAG: _BLOCKED,
    topics.ADDED_BLACKLIST: _BLOCKED,
    topics.FREEZE_ADDRESS: _BLOCKED,
    topics.ACCOUNT_FROZEN: _BLOCKED,
    topics.ACCOUNT_PAUSED: _BLOCKED,
    topics.UNBLACKLISTED: _UNBLOCKED,
    topics.REMOVED_BLACKLIST: _UNBLOCKED,
    topics.UNFREEZE_ADDRESS: _UNBLOCKED,
    topics.ACCOUNT_UNFROZEN: _UNBLOCKED,
    topics.ACCOUNT_UNPAUSED: _UNBLOCKED,
}
_FLAGGED = {topics.PAUSE_STATE_UPDATE: _UNPAUSED, topics.BLACKLISTED_FLAG: _UNBLOCKED}
"""Events that end with a flag: what they mean when it is false."""
_WITHOUT_SUBJECT = frozenset({_PAUSED, _UNPAUSED})
_WORD = 32
_MAX_DATA_BYTES = 1_024


def announcements(logs: Iterable[WireLog], span: BlockSpan, tokens: frozenset[Address]) -> tuple[Announcement, ...]:
    """In the order they were made. Raises `NodeInconsistent` for a log that was not asked for, or is removed."""
    found = [_announcement(log, span, tokens) for log in logs]
    return tuple(sorted(found, key=lambda a: (a.block_number, a.log_index)))


def _announcement(log: WireLog, span: BlockSpan, tokens: frozenset[Address]) -> Announcement:
    token = Address(read_bytes(log.address, "log address", 20))
    number = BlockNumber(read_quantity(log.block_number, "log blockNumber", maximum=MAX_HEIGHT))
    topics_ = [read_hash(topic, "log topic") for topic in log.topics]
    if token not in tokens or number not in span or not topics_ or topics_[0] not in KINDS or log.removed:
        raise NodeInconsistent("a log that was not asked for, or was removed, among a token's announcements")
    # a contract may add what it likes: the known arguments come first
    text = log.data[: len("0x") + 2 * _MAX_DATA_BYTES]
    data = read_bytes(text, "log data", max(0, len(text) - len("0x")) // 2)
    # indexed or not, the arguments stand in the same order: Circle's proxy and EIP-1967 differ in nothing else
    words = [*topics_[1:], *(data[at : at + _WORD] for at in range(0, len(data) - _WORD + 1, _WORD))]
    kind = KINDS[topics_[0]]
    if topics_[0] in _FLAGGED and words and not any(words[-1]):
        kind = _FLAGGED[topics_[0]]
    return Announcement(
        token=token,
        kind=kind,
        subject=Address(words[0][12:]) if words and kind not in _WITHOUT_SUBJECT else None,
        block_number=number,
        tx_hash=TxHash(read_hash(log.transaction_hash, "log transactionHash")),
        log_index=read_quantity(log.log_index, "log logIndex"),
    )
