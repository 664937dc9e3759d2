"""Property tests of decoding: what goes in comes out, and nothing that was tampered with does."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Set
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chains.address_set import address_set
from chains.decode import Asked, transfers
from chains.errors import NodeInconsistent
from chains.hex import read_bytes, read_quantity, to_quantity
from chains.model import Address, BlockNumber, BlockSpan, ChainId, LogQuery
from chains.wire import LOGS
from tests.chains.scripted_node import SHOP, STRANGER, TOKEN, log

SPAN = BlockSpan(first=BlockNumber(1), last=BlockNumber(50))


def asked(recipients: Set[Address] | None, *, is_filtered: bool = False) -> Asked:
    query = LogQuery(tokens=frozenset([Address(TOKEN)]), recipients=recipients)
    return Asked(chain_id=ChainId(1), span=SPAN, query=query, is_filtered=is_filtered)


def decoded(logs: list[Any], ask: Asked) -> Any:
    return transfers(LOGS.decode(msgspec.json.encode(logs)), ask)


@st.composite
def chains_of_logs(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Logs as a node would answer them: each block's indices rise, some transactions repeat themselves."""
    found = []
    for number in draw(st.lists(st.integers(1, 50), max_size=6, unique=True)):
        for index, (tx, amount, to) in enumerate(
            draw(
                st.lists(
                    st.tuples(st.sampled_from("ab"), st.integers(0, 2), st.sampled_from([SHOP, STRANGER])), max_size=6
                )
            )
        ):
            found.append(log(number, index, tx=tx, amount=amount, to=to))
    return found


@given(chains_of_logs(), st.randoms(use_true_random=False))
def test_transfers__order_of_the_answer__does_not_matter(logs: list[Any], random: Any) -> None:
    shuffled = list(logs)
    random.shuffle(shuffled)
    assert decoded(shuffled, asked(None)) == decoded(sorted(logs, key=lambda each: each["blockNumber"]), asked(None))


@given(chains_of_logs())
def test_transfers__identities__are_unique_and_ordinals_count_from_zero(logs: list[Any]) -> None:
    found = decoded(logs, asked(None))
    assert len(found) == len(logs)
    assert len({each.identity for each in found}) == len(found)
    places = [(each.block_number, each.log_index) for each in found]
    assert places == sorted(places)
    counts: Counter[Any] = Counter()
    for each in found:
        equal = (each.identity.tx_hash, each.identity.recipient, each.identity.amount)
        assert each.identity.ordinal == counts[equal]
        counts[equal] += 1


@given(chains_of_logs())
def test_transfers__filtered_by_the_node_or_here__are_the_same(logs: list[Any]) -> None:
    """An ordinal must not depend on how many recipients are watched (RULES.md section 1)."""
    shop = frozenset([Address(SHOP)])
    everything = decoded(logs, asked(None))
    here = decoded(logs, asked(shop))
    by_node = decoded([each for each in logs if SHOP.hex() in each["topics"][2]], asked(shop, is_filtered=True))
    assert here == by_node == tuple(each for each in everything if each.identity.recipient == SHOP)


@given(chains_of_logs().filter(bool), st.data())
def test_transfers__any_log_repeated__is_inconsistent(logs: list[Any], data: st.DataObject) -> None:
    with pytest.raises(NodeInconsistent):
        decoded([*logs, data.draw(st.sampled_from(logs))], asked(None))


@given(st.text(max_size=70))
def test_read_quantity__any_text__is_a_number_or_inconsistent(text: str) -> None:
    try:
        number = read_quantity(text, "field")
    except NodeInconsistent as inconsistent:
        told = str(inconsistent)
        assert told.startswith("field: ")
        assert told.isprintable()
    else:
        assert re.fullmatch(r"0x[0-9a-fA-F]{1,64}", text)
        assert number == int(text, 16)


@given(st.text(max_size=70), st.integers(0, 33))
def test_read_bytes__any_text__is_exact_or_inconsistent(text: str, size: int) -> None:
    try:
        raw = read_bytes(text, "field", size)
    except NodeInconsistent:
        assert not re.fullmatch(rf"0x[0-9a-fA-F]{{{2 * size}}}", text)
    else:
        assert len(raw) == size
        assert "0x" + raw.hex() == text.lower()


@given(st.integers(0, 2**64 - 1))
def test_quantity__round_trip(number: int) -> None:
    assert read_quantity(to_quantity(number), "field") == number


# -- who is paid -------------------------------------------------------------------------------------------------------

SHOP_ALONE = frozenset([Address(SHOP)])


def with_recipient(topic: str) -> list[dict[str, Any]]:
    made = log(7, 0, to=SHOP)
    made["topics"][2] = topic
    return [made]


@pytest.mark.parametrize("of_many", [False, True])
def test_transfers__spelled_in_upper_case__are_found(of_many: bool) -> None:
    others = (Address(number.to_bytes(20)) for number in range(10_000))
    recipients = address_set([Address(SHOP), *others]) if of_many else SHOP_ALONE
    made = log(7, 0, to=SHOP)
    made["address"] = "0x" + made["address"][2:].upper()
    made["topics"] = ["0x" + topic[2:].upper() for topic in made["topics"]]
    (found,) = decoded([made, log(7, 1, to=STRANGER)], asked(recipients))
    assert found.identity.recipient == SHOP


@pytest.mark.parametrize(
    "topic",
    [
        "0x" + "00" * 11 + "01" + SHOP.hex(),  # a word that ends like the address, and is none
        "0x" + "00" * 12 + "zz" * 20,
        "0x" + "00" * 12 + STRANGER.hex(),
        "",
    ],
)
def test_transfers__to_nobody_that_was_asked_for__are_passed_over_or_were_not_asked_for(topic: str) -> None:
    assert decoded(with_recipient(topic), asked(SHOP_ALONE)) == ()
    with pytest.raises(NodeInconsistent, match="another recipient"):
        decoded(with_recipient(topic), asked(SHOP_ALONE, is_filtered=True))


@pytest.mark.parametrize(
    "topic",
    [
        "0X" + "00" * 12 + SHOP.hex(),
        "00" * 13 + SHOP.hex(),
        "0x" + "00" * 12 + SHOP.hex()[:20] + " " + SHOP.hex()[20:],  # `fromhex` passes over blanks
    ],
)
def test_transfers__to_us_in_a_spelling_that_is_none__are_inconsistent(topic: str) -> None:
    """Passed over it would be a payment that nobody sees."""
    with pytest.raises(NodeInconsistent, match="log topic 2"):
        decoded(with_recipient(topic), asked(SHOP_ALONE))


@pytest.mark.parametrize("height", ["", "7", "0x", "0x33"])
def test_transfers__to_nobody_at_a_height_that_was_not_asked__are_inconsistent(height: str) -> None:
    made = log(7, 0, to=STRANGER)
    made["blockNumber"] = height
    with pytest.raises(NodeInconsistent):
        decoded([made], asked(SHOP_ALONE))


def test_topics__of_any_number__are_those_that_came() -> None:
    for count in range(5):
        topics = [f"0x{number:064x}" for number in range(count)]
        (read,) = LOGS.decode(msgspec.json.encode([log(7, 0) | {"topics": topics}]))
        assert [*read.topics] == topics
