"""Every kind of fault strikes, and a reader sees it as what it is; what changes nothing is not counted."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from chains.errors import (
    BlockNotFound,
    ChainError,
    HistoryPruned,
    MethodUnsupported,
    NodeInconsistent,
    RangeTooWide,
    RateLimited,
    Rejected,
    ResultTooLarge,
    Timeout,
    Transient,
)
from chains.evm import EvmReader
from chains.faults import FAULTS, Harm, harm_beside
from chains.faults.heads import HEADS
from chains.faults.logs import LOG_FAULTS
from chains.faults.refusals import RANGE_WORDS, REFUSALS, words
from chains.faults.sending import HUGE_BYTES, SENDING
from chains.model import BlockNumber, SpanRead
from chains.spans import WindowedReader
from tests.chains.faulty import (
    BOUND_BYTES,
    QUERY,
    QUIET,
    SPAN,
    Question,
    chain,
    honest_node,
    outcome,
    provider_of,
    reader_of,
    span,
    tags,
)
from tests.chains.scripted_node import Json

Seen = Callable[[Any, Any], bool]
"""(what was told, what is true) to whether the fault is seen as it should be."""


def error(kind: type[ChainError]) -> Seen:
    """Exactly that error: not one of its kin."""
    return lambda told, _: type(told) is kind


def kin(kind: type[ChainError]) -> Seen:
    return lambda told, _: isinstance(told, kind)


def same(told: Any, true: Any) -> bool:
    return bool(told == true)


def lied(told: Any, true: Any) -> bool:
    """Nothing is to be seen in the answer, and it is wrong."""
    return type(told) is type(true) and told != true


def fewer(told: Any, true: Any) -> bool:
    return lied(told, true) and len(told.transfers) < len(true.transfers)


def more(told: Any, true: Any) -> bool:
    return lied(told, true) and len(told.transfers) > len(true.transfers)


SEEN: dict[str, tuple[Question, Seen]] = {
    "never answers": (span, error(Timeout)),
    "answers late": (span, error(Timeout)),
    "connection reset": (span, error(Transient)),
    "connection reset in mid-body": (span, error(Transient)),
    "connection closed in mid-body": (span, error(Transient)),
    "silence in mid-body": (span, error(Timeout)),
    "truncated JSON": (span, error(Transient)),
    "429": (span, error(RateLimited)),
    "429 with Retry-After": (span, lambda told, _: isinstance(told, RateLimited) and told.retry_after_s == 1.0),
    "5xx": (span, kin(Transient)),
    "huge answer": (span, error(ResultTooLarge)),
    "huge answer, announced": (span, error(ResultTooLarge)),
    "missing reply": (span, error(Transient)),
    "batch refused": (span, same),
    "error in HTTP 200": (span, kin(Transient)),
    "refusal: rate limited": (span, error(RateLimited)),
    "refusal: fatal": (span, error(Rejected)),
    "refusal: method unsupported": (span, error(MethodUnsupported)),
    "refusal: history pruned": (span, error(HistoryPruned)),
    "refusal: block not found": (span, error(BlockNotFound)),
    "range limit": (span, kin(RangeTooWide)),
    "wrong id": (span, error(NodeInconsistent)),
    "swapped ids": (span, error(NodeInconsistent)),
    "reordered replies": (span, same),
    "null results": (span, error(BlockNotFound)),
    "wrong chain id": (chain, lied),
    "stale head": (span, error(BlockNotFound)),
    "backward head": (span, error(BlockNotFound)),
    "head ahead": (tags, lied),
    "own fork": (span, lied),
    "finalized null": (tags, lambda told, true: told == (true[0], None)),
    "finalized refused": (tags, error(MethodUnsupported)),
    "finalized backward": (tags, lambda told, true: told[0] == true[0] and told[1].number < true[1].number),
    "finalized above head": (tags, lambda told, _: told[1].number > told[0].number),
    "finalized at head": (tags, lambda told, _: told[1] == told[0]),
    "finalized ahead": (tags, lambda told, true: true[1].number < told[1].number < told[0].number),
    "empty logs": (span, fewer),
    "partial logs": (span, fewer),
    "duplicate logs": (span, error(NodeInconsistent)),
    "reordered logs": (span, same),
    "removed logs": (span, error(NodeInconsistent)),
    "tampered block hash": (span, error(NodeInconsistent)),
    "tampered amount": (span, lied),
    "tampered token": (span, lied),
    "tampered recipient": (span, lied),
    "tampered transaction": (span, lied),
    "invented log": (span, more),
}
TRIES = 20


def test_kinds__each_has_a_name_of_its_own__and_an_expectation_here() -> None:
    assert len(FAULTS) == len((*SENDING, *REFUSALS, *HEADS, *LOG_FAULTS))
    assert set(SEEN) == set(FAULTS)


@pytest.mark.parametrize("name", SEEN)
async def test_kind__strikes__and_is_seen_as_what_it_is(name: str) -> None:
    question, is_seen = SEEN[name]
    provider = provider_of(honest_node(), seed=name)
    true = await outcome(question, reader_of(provider))
    assert not isinstance(true, ChainError)
    provider.inject(FAULTS[name])
    told: object = None
    for _ in range(TRIES):  # some draw how far they go, and may draw nothing
        told = await outcome(question, reader_of(provider))
        if provider.told[name]:
            break
    assert provider.told == {name: provider.told[name]}
    assert is_seen(told, true), told

    provider.be_honest()

    assert await outcome(question, reader_of(provider)) == true


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.harm is Harm.PLAIN])
async def test_plain_kind__told_of_a_span__no_wrong_span_is_read(name: str) -> None:
    """The promise the class makes: an error, or the truth."""
    provider = provider_of(honest_node(), seed=name)
    true = await outcome(span, reader_of(provider))
    provider.inject(FAULTS[name], probability=0.7)
    reader = reader_of(provider)
    for _ in range(3 if "late" in name or "silence" in name or "never" in name else TRIES):
        told = await outcome(span, reader)
        assert isinstance(told, ChainError) or told == true


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.harm is Harm.NONE])
async def test_harmless_kind__in_pieces_if_need_be__all_is_read(name: str) -> None:
    provider = provider_of(honest_node(), seed=name)
    true = await read_in_pieces(reader_of(provider))
    provider.inject(FAULTS[name])
    told = await read_in_pieces(reader_of(provider))
    assert (told.end, told.transfers) == (true.end, true.transfers)


async def read_in_pieces(reader: EvmReader) -> SpanRead:
    windowed = WindowedReader(reader, monotonic=lambda: 0.0)
    await windowed.headers([BlockNumber(1)])
    return await windowed.read_span(SPAN, QUERY)


async def test_stale_head__calls_come_alone__its_empty_logs_look_right() -> None:
    """Why it is marked as seen in batches only."""
    provider = provider_of(honest_node())
    reader = reader_of(provider)
    provider.inject(FAULTS["batch refused"])
    true = await outcome(span, reader)
    provider.inject(FAULTS["stale head"], methods={"eth_getLogs"})
    assert fewer(await outcome(span, reader), true)
    assert harm_beside(FAULTS["stale head"], {"batch refused"}) is Harm.LIE
    assert harm_beside(FAULTS["stale head"], {"5xx"}) is Harm.PLAIN


@pytest.mark.parametrize("fault", LOG_FAULTS, ids=lambda fault: fault.name)
async def test_fault_about_logs__none_were_asked_for__is_not_counted(fault: Any) -> None:
    provider = provider_of(honest_node())
    provider.inject(fault)
    await outcome(tags, reader_of(provider))
    assert not provider.told


@pytest.mark.parametrize("fault", [f for f in LOG_FAULTS if f.name != "invented log"], ids=lambda fault: fault.name)
async def test_fault_about_logs__there_are_none__is_not_counted(fault: Any) -> None:
    provider = provider_of(honest_node())
    provider.inject(fault)
    read = await reader_of(provider).read_span(QUIET, QUERY)
    assert not read.transfers
    assert not provider.told


@pytest.mark.parametrize("name", ["batch refused", "missing reply", "swapped ids", "reordered replies"])
async def test_fault_about_batches__a_call_alone__is_not_counted(name: str) -> None:
    provider = provider_of(honest_node())
    provider.inject(FAULTS[name])
    assert await chain(reader_of(provider)) == 1
    assert not provider.told


async def test_fault__so_many_times__then_no_more() -> None:
    provider = provider_of(honest_node())
    provider.inject(FAULTS["empty logs"], times=2)
    reader = reader_of(provider)
    told = [await outcome(span, reader) for _ in range(3)]
    assert [len(each.transfers) for each in told if isinstance(each, SpanRead)] == [0, 0, 3]
    assert provider.told["empty logs"] == 2
    assert provider.injected == ()


async def test_fault__withdrawn__others_stay() -> None:
    provider = provider_of(honest_node())
    provider.inject(FAULTS["empty logs"])
    provider.inject(FAULTS["wrong chain id"])
    provider.withdraw(FAULTS["empty logs"])
    assert provider.injected == ("wrong chain id",)
    assert await chain(reader_of(provider)) != 1


async def test_every_fault__the_node_shares_its_answers__and_keeps_them_whole() -> None:
    node = honest_node()
    held: dict[str, Json] = {}

    def shared(call: Json) -> Json:
        key = f"{call['method']} {call['params']}"
        fresh = node.answer(call)
        return held.setdefault(key, fresh) | {"id": call["id"]}

    provider = provider_of(node)
    provider.node_reply = shared
    reader = reader_of(provider)
    for question in (span, tags, chain):
        await outcome(question, reader)
    before = copy.deepcopy(held)
    for name, fault in FAULTS.items():
        if fault.change is None:
            continue
        provider.be_honest()
        provider.inject(fault)
        for question in (span, tags, chain):
            await outcome(question, reader)
        assert {key: held[key] for key in before} == before, name


async def test_range_limit__tells_every_providers_words_in_turn() -> None:
    provider = provider_of(honest_node())
    provider.inject(FAULTS["range limit"])
    reader = reader_of(provider)
    told = [str(await outcome(span, reader)) for _ in range(3)]
    assert len(set(told)) > 1
    assert provider.figures["range words"] >= 3
    assert len(RANGE_WORDS) > 40


def test_words__none_is_about_batches() -> None:
    """They would make a client ask call by call, and lies of "seen in batches" kinds pass."""
    said = words(
        "transient", "timeout", "rate_limited", "fatal", "method_unsupported", "history_pruned", "block_not_found"
    )
    assert said
    assert not [each for each in (*said, *RANGE_WORDS) if "batch" in each["message"].lower()]


@pytest.mark.parametrize("name", ["huge answer", "huge answer, announced"])
async def test_huge_answer__no_more_is_taken_than_is_bounded(name: str) -> None:
    provider = provider_of(honest_node())
    provider.inject(FAULTS[name])
    await outcome(span, reader_of(provider))
    assert provider.figures["longest huge answer"] <= BOUND_BYTES + 2**20 < HUGE_BYTES
    assert provider.figures["huge answers taken whole"] == 0
