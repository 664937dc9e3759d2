"""One attempt to deliver, as it looks from outside: the connection it makes, and whether a success was heard."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from urllib.parse import urlsplit

from settler.domain.delivery import Reply
from settler.simulation.receiver_faults import End, answer
from settler.simulation.receiver_net import Wire
from settler.simulation.receiver_requests import Request, read_request
from settler.webhook.send import HttpSender

TAKEN_BYTES_MAX = 1_048_576
"""A sender that took more of one answer reads without a bound."""


class Attempt:
    """From the call of `send` to its end, however it ended."""

    __slots__ = ("has_heard",)

    def __init__(self) -> None:
        self.has_heard = False
        """All the headers of a 2xx have reached the process."""


_UNDER_WAY: ContextVar[Attempt | None] = ContextVar("webhook attempt", default=None)
"""Of this task: names are looked up and connections made in the task that sends."""


class WatchedSender(HttpSender):
    """The real one; tells `on_failed` the host and the event of each attempt that ended and heard of no success. What
    the sender itself says about that is not looked at."""

    on_failed: Callable[[str, str], None]

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        attempt = Attempt()
        _UNDER_WAY.set(attempt)
        try:
            return await super().send(url, headers, body)
        finally:
            _UNDER_WAY.set(None)
            if not attempt.has_heard:
                self.on_failed(urlsplit(url).hostname or "", headers.get("webhook-id", ""))


class Visit:
    """One connection to a receiver, for one request. A `receiver_net.Peer`."""

    def __init__(
        self, *, on_request: Callable[[Request, Wire, Visit], None], on_violation: Callable[[str], None]
    ) -> None:
        self.says_success = False
        """What is answered is a 2xx."""
        self._on_request = on_request
        self._on_violation = on_violation
        self._attempt = _UNDER_WAY.get()
        self._written = b""
        self._is_complete = False
        self._head = b""
        self._told_bytes = 0

    def take(self, wire: Wire, data: bytes) -> None:
        if self._is_complete:
            self._on_violation("more was sent than one request")
            return
        self._written += data
        request = read_request(self._written)
        if request is not None:
            self._is_complete = True
            self._on_request(request, wire, self)

    def told(self, data: bytes) -> None:
        before = self._told_bytes
        self._told_bytes += len(data)
        if before <= TAKEN_BYTES_MAX < self._told_bytes:
            self._on_violation(f"{self._told_bytes} bytes of one answer were read")
        if self.says_success and self._attempt is not None and not self._attempt.has_heard:
            self._head += data
            self._attempt.has_heard = b"\r\n\r\n" in self._head


class Trap:
    """Whoever listens at a private address, and is as polite as can be. A `receiver_net.Peer`."""

    def take(self, wire: Wire, data: bytes) -> None:
        wire.say(iter([(0.0, answer(200))]), End.CLOSES)

    def told(self, data: bytes) -> None:
        pass
