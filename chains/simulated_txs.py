"""What simulated transactions do, and the very logs that contracts write about it. Pure.

Labels and announcements are written as the real contracts write them, so that `chains.labels` and
`chains.announcements` have to read them back: where each log stands is what the contracts' own code does, not what the
readers expect.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from chains.labels import RawLog
from chains.model import Address, Announcement, AnnouncementKind, BaseUnits, Label, LabelKind, LabelSources, TxHash
from contracts_abi import TRANSFER_TOPIC, topics

LABEL_SOURCES = LabelSources(
    proxies=frozenset({Address(b"\x50" * 20)}),
    escrows=frozenset({Address(b"\x51" * 20)}),
)
"""Where simulated chains have Request Network's proxy and the escrow, unless told otherwise."""

_ZERO = bytes(32)
_LABEL_ORDER = list(LabelKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimTransfer:
    """What one ERC-20 log says."""

    token: Address
    sender: Address
    recipient: Address
    amount: BaseUnits
    labels: tuple[Label, ...] = ()
    """What other logs of the transaction say it is for; at most one of each kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimTx:
    """A transaction: the same hash in whichever block it is mined."""

    hash: TxHash
    transfers: tuple[SimTransfer, ...]
    noise: tuple[RawLog, ...] = ()
    """Logs that stand before those of the transfers and are none of what the chain counts as one: other contracts',
    ERC-721's, of a token nobody configured. A `Transfer` of a token that counts belongs into `transfers`."""
    sender: Address | None = None
    """Whose transaction it is: a payer, a relayer, an exchange. `None`: nobody in particular."""
    nonce: int | None = None
    """Of two transactions with one sender and nonce a chain takes one. `None`: in nobody's way."""
    has_failed: bool = False
    """It is mined and reverted: no logs."""


def logs_of(tx: SimTx, sources: LabelSources) -> Iterator[tuple[RawLog, SimTransfer | None]]:
    """All logs of the transaction in order, each `Transfer` that counts beside what it says."""
    if tx.has_failed:
        return
    for log in tx.noise:
        yield log, None
    for sent in tx.transfers:
        for label in sent.labels:
            if (before := _before(label, sent, sources)) is not None:
                yield before, None
        yield _transfer_log(sent), sent
        for label in sent.labels:
            if (behind := _behind(label, sent, sources)) is not None:
                yield behind, None


def in_order(labels: tuple[Label, ...]) -> tuple[Label, ...]:
    """As they are read: by kind."""
    return tuple(sorted(labels, key=lambda label: _LABEL_ORDER.index(label.kind))) if len(labels) > 1 else labels


def announcement_log(announcement: Announcement) -> RawLog:
    """As Circle's tokens, OpenZeppelin's proxies and Tether's announce it."""
    words = () if announcement.subject is None else (_word(announcement.subject),)
    match announcement.kind:
        case AnnouncementKind.PAUSED:
            return RawLog(announcement.token, (topics.PAUSE,), b"")
        case AnnouncementKind.UNPAUSED:
            return RawLog(announcement.token, (topics.UNPAUSE,), b"")
        case AnnouncementKind.UPGRADED:
            return RawLog(announcement.token, (topics.UPGRADED, *words), b"")
        case AnnouncementKind.DEPRECATED:
            return RawLog(announcement.token, (topics.DEPRECATE,), b"".join(words))
        case AnnouncementKind.BLOCKED:
            return RawLog(announcement.token, (topics.BLACKLISTED, *words), b"")
        case AnnouncementKind.UNBLOCKED:
            return RawLog(announcement.token, (topics.UNBLACKLISTED, *words), b"")


def _transfer_log(sent: SimTransfer) -> RawLog:
    return RawLog(
        sent.token, (TRANSFER_TOPIC, _word(sent.sender), _word(sent.recipient)), sent.amount.to_bytes(32, "big")
    )


def _before(label: Label, sent: SimTransfer, sources: LabelSources) -> RawLog | None:
    """What is announced before the money moves."""
    match label.kind:
        case LabelKind.AUTHORIZATION:
            return RawLog(sent.token, (topics.AUTHORIZATION_USED, _word(sent.sender), label.key), b"")
        case LabelKind.TRANSFER_REFERENCE:
            return RawLog(sent.token, (topics.TRANSFER_REFERENCE, label.key), b"")
        case LabelKind.COMMERCE:
            return RawLog(min(sources.escrows), (topics.PAYMENT_CHARGED, label.key), _charged(sent))
        case _:
            return None


def _behind(label: Label, sent: SimTransfer, sources: LabelSources) -> RawLog | None:
    """What is told of the movement after it."""
    amount = sent.amount.to_bytes(32, "big")
    match label.kind:
        case LabelKind.MEMO:
            moved = (topics.TRANSFER_WITH_MEMO, _word(sent.sender), _word(sent.recipient), label.key)
            return RawLog(sent.token, moved, amount)
        case LabelKind.REQUEST:
            data = b"".join((_word(sent.token), _word(sent.recipient), amount, _ZERO, _ZERO))
            return RawLog(min(sources.proxies), (topics.TRANSFER_WITH_REFERENCE_AND_FEE, label.key), data)
        case _:
            return None


def _charged(sent: SimTransfer) -> bytes:
    """PaymentCharged's data, of a payment without a fee: the twelve fields of PaymentInfo, then what was charged."""
    amount = sent.amount.to_bytes(32, "big")
    expiry = (2**48 - 1).to_bytes(32, "big")
    info = (
        *(_word(sent.sender), _word(sent.sender), _word(sent.recipient), _word(sent.token)),
        *(amount, expiry, expiry, expiry, _ZERO, _ZERO, _ZERO, _ZERO),
    )
    return b"".join((*info, amount, _word(sent.sender), _ZERO, _ZERO))


def _word(address: bytes) -> bytes:
    return address.rjust(32, b"\0")
