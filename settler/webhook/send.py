"""Sends one webhook once and tells what came back. `WebhookSender` is the port, `HttpSender` the real thing.

Promises: whatever the endpoint does, `send` returns within a bound and has read a bounded number of bytes; it
follows no redirect, keeps no cookie and no connection, uses no proxy, inflates nothing; and unless private
addresses are allowed it connects only to addresses that `settler.webhook.guard` lets pass. What does not
belong here: trying again, and how a connection is made (`settler.webhook.network`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Protocol, Self

import aiohttp

from settler import __version__
from settler.clock import Clock
from settler.domain.delivery import Answered, NoAnswer, Reply, parse_retry_after
from settler.domain.errors import InvalidInput
from settler.webhook.guard import check_url
from settler.webhook.network import AddressRefused, Network, SystemNetwork, vet, vet_nothing

TIMEOUT_S = 15.0
"""From the first byte of DNS to the status line; Standard Webhooks advises 15 to 30 s."""
DRAIN_S = 1.0
DRAIN_BYTES = 65_536
"""How long and how much of an answer's body is read after the status, which alone counts: hanging up at once
would break receivers that stop working when their client is gone."""
BODY_BYTES = 1_048_576
"""Far above the 20 kB that Standard Webhooks advises; a larger body is not sent."""
THIS_MACHINE = SystemNetwork()


class WebhookSender(Protocol):
    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """POSTs exactly `body` with `headers` to `url`, once. Never raises for what the endpoint or the
        network does."""
        ...


class HttpSender:
    """Made inside the running event loop; closed by `close` or as a context manager."""

    def __init__(
        self, *, clock: Clock, allow_private: bool, network: Network = THIS_MACHINE, timeout_s: float = TIMEOUT_S
    ) -> None:
        """`allow_private` switches the address check off: `[webhooks] allow_private_addresses`."""
        self._clock = clock
        self._allow_private = allow_private
        self._timeout_s = timeout_s
        self._session = aiohttp.ClientSession(
            connector=network.connector(vet_nothing if allow_private else vet),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),  # one time-out, in `send`
            auto_decompress=False,
            headers={"user-agent": f"settler/{__version__}", "accept-encoding": "identity"},
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._session.close()

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        if len(body) > BODY_BYTES:
            return NoAnswer(reason=f"not sent: {len(body)} bytes, the limit is {BODY_BYTES}")
        try:
            check_url(url, allow_private=self._allow_private)
            async with asyncio.timeout(self._timeout_s):
                response = await self._session.post(url, data=body, headers=headers, allow_redirects=False)
        except InvalidInput as error:  # stored before the configuration forbade it
            return NoAnswer(reason=f"refused: {error}")
        except TimeoutError:
            return NoAnswer(reason=f"no answer within {self._timeout_s:g} s")
        except (aiohttp.ClientError, OSError, UnicodeError) as error:
            return NoAnswer(reason=_reason(error))
        try:
            await _drain(response)
        finally:
            response.close()
        return Answered(
            status_code=response.status,
            retry_after_s=parse_retry_after(response.headers.get("retry-after"), self._clock.now()),
        )


async def _drain(response: aiohttp.ClientResponse) -> None:
    left = DRAIN_BYTES
    with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
        async with asyncio.timeout(DRAIN_S):
            while left > 0 and (chunk := await response.content.read(left)):
                left -= len(chunk)


def _reason(error: Exception) -> str:
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, AddressRefused):
        return str(cause)
    return f"{type(error).__name__}: {cause}"
