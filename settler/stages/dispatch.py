"""The third stage: signed webhooks, at least once, the same event id at every attempt.

A tick records how finished sends went, fans new events out to endpoints, claims what is due and starts
sending it. It does not wait for the slowest: sends are tasks that outlive the tick, each endpoint has few
slots of its own, and endpoints that fail share half of all slots, so that however many hang, the others'
webhooks leave at once. A claim is a lease: what was being sent when the process died is sent again by whoever
finds the lease run out.

    #   claim, commit ──▶ send ──▶ record, commit      a crash between the last two: sent twice, one id

What does not belong here: when to try again (`settler.domain.delivery`), how a webhook is sent
(`settler.webhook`).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final, assert_never

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.clock import Clock
from settler.domain.delivery import (
    Answered,
    Delivered,
    Disable,
    EndpointId,
    GiveUp,
    LoggedAttempt,
    NoAnswer,
    Reply,
    Retry,
    next_attempt,
    verdict,
)
from settler.domain.errors import InvalidInput
from settler.stages.payment_traces import NO_TRACES, PaymentTraces
from settler.stages.progress import Progress
from settler.storage import webhooks
from settler.storage.engine import Database
from settler.storage.webhooks import Claim
from settler.webhook import sign
from settler.webhook.send import WebhookSender

OUTCOMES: Final = ("delivered", "retried", "dead", "disabled")
"""What `on_attempt` is told, once an attempt that was recorded: the label of
`settler_webhook_deliveries_total`."""

EVENTS_PER_TICK = 200
BURIALS_PER_TICK = 500
MAX_IN_FLIGHT = 128
"""Sends under way: times the largest body, what this stage may hold in memory."""
PER_ENDPOINT = 4
"""Sends under way to one endpoint; 1 while its last attempt failed."""
SEND_LIMIT_S = 30.0
"""A send still going on then is given up: longer than any sender's own time-out, shorter than the lease."""
LEASE_S = 60.0
"""How soon another worker takes over what a dead one was sending."""
PATIENCE_S = 0.5
"""How long a tick waits for a first send to finish; a new event waits no longer than this behind a hanging
endpoint."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    claim: Claim
    reply: Reply
    at: datetime
    """When it ended."""
    duration_s: float

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


def _ignore(_outcome: str) -> None:
    pass


class Dispatch:
    """One a process; any number of processes."""

    def __init__(
        self,
        db: Database,
        sender: WebhookSender,
        clock: Clock,
        *,
        jitter: Callable[[], float],
        on_attempt: Callable[[str], None] = _ignore,
        traces: PaymentTraces = NO_TRACES,
        max_in_flight: int = MAX_IN_FLIGHT,
        per_endpoint: int = PER_ENDPOINT,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """`jitter` draws from 0 .. 1 (`random.random`); `on_attempt` is called with one of `OUTCOMES`."""
        self._db = db
        self._sender = sender
        self._clock = clock
        self._jitter = jitter
        self._on_attempt = on_attempt
        self._traces = traces
        self._max_in_flight = max_in_flight
        self._per_endpoint = per_endpoint
        self._patience_s = patience_s
        # No TaskGroup: sends outlive the tick that starts them. `drain` is where they end at the latest.
        self._sending: dict[asyncio.Task[Attempt], Claim] = {}
        self._finished: list[Attempt] = []
        self._bugs: list[BaseException] = []
        self._failing: set[EndpointId] = set()
        self._served_well = ""
        self._served_failing = ""

    async def tick(self) -> Progress:
        recorded = await self._record_finished()
        events, buried, claims = await self._hand_out()
        for claim in claims:
            self._start(claim)
        self._raise_bugs()
        if self._sending:
            await asyncio.wait(self._sending, timeout=self._patience_s, return_when=asyncio.FIRST_COMPLETED)
        return Progress(
            has_more=bool(events or buried or self._sending or self._finished),
            facts={
                "events": events,
                "claimed": len(claims),
                "sending": len(self._sending),
                "buried": buried,
                **recorded,
            },
        )

    async def drain(self, timeout_s: float) -> int:
        """Waits for the sends under way and records them; how many were cut off at `timeout_s`.

        Whether those arrived is not known: they stay claimed, and are sent again when their lease has run
        out.
        """
        if self._sending:
            await asyncio.wait(self._sending, timeout=timeout_s)
        cut_off = list(self._sending)
        for task in cut_off:
            task.cancel()
        await asyncio.gather(*cut_off, return_exceptions=True)
        await self._record_finished()
        self._raise_bugs()
        return len(cut_off)

    async def _hand_out(self) -> tuple[int, int, list[Claim]]:
        """Events fanned out, deliveries buried, and what was claimed to be sent: one transaction. None where there is
        nothing to do: idle, nothing is written and nobody's writing waits.
        """
        now = self._clock.now()
        async with self._db.read() as conn:
            if not await webhooks.has_work(conn, now):
                return 0, 0, []
        async with self._db.write() as conn:
            events = await webhooks.fan_out(conn, now, EVENTS_PER_TICK)
            buried = await webhooks.bury(conn, BURIALS_PER_TICK)
            claims = await self._claim(conn, now)
        return events, buried, claims

    async def _claim(self, conn: AsyncConnection, now: datetime) -> list[Claim]:
        """What there is room for: first for endpoints that are well, then for those that fail, one each and
        half of all."""
        in_use = Counter(claim.endpoint.id for claim in self._sending.values())
        free = self._max_in_flight - len(self._sending) - len(self._finished)
        used_by_failing = sum(count for id_, count in in_use.items() if id_ in self._failing)
        claim = partial(webhooks.claim_due, conn, now, lease_s=LEASE_S)
        well = await claim(
            limit=free,
            per_endpoint=self._per_endpoint,
            taken=in_use | Counter(dict.fromkeys(self._failing, self._per_endpoint)),
            after=self._served_well,
        )
        failing = await claim(
            limit=min(free - len(well), self._max_in_flight // 2 - used_by_failing),
            per_endpoint=1,
            taken=in_use,
            only=self._failing,
            after=self._served_failing,
        )
        self._served_well = _last_endpoint(well, self._served_well)
        self._served_failing = _last_endpoint(failing, self._served_failing)
        return well + failing

    def _start(self, claim: Claim) -> None:
        task = asyncio.create_task(self._send(claim), name=f"webhook {claim.id}")
        self._sending[task] = claim
        task.add_done_callback(self._collect)

    async def _send(self, claim: Claim) -> Attempt:
        started_s = self._clock.monotonic()
        reply = await self._reply(claim)
        took_s = self._clock.monotonic() - started_s
        return Attempt(claim=claim, reply=reply, at=self._clock.now(), duration_s=took_s)

    async def _reply(self, claim: Claim) -> Reply:
        try:
            now = self._clock.now()
            body = sign.encode(claim.event.body())
            signed = sign.headers(claim.event.id, now, body, claim.endpoint.secrets(now))
            headers = {**signed, **self._traces.headers(claim)}
        except (InvalidInput, ValueError) as error:  # what nobody can sign or encode ends as a dead letter
            return NoAnswer(reason=f"not sent: {error}")
        try:
            async with asyncio.timeout(SEND_LIMIT_S):
                return await self._sender.send(claim.endpoint.url, headers, body)
        except TimeoutError:
            return NoAnswer(reason=f"cut off after {SEND_LIMIT_S:g} s")

    def _collect(self, task: asyncio.Task[Attempt]) -> None:
        del self._sending[task]
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self._bugs.append(error)  # ours, for a sender never raises; the tick shows it to the loop
        else:
            self._finished.append(task.result())

    def _raise_bugs(self) -> None:
        bugs, self._bugs = self._bugs, []
        if bugs:
            raise BaseExceptionGroup("sending webhooks failed in a way that no endpoint can cause", bugs)

    async def _record_finished(self) -> Counter[str]:
        """Commits how the finished sends went; they are kept until that has succeeded."""
        # In one order everywhere, so that two workers who disable endpoints never wait for each other.
        batch = sorted(self._finished, key=lambda attempt: (attempt.claim.endpoint.id, attempt.claim.id))
        if not batch:
            return Counter()
        async with self._db.write() as conn:
            outcomes = [await self._record(conn, attempt) for attempt in batch]
            await webhooks.log_attempts(conn, [attempt.logged() for attempt in batch])
        del self._finished[: len(batch)]
        for attempt, outcome in zip(batch, outcomes, strict=True):
            self._note(attempt, outcome)
        return Counter(outcomes)

    async def _record(self, conn: AsyncConnection, attempt: Attempt) -> str:
        """Which of `OUTCOMES` it was."""
        claim, at = attempt.claim, attempt.at
        status_code = attempt.reply.status_code if isinstance(attempt.reply, Answered) else None
        match verdict(attempt.reply):
            case Delivered():
                assert status_code is not None, "delivered, so answered"
                await webhooks.record_delivered(conn, claim, at, status_code=status_code)
                return "delivered"
            case Disable(reason=reason):
                await webhooks.disable_endpoint(conn, claim.endpoint.id, at, reason=reason)
                await webhooks.record_dead(conn, claim, at, status_code=status_code, error=reason)
                return "disabled"
            case Retry(reason=reason, retry_after_s=retry_after_s):
                following = next_attempt(claim.attempts + 1, at, jitter=self._jitter(), retry_after_s=retry_after_s)
                match following:
                    case GiveUp():
                        await webhooks.record_dead(conn, claim, at, status_code=status_code, error=reason)
                        return "dead"
                    case datetime() as next_at:
                        await webhooks.record_retry(
                            conn,
                            claim,
                            at,
                            next_attempt_at=next_at,
                            status_code=status_code,
                            error=reason,
                        )
                        return "retried"
                    case _:
                        assert_never(following)
            case other:
                assert_never(other)

    def _note(self, attempt: Attempt, outcome: str) -> None:
        """What is known once it is committed: who fails, and what an operator wants to hear of."""
        endpoint = attempt.claim.endpoint.id
        if outcome == "delivered":
            self._failing.discard(endpoint)
        else:
            self._failing.add(endpoint)
        if outcome in {"dead", "disabled"}:
            log.warning("webhook.given_up", outcome=outcome, delivery=attempt.claim.id, endpoint=endpoint)
        self._on_attempt(outcome)
        self._traces.attempted(
            attempt.claim, attempt.reply, outcome=outcome, ended=attempt.at, took_s=attempt.duration_s
        )


def _last_endpoint(claims: Sequence[Claim], before: str) -> str:
    return claims[-1].endpoint.id if claims else before
