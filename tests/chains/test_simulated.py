"""The simulated chain is deterministic, forks as told, and its reader lies only as told."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chains.decode import check_linked
from chains.errors import BlockNotFound, ChainError, MethodUnsupported, RangeTooWide, ResultTooLarge, Timeout, Transient
from chains.model import Address, BaseUnits, BlockNumber, BlockSpan, ChainId, LogQuery, Tag, Token
from chains.simulated import SimFaults, SimTransfer, SimulatedChain, SimulatedReader

TOKEN = Address(b"\x70" * 20)
ALICE = Address(b"\xa1" * 20)
SHOP = Address(b"\x5a" * 20)
TO_SHOP = LogQuery(tokens=frozenset([TOKEN]), recipients=frozenset([SHOP]))


def chain(seed: int = 1, **changed: int | None) -> SimulatedChain:
    return SimulatedChain(seed=seed, chain_id=ChainId(8453), **changed)  # type: ignore[arg-type]  # lags and times only


def pay(amount: int, token: Address = TOKEN) -> SimTransfer:
    return SimTransfer(token=token, sender=ALICE, recipient=SHOP, amount=BaseUnits(amount))


def paid_chain(blocks: int = 10, seed: int = 1) -> SimulatedChain:
    made = chain(seed)
    for number in range(blocks):
        made.mine([made.tx(pay(number), pay(number)), made.tx(pay(100 + number))])
    return made


def span_of(made: SimulatedChain) -> BlockSpan:
    return BlockSpan(first=BlockNumber(0), last=made.head.number)


def story(seed: int) -> SimulatedChain:
    made = paid_chain(8, seed)
    made.reorg(3, shift=1)
    made.mine_empty(2)
    made.reorg(4, length=6)
    return made


@given(st.integers(0, 10**6))
def test_chain__same_seed_same_story__same_chain(seed: int) -> None:
    assert story(seed).head == story(seed).head
    assert story(seed).transfers() == story(seed).transfers()
    assert story(seed).head.hash != story(seed + 1).head.hash


@given(depth=st.integers(1, 10), shift=st.integers(0, 3), length=st.integers(0, 14), dropped=st.integers(0, 20))
def test_reorg__whatever_it_does__leaves_a_linked_chain_with_the_kept_payments(
    depth: int, shift: int, length: int, dropped: int
) -> None:
    made = paid_chain()
    before = made.transfers()
    old = {block.ref.hash for number in range(11) if (block := made.block_at(number))}
    hashes = [each.identity.tx_hash for each in before]
    drop = set(hashes[:dropped])
    made.reorg(depth, shift=shift, length=length, drop=drop)
    headers = [block.ref for number in range(made.head.number + 1) if (block := made.block_at(number))]
    check_linked(headers)
    assert made.head.number == 10 - depth + length
    assert all(ref.hash not in old for ref in headers[11 - depth :])
    after = {each.identity for each in made.transfers()}
    below = {each.identity for each in before if each.block_number <= 10 - depth}
    above = {each.identity for each in before if each.block_number > 10 - depth and each.identity.tx_hash not in drop}
    assert after == (below | above if length else below)
    places = [(each.block_number, each.log_index) for each in made.transfers()]
    assert places == sorted(set(places))


def test_reorg__transaction_mined_again__keeps_its_identity_and_changes_its_place() -> None:
    made = chain()
    tx = made.tx(pay(5), pay(5))
    made.mine([tx])
    before = made.transfers()
    made.reorg(1, shift=1, length=2)
    after = made.transfers()
    assert [each.identity for each in after] == [each.identity for each in before]
    assert [each.identity.ordinal for each in after] == [0, 1]
    assert {each.block_number for each in after} == {2}


def test_reorg__log_indices__differ_somewhere() -> None:
    """An index that never moves would hide code that takes it for an identity."""
    made = paid_chain(20)
    before = {each.identity: each.log_index for each in made.transfers()}
    made.reorg(20)
    assert any(before[each.identity] != each.log_index for each in made.transfers())


@pytest.mark.parametrize("depth", [0, -1, 11, 12])
def test_reorg__impossible_depth__is_refused(depth: int) -> None:
    with pytest.raises(ValueError, match="cannot replace"):
        paid_chain().reorg(depth)


def test_forked__shares_the_past_only() -> None:
    made = paid_chain()
    twin = made.forked("other")
    assert twin.head == made.head
    assert twin.mine() != made.mine()
    assert twin.tx(pay(1)).hash != made.tx(pay(1)).hash


def test_mine__after_s__sets_the_time() -> None:
    made = chain()
    start = made.head.time
    assert (made.mine(after_s=3600).time - start).total_seconds() == 3600


# -- the reader and its faults -----------------------------------------------------------------------------------------


async def test_faults__none__is_the_truth() -> None:
    made = story(1)
    read = await SimulatedReader(made).read_span(span_of(made), TO_SHOP)
    assert read.transfers == made.transfers()


async def test_lag__head_and_tags_trail() -> None:
    reader = SimulatedReader(paid_chain(100), lag=7)
    latest, safe, final = await reader.headers([Tag.LATEST, Tag.SAFE, Tag.FINALIZED])
    assert [each.number for each in (latest, safe, final) if each is not None] == [93, 61, 29]
    with pytest.raises(BlockNotFound):
        await reader.read_span(BlockSpan(first=BlockNumber(90), last=BlockNumber(94)), TO_SHOP)
    reader.lag = 0
    read = await reader.read_span(BlockSpan(first=BlockNumber(90), last=BlockNumber(94)), TO_SHOP)
    assert read.end.number == 94


async def test_finalized_lag__can_move_and_be_missing() -> None:
    made = paid_chain(100)
    reader = SimulatedReader(made)
    made.set_finalized_lag(10)
    safe, final = await reader.headers([Tag.SAFE, Tag.FINALIZED])
    assert [each.number for each in (safe, final) if each is not None] == [95, 90]
    made.set_finalized_lag(None)
    with pytest.raises(MethodUnsupported):
        await reader.headers([Tag.FINALIZED])


@pytest.mark.parametrize(
    ("faults", "error"),
    [
        (SimFaults(is_down=True), Timeout),
        (SimFaults(transient_rate=1), Transient),
        (SimFaults(missing_end_rate=1), BlockNotFound),
        (SimFaults(max_span=5), RangeTooWide),
        (SimFaults(max_logs=29), ResultTooLarge),
    ],
)
async def test_faults__that_raise(faults: SimFaults, error: type[ChainError]) -> None:
    made = paid_chain()
    reader = SimulatedReader(made, faults=faults)
    with pytest.raises(error):
        await reader.read_span(span_of(made), TO_SHOP)
    reader.faults = SimFaults()
    assert (await reader.read_span(span_of(made), TO_SHOP)).transfers


async def test_faults__empty_logs__lie_beside_right_headers() -> None:
    made = paid_chain()
    read = await SimulatedReader(made, faults=SimFaults(empty_logs_rate=1)).read_span(span_of(made), TO_SHOP)
    assert (read.transfers, read.end) == ((), made.head)


async def test_faults__omitted_log__leaves_out_some() -> None:
    made = paid_chain(100)
    read = await SimulatedReader(made, faults=SimFaults(omitted_log_rate=0.1)).read_span(span_of(made), TO_SHOP)
    assert 0.8 * 300 < len(read.transfers) < 300
    assert set(read.transfers) < set(made.transfers())
    assert {each.block_hash for each in read.transfers} == set(read.blocks)


async def test_faults__of_the_logs__do_not_touch_the_receipts() -> None:
    made = paid_chain()
    reader = SimulatedReader(made, faults=SimFaults(max_span=1, max_logs=0, empty_logs_rate=1, omitted_log_rate=1))
    read = await reader.read_block_by_receipts(BlockNumber(3), TO_SHOP, anchor=BlockNumber(2))
    three = BlockSpan(first=BlockNumber(3), last=BlockNumber(3))
    assert read == await SimulatedReader(made).read_span(three, TO_SHOP, anchor=BlockNumber(2))
    assert len(read.transfers) == 3
    assert reader.calls == {"eth_getBlockByNumber": 2, "eth_getBlockReceipts": 1}


@pytest.mark.parametrize(
    ("faults", "error"),
    [
        (SimFaults(is_down=True), Timeout),
        (SimFaults(transient_rate=1), Transient),
        (SimFaults(missing_end_rate=1), BlockNotFound),
    ],
)
async def test_faults__that_raise__do_for_receipts_too(faults: SimFaults, error: type[ChainError]) -> None:
    with pytest.raises(error):
        await SimulatedReader(paid_chain(), faults=faults).read_block_by_receipts(BlockNumber(3), TO_SHOP)


async def test_proof_material__hashes_are_invented__is_unsupported() -> None:
    made = paid_chain()
    with pytest.raises(MethodUnsupported, match="simulated"):
        await SimulatedReader(made).proof_material(made.head.hash)
    with pytest.raises(Timeout):
        await SimulatedReader(made, faults=SimFaults(is_down=True)).proof_material(made.head.hash)


async def test_faults__stale_head__goes_backwards() -> None:
    made = paid_chain(100)
    reader = SimulatedReader(made, faults=SimFaults(stale_head_rate=0.5, stale_blocks=20))
    heads = {each.number for _ in range(50) for each in await reader.headers([Tag.LATEST]) if each is not None}
    assert heads == {80, 100}


async def test_faults__wrong_chain() -> None:
    assert await SimulatedReader(chain(), faults=SimFaults(wrong_chain_id=ChainId(1))).chain_id() == 1


async def outcome(reader: SimulatedReader, last: int) -> str:
    try:
        await reader.read_span(BlockSpan(first=BlockNumber(0), last=BlockNumber(last)), TO_SHOP)
    except ChainError as error:
        return error.label
    return "ok"


async def test_faults__are_decided_by_seed_and_request__not_by_order() -> None:
    faults = SimFaults(transient_rate=0.5)

    async def outcomes(order: Callable[[range], list[int]], seed: int) -> dict[int, str]:
        reader = SimulatedReader(paid_chain(100), seed=seed, faults=faults)
        return {last: await outcome(reader, last) for last in order(range(1, 100))}

    forwards = await outcomes(list, 7)
    backwards = await outcomes(lambda each: list(each)[::-1], 7)
    assert forwards == backwards
    assert set(forwards.values()) == {"ok", "transient"}
    assert forwards != await outcomes(list, 8)


async def test_faults__same_request_again__may_fare_otherwise() -> None:
    reader = SimulatedReader(paid_chain(), faults=SimFaults(transient_rate=0.5))
    assert {await outcome(reader, 5) for _ in range(30)} == {"ok", "transient"}


async def test_tokens__answer_as_added() -> None:
    made = chain()
    made.add_token(
        Token(chain_id=made.id, symbol="USDT0", address=TOKEN, decimals=6, currency="USD", onchain_symbol="USD₮0")
    )
    facts = await SimulatedReader(made).token_facts(TOKEN)
    assert (facts.has_code, facts.decimals, facts.symbol) == (True, 6, "USD₮0")
