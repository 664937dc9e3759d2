"""One JSON-RPC provider over HTTP: typed calls and batches, counted, timed, bounded, retried in this one place.

An attempt is one HTTP request with one time-out, waiting for a free slot included. Passing failures (`Transient`, but
not `BlockNotFound`: that one is the next tick's) are tried `attempts` times with growing, jittered waits. A provider
that asks for a longer rest than `MAX_WAIT_S` is not asked again here: `RateLimited` goes up with what it said.
So a call ends within attempts * (timeout_s + MAX_WAIT_S): 45 s by default.

What does not belong here: what a block or a log means (`chains.evm`), and choosing between providers.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar
from urllib.parse import unquote, urlsplit

import aiohttp
import msgspec
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

from chains.errors import BlockNotFound, ChainError, RateLimited, Timeout, Transient
from chains.post import MAX_RESPONSE_BYTES, post_json
from chains.replies import Answer, BatchRefused, Call, read_batch, read_single

T = TypeVar("T")

TIMEOUT_S = 10.0
"""One attempt. Providers themselves give up a getLogs after 10 s or so; a head that takes longer is no head."""
ATTEMPTS = 3
FIRST_WAIT_S = 0.2
MAX_WAIT_S = 5.0
"""The longest wait between attempts, and the longest `Retry-After` that is waited for here."""
MAX_IN_FLIGHT = 8
"""Requests under way at once: below what free plans allow a second."""
MAX_BATCH = 100
"""Calls in one batch. Providers cap batches at 100 (QuickNode, Chainstack) to 1000."""

BATCHES_SENT_ALONE = 200
"""After a refusal of batches, this many are sent call by call before one is tried again: a gateway may have slipped."""


class CallObserver(Protocol):
    """Told of every JSON-RPC call of every HTTP attempt: calls of a batch count one by one."""

    def on_call(self, method: str, outcome: str, seconds: float) -> None:
        """`outcome`: `ok`, or the label of the error (`chains.errors`). `seconds`: of the HTTP attempt."""
        ...


class SilentObserver:
    """Observes nothing."""

    def on_call(self, method: str, outcome: str, seconds: float) -> None:
        return None


class RpcProvider:
    """A JSON-RPC endpoint. Raises `ChainError` and nothing else of the network's."""

    def __init__(
        self,
        url: str,
        *,
        session: aiohttp.ClientSession | None = None,
        timeout_s: float = TIMEOUT_S,
        attempts: int = ATTEMPTS,
        max_in_flight: int = MAX_IN_FLIGHT,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
        observer: CallObserver | None = None,
        name: str | None = None,
        jitter: random.Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`session`: used and left open; without one the provider makes its own at the first call and closes it."""
        host = checked_host(url)
        self.name = name or host
        """Host of the URL, for logs and metrics; the caller may tell two of one host apart."""
        self._url = url
        self._secrets = _secret_parts(url)
        self._session = session
        self._owns_session = session is None
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._slots = asyncio.Semaphore(max_in_flight)
        self._max_in_flight = max_in_flight
        self._max_response_bytes = max_response_bytes
        self._observer: CallObserver = observer or SilentObserver()
        self._jitter = jitter or random.Random()  # noqa: S311 - spreads retries, keeps no secret
        self._sleep = sleep
        self._ids = itertools.count(1)
        self._alone_left = 0
        self._is_closed = False

    def __repr__(self) -> str:
        return f"RpcProvider({self.name})"

    async def call(self, method: str, params: Sequence[object], result: msgspec.json.Decoder[T]) -> T:
        """The decoded result of one call. Raises `ChainError`."""
        outcomes = await self._with_retries([Call(method=method, params=params, result=result)])
        return _result(outcomes[0])

    async def batch(self, calls: Sequence[Call[T]]) -> tuple[T, ...]:
        """The results of calls sent as one batch, in order. Raises the first error if any call failed."""
        return tuple([_result(outcome) for outcome in await self.batch_outcomes(calls)])

    async def batch_outcomes(self, calls: Sequence[Call[T]]) -> list[T | ChainError]:
        """As `batch`, with the lasting errors as values beside the results; passing failures still raise.

        A provider that refuses batches is asked call by call for a while: its answers may then come from different
        moments, which the checks of `chains.evm` and the second reading have to catch.
        """
        if len(calls) > MAX_BATCH:
            raise ValueError(f"a batch has at most {MAX_BATCH} calls, got {len(calls)}")
        return await self._with_retries(calls) if calls else []

    async def close(self) -> None:
        """Closes the session if the provider made it. Idempotent."""
        self._is_closed = True
        if self._owns_session and self._session is not None:
            await self._session.close()
            self._session = None

    # -- attempts ------------------------------------------------------------------------------------------------------

    async def _with_retries(self, calls: Sequence[Call[T]]) -> list[T | ChainError]:
        async for attempt in AsyncRetrying(
            stop=stop_after_attempt(self._attempts),
            wait=self._wait_s,
            retry=retry_if_exception(_is_worth_retrying),
            sleep=self._sleep,
            reraise=True,
        ):
            with attempt:
                return await self._send(calls)
        raise AssertionError("tenacity either returns or raises")

    async def _send(self, calls: Sequence[Call[T]]) -> list[T | ChainError]:
        """All outcomes; raises the first failure that is worth another attempt of the whole."""
        if len(calls) > 1 and not self._is_batch_to_be_split():
            outcomes = await self._send_batch(calls)
        else:
            outcomes = await self._send_singles(calls)
        for outcome in outcomes:
            if isinstance(outcome, ChainError) and _is_worth_retrying(outcome):
                raise outcome
        return outcomes

    async def _send_single(self, call: Call[T]) -> T | ChainError:
        call_id = next(self._ids)
        started = asyncio.get_running_loop().time()
        answer = await self._post(_encoded(call, call_id))
        outcome = answer if isinstance(answer, ChainError) else read_single(answer, call, call_id)
        self._observe([call], [outcome], started)
        return outcome

    async def _send_singles(self, calls: Sequence[Call[T]]) -> list[T | ChainError]:
        """At once, as far as there are slots: they should see the same moment of the chain."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._send_single(call), name=f"{self.name} {call.method}") for call in calls]
        return [task.result() for task in tasks]

    async def _send_batch(self, calls: Sequence[Call[T]]) -> list[T | ChainError]:
        ids = [next(self._ids) for _ in calls]
        started = asyncio.get_running_loop().time()
        answer = await self._post(b"[" + b",".join(map(_encoded, calls, ids)) + b"]")
        if isinstance(answer, ChainError):
            outcomes: list[T | ChainError] = [answer] * len(calls)
        else:
            read = read_batch(answer, calls, ids)
            if isinstance(read, BatchRefused):
                self._observe(calls, [read.error] * len(calls), started)
                return await self._send_refused(calls, is_lasting=read.is_lasting)
            outcomes = read
        self._observe(calls, outcomes, started)
        return outcomes

    async def _send_refused(self, calls: Sequence[Call[T]], *, is_lasting: bool) -> list[T | ChainError]:
        """After a refused batch. Remembered only when the calls themselves are welcome: a bad key refuses both."""
        outcomes = await self._send_singles(calls)
        if is_lasting and not any(isinstance(outcome, ChainError) for outcome in outcomes):
            self._alone_left = BATCHES_SENT_ALONE
        return outcomes

    def _is_batch_to_be_split(self) -> bool:
        if self._alone_left == 0:
            return False
        self._alone_left -= 1
        return True

    async def _post(self, body: bytes) -> Answer | ChainError:
        try:
            async with asyncio.timeout(self._timeout_s), self._slots:
                return await post_json(self._opened(), self._url, body, max_bytes=self._max_response_bytes)
        except TimeoutError:
            return Timeout(f"no whole answer within {self._timeout_s:g} s")
        except ChainError as error:
            return error

    def _opened(self) -> aiohttp.ClientSession:
        if self._is_closed:
            raise Transient("the provider is closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._max_in_flight), cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._session

    def _wait_s(self, state: RetryCallState) -> float:
        """What the provider asked for, else full jitter over 0.2, 0.4, 0.8 … s."""
        error = state.outcome.exception() if state.outcome is not None else None
        if isinstance(error, RateLimited) and error.retry_after_s is not None:
            return error.retry_after_s
        return float(self._jitter.uniform(0, min(MAX_WAIT_S, FIRST_WAIT_S * 2**state.attempt_number)))

    def _observe(self, calls: Sequence[Call[T]], outcomes: Sequence[T | ChainError], started: float) -> None:
        """Tells the observer, and puts provider and method before the text of each error, its secrets taken out."""
        seconds = asyncio.get_running_loop().time() - started
        named: set[int] = set()
        for call, outcome in zip(calls, outcomes, strict=True):
            label = "ok"
            if isinstance(outcome, ChainError):
                label = outcome.label
                if id(outcome) not in named:
                    named.add(id(outcome))
                    outcome.args = (f"{self.name}: {call.method}: {self._scrubbed(str(outcome))}",)
            self._observer.on_call(call.method, label, seconds)

    def _scrubbed(self, text: str) -> str:
        """Some providers repeat the key or the URL in their errors."""
        for secret in self._secrets:
            text = text.replace(secret, "…")
        return text


def checked_host(url: str) -> str:
    """The host of an `http(s)` URL. Raises `ValueError` without repeating the URL: it may hold a key."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("an RPC URL is malformed (host or port)") from None
    if parts.scheme not in {"http", "https"}:
        raise ValueError(f"an RPC URL must be http:// or https://, this one has scheme {parts.scheme[:12]!a}")
    if not host:
        raise ValueError(f"an RPC URL names no host after {parts.scheme}://")
    return host


def _encoded(call: Call[T], call_id: int) -> bytes:
    return msgspec.json.encode({"jsonrpc": "2.0", "id": call_id, "method": call.method, "params": call.params})


def _result(outcome: T | ChainError) -> T:
    if isinstance(outcome, ChainError):
        raise outcome
    return outcome


def _is_worth_retrying(error: BaseException) -> bool:
    if isinstance(error, RateLimited):
        return error.retry_after_s is None or error.retry_after_s <= MAX_WAIT_S
    return isinstance(error, Transient) and not isinstance(error, BlockNotFound)


_SECRET_CHARS = 6
"""Shorter parts of a path are words (`v2`, `rpc`), not keys."""


def _secret_parts(url: str) -> tuple[str, ...]:
    """The URL itself and every part of it that may be a key, longest first."""
    parts = urlsplit(url)
    found = {url, parts.path, parts.query, parts.username or "", parts.password or ""}
    found.update(parts.path.split("/"))
    found.update(value for pair in parts.query.split("&") for value in pair.split("=", 1))
    found.update([unquote(part) for part in found])
    return tuple(sorted((part for part in found if len(part) >= _SECRET_CHARS), key=len, reverse=True))
