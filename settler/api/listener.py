"""One listener of an invoice's stream: what waits to be written to it, and when it is to end (`settler.api.stream`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiohttp import web

from settler.domain.ids import InvoiceId
from settler.domain.invoices import Invoice
from settler.domain.shapes import InvoiceShape

log = structlog.get_logger(__name__)

HEARTBEAT_S = 15.0
"""Shorter than any proxy's patience with a silent connection (usually 60 s); a key is looked at again as often."""
STUCK_S = 10.0
"""A listener that takes nothing of what was written for so long is cut off."""
LIFE_S = 3_600.0
"""After it the listener connects again: so that a new key, a new address and a new process get their turn."""
HEARTBEAT = b":\n\n"
"""A comment: clients drop it, proxies see that the connection lives."""

Shown = Callable[[Invoice, InvoiceShape], Mapping[str, Any]]
"""What a stream tells of an invoice: a function of the module's own, not made for one request, for its outcome is
shared.
"""


@dataclass(eq=False, slots=True, kw_only=True)
class Listener:
    """One open stream. Its mailbox has one place: what is not taken is replaced by what is newer."""

    request: web.Request
    invoice_id: InvoiceId
    shown: Shown
    holder: str
    """Whose it is, for the bounds."""
    has_key: bool
    opened_at: float
    """Monotonic seconds, as all times here."""
    written_at: float
    last_id: str | None
    """Of the state it has."""
    is_new: bool = True
    """Nothing was read for it yet."""
    _stuck_since: float | None = None
    _frame: bytes | None = None
    _has_ended: bool = False
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def offer(self, frame: bytes, event_id: str) -> None:
        """To be written as soon as what was written before is on its way; `event_id`: of the state it shows."""
        self.last_id = event_id
        self._put(frame)

    def end(self) -> None:
        """It ends once what waits for it was written."""
        self._has_ended = True
        self._wake.set()

    async def next(self) -> bytes | None:
        """What to write next; `None`: the stream has ended."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            frame, self._frame = self._frame, None
            if frame is not None:
                if self._has_ended:
                    self._wake.set()
                return frame
            if self._has_ended:
                return None

    def keep(self, now: float) -> None:
        """What time asks for: a heartbeat, the end of its life, cutting off one that does not read."""
        transport = self.request.transport
        if transport is None or transport.is_closing() or now - self.opened_at >= LIFE_S:
            self.end()
        elif self._is_blocked:
            self._stuck_since = self._stuck_since if self._stuck_since is not None else now
            if now - self._stuck_since >= STUCK_S:
                log.info("stream.cut_off", invoice=self.invoice_id, stuck_s=now - self._stuck_since)
                transport.abort()
                self.end()
        else:
            self._stuck_since = None
            if self._frame is None and now - self.written_at >= HEARTBEAT_S:
                self._put(HEARTBEAT)
            elif self._frame is not None:
                self._wake.set()

    def _put(self, frame: bytes) -> None:
        self._frame = frame
        if not self._is_blocked:
            self._wake.set()

    @property
    def _is_blocked(self) -> bool:
        """Something written before has not left this process yet."""
        transport = self.request.transport
        return transport is not None and transport.get_write_buffer_size() > 0
