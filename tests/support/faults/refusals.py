"""Refusals in providers' own words, and replies that are no answers to what was asked.

The words are those of tests/golden/rpc/errors.json.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tests.support.faults.model import CHAIN_ID, LOGS, Exchange, Fault, Harm, Json, changed_results

WORDS = Path(__file__).resolve().parents[2] / "golden" / "rpc" / "errors.json"
RANGE_BLOCKS = 2
"""A provider with a limit answers what spans no more blocks than this."""
OTHER_CHAIN = 1
_PROSE = ("(no error)", "{", "batch response array")
"""Entries that describe an answer, and quote none, begin so."""


@functools.cache
def words(*classes: str, methods: tuple[str, ...] = ("*",)) -> Sequence[Json]:
    """The collected refusals of these classes."""
    entries: list[Json] = msgspec.json.decode(WORDS.read_bytes())
    return [
        entry for entry in entries
        if entry["class"] in classes and entry["method"] in methods and not entry["message"].startswith(_PROSE)
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
    """Each result under the id of the next call."""
    if len(exchange.replies) < 2:
        return False
    ids = [reply["id"] for reply in exchange.replies]
    for reply, id_ in zip(exchange.replies, [*ids[1:], ids[0]], strict=True):
        reply["id"] = id_
    return True


REFUSALS = (
    Fault(name="error in HTTP 200", harm=Harm.PLAIN, change=error_in_200),
    refused("rate_limited"),
    refused("fatal"),
    refused("method_unsupported"),
    refused("history_pruned"),
    Fault(name="range limit", harm=Harm.NONE, change=range_limit, methods=frozenset({LOGS})),
    Fault(name="wrong id", harm=Harm.PLAIN, change=wrong_id),
    Fault(name="swapped ids", harm=Harm.PLAIN, change=swapped_ids, is_about_batches=True),
    Fault(name="null results", harm=Harm.PLAIN, change=changed_results(lambda _params, _result, _exchange: None)),
    Fault(
        name="wrong chain id",
        harm=Harm.PLAIN,
        change=changed_results(lambda _params, _result, _exchange: hex(OTHER_CHAIN)),
        methods=frozenset({CHAIN_ID}),
    ),
)
