"""Webhooks on their way: the sends under way, and what was claimed to follow them.

    #   add ──▶ waiting ──▶ sent, a few at a time to one endpoint ──▶ finished, for whoever records it
    #              └──▶ unsent: its endpoint failed, or its turn came too late. To be given back

What does not belong here: which deliveries are claimed and how they are recorded (`settler.stages.dispatch`), and how
one is sent (`settler.webhook`).
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from settler.domain.delivery import Answered, Delivered, EndpointId, LoggedAttempt, Reply, verdict
from settler.storage.webhooks import Claim

BURST_S = 0.025
"""How long finished sends wait for more of them to finish, to be recorded together: less than anybody notices, and a
transaction for each would cost more than sending."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    claim: Claim
    reply: Reply
    at: datetime
    """When it ended."""
    duration_s: float

    @property
    def is_delivered(self) -> bool:
        return isinstance(verdict(self.reply), Delivered)

    def logged(self) -> LoggedAttempt:
        """As the log of attempts holds it, whatever became of its claim."""
        reply, judged = self.reply, verdict(self.reply)
        return LoggedAttempt(
            delivery_id=self.claim.id,
            at=self.at,
            duration_ms=round(self.duration_s * 1000),
            status_code=reply.status_code if isinstance(reply, Answered) else None,
            error=None if isinstance(judged, Delivered) else judged.reason,
        )


class Outgoing:
    """Of one process. No TaskGroup: sends outlive the tick that starts them; `cut_off` is where they end at the
    latest."""

    def __init__(
        self,
        send: Callable[[Claim], Coroutine[Any, Any, Attempt]],
        *,
        per_endpoint: int,
        is_in_time: Callable[[Claim], bool],
    ) -> None:
        """`per_endpoint`: sends under way to one endpoint, at most. `is_in_time`: whether a claim may still be
        begun: its send is to end before its lease."""
        self._send = send
        self._per_endpoint = per_endpoint
        self._is_in_time = is_in_time
        self._sending: dict[asyncio.Task[Attempt], Claim] = {}
        self._waiting: defaultdict[EndpointId, deque[Claim]] = defaultdict(deque)
        self._bugs: list[BaseException] = []
        self._at_rest = asyncio.Event()
        self.finished: list[Attempt] = []
        """In the order they ended; whoever records them takes them out."""
        self.unsent: list[Claim] = []
        """Claims that will not be sent; whoever gives them back takes them out."""

    def __len__(self) -> int:
        """Claims held here, in any state."""
        return len(self._sending) + sum(map(len, self._waiting.values())) + len(self.finished) + len(self.unsent)

    @property
    def is_sending(self) -> bool:
        return bool(self._sending)

    @property
    def under_way(self) -> Counter[EndpointId]:
        """Sends, by endpoint."""
        return Counter(claim.endpoint.id for claim in self._sending.values())

    @property
    def to_be_sent(self) -> Counter[EndpointId]:
        """Sends and what waits behind them, by endpoint."""
        return self.under_way + Counter({id_: len(claims) for id_, claims in self._waiting.items()})

    def add(self, claims: Sequence[Claim]) -> None:
        """Sends them, an endpoint's in this order; those beyond `per_endpoint` as the ones before them succeed."""
        for claim in claims:
            self._waiting[claim.endpoint.id].append(claim)
        for endpoint in {claim.endpoint.id: None for claim in claims}:
            self._go_on(endpoint)

    def stand_down(self, endpoints: Sequence[EndpointId]) -> None:
        """What waits for these is not sent."""
        for endpoint in endpoints:
            self.unsent += self._waiting.pop(endpoint, ())

    @property
    def waiting_for(self) -> list[EndpointId]:
        """Endpoints for which something waits."""
        return [endpoint for endpoint, claims in self._waiting.items() if claims]

    async def some_finished(self, patience_s: float) -> None:
        """Returns once a first send has finished and those that finish right after it; or after `patience_s`."""
        if not self._sending:
            return
        await asyncio.wait(self._sending, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
        if not self.finished or not self._sending:
            return
        self._at_rest.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(BURST_S):
                await self._at_rest.wait()

    async def cut_off(self, timeout_s: float) -> int:
        """Waits for the sends under way, and begins no more; how many were cut off at `timeout_s`."""
        self.stand_down(list(self._waiting))
        if self._sending:
            await asyncio.wait(self._sending, timeout=timeout_s)
        left = list(self._sending)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        return len(left)

    def raise_bugs(self) -> None:
        bugs, self._bugs = self._bugs, []
        if bugs:
            raise BaseExceptionGroup("sending webhooks failed in a way that no endpoint can cause", bugs)

    def _go_on(self, endpoint: EndpointId) -> None:
        waiting = self._waiting[endpoint]
        room = self._per_endpoint - self.under_way[endpoint] if waiting else 0
        while waiting and room > 0:
            claim = waiting.popleft()
            if not self._is_in_time(claim):
                self.unsent.append(claim)
                continue
            task = asyncio.create_task(self._send(claim), name=f"webhook {claim.id}")
            self._sending[task] = claim
            task.add_done_callback(self._collect)
            room -= 1
        if not waiting:
            del self._waiting[endpoint]

    def _collect(self, task: asyncio.Task[Attempt]) -> None:
        endpoint = self._sending.pop(task).endpoint.id
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._bugs.append(error)  # ours, for a sender never raises; the tick shows it to the loop
        if task.cancelled() or error is not None:
            self.stand_down([endpoint])
        else:
            attempt = task.result()
            self.finished.append(attempt)
            if attempt.is_delivered:
                self._go_on(endpoint)
            else:
                self.stand_down([endpoint])
        if not self._sending:
            self._at_rest.set()
