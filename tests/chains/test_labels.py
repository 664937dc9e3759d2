"""Which transfer of a transaction each of its other logs names."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chains.errors import NodeInconsistent
from chains.labelling import with_labels
from chains.labels import RawLog, labels
from chains.model import (
    TOKENS_ALONE,
    Address,
    BaseUnits,
    BlockHash,
    BlockNumber,
    ChainId,
    Label,
    LabelKind,
    LabelSources,
    LogQuery,
    Transfer,
    TransferIdentity,
    TxHash,
)
from chains.wire import WireLog, WireLogReceipt, WireTopics
from contracts_abi import TRANSFER_TOPIC
from contracts_abi.topics import (
    AUTHORIZATION_USED,
    PAYMENT_CAPTURED,
    PAYMENT_CHARGED,
    TRANSFER_REFERENCE,
    TRANSFER_WITH_MEMO,
    TRANSFER_WITH_REFERENCE_AND_FEE,
)

USDC, OTHER, JUNK = b"\x0c" * 20, b"\x0d" * 20, b"\x99" * 20
PROXY, ESCROW, STORE = b"\x70" * 20, b"\xe5" * 20, b"\x57" * 20
TOKENS = {USDC, OTHER}
ANN, BOB, SHOP, FEES = b"\xaa" * 20, b"\xbb" * 20, b"\x05" * 20, b"\xfe" * 20
ONE, TWO = b"\x01" * 32, b"\x02" * 32
SOURCES = LabelSources(proxies=frozenset({Address(PROXY)}), escrows=frozenset({Address(ESCROW)}))


def word(value: int | bytes) -> bytes:
    return value.to_bytes(32) if isinstance(value, int) else value.rjust(32, b"\0")


def moved(sender: bytes, recipient: bytes, amount: int, *, token: bytes = USDC) -> RawLog:
    return RawLog(token, (TRANSFER_TOPIC, word(sender), word(recipient)), word(amount))


def used(authorizer: bytes, nonce: bytes, *, token: bytes = USDC) -> RawLog:
    return RawLog(token, (AUTHORIZATION_USED, word(authorizer), nonce), b"")


def memo(sender: bytes, recipient: bytes, amount: int, text: bytes, *, token: bytes = USDC) -> RawLog:
    return RawLog(token, (TRANSFER_WITH_MEMO, word(sender), word(recipient), text), word(amount))


def referenced(reference: bytes, *, token: bytes = USDC) -> RawLog:
    return RawLog(token, (TRANSFER_REFERENCE, reference), b"")


def requested(to: bytes, amount: int, key: bytes, *, token: bytes = USDC, proxy: bytes = PROXY) -> RawLog:
    data = word(token) + word(to) + word(amount) + word(0) + word(FEES)
    return RawLog(proxy, (TRANSFER_WITH_REFERENCE_AND_FEE, key), data)


def charged(payment: bytes, amount: int, fee_bps: int, *, escrow: bytes = ESCROW) -> RawLog:
    info: list[int | bytes] = [ANN, ANN, SHOP, USDC, amount, 0, 0, 0, 0, fee_bps, FEES, 7]
    data = b"".join([word(each) for each in [*info, amount, STORE, fee_bps, FEES]])
    return RawLog(escrow, (PAYMENT_CHARGED, payment), data)


def captured(payment: bytes, amount: int, fee_bps: int) -> RawLog:
    return RawLog(ESCROW, (PAYMENT_CAPTURED, payment), word(amount) + word(fee_bps) + word(FEES))


def found(*logs: RawLog, sources: LabelSources = SOURCES) -> dict[int, list[tuple[str, bytes]]]:
    return {at: [(label.kind.value, label.key) for label in some] for at, some in labels(logs, sources, TOKENS).items()}


def test_authorization__names_the_next_transfer_of_its_authorizer() -> None:
    logs = [used(ANN, ONE), moved(ANN, SHOP, 5), used(BOB, TWO), moved(BOB, SHOP, 5)]
    assert found(*logs) == {1: [("eip3009", ONE)], 3: [("eip3009", TWO)]}


def test_authorization__batch_of_one_payer__each_names_its_own() -> None:
    logs = [used(ANN, ONE), moved(ANN, SHOP, 5), used(ANN, TWO), moved(ANN, SHOP, 5)]
    assert found(*logs) == {1: [("eip3009", ONE)], 3: [("eip3009", TWO)]}


def test_authorization__batch_that_announces_first__one_of_them_names_nothing() -> None:
    """Two announcements in a row: which movement the first is for cannot be told, so it is not guessed."""
    logs = [used(ANN, ONE), used(ANN, TWO), moved(ANN, SHOP, 5), moved(ANN, BOB, 5)]
    assert found(*logs) == {2: [("eip3009", TWO)]}


def test_authorization__announced_behind_the_movement__one_of_each_is_unmistakable() -> None:
    assert found(moved(ANN, SHOP, 5), used(ANN, ONE)) == {0: [("eip3009", ONE)]}
    assert found(moved(ANN, SHOP, 5), moved(ANN, SHOP, 6), used(ANN, ONE)) == {}


@pytest.mark.parametrize(
    "other", [moved(BOB, SHOP, 5), moved(ANN, SHOP, 5, token=JUNK), used(BOB, TWO)], ids=["payer", "token", "no money"]
)
def test_authorization__without_a_movement_of_its_own__names_nothing(other: RawLog) -> None:
    """A used nonce says nothing of money: Paxos' batches skip what was used before, and do not revert."""
    assert found(used(ANN, ONE), other) == {}


def test_reference__names_the_tokens_next_transfer() -> None:
    logs = [referenced(ONE, token=JUNK), referenced(ONE), moved(ANN, SHOP, 5), moved(BOB, SHOP, 5)]
    assert found(*logs) == {2: [("erc7699", ONE)]}


def test_memo__names_the_equal_transfer_beside_it_and_is_no_second_one() -> None:
    logs = [
        moved(ANN, SHOP, 5),
        memo(ANN, SHOP, 5, ONE),
        moved(ANN, SHOP, 5),
        memo(ANN, SHOP, 5, TWO),
        moved(ANN, SHOP, 6),
    ]
    assert found(*logs) == {0: [("tip20", ONE)], 2: [("tip20", TWO)]}


def test_memo__of_nothing__names_nothing() -> None:
    logs = [moved(ANN, SHOP, 5), memo(ANN, SHOP, 5, bytes(32)), moved(ANN, SHOP, 5), memo(ANN, SHOP, 5, ONE)]
    assert found(*logs) == {2: [("tip20", ONE)]}


def test_request__names_the_transfer_of_that_token_amount_and_recipient() -> None:
    logs = [moved(ANN, FEES, 1), moved(ANN, SHOP, 5), requested(SHOP, 5, ONE)]
    assert found(*logs) == {1: [("request", ONE)]}


@pytest.mark.parametrize(
    "event",
    [
        requested(SHOP, 5, ONE, token=JUNK),
        requested(SHOP, 6, ONE),
        requested(BOB, 5, ONE),
        requested(SHOP, 5, ONE, proxy=JUNK),
        requested(SHOP, 5, ONE)._replace(data=b"\0" * 64),
    ],
    ids=["worthless token", "amount", "recipient", "unknown proxy", "short"],
)
def test_request__that_moves_something_else__names_nothing(event: RawLog) -> None:
    assert found(moved(ANN, SHOP, 5), event) == {}


def test_request__after_an_equal_plain_transfer__names_the_one_it_made() -> None:
    """Found by trying: in one bundle somebody paid plainly, then another through the proxy; the first one's money was
    taken for the second one's."""
    logs = [moved(BOB, SHOP, 5), moved(ANN, SHOP, 5), requested(SHOP, 5, ONE), moved(BOB, SHOP, 5)]
    assert found(*logs) == {1: [("request", ONE)]}
    assert found(requested(SHOP, 5, ONE), *logs[:2]) == {1: [("request", ONE)]}


def test_capture__fee_of_half__names_what_the_receiver_got() -> None:
    logs = [captured(ONE, 1_000, 5_000), moved(STORE, FEES, 500), moved(STORE, SHOP, 500)]
    assert found(*logs) == {2: [("commerce", ONE)]}
    assert found(captured(ONE, 1_000, 0), moved(STORE, FEES, 1_000)) == {1: [("commerce", ONE)]}


def test_charge__names_what_the_store_pays_out_after_its_fee() -> None:
    logs = [charged(ONE, 10_001, 100), moved(ANN, STORE, 10_001), moved(STORE, FEES, 100), moved(STORE, SHOP, 9_901)]
    assert found(*logs) == {3: [("commerce", ONE)]}
    assert found(*[charged(ONE, 10_001, 100, escrow=JUNK), *logs[1:]]) == {}
    assert found(*logs, sources=TOKENS_ALONE) == {}


def test_capture__names_the_net_amount__each_its_own() -> None:
    logs = [
        captured(ONE, 1_000, 250),
        moved(STORE, FEES, 25),
        moved(STORE, SHOP, 975),
        captured(TWO, 1_000, 250),
        moved(STORE, FEES, 25),
        moved(STORE, SHOP, 975),
    ]
    assert found(*logs) == {2: [("commerce", ONE)], 5: [("commerce", TWO)]}


@pytest.mark.parametrize(
    "between",
    [
        [used(BOB, TWO)],
        [moved(ANN, STORE, 1)],
        [moved(STORE, FEES, 1, token=OTHER)],
        [RawLog(JUNK, (TWO,), b"")],
    ],
    ids=["an authorization", "another sender", "another token", "another contract"],
)
def test_capture__of_a_worthless_token__names_nobody_elses_payment(between: list[RawLog]) -> None:
    """Found by review: the token that was captured may, in its transfer, hand in somebody's signed payment."""
    assert found(captured(ONE, 100, 0), *between, moved(STORE, SHOP, 100)) == {}


def test_labels__thousands_of_another_contracts_logs__cost_nothing() -> None:
    noise = [used(ANN, ONE, token=JUNK), moved(ANN, SHOP, 5, token=JUNK)] * 20_000
    assert found(*noise, used(BOB, TWO), moved(BOB, SHOP, 5)) == {40_001: [("eip3009", TWO)]}


@pytest.mark.parametrize("log", [charged(ONE, 10, 0)._replace(data=word(1)), captured(ONE, 10, 0)._replace(data=b"")])
def test_escrow__short_data__names_nothing(log: RawLog) -> None:
    assert found(log, moved(STORE, SHOP, 10)) == {}


def test_labels__two_kinds_on_one_transfer__both_stand_in_order() -> None:
    logs = [used(ANN, ONE), moved(ANN, SHOP, 5), requested(SHOP, 5, TWO)]
    assert found(*logs) == {1: [("eip3009", ONE), ("request", TWO)]}


@pytest.mark.parametrize(
    "odd",
    [
        RawLog(USDC, (TRANSFER_TOPIC, word(ANN), word(SHOP), word(5)), b""),
        RawLog(USDC, (TRANSFER_TOPIC, word(ANN), word(SHOP)), b""),
        RawLog(USDC, (TRANSFER_TOPIC, b"\x01" * 32, word(SHOP)), word(5)),
        RawLog(USDC, (), word(5)),
    ],
)
def test_labels__logs_that_are_no_transfer__are_named_by_nothing(odd: RawLog) -> None:
    assert found(used(ANN, ONE), odd) == {}


# -- receipts ----------------------------------------------------------------------------------------------------------

TX = TxHash(b"\x7a" * 32)
BLOCK = BlockHash(b"\xb1" * 32)
QUERY = LogQuery(
    tokens=frozenset({Address(USDC)}),
    recipients=frozenset({Address(SHOP), Address(BOB)}),
    labelled=frozenset({Address(SHOP)}),
)


def a_transfer(log_index: int, to: bytes = SHOP, amount: int = 5) -> Transfer:
    identity = TransferIdentity(
        chain_id=ChainId(1),
        tx_hash=TX,
        token=Address(USDC),
        sender=Address(ANN),
        recipient=Address(to),
        amount=BaseUnits(amount),
        ordinal=0,
    )
    return Transfer(identity=identity, block_number=BlockNumber(9), block_hash=BLOCK, log_index=log_index)


def a_receipt(*logs: RawLog, first_index: int = 10, **changes: str) -> WireLogReceipt:
    raw = tuple(
        WireLog(
            address="0x" + log.address.hex(),
            topics=WireTopics(*("0x" + t.hex() for t in log.topics)),
            data="0x" + log.data.hex(),
            block_number="0x9",
            block_hash="0x" + BLOCK.hex(),
            transaction_hash="0x" + TX.hex(),
            log_index=hex(first_index + n),
        )
        for n, log in enumerate(logs)
    )
    fields = {"transaction_hash": "0x" + TX.hex(), "block_hash": "0x" + BLOCK.hex(), "status": "0x1"} | changes
    return WireLogReceipt(logs=raw, **fields)


RECEIPT = a_receipt(used(ANN, ONE), moved(ANN, SHOP, 5), used(ANN, TWO), moved(ANN, BOB, 5))


def test_with_labels__only_where_wanted() -> None:
    to_shop, to_bob, poison = a_transfer(11), a_transfer(13, BOB), a_transfer(14, amount=0)
    label = Label(kind=LabelKind.AUTHORIZATION, key=ONE)
    assert with_labels([to_shop, to_bob, poison], {TX: RECEIPT}, QUERY) == (
        replace(to_shop, labels=(label,)),
        to_bob,
        poison,
    )


@pytest.mark.parametrize(
    "receipt",
    [
        a_receipt(used(ANN, ONE), moved(ANN, SHOP, 6)),
        a_receipt(moved(ANN, SHOP, 5)),
        a_receipt(used(ANN, ONE), moved(ANN, SHOP, 5), block_hash="0x" + "b2" * 32),
        a_receipt(used(ANN, ONE), moved(ANN, SHOP, 5), transaction_hash="0x" + "7b" * 32),
        a_receipt(used(ANN, ONE), moved(ANN, SHOP, 5), status="0x0"),
    ],
    ids=["other amount", "other place", "other block", "other transaction", "failed"],
)
def test_with_labels__receipt_that_contradicts_the_logs__is_refused(receipt: WireLogReceipt) -> None:
    with pytest.raises(NodeInconsistent):
        with_labels([a_transfer(11)], {TX: receipt}, QUERY)
