"""Refusals in providers' own words (`chains.data`), and replies that are no answers to what was asked."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import msgspec

from chains.faults.model import CHAIN_ID, LOGS, Exchange, Fault, Harm, Json, changed_results

RANGE_BLOCKS = 2
"""A provider with a limit answers what spans no more blocks than this."""
_PROSE = ("(no error)", "{", "batch response array")
"""Entries that describe an answer, and quote none, begin so."""
_ABOUT_BATCHES = re.compile(r"\bbatch", re.IGNORECASE)
"""Such words make a client split its batches: that is the fault "batch refused"."""
_CONTRACT_CALL = "eth_call"


@functools.cache
def words(*classes: str, methods: tuple[str, ...] = ("*",)) -> Sequence[Json]:
    """The collected refusals of these classes, but those about batches as such."""
    entries: list[Json] = msgspec.json.decode((files("chains.data") / "refusals.json").read_bytes())
    return [
        entry for entry in entries
        if entry["class"] in classes and entry["method"] in methods
        and not entry["message"].startswith(_PROSE) and not _ABOUT_BATCHES.search(entry["message"])
    ]  # fmt: skip


RANGE_WORDS = words("range_too_large", "result_too_large", methods=(LOGS,))


def refused(*classes: str) -> Fault:
    """Every call is refused in words of this class, drawn anew for each request."""

    async def change(exchange: Exchange) -> bool:
        said = exchange.random.choice(words(*classes))
        for _, reply in exchange.touched():
            exchange.refuse(reply, code=said["code"], message=said["message"], status=said["http_status"])
        return True

    return Fault(name=f"refusal: {classes[0].replace('_', ' ')}", harm=Harm.PLAIN, change=change)


async def error_in_200(exchange: Exchange) -> bool:
    """A passing error, though HTTP says that all is well."""
    said = exchange.random.choice(words("transient", "timeout", "rate_limited"))
    for _, reply in exchange.touched():
        exchange.refuse(reply, code=said["code"], message=said["message"])
    return True


def too_wide(params: Sequence[Json], limit: int = RANGE_BLOCKS) -> bool:
    asked = params[0]
    if "fromBlock" not in asked:
        return False
    return int(asked["toBlock"], 16) - int(asked["fromBlock"], 16) + 1 > limit


async def range_limit(exchange: Exchange) -> bool:
    """A true limit of `RANGE_BLOCKS` blocks, told in each provider's words in turn."""
    was_refused = False
    for call, reply in exchange.touched():
        if too_wide(call["params"]):
            said = RANGE_WORDS[exchange.figures["range words"] % len(RANGE_WORDS)]
            exchange.figures["range words"] += 1
            exchange.refuse(reply, code=said["code"], message=said["message"], status=said["http_status"])
            was_refused = True
    return was_refused


async def wrong_id(exchange: Exchange) -> bool:
    for reply in exchange.replies:
        reply["id"] += 1_000_000
    return True


async def swapped_ids(exchange: Exchange) -> bool:
    """Each result under the id of the next call. Contract calls are left alone: swapped flags of two contracts look
    right, and would be a lie.
    """
    if len(exchange.replies) < 2 or any(call["method"] == _CONTRACT_CALL for call in exchange.calls):
        return False
    replies = exchange.replies
    if all(reply.get("result") == replies[0].get("result") for reply in replies):
        return False
    ids = [reply["id"] for reply in replies]
    for reply, id_ in zip(replies, [*ids[1:], ids[0]], strict=True):
        reply["id"] = id_
    return True


async def reordered_replies(exchange: Exchange) -> bool:
    """As the specification allows: the ids tell which is which."""
    if len(exchange.replies) < 2:
        return False
    # together: each reply is found beside its call
    exchange.calls, exchange.replies = exchange.calls[::-1], exchange.replies[::-1]
    return True


def _no_result(_params: Any, _result: Any, _exchange: Exchange) -> Any:
    return None


def _another_chain(_params: Any, result: Any, _exchange: Exchange) -> Any:
    return hex(int(result, 16) + 1)


REFUSALS = (
    Fault(name="error in HTTP 200", harm=Harm.PLAIN, change=error_in_200),
    refused("rate_limited"),
    refused("fatal"),
    refused("method_unsupported"),
    refused("history_pruned"),
    refused("block_not_found"),
    Fault(name="range limit", harm=Harm.NONE, change=range_limit, methods=frozenset({LOGS})),
    Fault(name="wrong id", harm=Harm.PLAIN, change=wrong_id),
    Fault(name="swapped ids", harm=Harm.PLAIN, change=swapped_ids, is_about_batches=True),
    Fault(name="reordered replies", harm=Harm.NONE, change=reordered_replies, is_about_batches=True),
    Fault(name="null results", harm=Harm.PLAIN, change=changed_results(_no_result)),
    Fault(
        name="wrong chain id",
        harm=Harm.PLAIN,
        change=changed_results(_another_chain),
        methods=frozenset({CHAIN_ID}),
    ),
)
