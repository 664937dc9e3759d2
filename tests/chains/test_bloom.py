"""What a block's bloom says of its logs, against the Yellow Paper's own wording of it (a real node's blooms are held
against real logs in tests/conformance)."""

from __future__ import annotations

import pytest
from eth_hash.auto import keccak
from hypothesis import given, settings
from hypothesis import strategies as st

from chains.bloom import BLOOM_BITS, CHANCE_MAX, check_held, is_doubtful, read_bloom
from chains.errors import NodeInconsistent
from chains.model import Address, BaseUnits, ChainId, LogQuery, TransferIdentity, TxHash
from contracts_abi import TRANSFER_TOPIC

TOKEN, OTHER, ALICE, SHOP = (Address(bytes([number]) * 20) for number in (1, 2, 3, 4))
ALL_ZERO, ALL_ONE = "0x" + "00" * 256, "0x" + "ff" * 256
TO_SHOP = LogQuery(tokens=frozenset([TOKEN, OTHER]), recipients=frozenset([SHOP]))


def word(address: bytes) -> bytes:
    return address.rjust(32, b"\0")


def bloom_of(*items: bytes) -> str:
    """Byte by byte, the last byte holding the lowest bits."""
    raw = bytearray(256)
    for digest in map(keccak, items):
        for at in (0, 2, 4):
            bit = ((digest[at] << 8) + digest[at + 1]) & 0x7FF
            raw[255 - bit // 8] |= 1 << (bit % 8)
    return "0x" + raw.hex()


def identity(token: Address = TOKEN, sender: Address = ALICE, recipient: Address = SHOP) -> TransferIdentity:
    return TransferIdentity(
        chain_id=ChainId(1),
        tx_hash=TxHash(bytes(32)),
        token=token,
        sender=sender,
        recipient=recipient,
        amount=BaseUnits(1),
        ordinal=0,
    )


ITEMS = (TOKEN, TRANSFER_TOPIC, word(ALICE), word(SHOP))
HELD = bloom_of(*ITEMS)


def test_check_held__log_of_the_block__passes() -> None:
    check_held(read_bloom(HELD), identity())
    check_held(read_bloom(bloom_of(*ITEMS, OTHER, b"anything else")), identity())
    check_held(read_bloom(ALL_ONE), identity())


@pytest.mark.parametrize("missing", range(len(ITEMS)))
def test_check_held__one_item_is_ruled_out__is_invented(missing: int) -> None:
    rest = [item for at, item in enumerate(ITEMS) if at != missing]
    with pytest.raises(NodeInconsistent, match="invented"):
        check_held(read_bloom(bloom_of(*rest)), identity())


@pytest.mark.parametrize(
    ("items", "recipients", "doubtful"),
    [
        pytest.param(ITEMS, [SHOP], True, id="everything wanted may be there"),
        pytest.param(ITEMS, [ALICE, SHOP], True, id="one recipient of two"),
        pytest.param(ITEMS, [OTHER], False, id="another recipient"),
        pytest.param(ITEMS[1:], [SHOP], False, id="no token"),
        pytest.param((OTHER, *ITEMS[1:]), [SHOP], True, id="another of the tokens"),
        pytest.param((TOKEN, *ITEMS[2:]), [SHOP], False, id="no transfer"),
        pytest.param(ITEMS[:2], None, True, id="unfiltered"),
        pytest.param((), [SHOP], False, id="empty"),
    ],
)
def test_is_doubtful(items: tuple[bytes, ...], recipients: list[Address] | None, doubtful: bool) -> None:
    assert is_doubtful(read_bloom(bloom_of(*items)), TO_SHOP, recipients=recipients) is doubtful


def test_is_doubtful__full_bloom_or_many_recipients__tells_nothing() -> None:
    """Else a full block, or a large shop, would have the receipts of every block read."""
    crowd = [Address(number.to_bytes(20)) for number in range(500)]
    busy = bloom_of(*ITEMS, *[bytes([number]) for number in range(100)])
    assert is_doubtful(read_bloom(busy), TO_SHOP, recipients=[SHOP])
    assert not is_doubtful(read_bloom(busy), TO_SHOP, recipients=[*crowd, SHOP])
    assert is_doubtful(read_bloom(HELD), TO_SHOP, recipients=[*crowd, SHOP])
    assert not is_doubtful(read_bloom(ALL_ONE), TO_SHOP, recipients=[SHOP])


@given(st.sets(st.binary(min_size=20, max_size=20), max_size=150), st.binary(min_size=1, max_size=8))
@settings(max_examples=20)
def test_is_doubtful__shop_that_was_never_paid__is_rarely_suspected(others: set[bytes], seed: bytes) -> None:
    """A false alarm costs two calls: over many shops they stay about as rare as promised."""
    bloom = read_bloom(bloom_of(TOKEN, TRANSFER_TOPIC, *others))
    shops = [Address(keccak(seed + number.to_bytes(2))[:20]) for number in range(200)]
    alarms = sum(is_doubtful(bloom, TO_SHOP, recipients=[shop]) for shop in shops)
    assert alarms <= 200 * CHANCE_MAX * 4
    assert bloom.bit_count() <= BLOOM_BITS


@pytest.mark.parametrize("text", ["0x", "0x00", HELD[2:], HELD + "00", "0x" + "zz" * 256, ""])
def test_read_bloom__of_another_shape__is_inconsistent(text: str) -> None:
    with pytest.raises(NodeInconsistent, match="logsBloom"):
        read_bloom(text)
