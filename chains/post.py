"""JSON by HTTP POST, bounded in bytes; aiohttp's errors become `Transient`. The URL is in no message."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import aiohttp

from chains.errors import ResultTooLarge, Transient
from chains.replies import Answer

MAX_RESPONSE_BYTES = 32 * 2**20
"""50,000 logs of 630 bytes: as many as providers answer with (10,000 to 50,000); what has more is asked in pieces."""

_HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}
_UNTIMED = aiohttp.ClientTimeout(total=None)
"""The one time-out of a call stands in `chains.rpc`, around all of it."""


class HttpContent(Protocol):
    """The body of an answer."""

    def iter_any(self) -> AsyncIterator[bytes]:
        """Its bytes as they come."""
        ...


class HttpResponse(Protocol):
    """As much of an `aiohttp.ClientResponse` as is read here."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def content_length(self) -> int | None: ...

    @property
    def content(self) -> HttpContent: ...


class HttpSession(Protocol):
    """As much of an `aiohttp.ClientSession` as is used here; raises what that raises. The other one there is, without
    sockets, is `chains.simulated_net.SimulatedSession`.
    """

    def post(
        self,
        url: str,
        *,
        data: bytes,
        headers: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,
        allow_redirects: bool,
    ) -> AbstractAsyncContextManager[HttpResponse, None]: ...

    async def close(self) -> None: ...


class Post:
    """A `chains.rpc.Transport`: each request is one POST; the connections are the session's."""

    def __init__(
        self,
        url: str,
        *,
        session: HttpSession | None = None,
        max_connections: int,
        max_bytes: int = MAX_RESPONSE_BYTES,
    ) -> None:
        """`session`: used and left open; without one the first request makes one, and `close` closes it.

        `max_bytes`: of all answers under way together.
        """
        self._url = url
        self._session = session
        self._owns_session = session is None
        self._max_connections = max_connections
        self._allowance = Allowance(max_bytes)

    async def exchange(self, body: bytes, ids: Sequence[int]) -> Answer:
        return await post_json(self._opened(), self._url, body, allowance=self._allowance)

    async def close(self) -> None:
        if self._owns_session and self._session is not None:
            await self._session.close()
            self._session = None

    def _opened(self) -> HttpSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._max_connections), cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._session


class Allowance:
    """Bytes that the answers under way may hold together: eight large ones at once are as bad as one eight times so
    large.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._left = max_bytes

    def take(self, count: int) -> None:
        """Raises `ResultTooLarge` beyond the bound."""
        if count > self._left:
            raise ResultTooLarge(f"the answer, with others under way, has more than {self.max_bytes} bytes")
        self._left -= count

    def give_back(self, count: int) -> None:
        self._left += count


async def post_json(session: HttpSession, url: str, body: bytes, *, allowance: Allowance) -> Answer:
    """The whole answer. Raises `ResultTooLarge` beyond what is allowed (unpacked), `Transient` when none came.

    Redirects are not followed: they would carry the request, and a key in its path, to a host nobody configured.
    """
    try:
        async with session.post(url, data=body, headers=_HEADERS, timeout=_UNTIMED, allow_redirects=False) as response:
            return Answer(
                status=response.status,
                body=await _read_bounded(response, allowance),
                retry_after_s=retry_after_s(response.headers.get("Retry-After")),
            )
    except (aiohttp.ClientError, OSError) as error:
        if isinstance(error, TimeoutError):
            raise
        raise Transient(f"no whole answer: {type(error).__name__}") from without_url(error)


async def _read_bounded(response: HttpResponse, allowance: Allowance) -> bytearray:
    """Holds its bytes no longer than it reads, also when it fails: an exception keeps the frames it came through."""
    announced = response.content_length
    if announced is not None and announced > allowance.max_bytes:
        raise ResultTooLarge(f"the answer announces {announced} bytes, the bound is {allowance.max_bytes}")
    body = bytearray()
    try:
        async for chunk in response.content.iter_any():
            allowance.take(len(chunk))
            body += chunk
        return body
    finally:
        allowance.give_back(len(body))
        body = bytearray()


def retry_after_s(header: str | None) -> float | None:
    """Seconds; an HTTP date is not read, since it would need our clock to agree with theirs."""
    if header is None or not header.strip().isdecimal() or len(header) > 9:
        return None
    return float(header)


def without_url(error: Exception) -> Exception | None:
    """`ClientResponseError` and its kin print the request's URL in a traceback; the others do not know it."""
    return None if isinstance(error, aiohttp.ClientResponseError | aiohttp.InvalidURL) else error
