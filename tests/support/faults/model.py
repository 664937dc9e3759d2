"""A fault, as a named value: what it does to one HTTP request on its way through a `RpcProxy`.

A fault either changes what is told (`change`), or how it is sent (`send`). Both see the whole request, since a node
that lags does so for all calls of a batch. What changes nothing (an empty list of logs, reordered) was not told and is
not counted.
"""

from __future__ import annotations

import inspect
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from aiohttp import web

Json = dict[str, Any]

BLOCK = "eth_getBlockByNumber"
LOGS = "eth_getLogs"
RECEIPTS = "eth_getBlockReceipts"
CHAIN_ID = "eth_chainId"


class Ask(Protocol):
    """One call to the node itself; its result."""

    async def __call__(self, method: str, *params: object) -> Any: ...


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One HTTP request: what is asked, and what will be told."""

    calls: Sequence[Json]
    replies: list[Json]
    """In the order of the calls; the node's own until a fault changes them."""
    is_batch: bool
    ask: Ask
    random: random.Random
    figures: Counter[str]
    """For what a fault wants to be known of it beyond that it was told."""
    methods: frozenset[str] | None = None
    """Of the calls the fault at work is to touch; `None`: all."""
    status: int = 200

    def touched(self) -> Iterator[tuple[Json, Json]]:
        """(call, reply) of the calls the fault at work is to touch."""
        for call, reply in zip(self.calls, self.replies, strict=True):
            if self.methods is None or call["method"] in self.methods:
                yield call, reply

    def refuse(self, reply: Json, *, code: int | None, message: str, status: int | None = None) -> None:
        """An error in place of the result; in a batch it comes with HTTP 200, as providers do."""
        reply.pop("result", None)
        reply["error"] = {"code": code, "message": message}
        if status is not None and not self.is_batch:
            self.status = status


Change = Callable[[Exchange], Awaitable[bool]]
"""Whether anything was changed."""
Send = Callable[[web.Request, Exchange, bytes], Awaitable[web.StreamResponse]]
"""Sends an answer, the given body or another, or breaks the connection over it."""
Lie = Callable[[Any, Any, Exchange], Any]
"""(params, the honest result, the request) to the result that is told, or to what can be awaited for it."""


class Harm(StrEnum):
    """What a reader with one provider can know of a fault."""

    NONE = "none"
    """All is true: nothing may suffer."""
    PLAIN = "plain"
    """It shows in the answer itself: whatever depends on it has to wait."""
    LIE = "lie"
    """The answer looks right: only a second reading, another provider or a proof shows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    name: str
    harm: Harm
    change: Change | None = None
    send: Send | None = None
    methods: frozenset[str] | None = None
    """The calls it is about; `None`: all."""
    is_about_tag: bool = False
    """It touches nothing where finality is a number of blocks."""
    is_about_batches: bool = False


def changed_results(lie: Lie) -> Change:
    """Each result that is touched becomes what `lie` makes of it; errors stay."""

    async def change(exchange: Exchange) -> bool:
        was_changed = False
        for call, reply in exchange.touched():
            if "result" not in reply:
                continue
            told = lie(call["params"], reply["result"], exchange)
            if inspect.isawaitable(told):
                told = await told
            if told != reply["result"]:
                reply["result"] = told
                was_changed = True
        return was_changed

    return change
