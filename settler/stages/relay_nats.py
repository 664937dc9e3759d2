"""A `Publisher` for NATS JetStream (`pip install 'settler[nats]'`).

Promises: a message counts as stored when the stream's own acknowledgement says so; its `Nats-Msg-Id` is the event's id,
so that a stream drops what it holds already (within its duplicate window). A connection that broke is never gone on
with: what was written into it may be lost while what follows is not, so it is replaced, the stream is looked at again,
and the batch is repeated. Nothing it says or logs holds more of a URL than its host.

Not used, on purpose: `Nats-Expected-Last-Msg-Id`, which would let the server itself refuse a message that overtakes
another. In nats-server 2.15.1 one such refusal hangs a replicated stream for good.
What does not belong here: which events, when, and how far (`settler.stages.relaying`).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from typing import TYPE_CHECKING

from settler.logs import get_logger
from settler.stages import nats_credentials
from settler.stages.nats_stream import (
    NatsTarget,
    Unavailable,
    headers,
    plain,
    reply_error,
    stream_problem,
    subject_filter,
)
from settler.stages.relaying import Message, Published, PublishRefused

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.js.api import StreamConfig

CONNECT_WITHIN_S = 5.0
"""Connecting and looking at the stream, each."""
CONFIRM_WITHIN_S = 10.0
"""From the first message of a batch to its last acknowledgement; a drain waits no longer than this."""
DUPLICATE_WINDOW_S = 3_600.0
"""Of a stream made here: how late a crashed relay may come back without writing anything twice."""
MAX_AGE_S = 30 * 86_400.0
"""Of a stream made here: how far back a consumer may begin. Everything older stays in `GET /v1/events`."""

log = get_logger(__name__)


def is_installed() -> bool:
    from importlib.util import find_spec

    return find_spec("nats") is not None


class NatsPublisher:
    """Connects when it is first needed, and anew after any trouble."""

    def __init__(self, target: NatsTarget) -> None:
        self._target = target
        self._connection: _Connection | None = None

    async def publish(self, messages: Sequence[Message], *, in_flight: int) -> Published:
        try:
            connection = await self._connected()
        except Unavailable as error:
            return Published(confirmed=0, trouble=str(error))
        published = await connection.publish(messages, self._target.subject, in_flight=in_flight)
        if published.trouble is not None:
            await self.close()
        return published

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _connected(self) -> _Connection:
        if self._connection is None or self._connection.is_lost:
            await self.close()
            opened = _Connection(self._target)
            try:
                await opened.open()
            except BaseException:
                await opened.close()
                raise
            self._connection = opened
        return self._connection


class _Connection:
    """One connection to one server, from its greeting to its first trouble."""

    def __init__(self, target: NatsTarget) -> None:
        from nats.aio.client import Client

        self._target = target
        self._client: Client = Client()
        self._inbox = ""
        self._waiting: dict[int, asyncio.Future[None]] = {}
        """What is not acknowledged yet, by the last word of its reply subject."""
        self._count = 0
        self._said: Exception | None = None
        """What the client was last told in passing."""

    @property
    def is_lost(self) -> bool:
        return not self._client.is_connected

    async def open(self) -> None:
        """Connects and looks at the stream. Raises `Unavailable`, or `PublishRefused` for what is to be mended."""
        await self._connect()
        await self._look_at_stream()
        self._inbox = self._client.new_inbox()
        await self._client.subscribe(f"{self._inbox}.*", cb=self._on_reply)

    async def close(self) -> None:
        for waiting in self._waiting.values():
            waiting.cancel()
        self._waiting.clear()
        try:
            async with asyncio.timeout(CONNECT_WITHIN_S):
                await self._client.close()
        except (OSError, TimeoutError) as error:
            log.debug("relay.close_failed", error=str(error))

    # -- connecting ----------------------------------------------------------------------------------------------------

    async def _connect(self) -> None:
        import nats.errors

        target = self._target
        try:
            tls = None if target.tls_ca is None else ssl.create_default_context(cafile=str(target.tls_ca))
            creds = None if target.creds is None else nats_credentials.read(target.creds)
            async with asyncio.timeout(CONNECT_WITHIN_S):
                await self._client.connect(
                    servers=list(target.servers),
                    name="settler relay",
                    signature_cb=None if creds is None else creds.sign,
                    user_jwt_cb=None if creds is None else lambda: bytearray(creds.jwt.encode()),
                    tls=tls,
                    connect_timeout=int(CONNECT_WITHIN_S),
                    # A connection that broke is replaced here, see above.
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    ping_interval=15,
                    max_outstanding_pings=2,
                    error_cb=self._on_error,
                    closed_cb=self._on_closed,
                )
        except TimeoutError:
            raise Unavailable(self._unreachable(self._said or "no answer")) from None
        except ssl.SSLError as error:
            raise PublishRefused(self._unreachable(error.reason or "TLS failed")) from None
        except (nats.errors.Error, OSError, ValueError) as error:
            cause = self._said if isinstance(error, nats.errors.NoServersError) and self._said else error
            if _is_refusal(cause) or isinstance(error, ValueError):
                raise PublishRefused(f"{self._unreachable(cause)}; see user, password or --creds") from None
            raise Unavailable(self._unreachable(cause)) from None

    def _unreachable(self, cause: object) -> str:
        return f"NATS at {self._target.hosts}: {plain(cause)}"

    async def _look_at_stream(self) -> None:
        """Whether the stream is there and takes what will be sent."""
        import nats.errors
        from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

        manager = self._client.jetstream(timeout=CONNECT_WITHIN_S)
        try:
            try:
                config = (await manager.stream_info(self._target.stream)).config
            except NotFoundError:
                if not self._target.create_stream:
                    raise PublishRefused(
                        f"NATS has no stream {self._target.stream}; make it, or give --create-stream"
                    ) from None
                config = (await manager.add_stream(self._new_stream())).config
                log.info("relay.stream_created", stream=self._target.stream)
        except ServiceUnavailableError as error:
            raise Unavailable(f"JetStream: {plain(error)}") from None
        except APIError as error:
            raise PublishRefused(f"JetStream refuses stream {self._target.stream}: {plain(error)}") from None
        except (nats.errors.NoRespondersError, nats.errors.TimeoutError):
            if self._said is not None:
                raise PublishRefused(f"NATS: {plain(self._said)}") from None
            raise Unavailable("JetStream does not answer: is it enabled on this server and for this user?") from None
        except (nats.errors.Error, OSError) as error:
            raise Unavailable(self._unreachable(error)) from None
        problem = stream_problem(config, self._target.subject)
        if problem is not None:
            raise PublishRefused(f"stream {self._target.stream} {problem}")

    def _new_stream(self) -> StreamConfig:
        from nats.js.api import RetentionPolicy, StorageType, StreamConfig

        return StreamConfig(
            name=self._target.stream,
            description="settler's events, in order; Nats-Msg-Id is the event's id",
            subjects=[subject_filter(self._target.subject)],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            max_age=MAX_AGE_S,
            duplicate_window=DUPLICATE_WINDOW_S,
            num_replicas=self._target.replicas,
        )

    # -- publishing ----------------------------------------------------------------------------------------------------

    async def publish(self, messages: Sequence[Message], subject: str, *, in_flight: int) -> Published:
        sent: list[asyncio.Future[None]] = []
        confirmed = 0
        trouble: str | None = None
        try:
            async with asyncio.timeout(CONFIRM_WITHIN_S):
                for message in messages:
                    if len(sent) - confirmed >= in_flight:
                        await sent[confirmed]
                        confirmed += 1
                    sent.append(await self._send(message, subject))
                for each in sent[confirmed:]:
                    await each
                    confirmed += 1
        except TimeoutError:
            trouble = f"NATS confirmed {confirmed} of {len(sent)} messages within {CONFIRM_WITHIN_S:.0f} s"
        except Unavailable as error:
            trouble = str(error)
        finally:
            for each in sent:
                if each.done() and not each.cancelled():
                    each.exception()  # seen
                each.cancel()
            self._waiting.clear()
        return Published(confirmed=confirmed, trouble=trouble)

    async def _send(self, message: Message, subject: str) -> asyncio.Future[None]:
        """What is done once the stream has stored it. Raises `Unavailable`, `PublishRefused`."""
        import nats.errors

        self._count += 1
        number = self._count
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[number] = stored
        try:
            await self._client.publish(
                subject.replace("{type}", message.type),
                message.body,
                reply=f"{self._inbox}.{number}",
                headers=headers(message),
            )
        except nats.errors.MaxPayloadError:
            raise PublishRefused(
                f"event {message.id} has {len(message.body)} bytes, more than the NATS server takes (max_payload)"
            ) from None
        except (nats.errors.Error, OSError) as error:
            raise Unavailable(self._unreachable(error)) from None
        return stored

    async def _on_reply(self, reply: Msg) -> None:
        waiting = self._waiting.pop(int(reply.subject.rpartition(".")[2]), None)
        if waiting is None or waiting.done():
            return
        error = reply_error(reply.headers, reply.data, self._target.stream)
        if error is None:
            waiting.set_result(None)
        else:
            waiting.set_exception(error)

    async def _on_error(self, error: Exception) -> None:
        self._said = error
        if "permissions violation" in str(error).lower():
            self._fail_all(PublishRefused(f"NATS: {plain(error)}"))

    async def _on_closed(self) -> None:
        self._fail_all(Unavailable(self._unreachable(self._said or "the connection was closed")))

    def _fail_all(self, error: Exception) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(error)


def _is_refusal(error: object) -> bool:
    text = str(error).lower()
    return "authorization" in text or "authentication" in text or "credentials" in text
