"""What the other logs of a transaction say a transfer is for. Pure.

A label never moves money and never makes any: it only names a `Transfer` of the same transaction, which alone is
credited. So every kind is joined to one transfer by what both must share:

    EIP-3009      AuthorizationUsed(authorizer, nonce)    by the token: its next transfer from the authorizer
    ERC-7699      TransferReference(reference)            by the token: its next transfer
    TIP-20        TransferWithMemo(…, amount, memo)       by the token: the equal transfer next to it, before it if any
    Request       TransferWithReferenceAndFee(…)          by a known proxy: likewise, of its token and amount to its
                                                          recipient; names keccak-256 of a reference
    commerce      PaymentCharged, PaymentCaptured         by a known escrow: the next transfer of the amount less a fee

A label that joins to nothing names nothing: Paxos' batches emit AuthorizationAlreadyUsed and move no money, anyone may
call Request's proxy with a worthless token, and an escrow's PaymentAuthorized pays nobody.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from chains.model import Label, LabelKind, LabelSources
from contracts_abi import TRANSFER_TOPIC
from contracts_abi.topics import (
    AUTHORIZATION_USED,
    PAYMENT_CAPTURED,
    PAYMENT_CHARGED,
    TRANSFER_REFERENCE,
    TRANSFER_WITH_MEMO,
    TRANSFER_WITH_REFERENCE_AND_FEE,
)

_PADDING = bytes(12)
_WORD = 32
_BPS = 10_000
_NOTHING = bytes(_WORD)
"""What wallets write where nobody gave a memo: it names nothing."""


class RawLog(NamedTuple):
    """A log as bytes. `address`: who emitted it."""

    address: bytes
    topics: tuple[bytes, ...]
    data: bytes


class _Moved(NamedTuple):
    at: int
    token: bytes
    sender: bytes
    recipient: bytes
    amount: int


class _Named(NamedTuple):
    at: int
    label: Label
    group: object
    """Labels of one group follow one another: a label reaches no further than the next one of its group."""
    fits: Callable[[_Moved], bool]


def labels(logs: Sequence[RawLog], sources: LabelSources) -> Mapping[int, tuple[Label, ...]]:
    """The labels of each transfer of one transaction, by its position in `logs`; in the order of `LabelKind`.

    `logs`: all of the transaction's, in order. A position without labels is left out.
    """
    moved = [m for at, log in enumerate(logs) if (m := _moved(at, log)) is not None]
    found: dict[int, set[Label]] = defaultdict(set)
    for at, label in (*_following(logs, moved, sources), *_counted(logs, moved, sources)):
        found[at].add(label)
    return {at: tuple(sorted(some, key=_order)) for at, some in found.items()}


def _order(label: Label) -> tuple[int, bytes]:
    return (list(LabelKind).index(label.kind), label.key)


# -- labels that stand before their transfer ---------------------------------------------------------------------------


def _following(logs: Sequence[RawLog], moved: Sequence[_Moved], sources: LabelSources) -> Iterator[tuple[int, Label]]:
    named = [n for at, log in enumerate(logs) if (n := _announced(at, log, sources)) is not None]
    for index, each in enumerate(named):
        until = next((n.at for n in named[index + 1 :] if n.group == each.group), len(logs))
        fitting = [m.at for m in moved if each.fits(m)]
        after = next((at for at in fitting if each.at < at < until), None)
        is_alone = sum(n.group == each.group for n in named) == 1
        if after is None and is_alone and len(fitting) == 1:
            # a token may announce behind the movement: unmistakable where there is one of each
            after = fitting[0]
        if after is not None:
            yield after, each.label


def _announced(at: int, log: RawLog, sources: LabelSources) -> _Named | None:
    match log.topics:
        case (topic, authorizer, nonce) if topic == AUTHORIZATION_USED and _is_address(authorizer):
            token, sender = log.address, authorizer[12:]
            return _named(
                at, LabelKind.AUTHORIZATION, nonce, (token, sender), lambda m: (m.token, m.sender) == (token, sender)
            )
        case (topic, reference) if topic == TRANSFER_REFERENCE:
            token = log.address
            return _named(at, LabelKind.TRANSFER_REFERENCE, reference, (token, topic), lambda m: m.token == token)
        case (topic, payment) if topic == PAYMENT_CHARGED and log.address in sources.escrows:
            words = _words(log.data, 16)
            if words is None:
                return None
            receiver, of_token, net = words[2][12:], words[3][12:], _net(words[12], words[14])
            wanted = (of_token, receiver, net)
            return _named(
                at, LabelKind.COMMERCE, payment, log.address, lambda m: (m.token, m.recipient, m.amount) == wanted
            )
        case (topic, payment) if topic == PAYMENT_CAPTURED and log.address in sources.escrows:
            words = _words(log.data, 3)
            if words is None:
                return None
            net, fees = _net(words[0], words[1]), words[2][12:]
            has_fee = net != int.from_bytes(words[0])
            return _named(
                at,
                LabelKind.COMMERCE,
                payment,
                log.address,
                # the fee goes out first, and may be as much as the rest
                lambda m: m.amount == net and not (has_fee and m.recipient == fees),
            )
        case _:
            return None


def _named(at: int, kind: LabelKind, key: bytes, group: object, fits: Callable[[_Moved], bool]) -> _Named | None:
    return None if key == _NOTHING else _Named(at, Label(kind=kind, key=key), group, fits)


def _net(amount: bytes, fee_bps: bytes) -> int:
    """What the escrow gives the receiver: its fee is rounded down."""
    whole = int.from_bytes(amount)
    return whole - whole * int.from_bytes(fee_bps) // _BPS


# -- labels that repeat what was moved ---------------------------------------------------------------------------------


def _counted(logs: Sequence[RawLog], moved: Sequence[_Moved], sources: LabelSources) -> Iterator[tuple[int, Label]]:
    by_movement: dict[object, list[int]] = defaultdict(list)
    by_recipient: dict[object, list[int]] = defaultdict(list)
    for m in moved:
        by_movement[m.token, m.sender, m.recipient, m.amount].append(m.at)
        by_recipient[m.token, m.recipient, m.amount].append(m.at)
    claimed: set[tuple[LabelKind, int]] = set()
    for place, log in enumerate(logs):
        match log.topics:
            case (topic, sender, recipient, memo) if topic == TRANSFER_WITH_MEMO and len(log.data) == _WORD:
                key, kind = memo, LabelKind.MEMO
                equal = by_movement[log.address, sender[12:], recipient[12:], int.from_bytes(log.data)]
            case (topic, reference) if topic == TRANSFER_WITH_REFERENCE_AND_FEE and log.address in sources.proxies:
                words = _words(log.data, 5)
                if words is None:
                    continue
                key, kind = reference, LabelKind.REQUEST
                equal = by_recipient[words[0][12:], words[1][12:], int.from_bytes(words[2])]
            case _:
                continue
        at = _nearest([each for each in equal if (kind, each) not in claimed], place)
        if at is not None:
            claimed.add((kind, at))
            if key != _NOTHING:
                yield at, Label(kind=kind, key=key)


def _nearest(places: Sequence[int], to: int) -> int | None:
    """The last place before, else the first behind."""
    before = [at for at in places if at < to]
    return before[-1] if before else next(iter(places), None)


def _moved(at: int, log: RawLog) -> _Moved | None:
    if len(log.topics) != 3 or log.topics[0] != TRANSFER_TOPIC or len(log.data) != _WORD:
        return None
    _, sender, recipient = log.topics
    if not (_is_address(sender) and _is_address(recipient)):
        return None
    return _Moved(at, log.address, sender[12:], recipient[12:], int.from_bytes(log.data))


def _is_address(topic: bytes) -> bool:
    return topic.startswith(_PADDING)


def _words(data: bytes, count: int) -> list[bytes] | None:
    """The first `count` words; `None` where there are fewer."""
    return [data[at : at + _WORD] for at in range(0, count * _WORD, _WORD)] if len(data) >= count * _WORD else None
