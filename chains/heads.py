"""New heads pushed over a WebSocket, to wake a loop early. Polling alone must be correct: no fact follows from a head.

A subscription can end without a word. Three things are noticed, and each time another one is made on a new socket:
- the socket is gone: closed, broken, or a ping without an answer;
- it is silent: alive, but without a head for `silent_after_s`;
- it is refused: said once, and asked again rarely.

It has a socket of its own, beside that of the requests: replacing a silent subscription then breaks off no request, a
slow answer of many megabytes holds up no head, and the requests may go to other providers, or over HTTP. It costs one
idle connection a chain.

What does not belong here: what is in a head (it is not even decoded), logging, and how often a loop lets itself be
woken.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NoReturn

import aiohttp
import msgspec
from aiohttp import WSMsgType

from chains.errors import ChainError, RateLimited, Timeout, Transient, Unknown
from chains.replies import Answer, Call, read_single
from chains.socket import HEARTBEAT_S, Socket, envelopes, open_socket, send, socket_session
from chains.url import Scrubber, checked_host, is_socket
from chains.wire import TEXT

SILENT_AFTER_S = 60.0
"""Above the slowest chain's pause between blocks (Ethereum: 12 s, a missed slot or two now and then)."""
SUBSCRIBE_TIMEOUT_S = 10.0
"""From the start of the handshake to the subscription's id."""
FIRST_WAIT_S = 0.5
MAX_WAIT_S = 60.0
"""The longest wait before another try. Polling goes on meanwhile, so nothing is lost but earliness."""
REFUSED_WAIT_S = 3600.0
"""A provider that does not offer subscriptions rarely changes its mind."""
MAX_MESSAGE_BYTES = 2**20
"""A header has some two kilobytes."""

_ID = 1
_SUBSCRIBE: Call[str] = Call(method="eth_subscribe", params=["newHeads"], result=TEXT)
_REQUEST = msgspec.json.encode({"jsonrpc": "2.0", "id": _ID, "method": "eth_subscribe", "params": ["newHeads"]})


class HeadsState(enum.StrEnum):
    """How the subscription is; the words are for logs and metrics."""

    STARTING = "starting"
    LIVE = "live"
    SILENT = "silent"
    """Subscribed, or about to be again, but no head came for too long; the next head makes it live."""
    DOWN = "down"
    REFUSED = "refused"


class HeadWaker:
    """Calls `on_head` for every head a provider pushes, as long as `run` runs."""

    def __init__(
        self,
        url: str,
        *,
        on_head: Callable[[], None],
        on_change: Callable[[HeadsState, ChainError | None], None] = lambda _, __: None,
        name: str | None = None,
        silent_after_s: float = SILENT_AFTER_S,
        heartbeat_s: float = HEARTBEAT_S,
        subscribe_timeout_s: float = SUBSCRIBE_TIMEOUT_S,
        jitter: random.Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`url`: `ws(s)`, else `ValueError`.

        `on_change`: told when the state becomes another one, and why (`None`: it is live), once however often it is
        then tried in vain. Neither callback may wait or raise.

        `silent_after_s`: several times what the chain takes for a block.
        """
        host = checked_host(url)
        if not is_socket(url):
            raise ValueError("heads are pushed over ws:// or wss:// only")
        self.name = name or host
        self._url = url
        self._scrubber = Scrubber(url)
        self._on_head = on_head
        self._on_change = on_change
        self._silent_after_s = silent_after_s
        self._heartbeat_s = heartbeat_s
        self._subscribe_timeout_s = subscribe_timeout_s
        self._jitter = jitter or random.Random()  # noqa: S311 - spreads retries, keeps no secret
        self._sleep = sleep
        self._state = HeadsState.STARTING
        self._last_head_at_s: float | None = None
        self._failures = 0

    def __repr__(self) -> str:
        return f"HeadWaker({self.name})"

    @property
    def state(self) -> HeadsState:
        return self._state

    @property
    def is_live(self) -> bool:
        """Subscribed, and not silent: a loop may poll less often."""
        return self._state is HeadsState.LIVE

    @property
    def last_head_at_s(self) -> float | None:
        """When the last head came, by the event loop's clock; `None` before the first."""
        return self._last_head_at_s

    async def run(self) -> NoReturn:
        """Keeps one subscription alive until cancelled; the socket is closed then."""
        while True:
            try:
                async with socket_session() as session:
                    await self._follow(session)
            except ChainError as error:
                error.args = (f"{self.name}: eth_subscribe: {self._scrubber.scrubbed(str(error))}",)
                self._become(_state_after(error), error)
                self._failures += 1
                await self._sleep(self._wait_s(error))

    async def _follow(self, session: aiohttp.ClientSession) -> NoReturn:
        """One subscription from its beginning to its end, which is an error."""
        async with _within(self._subscribe_timeout_s, Timeout("no socket in time")):
            socket = await open_socket(session, self._url, max_bytes=MAX_MESSAGE_BYTES, heartbeat_s=self._heartbeat_s)
        try:
            async with _within(self._subscribe_timeout_s, Timeout("no subscription in time")):
                await self._subscribe(socket)
            while True:
                async with _within(self._silent_after_s, Silence(f"no head for {self._silent_after_s:g} s")):
                    while not _is_head(await _received(socket)):
                        pass  # nothing else is due, and it must not pass for a head
                self._take_head()
        finally:
            await socket.close()

    async def _subscribe(self, socket: Socket) -> None:
        await send(socket, _REQUEST)
        while _is_head(body := await _received(socket)):
            self._take_head()  # some nodes push before they confirm
        outcome = read_single(Answer(status=200, body=body), _SUBSCRIBE, _ID)
        if isinstance(outcome, ChainError):
            raise outcome
        # After a silence only a head shows that this subscription is better than the last.
        if self._state is not HeadsState.SILENT:
            self._become(HeadsState.LIVE, None)

    def _take_head(self) -> None:
        self._last_head_at_s = asyncio.get_running_loop().time()
        # Not at the confirmation: a node that confirms and closes at once would be asked without a pause.
        self._failures = 0
        self._become(HeadsState.LIVE, None)
        self._on_head()

    def _become(self, state: HeadsState, why: ChainError | None) -> None:
        if state is not self._state:
            self._state = state
            self._on_change(state, why)

    def _wait_s(self, error: ChainError) -> float:
        """Half to all of 0.5, 1, 2 … 60 s; of an hour after a refusal; never sooner than a provider asked for."""
        match self._state:
            case HeadsState.REFUSED:
                longest = REFUSED_WAIT_S
            case HeadsState.SILENT:
                longest = FIRST_WAIT_S  # the silence was wait enough
            case _:
                longest = min(MAX_WAIT_S, FIRST_WAIT_S * 2 ** min(self._failures - 1, 16))
        asked_for = error.retry_after_s if isinstance(error, RateLimited) else None
        return max(min(asked_for or 0.0, REFUSED_WAIT_S), self._jitter.uniform(longest / 2, longest))


class Silence(Transient):
    """A socket that lives and says nothing. Reported to `on_change`; never raised."""

    label = "silent"


def _state_after(error: ChainError) -> HeadsState:
    """An error in unknown words that answers `eth_subscribe` is a refusal: what is transient about sockets is known."""
    if isinstance(error, Silence):
        return HeadsState.SILENT
    if isinstance(error, Unknown) or not isinstance(error, Transient):
        return HeadsState.REFUSED
    return HeadsState.DOWN


@contextlib.asynccontextmanager
async def _within(seconds: float, late: ChainError) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise late from None


async def _received(socket: Socket) -> bytes:
    """The next message. Raises `Transient` when there is none."""
    message = await socket.receive()
    if message.type not in {WSMsgType.TEXT, WSMsgType.BINARY}:
        raise Transient(f"the socket closed (code {socket.close_code})")
    return bytes(message.data)


def _is_head(body: bytes) -> bool:
    """Nothing else is subscribed to on this socket. What is in it is not believed, so it is not read."""
    return any(envelope.method == "eth_subscription" for envelope in envelopes(body) or ())
