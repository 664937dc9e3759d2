"""The simulated chain is deterministic, forks as told, and its reader lies only as told."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from datetime import timedelta

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


# -- what a reorg does to transactions ---------------------------------------------------------------------------------


def test_reorg__tells_what_became_of_each_transaction() -> None:
    made = chain()
    kept, dropped, late, too_late, swapped, outbid = (made.tx(pay(number)) for number in range(6))
    made.mine_empty(1)
    made.mine([kept, dropped, late])
    made.mine([too_late, swapped, outbid])
    other, higher = made.tx(pay(7), instead_of=swapped), made.tx(pay(8), instead_of=outbid)
    fates = made.reorg(
        2,
        drop={dropped.hash},
        delay={late.hash: 1, too_late.hash: 1},
        swap={swapped.hash: other},
        add=[higher],
        is_reversed=True,
    )
    assert [(fate.tx, fate.was_at, fate.is_at, fate.replaced_by) for fate in fates] == [
        (kept, 2, 2, None),
        (dropped, 2, None, None),
        (late, 2, 3, None),
        (too_late, 3, None, None),
        (swapped, 3, None, other.hash),
        (outbid, 3, None, higher.hash),
    ]
    assert [each.identity.amount for each in made.transfers()] == [0, 8, 7, 2]
    assert made.mine([dropped, too_late]).number == 4
    assert [each.identity.amount for each in made.transfers()] == [0, 8, 7, 2, 1, 3]


def test_mine__another_transaction_with_the_same_nonce__is_refused() -> None:
    made = chain()
    first = made.tx(pay(1))
    second = made.tx(pay(2), instead_of=first)
    assert (made.takes(first), made.takes(second)) == (True, True)
    made.mine([first])
    assert (made.takes(first), made.takes(second), made.takes(made.tx(pay(1)))) == (False, False, True)
    with pytest.raises(ValueError, match="sender and nonce"):
        made.mine([second])
    made.reorg(1, drop={first.hash})
    assert made.takes(first)
    made.mine([second])
    assert not made.takes(first)
    assert [each.identity.amount for each in made.transfers()] == [2]


def test_reorg__is_reversed__moves_logs_of_a_block() -> None:
    made = chain()
    made.mine([made.tx(pay(number)) for number in range(3)])
    made.reorg(1, is_reversed=True)
    assert [each.identity.amount for each in made.transfers()] == [2, 1, 0]


# -- tags --------------------------------------------------------------------------------------------------------------


def tags(made: SimulatedChain) -> tuple[int | None, int | None]:
    return made.height_of(Tag.SAFE), made.height_of(Tag.FINALIZED)


def test_hold_finality__tags_stay_until_it_is_let_go() -> None:
    made = chain()
    made.mine_empty(100)
    made.hold_finality(True)
    made.mine_empty(50)
    assert tags(made) == (68, 36)
    made.reorg(20, length=25)
    assert tags(made) == (68, 36)
    made.hold_finality(False)
    assert tags(made) == (123, 91)


def test_tags__chain_becomes_shorter__do_not_go_back() -> None:
    made = chain()
    made.mine_empty(100)
    made.reorg(20, length=5)
    assert tags(made) == (68, 36)
    made.mine_empty(17)
    assert tags(made) == (70, 38)


def test_tags__reorg_past_finality__move_onto_the_new_branch() -> None:
    made = chain()
    made.mine_empty(100)
    final = made.ref_at(36)
    made.reorg(70, length=71)
    assert tags(made) == (69, 37)
    assert made.ref_at(36).hash != final.hash
    made.reorg(90, length=5)
    assert tags(made) == (16, 16)


# -- times -------------------------------------------------------------------------------------------------------------


def test_times__blocks_within_a_second__share_their_timestamp() -> None:
    made = SimulatedChain(seed=1, chain_id=ChainId(1), block_time_s=0.25)
    made.mine_empty(10)
    start = made.time_s_at(0)
    assert [made.time_s_at(number) - start for number in range(11)] == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2]


def test_times__given_by_the_caller() -> None:
    made = chain()
    start = made.head.time
    assert made.mine(at=start + timedelta(seconds=7.9)).time == start + timedelta(seconds=7)
    assert made.mine_empty(4, until=start + timedelta(seconds=17)).number == 5
    assert [made.time_s_at(number) - made.time_s_at(0) for number in range(6)] == [0, 7, 10, 12, 14, 17]
    made.reorg(2, length=5, until=start + timedelta(seconds=22))
    assert [made.time_s_at(number) - made.time_s_at(0) for number in range(3, 9)] == [12, 14, 16, 18, 20, 22]
    with pytest.raises(ValueError, match="older than its parent"):
        made.mine(at=start)


# -- long chains -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("real", [False, True])
def test_empty_blocks__cost_little_memory(real: bool) -> None:
    made = SimulatedChain(seed=1, chain_id=ChainId(1), has_real_headers=real)
    tracemalloc.start()
    made.mine_empty(5_000)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used / 5_000 < 150


def test_chain__is_the_same_on_every_machine() -> None:
    """Known answers, invented and real; a change of them makes every stored seed tell another story."""
    assert story(1).head.hash.hex() == "5af9a281f2b9538c592fbf166adf744a83e712aa313dca1d360066a596df3887"
    made = SimulatedChain(seed=1, chain_id=ChainId(1), has_real_headers=True)
    made.mine([made.tx(pay(1)), made.tx(pay(2))])
    made.reorg(1, shift=1, length=2)
    assert made.head.hash.hex() == "356eb7884e772dc6dcb4d3af274ced8f1fa2930cfb3d978ac9a80230e709416d"


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
