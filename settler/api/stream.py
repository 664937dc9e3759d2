"""Server-sent events: each change of an invoice, to whoever listens.

https://html.spec.whatwg.org/multipage/server-sent-events.html

    id: 4-9f8e7d6c5b4a3f2e         the state it shows: the invoice's version, and a digest of all the rest
    event: invoice
    data: {…}

The present state comes first, unless the listener's `Last-Event-ID` is of that state; then each later one. Of states
that follow one another faster than a listener reads, it gets the last.

One look at the database serves all listeners of the process, twice a second while there are any; an invoice is rendered
once a change, however many listen. A listener costs a socket and one event that waits. While the database is away
streams stay open, and go on later. What a stream shows is not decided here: `Shown` is given.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from socket import SO_SNDBUF, SOL_SOCKET
from typing import Any, Self

import structlog
from aiohttp import web

from settler.api.auth import authenticate
from settler.api.call import Services
from settler.api.errors import Problem, lift_deadline
from settler.api.listener import HEARTBEAT_S, Listener, Shown
from settler.clock import first_of
from settler.domain.ids import InvoiceId
from settler.domain.invoices import Invoice
from settler.domain.shapes import InvoiceShape
from settler.storage import invoices, reading
from settler.storage.errors import StorageUnavailable
from settler.storage.invoices import Fingerprint

log = structlog.get_logger(__name__)

EVENT_STREAM = "text/event-stream"
LOOK_EVERY_S = 0.5
RESTS = 4
"""Times as long as a look took, the next one waits at least, up to `LOOK_AT_LEAST_EVERY_S`: what strangers make dear to
look at, by a thousand grains of dust on invoices they follow, is told later and takes a fifth of the process at most.
"""
LOOK_AT_LEAST_EVERY_S = 10.0
RETRY_MS = 2_000
RETRY_SPREAD_MS = 3_000
"""Told to listeners: when to come again. Spread, so that those of a process that ended do not all come at once."""
SEND_BUFFER_BYTES = 65_536
"""What the system keeps for one that does not read."""

RETRY_AFTER_S = 10
"""Told to who is refused."""
REST_S = 5.0
"""After a bug, before all begins anew."""

_HEADERS = {
    "Cache-Control": "no-store, no-transform",
    "X-Content-Type-Options": "nosniff",
    # nginx would gather events before it sends them
    "X-Accel-Buffering": "no",
}


def whole(_invoice: Invoice, shape: InvoiceShape) -> Mapping[str, Any]:
    """As the API shows it."""
    return shape


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamBounds:
    """How many streams there may be in this process."""

    total: int = 500
    visitors: int = 375
    """Of them without a key: payers leave room for programs."""
    per_holder: int = 125
    """Of one key, or of one address without a key. Many visitors may come from one address."""
    per_page: int = 25
    """Of one invoice, without a key: its payment page is open in a few places."""

    @classmethod
    def within(cls, connections: int) -> Self:
        """At most half of the connections: a stream holds one, and other requests want some."""
        total = max(1, connections // 2)
        return cls(total=total, visitors=max(1, total * 3 // 4), per_holder=max(1, total // 4))


DEFAULT_BOUNDS = StreamBounds()


@dataclass(frozen=True, slots=True)
class _State:
    fingerprint: Fingerprint
    frames: Mapping[Shown, bytes]
    """The event as it is sent, for each way in which it is shown."""

    @property
    def event_id(self) -> str:
        return f"{self.fingerprint.version}-{self.fingerprint.digest}"


class Streams:
    """All streams of an application; see `attach`."""

    def __init__(self, services: Services, bounds: StreamBounds) -> None:
        self._services = services
        self._bounds = bounds
        self._listeners: set[Listener] = set()
        self._states: dict[InvoiceId, _State] = {}
        """Of invoices somebody listens to, as of the last look."""
        self._has_come = asyncio.Event()
        """Somebody listens who has got nothing yet."""
        self._pause_s = LOOK_EVERY_S
        """From one look at all of them to the next."""
        self._is_closing = False
        self._is_cut_off = False
        """The database did not answer last time."""

    def __len__(self) -> int:
        return len(self._listeners)

    async def open(
        self, request: web.Request, invoice_id: InvoiceId, *, shown: Shown, holder: str, has_key: bool
    ) -> web.StreamResponse:
        """The stream as the answer to `request`; returns when it has ended. To HEAD, its headers.

        The caller has looked whether there is such an invoice, for whoever asks. Raises `Problem` 429 or 503 where
        there are too many.
        """
        if request.method == "HEAD":
            return web.Response(content_type=EVENT_STREAM, headers=_HEADERS)
        self._check_bounds(invoice_id, holder, has_key=has_key)
        now = self._services.clock.monotonic()
        listener = Listener(
            request=request,
            invoice_id=invoice_id,
            shown=shown,
            holder=holder,
            has_key=has_key,
            opened_at=now,
            last_id=request.headers.get("Last-Event-ID"),
            written_at=now,
        )
        self._listeners.add(listener)
        try:
            return await self._serve(listener)
        finally:
            self._listeners.discard(listener)

    async def run(self) -> None:
        """Until it is cancelled: looks, tells, and ends what is to end. Does nothing while nobody listens.

        A bug ends the streams there are, which then can be seen: silent ones would look as if nothing happened.
        """
        while True:
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._look(), name="streams:look")
                    tasks.create_task(self._keep(), name="streams:keep")
            except Exception:  # the API's edge: one bug must not end all streams for good
                log.exception("streams.failed", streams=len(self))
                self._end(self._listeners)
                await self._services.clock.sleep(REST_S)

    def close(self) -> None:
        """Ends all streams, and takes no new ones."""
        self._is_closing = True
        self._end(self._listeners)

    # -- one stream ----------------------------------------------------------------------------------------------------

    async def _serve(self, listener: Listener) -> web.StreamResponse:
        request = listener.request
        response = web.StreamResponse(headers=_HEADERS)
        response.content_type = EVENT_STREAM
        response.force_close()
        await response.prepare(request)
        lift_deadline(request)
        socket = request.get_extra_info("socket")
        if socket is not None:
            socket.setsockopt(SOL_SOCKET, SO_SNDBUF, SEND_BUFFER_BYTES)
        spread = int.from_bytes(self._services.entropy(2)) % RETRY_SPREAD_MS
        try:
            await response.write(f"retry: {RETRY_MS + spread}\n\n".encode())
            self._has_come.set()
            while (frame := await listener.next()) is not None:
                await response.write(frame)
                listener.written_at = self._services.clock.monotonic()
            await response.write_eof()
        except ConnectionError:
            # it left, or was cut off: `_keep` logs the latter
            pass
        return response

    def _check_bounds(self, invoice_id: InvoiceId, holder: str, *, has_key: bool) -> None:
        bounds = self._bounds
        visitors = [each for each in self._listeners if not each.has_key]
        held = sum(each.holder == holder for each in self._listeners)
        is_full = len(self._listeners) >= bounds.total or (not has_key and len(visitors) >= bounds.visitors)
        if is_full or self._is_closing:
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "unavailable" if self._is_closing else "too-many-streams",
                "this process takes no more streams just now; come again, or ask for the invoice now and then",
                headers={"Retry-After": str(RETRY_AFTER_S)},
            )
        on_page = sum(each.invoice_id == invoice_id for each in visitors)
        if held >= bounds.per_holder or (not has_key and on_page >= bounds.per_page):
            raise Problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                "too-many-streams",
                f"{held} of your streams are open; close some, or ask for the invoice now and then",
                headers={"Retry-After": str(RETRY_AFTER_S)},
            )

    # -- all of them ---------------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """Tells everybody of what changed, and whoever came of the present state."""
        clock = self._services.clock
        looked_at = clock.monotonic()
        while True:
            await self._wait_for_the_next_look(looked_at)
            self._has_come.clear()
            began = clock.monotonic()
            is_due = began - looked_at >= self._pause_s
            # between two looks only for those who came: what they get is no older than their request
            due = [each for each in self._listeners if is_due or each.is_new]
            try:
                await self._refresh({each.invoice_id for each in due})
            except StorageUnavailable as error:
                if not self._is_cut_off:
                    log.warning("streams.waiting", streams=len(self), error=str(error))
                self._is_cut_off = True
                continue
            self._is_cut_off = False
            if is_due:
                looked_at = clock.monotonic()
                self._pause_s = min(LOOK_AT_LEAST_EVERY_S, max(LOOK_EVERY_S, RESTS * (looked_at - began)))
            for each in due:
                each.is_new = False
            self._tell()

    async def _wait_for_the_next_look(self, looked_at: float) -> None:
        clock = self._services.clock
        if not self._listeners or self._is_cut_off:
            await self._sleep_or_wait(LOOK_EVERY_S if self._listeners else None)
            return
        await self._sleep_or_wait(max(0.0, looked_at + self._pause_s - clock.monotonic()))

    async def _sleep_or_wait(self, seconds: float | None) -> None:
        """Until somebody comes, at most `seconds` of the clock."""
        waits: list[Coroutine[Any, Any, object]] = [self._has_come.wait()]
        if seconds is not None:
            waits.append(self._services.clock.sleep(seconds))
        await first_of(*waits)

    async def _refresh(self, ids: set[InvoiceId]) -> None:
        """`_states` of those invoices, rendered anew where they changed."""
        wanted = {each.invoice_id for each in self._listeners}
        self._states = {id_: state for id_, state in self._states.items() if id_ in wanted}
        if not ids:
            return
        async with self._services.db.read() as conn:
            found = await invoices.fingerprints(conn, ids)
            changed = {
                id_
                for id_, fingerprint in found.items()
                if id_ not in self._states or self._states[id_].fingerprint != fingerprint
            }
            of = await invoices.get_many(conn, changed)
            shapes = await reading.invoice_views(conn, list(of.values()))
        for (id_, invoice), shape in zip(of.items(), shapes, strict=True):
            self._states[id_] = self._state(found[id_], invoice, shape)

    def _state(self, fingerprint: Fingerprint, invoice: Invoice, shape: InvoiceShape) -> _State:
        ways = {each.shown for each in self._listeners if each.invoice_id == invoice.id}
        state = _State(fingerprint, {})
        return _State(fingerprint, {way: _frame(state.event_id, way(invoice, shape)) for way in ways})

    def _tell(self) -> None:
        for each in self._listeners:
            state = self._states.get(each.invoice_id)
            if each.is_new or state is None or state.event_id == each.last_id:
                continue
            frame = state.frames.get(each.shown)
            if frame is None:
                # who came meanwhile is shown it in a way nobody was before: it is rendered again at once
                del self._states[each.invoice_id]
                each.is_new = True
                self._has_come.set()
            else:
                each.offer(frame, state.event_id)

    async def _keep(self) -> None:
        """Heartbeats, ends, and keys looked at again."""
        clock = self._services.clock
        checked_at = clock.monotonic()
        while True:
            if not self._listeners:
                await self._has_come.wait()
                checked_at = clock.monotonic()
            await clock.sleep(LOOK_EVERY_S)
            now = clock.monotonic()
            for each in list(self._listeners):
                each.keep(now)
            if now - checked_at >= HEARTBEAT_S:
                checked_at = now
                await self._end_those_without_a_right()

    async def _end_those_without_a_right(self) -> None:
        """A key that was revoked since shows nothing any more. One look for each key, not for each stream."""
        services = self._services
        by_key: dict[str, list[Listener]] = {}
        for each in self._listeners:
            if each.has_key and services.auth == "keys":
                by_key.setdefault(each.request.headers["Authorization"], []).append(each)
        for listeners in by_key.values():
            try:
                await authenticate(
                    listeners[0].request, services.keys, now=services.clock.now(), uses=services.key_uses
                )
            except Problem:
                self._end(listeners)
            except StorageUnavailable:
                return

    @staticmethod
    def _end(listeners: Iterable[Listener]) -> None:
        for each in list(listeners):
            each.end()


STREAMS: web.AppKey[Streams] = web.AppKey("streams", Streams)


def attach(app: web.Application, services: Services, bounds: StreamBounds) -> None:
    """Adds the streams of an application, to be found under `STREAMS`; they end when it shuts down."""
    streams = Streams(services, bounds)
    app[STREAMS] = streams

    async def running(_app: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(streams.run(), name="streams")
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def close(_app: web.Application) -> None:
        streams.close()

    app.cleanup_ctx.append(running)
    # before the server waits for requests under way: a stream would never end by itself
    app.on_shutdown.append(close)


def _frame(event_id: str, data: Mapping[str, Any]) -> bytes:
    """JSON has no line breaks of its own, so an event's data is one line."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return f"id: {event_id}\nevent: invoice\ndata: {text}\n\n".encode()
