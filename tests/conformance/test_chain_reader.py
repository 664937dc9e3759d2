"""What every `ChainReader` promises, over a real node and over the simulated chain."""

from __future__ import annotations

import pytest

from chains.errors import BlockNotFound
from chains.model import UINT256_MAX, Address, BlockNumber, BlockSpan, LogQuery, Tag, Transfer
from chains.planning import FILTER_RECIPIENTS_MAX
from tests.conformance.worlds import ALICE, BOB, CHAIN, OTHER_TOKEN, SHOP, TOKEN, World, sent

TO_SHOP = LogQuery(tokens=frozenset([TOKEN]), recipients=frozenset([SHOP]))
TO_ANYBODY = LogQuery(tokens=frozenset([TOKEN]), recipients=None)


def span(first: int, last: int) -> BlockSpan:
    return BlockSpan(first=BlockNumber(first), last=BlockNumber(last))


def told(transfers: tuple[Transfer, ...]) -> list[tuple[int, Address, int, int]]:
    """(block, recipient, amount, ordinal) of each."""
    return [
        (each.block_number, each.identity.recipient, each.identity.amount, each.identity.ordinal) for each in transfers
    ]


# -- headers -----------------------------------------------------------------------------------------------------------


async def test_chain_id(world: World) -> None:
    assert await world.reader.chain_id() == CHAIN


async def test_headers__come_in_the_order_asked_and_are_linked(world: World) -> None:
    await world.mine_empty(5)
    found = await world.reader.headers([BlockNumber(number) for number in (5, 3, 4, 3)])
    numbers = [each.number for each in found if each is not None]
    assert numbers == [5, 3, 4, 3]
    five, three, four, again = found
    assert five is not None
    assert three is not None
    assert four is not None
    assert (five.parent_hash, four.parent_hash, again) == (four.hash, three.hash, three)
    assert three.time <= four.time <= five.time
    assert three.time.utcoffset() is not None


async def test_headers__above_the_head__are_none(world: World) -> None:
    await world.mine_empty(2)
    found = await world.reader.headers([BlockNumber(2), BlockNumber(3), BlockNumber(10**12)])
    assert [each is not None for each in found] == [True, False, False]


async def test_headers__tags__trail_the_head(world: World) -> None:
    await world.mine_empty(70)
    found = await world.reader.headers([Tag.LATEST, Tag.SAFE, Tag.FINALIZED])
    assert [each.number for each in found if each is not None] == [70, 38, 6]


async def test_headers__none_wanted(world: World) -> None:
    assert await world.reader.headers([]) == ()


# -- spans -------------------------------------------------------------------------------------------------------------


async def test_read_span__only_what_the_query_wants(world: World) -> None:
    await world.mine(await world.tx(sent(1)), await world.tx(sent(2, to=BOB)))
    await world.mine(await world.tx(sent(3, token=OTHER_TOKEN)), await world.tx(sent(4)))
    read = await world.reader.read_span(span(1, 2), TO_SHOP)
    assert told(read.transfers) == [(1, SHOP, 1, 0), (2, SHOP, 4, 0)]
    assert {each.identity.token for each in read.transfers} == {TOKEN}
    both = LogQuery(tokens=frozenset([TOKEN, OTHER_TOKEN]), recipients=frozenset([SHOP]))
    assert sorted(told((await world.reader.read_span(span(1, 2), both)).transfers)) == [
        (1, SHOP, 1, 0), (2, SHOP, 3, 0), (2, SHOP, 4, 0),
    ]  # fmt: skip
    assert told((await world.reader.read_span(span(1, 1), TO_ANYBODY)).transfers) == [(1, SHOP, 1, 0), (1, BOB, 2, 0)]
    assert told((await world.reader.read_span(span(2, 2), TO_SHOP)).transfers) == [(2, SHOP, 4, 0)]


async def test_read_span__several_transfers_of_one_transaction__have_ordinals(world: World) -> None:
    batch = await world.tx(sent(5), sent(7), sent(5), sent(5, to=BOB), sent(5, sender=BOB), sent(5))
    await world.mine(batch, await world.tx(sent(5)))
    read = await world.reader.read_span(span(1, 1), TO_SHOP)
    of_batch = tuple(each for each in read.transfers if each.identity.tx_hash == batch.hash)
    assert [(each.identity.sender, each.identity.amount, each.identity.ordinal) for each in of_batch] == [
        (ALICE, 5, 0), (ALICE, 7, 0), (ALICE, 5, 1), (BOB, 5, 0), (ALICE, 5, 2),
    ]  # fmt: skip
    assert len(read.transfers) == 6
    assert [each.log_index for each in read.transfers] == sorted({each.log_index for each in read.transfers})
    everything = await world.reader.read_span(span(1, 1), TO_ANYBODY)
    assert set(read.transfers) < set(everything.transfers)


async def test_read_span__extreme_amounts_and_parties(world: World) -> None:
    zero = Address(bytes(20))
    await world.mine(await world.tx(sent(0), sent(UINT256_MAX), sent(9, sender=zero), sent(8, sender=SHOP)))
    read = await world.reader.read_span(span(1, 1), TO_SHOP)
    assert [(each.identity.sender, each.identity.amount) for each in read.transfers] == [
        (ALICE, 0), (ALICE, UINT256_MAX), (zero, 9), (SHOP, 8),
    ]  # fmt: skip


async def test_read_span__end_and_blocks__are_headers_of_the_chain(world: World) -> None:
    await world.mine(await world.tx(sent(1)))
    await world.mine_empty(2)
    await world.mine(await world.tx(sent(2)))
    await world.mine_empty(1)
    read = await world.reader.read_span(span(1, 5), TO_SHOP, anchor=BlockNumber(0))
    anchor, one, four, five = await world.reader.headers([BlockNumber(number) for number in (0, 1, 4, 5)])
    assert (read.anchor, read.end) == (anchor, five)
    assert one is not None
    assert four is not None
    assert read.blocks == {one.hash: one, four.hash: four}
    assert [read.block_of(each).number for each in read.transfers] == [1, 4]
    assert all(each.block_hash == read.block_of(each).hash for each in read.transfers)


async def test_read_span__in_pieces_or_at_once__is_the_same(world: World) -> None:
    for number in range(6):
        await world.mine(await world.tx(sent(number), sent(number)), await world.tx(sent(1, to=BOB)))
    at_once = await world.reader.read_span(span(0, 6), TO_SHOP)
    pieces = [await world.reader.read_span(span(first, first + 1), TO_SHOP) for first in (0, 2, 4)]
    pieces.append(await world.reader.read_span(span(6, 6), TO_SHOP))
    assert at_once.transfers == tuple(each for piece in pieces for each in piece.transfers)


async def test_read_span__more_recipients_than_a_filter_takes__gives_the_same(world: World) -> None:
    await world.mine(await world.tx(sent(1), sent(2, to=BOB), sent(1)))
    crowd = frozenset(Address(number.to_bytes(20)) for number in range(1, FILTER_RECIPIENTS_MAX + 100))
    many = LogQuery(tokens=frozenset([TOKEN]), recipients=crowd | {SHOP})
    few = await world.reader.read_span(span(0, 1), TO_SHOP)
    assert (await world.reader.read_span(span(0, 1), many)).transfers == few.transfers
    assert len(few.transfers) == 2


@pytest.mark.parametrize(
    "query",
    [
        LogQuery(tokens=frozenset([TOKEN]), recipients=frozenset()),
        LogQuery(tokens=frozenset(), recipients=None),
        LogQuery(tokens=frozenset(), recipients=frozenset([SHOP])),
    ],
)
async def test_read_span__nothing_wanted__still_reads_headers(world: World, query: LogQuery) -> None:
    await world.mine(await world.tx(sent(1)))
    read = await world.reader.read_span(span(0, 1), query)
    assert (read.transfers, read.end.number) == ((), 1)


@pytest.mark.parametrize(("first", "last"), [(1, 4), (4, 4), (4, 9)])
async def test_read_span__beyond_the_head__is_never_an_empty_list(world: World, first: int, last: int) -> None:
    await world.mine_empty(3)
    with pytest.raises(BlockNotFound):
        await world.reader.read_span(span(first, last), TO_SHOP)


async def test_read_span__anchor_beyond_the_head__is_none(world: World) -> None:
    await world.mine_empty(3)
    assert (await world.reader.read_span(span(0, 3), TO_SHOP, anchor=BlockNumber(4))).anchor is None


async def test_calls__idle__are_within_the_budget(undivided_world: World) -> None:
    """RULES.md section 1: three calls a tick, however many blocks went by, where the provider takes them at once."""
    await undivided_world.mine(await undivided_world.tx(sent(1, to=BOB)))
    await undivided_world.mine_empty(40)
    for expected, read in (
        ({"eth_getBlockByNumber": 2}, undivided_world.reader.headers([Tag.LATEST, Tag.FINALIZED])),
        ({"eth_getBlockByNumber": 1, "eth_getLogs": 1}, undivided_world.reader.read_span(span(1, 41), TO_SHOP)),
        (
            {"eth_getBlockByNumber": 2, "eth_getLogs": 1},
            undivided_world.reader.read_span(span(1, 41), TO_SHOP, anchor=BlockNumber(0)),
        ),
    ):
        undivided_world.counted.calls.clear()
        await read
        assert +undivided_world.counted.calls == expected


# -- reorgs ------------------------------------------------------------------------------------------------------------


async def test_reorg__replaced_blocks__have_other_hashes_and_no_transfers(world: World) -> None:
    await world.mine_empty(2)
    await world.mine(await world.tx(sent(1)))
    await world.mine_empty(1)
    before = await world.reader.read_span(span(3, 4), TO_SHOP, anchor=BlockNumber(2))
    assert len(before.transfers) == 1
    await world.replace(2)
    after = await world.reader.read_span(span(3, 4), TO_SHOP, anchor=BlockNumber(2))
    assert after.transfers == ()
    assert after.end.number == before.end.number
    assert after.end.hash != before.end.hash
    assert after.anchor == before.anchor


async def test_reorg__transaction_mined_again__is_the_same_payment_elsewhere(world: World) -> None:
    """cowprotocol/services#2069: identity is the transaction's, the place is the block's."""
    paid = await world.tx(sent(5), sent(5))
    await world.mine_empty(1)
    await world.mine(paid)
    before = await world.reader.read_span(span(1, 2), TO_SHOP)
    await world.undo(1)
    await world.mine_empty(2)
    await world.mine(paid)
    after = await world.reader.read_span(span(1, 4), TO_SHOP)
    assert [each.identity for each in after.transfers] == [each.identity for each in before.transfers]
    assert [each.block_number for each in after.transfers] == [4, 4]
    assert {each.block_hash for each in after.transfers}.isdisjoint({each.block_hash for each in before.transfers})


async def test_reorg__head_goes_back__blocks_are_not_there(world: World) -> None:
    await world.mine_empty(5)
    await world.undo(2)
    latest, four = await world.reader.headers([Tag.LATEST, BlockNumber(4)])
    assert latest is not None
    assert (latest.number, four) == (3, None)
    with pytest.raises(BlockNotFound):
        await world.reader.read_span(span(2, 5), TO_SHOP)


# -- one block by its receipts, proof material -------------------------------------------------------------------------


async def test_read_block_by_receipts__is_what_the_logs_say(world: World) -> None:
    await world.mine(await world.tx(sent(1), sent(2, to=BOB), sent(1)), await world.tx(sent(1)))
    await world.mine(await world.tx(sent(3, token=OTHER_TOKEN)), await world.tx(sent(4), sent(4)))
    await world.mine_empty(1)
    for number in map(BlockNumber, (1, 2, 3)):
        for tokens in ([TOKEN], [TOKEN, OTHER_TOKEN], []):
            for recipients in (None, frozenset([SHOP]), frozenset[Address]()):
                query = LogQuery(tokens=frozenset(tokens), recipients=recipients)
                anchor = BlockNumber(number - 1)
                by_receipts = await world.provider_reader.read_block_by_receipts(number, query, anchor=anchor)
                assert by_receipts == await world.reader.read_span(span(number, number), query, anchor=anchor)


async def test_read_block_by_receipts__beyond_the_head__is_not_found(world: World) -> None:
    await world.mine_empty(1)
    with pytest.raises(BlockNotFound):
        await world.provider_reader.read_block_by_receipts(BlockNumber(2), TO_SHOP)


# -- tokens, closing ---------------------------------------------------------------------------------------------------


async def test_token_facts__nobody_there(world: World) -> None:
    facts = await world.reader.token_facts(BOB)
    assert (facts.has_code, facts.decimals, facts.symbol) == (False, None, None)


async def test_close__is_idempotent(world: World) -> None:
    await world.reader.close()
    await world.reader.close()
