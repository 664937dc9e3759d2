"""`judge` and `gist`: which of several answers is believed, and what makes two readings the same."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chains.model import Address, BaseUnits, BlockHash, BlockNumber, BlockSpan, ChainId, LogQuery, SpanRead
from chains.quorum import Agreed, Undecided, gist, judge
from chains.simulated import SimTransfer, SimulatedChain, SimulatedReader

TOKEN = Address(b"\x70" * 20)
SPAN = BlockSpan(first=BlockNumber(2), last=BlockNumber(4))


# -- judge -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "quorum", "by", "against"),
    [
        ("A", 1, "a", ""),
        ("AA", 2, "ab", ""),
        ("AAB", 2, "ab", "c"),
        ("BAA", 2, "bc", "a"),
        ("ABA", 2, "ac", "b"),
        ("AAA", 2, "abc", ""),
        ("AAA", 3, "abc", ""),
        ("ABBB", 3, "bcd", "a"),
        ("AABBB", 2, "cde", "ab"),
        ("ABCAA", 3, "ade", "bc"),
    ],
)
def test_judge__enough_alike(answers: str, quorum: int, by: str, against: str) -> None:
    assert judge(dict(zip("abcde", answers, strict=False)), quorum) == Agreed(by=tuple(by), against=tuple(against))


@pytest.mark.parametrize(
    ("answers", "quorum", "parties"),
    [
        ("", 1, []),
        ("A", 2, ["a"]),
        ("AB", 1, ["a", "b"]),
        ("AB", 2, ["a", "b"]),
        ("ABC", 2, ["a", "b", "c"]),
        ("AAB", 3, ["ab", "c"]),
        ("AABB", 2, ["ab", "cd"]),
        ("ABBA", 2, ["ad", "bc"]),
        ("AABBC", 2, ["ab", "cd", "e"]),
    ],
)
def test_judge__too_few_alike_or_two_parties_of_one_size(answers: str, quorum: int, parties: list[str]) -> None:
    verdict = judge(dict(zip("abcde", answers, strict=False)), quorum)
    assert verdict == Undecided(parties=tuple(map(tuple, parties)))


@settings(max_examples=100, derandomize=True, deadline=None, database=None)
@given(answers=st.lists(st.sampled_from("ABC"), max_size=5), quorum=st.integers(1, 5))
def test_judge__never_a_minority_and_never_depends_on_the_order(answers: list[str], quorum: int) -> None:
    named = dict(zip("abcde", answers, strict=False))
    verdict = judge(named, quorum)
    turned = judge(dict(reversed(named.items())), quorum)
    assert type(verdict) is type(turned)
    if isinstance(verdict, Agreed):
        assert isinstance(turned, Agreed)
        assert (set(verdict.by), set(verdict.against)) == (set(turned.by), set(turned.against))
        (believed,) = {named[name] for name in verdict.by}
        counts = Counter(answers)
        assert counts[believed] == len(verdict.by) >= quorum
        assert all(counts[other] < counts[believed] for other in counts if other != believed)
        assert {*verdict.by, *verdict.against} == set(named)


# -- gist --------------------------------------------------------------------------------------------------------------


async def reading() -> SpanRead:
    chain = SimulatedChain(seed=1, chain_id=ChainId(1))
    chain.mine_empty(2)
    chain.mine([chain.tx(_pay(5), _pay(6))])
    chain.mine_empty(2)
    reader = SimulatedReader(chain)
    query = LogQuery(tokens=frozenset([TOKEN]), recipients=None)
    return await reader.read_span(SPAN, query, anchor=BlockNumber(1))


def _pay(amount: int) -> SimTransfer:
    return SimTransfer(
        token=TOKEN, sender=Address(b"\x01" * 20), recipient=Address(b"\x02" * 20), amount=BaseUnits(amount)
    )


async def test_gist__two_providers_of_one_chain__are_alike() -> None:
    first, second = await reading(), await reading()
    assert gist(first) == gist(second)
    assert hash(gist(first)) == hash(gist(second))
    # a header that stands beside and that no transfer is in, is nothing to differ over
    more = replace(second, blocks={**second.blocks, BlockHash(bytes(32)): second.end})
    assert gist(more) == gist(first)


async def test_gist__any_difference_that_could_move_money__is_one() -> None:
    """Reproduced: times were left out, so that the first provider alone decided whether a payment came in time."""
    true = await reading()
    assert true.anchor is not None
    first, second = true.transfers
    (home,) = true.blocks
    other = BlockHash(b"\x01" * 32)
    a_day = timedelta(days=1)
    lies = {
        "omitted": replace(true, transfers=(first,)),
        "none": replace(true, transfers=(), blocks={}),
        "invented": replace(true, transfers=(first, second, replace(second, log_index=99))),
        "amount": replace(
            true, transfers=(replace(first, identity=replace(first.identity, amount=BaseUnits(7))), second)
        ),
        "place": replace(true, transfers=(replace(first, log_index=first.log_index + 7), second)),
        "block": replace(true, end=replace(true.end, hash=other)),
        "end's time": replace(true, end=replace(true.end, time=true.end.time + a_day)),
        "end's parent": replace(true, end=replace(true.end, parent_hash=other)),
        "anchor": replace(true, anchor=replace(true.anchor, hash=other)),
        "no anchor": replace(true, anchor=None),
        "payment's time": replace(true, blocks={home: replace(true.blocks[home], time=true.end.time - a_day)}),
    }
    assert [name for name, lie in lies.items() if gist(lie) == gist(true)] == []
