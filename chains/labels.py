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

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
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
    group: Hashable
    """Labels of one group follow one another: a label reaches no further than the next one of its group."""
    fits: Callable[[_Moved], bool]
    follows: Callable[[Sequence[RawLog], _Moved], bool] | None = None
    """Whether nothing stands between the label and a transfer that makes it another one's; `None`: nothing could."""


def labels(logs: Sequence[RawLog], sources: LabelSources, tokens: Collection[bytes]) -> Mapping[int, tuple[Label, ...]]:
    """The labels of each transfer of `tokens` in one transaction, by its position in `logs`, in a fixed order.

    `logs`: all of the transaction's, in order. A position without labels is left out. What other contracts emit, by the
    thousand maybe, is passed over before anything is joined.
    """
    moved = [m for at, log in enumerate(logs) if log.address in tokens and (m := _moved(at, log)) is not None]
    if not moved:
        return {}
    found: dict[int, set[Label]] = defaultdict(set)
    for at, label in (*_following(logs, moved, sources), *_counted(logs, moved, sources)):
        found[at].add(label)
    return {at: tuple(sorted(some, key=_order)) for at, some in found.items()}


def _order(label: Label) -> tuple[int, bytes]:
    return (list(LabelKind).index(label.kind), label.key)


# -- labels that stand before their transfer ---------------------------------------------------------------------------


def _following(logs: Sequence[RawLog], moved: Sequence[_Moved], sources: LabelSources) -> Iterator[tuple[int, Label]]:
    tokens = {m.token for m in moved}
    believed = (*sources.escrows, *tokens)
    named = [
        n for at, log in enumerate(logs) if log.address in believed and (n := _announced(at, log, sources)) is not None
    ]
    count = Counter(n.group for n in named)
    ends: dict[Hashable, int] = {}
    until_of: list[int] = []
    for each in reversed(named):
        until_of.append(ends.get(each.group, len(logs)))
        ends[each.group] = each.at
    for each, until in zip(named, reversed(until_of), strict=True):
        fitting = [m.at for m in moved if each.fits(m) and (each.follows is None or each.follows(logs, m))]
        after = next((at for at in fitting if each.at < at < until), None)
        is_alone = count[each.group] == 1 and each.follows is None
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
                follows=lambda all_, m: _is_paid_out(all_[at + 1 : m.at], m),
            )
        case _:
            return None


def _named(
    at: int,
    kind: LabelKind,
    key: bytes,
    group: Hashable,
    fits: Callable[[_Moved], bool],
    follows: Callable[[Sequence[RawLog], _Moved], bool] | None = None,
) -> _Named | None:
    return None if key == _NOTHING else _Named(at, Label(kind=kind, key=key), group, fits, follows)


def _is_paid_out(between: Sequence[RawLog], paid: _Moved) -> bool:
    """An escrow that captures names neither token nor receiver: its payment is what goes out next, behind a fee of the
    same token and store. A worthless token that is captured might else have its label stand before another's payment.
    """
    moved = [_moved(0, log) for log in between]
    return all(
        log.address == paid.token and log.topics[:1] != (AUTHORIZATION_USED,) and (m is None or m.sender == paid.sender)
        for log, m in zip(between, moved, strict=True)
    )


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
