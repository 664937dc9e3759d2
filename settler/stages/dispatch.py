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
from datetime import datetime, timedelta
from functools import partial
from itertools import groupby
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
    NoAnswer,
    Reply,
    Retry,
    next_attempt,
    verdict,
)
from settler.domain.errors import InvalidInput
from settler.stages.outgoing import Attempt, Outgoing
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
AHEAD_MAX = 32
"""Claimed for one endpoint beyond those, to follow them without a transaction in between: twice what it took since the
last tick, so that nothing waits here for an endpoint that is slow, and others find it to be claimed."""
SEND_LIMIT_S = 30.0
"""A send still going on then is given up: longer than any sender's own time-out, shorter than the lease."""
BEGIN_WITHIN_S = 20.0
"""What was claimed and could not be begun by then is given back: with the longest send it is less than the lease."""
LEASE_S = 60.0
"""How soon another worker takes over what a dead one was sending."""
PATIENCE_S = 0.5
"""How long a tick waits for a first send to finish; a new event waits no longer than this behind a hanging
endpoint."""

log = structlog.get_logger(__name__)


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
        self._out = Outgoing(self._send, per_endpoint=per_endpoint, is_in_time=self._is_in_time)
        self._took: Counter[EndpointId] = Counter()
        """What each endpoint took, by the last tick that recorded."""
        self._failing: set[EndpointId] = set()
        self._served_well = ""
        self._served_failing = ""

    async def tick(self) -> Progress:
        # what waits behind a slow endpoint is given back, for whoever is first to have room
        self._out.stand_down([id_ for id_ in self._out.waiting_for if not self._has_taken(id_)])
        recorded = await self._record_finished()
        events, buried, claims = await self._hand_out(is_busy=bool(recorded))
        self._out.add(claims)
        self._out.raise_bugs()
        await self._out.some_finished(self._patience_s)
        return Progress(
            has_more=bool(events or buried or len(self._out)),
            facts={
                "events": events,
                "claimed": len(claims),
                "sending": self._out.under_way.total(),
                "buried": buried,
                **recorded,
            },
        )

    async def drain(self, timeout_s: float) -> int:
        """Waits for the sends under way and records them; how many were cut off at `timeout_s`.

        Whether those arrived is not known: they stay claimed, and are sent again when their lease has run
        out. What was claimed and not begun is given back.
        """
        cut_off = await self._out.cut_off(timeout_s)
        await self._record_finished()
        self._out.raise_bugs()
        return cut_off

    async def _hand_out(self, *, is_busy: bool) -> tuple[int, int, list[Claim]]:
        """Events fanned out, deliveries buried, and what was claimed to be sent: one transaction. None where there is
        nothing to do: idle, nothing is written and nobody's writing waits. `is_busy`: something was recorded right
        before, so there is likely more.
        """
        now = self._clock.now()
        if not is_busy:
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
        to_be_sent, under_way = self._out.to_be_sent, self._out.under_way
        free = self._max_in_flight - len(self._out)
        used_by_failing = sum(count for id_, count in under_way.items() if id_ in self._failing)
        claim = partial(webhooks.claim_due, conn, now, lease_s=LEASE_S)
        well = await claim(
            limit=free,
            per_endpoint=self._per_endpoint,
            ahead=self._ahead(),
            taken=to_be_sent | Counter(dict.fromkeys(self._failing, self._per_endpoint)),
            after=self._served_well,
        )
        failing = await claim(
            limit=min(free - len(well), self._max_in_flight // 2 - used_by_failing),
            per_endpoint=1,
            taken=to_be_sent,
            only=self._failing,
            after=self._served_failing,
        )
        self._served_well = _last_endpoint(well, self._served_well)
        self._served_failing = _last_endpoint(failing, self._served_failing)
        return well + failing

    def _ahead(self) -> dict[EndpointId, int]:
        """How many may wait behind the sends to each endpoint; those not named: none."""
        return {
            id_: min(AHEAD_MAX, 2 * count)
            for id_, count in self._took.items()
            if count >= self._per_endpoint and id_ not in self._failing
        }

    def _has_taken(self, endpoint: EndpointId) -> bool:
        """Something was delivered there since the last tick."""
        return any(attempt.claim.endpoint.id == endpoint for attempt in self._out.finished)

    def _is_in_time(self, claim: Claim) -> bool:
        return self._clock.now() < claim.lease_until - timedelta(seconds=LEASE_S - BEGIN_WITHIN_S)

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

    async def _record_finished(self) -> Counter[str]:
        """Commits how the finished sends went, and gives back what was not sent; both are kept until that has
        succeeded."""
        # In one order everywhere, so that two workers who disable endpoints never wait for each other.
        batch = sorted(self._out.finished, key=lambda attempt: (attempt.claim.endpoint.id, attempt.claim.id))
        unsent = list(self._out.unsent)
        if not batch and not unsent:
            return Counter()
        outcomes: list[str] = []
        async with self._db.write() as conn:
            for is_delivered, some in groupby(batch, key=lambda attempt: attempt.is_delivered):
                if is_delivered:
                    delivered = [(a.claim, a.at, a.reply.status_code) for a in some if isinstance(a.reply, Answered)]
                    await webhooks.record_all_delivered(conn, delivered)
                    outcomes += ["delivered"] * len(delivered)
                else:
                    outcomes += [await self._record_failed(conn, attempt) for attempt in some]
            await webhooks.log_attempts(conn, [attempt.logged() for attempt in batch])
            await webhooks.release(conn, unsent)
        del self._out.finished[: len(batch)]
        del self._out.unsent[: len(unsent)]
        self._took = Counter(attempt.claim.endpoint.id for attempt in batch if attempt.is_delivered)
        for attempt, outcome in zip(batch, outcomes, strict=True):
            self._note(attempt, outcome)
        return Counter(outcomes)

    async def _record_failed(self, conn: AsyncConnection, attempt: Attempt) -> str:
        """Which of `OUTCOMES` it was."""
        claim, at = attempt.claim, attempt.at
        status_code = attempt.reply.status_code if isinstance(attempt.reply, Answered) else None
        match verdict(attempt.reply):
            case Delivered():
                raise AssertionError("it failed")
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
