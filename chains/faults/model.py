"""A fault, as a named value: what it does to one HTTP request on its way to a node and back.

A fault either changes what is told (`change`), or how it is sent (`send`). Both see the whole request, since a node
that lags does so for all calls of a batch. What changes nothing (an empty list of logs, reordered) was not told and is
not counted.

What does not belong here: sockets. How an answer goes out is a value (`Sent`), enacted over HTTP or in memory.
"""

from __future__ import annotations

import inspect
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto
from functools import cache
from typing import Any, Protocol

Json = dict[str, Any]

BLOCK = "eth_getBlockByNumber"
BLOCK_BY_HASH = "eth_getBlockByHash"
LOGS = "eth_getLogs"
RECEIPTS = "eth_getBlockReceipts"
RECEIPT = "eth_getTransactionReceipt"
TRANSACTION = "eth_getTransactionByHash"
CHAIN_ID = "eth_chainId"
HEAD = "eth_blockNumber"

JSON_HEADERS: Mapping[str, str] = {"Content-Type": "application/json"}


class Ask(Protocol):
    """One call to the node itself; its result, `None` where it has none. Not to be changed: others may hold it."""

    async def __call__(self, method: str, *params: object) -> Any: ...


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One HTTP request: what is asked, and what will be told."""

    calls: Sequence[Json]
    replies: list[Json]
    """In the order of the calls; the node's own until a fault changes them. Each is this exchange's, its result may be
    anybody's: a fault puts another in its place and changes none."""
    is_batch: bool
    ask: Ask
    random: random.Random
    figures: Counter[str]
    """For what a fault wants to be known of it beyond that it was told."""
    methods: frozenset[str] | None = None
    """Of the calls the fault at work is to touch; `None`: all."""
    status: int = 200
    told: list[str] = field(default_factory=list)
    """The faults that were told, by name."""

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


class End(Enum):
    """How an answer ends."""

    WHOLE = auto()
    CLOSED = auto()
    """The connection is closed (FIN) before all that was announced is there."""
    RESET = auto()
    """The connection is reset (RST) there."""
    SILENCE = auto()
    """Nothing more comes, and the connection stays open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """How an answer goes out."""

    body: bytes = b""
    """As many bytes as are sent of it."""
    status: int | None = 200
    """`None`: not even a status line is sent."""
    headers: Mapping[str, str] = field(default_factory=lambda: JSON_HEADERS)
    delay_s: float = 0.0
    """Before the first byte."""
    end: End = End.WHOLE
    announced_bytes: int | None = None
    """The Content-Length; `None`: that of the body where it is sent whole and without padding, else none."""
    padding_bytes: int = 0
    """So many spaces follow the body, or fewer, where the client hangs up."""

    @property
    def content_length(self) -> int | None:
        """What is announced, `None`: nothing is."""
        if self.announced_bytes is not None:
            return self.announced_bytes
        return len(self.body) if self.end is End.WHOLE and not self.padding_bytes else None

    def chunks(self, figures: Counter[str], *, is_in_memory: bool = False) -> Iterator[bytes]:
        """The body and its padding, piece by piece; notes how much of the padding was taken. `is_in_memory`: it goes
        over no wire, and its padding is two pieces, so that a reader that refuses it has not much to copy.
        """
        if self.body:
            yield self.body
        if not self.padding_bytes:
            return
        figures["huge answers"] += 1
        taken = 0
        while taken < self.padding_bytes:
            piece = _unread(self.padding_bytes - taken) if is_in_memory and taken else _PADDING
            yield piece
            taken += len(piece)
            figures["longest huge answer"] = max(figures["longest huge answer"], taken)
        figures["huge answers taken whole"] += 1


_PADDING = b" " * 2**20
"""Shared: a huge answer costs its receiver memory, not its sender."""


@cache
def _unread(count: int) -> bytes:
    """Zeros, which take no memory as long as nobody reads them."""
    return bytes(count)


Change = Callable[[Exchange], Awaitable[bool]]
"""Whether anything was changed."""
Send = Callable[[Exchange, bytes], Sent]
"""How an answer goes out whose text would be these bytes."""
Lie = Callable[[Any, Any, Exchange], Any]
"""(params, the honest result, the request) to the result that is told, or to what can be awaited for it."""


class Harm(StrEnum):
    """What a reader can know of a fault that one provider alone shows it: so what a second reading, which counts as
    the truth where it is one provider's, may suffer.
    """

    NONE = "none"
    """All is true: nothing may suffer."""
    PLAIN = "plain"
    """It shows in the answer itself: whatever depends on it has to wait. Every provider may do it at once."""
    LIE = "lie"
    """The answer looks right: only a second reading, another provider or a proof shows it. With a quorum of two one
    provider may do it, with a quorum of one nobody."""


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
    """It touches nothing but batches."""
    is_seen_in_batches: bool = False
    """It is plain because the calls of a batch contradict each other. Where batches were refused
    (`chains.rpc.BATCHES_SENT_ALONE`), so that calls come alone, it is a lie."""


def changed_results(lie: Lie) -> Change:
    """Each result that is touched becomes what `lie` makes of it; errors and nulls stay."""

    async def change(exchange: Exchange) -> bool:
        was_changed = False
        for call, reply in exchange.touched():
            honest = reply.get("result")
            if honest is None:
                continue
            told = lie(call["params"], honest, exchange)
            if inspect.isawaitable(told):
                told = await told
            if told != honest:
                reply["result"] = told
                was_changed = True
        return was_changed

    return change
