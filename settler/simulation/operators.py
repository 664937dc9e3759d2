"""Operators and merchants who decide: what they do, they do through the program's own verbs, and it is put down in
`truth.actions`, as certain as the answer was.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from sqlalchemy.ext.asyncio import AsyncConnection

from chains.model import ChainId
from settler.domain.delivery import DeliveryStatus
from settler.domain.invoices import Invoice, InvoiceStatus
from settler.simulation.client import Desk, Refused
from settler.simulation.truth import Action, Truth
from settler.stages.operating import Operating
from settler.storage import chains, holds, invoices, suspense, webhook_admin, webhook_deliveries, webhook_endpoints

DECISIONS = ("cancel", "assign", "dismiss", "mark", "hold", "release", "retry", "enable")
WHO = "ada"
Verb = Callable[[AsyncConnection], Awaitable[object]]


@dataclass(slots=True)
class Operators:
    """Whoever decides in a world. `did` counts decisions that were carried out."""

    desk: Desk
    truth: Truth
    operating: Operating
    random: random.Random
    did: Counter[str]

    async def decide(self, decision: str) -> None:
        """One decision about something drawn from what is there; none if there is nothing."""
        match decision:
            case "cancel":
                await self._of_invoice("cancel", InvoiceStatus.PENDING, self.operating.cancel)
            case "mark":
                await self._of_invoice("mark", InvoiceStatus.EXPIRED, self.operating.mark)
            case "hold":
                await self._of_invoice("hold", InvoiceStatus.PROCESSING, self.operating.place_hold)
            case "assign":
                await self._assign()
            case "dismiss":
                await self._dismiss()
            case "release":
                await self.release_all(rate=0.5)
            case "retry":
                await self.retry_all(rate=0.3)
            case "enable":
                await self.enable_all()
            case _:
                raise AssertionError(f"unknown decision {decision}")

    async def resume_all(self) -> int:
        """Lets every halted chain go on, as an operator would who looked at it."""
        states = await self.desk.seen(chains.all_states)
        halted = [s for s in states if s.is_halted]
        for state in halted:
            await self._act(
                "resume",
                state.name,
                partial(_resume, id_=state.chain_id, now=self.desk.now()),
            )
        return len(halted)

    async def release_all(self, *, rate: float = 1.0) -> int:
        standing = await self.desk.seen(lambda conn: holds.find(conn, limit=200))
        for hold in sorted(standing, key=lambda h: h.id):
            if self.random.random() < rate:
                await self._act(
                    "release",
                    hold.id,
                    partial(self.operating.release_hold, id_=hold.id, by=self.desk.by(WHO)),
                    invoice_id=hold.invoice_id,
                )
        return len(standing)

    async def retry_all(self, *, rate: float = 1.0) -> int:
        """Makes deliveries due that wait for their next attempt or were given up."""
        count = 0
        for status in (DeliveryStatus.PENDING, DeliveryStatus.DEAD):
            waiting = await self.desk.seen(partial(webhook_deliveries.find_deliveries, status=status, limit=500))
            for delivery in waiting:
                if self.random.random() < rate:
                    count += 1
                    await self.desk.done(
                        partial(webhook_deliveries.retry_delivery, id_=delivery.id, now=self.desk.now())
                    )
        return count

    async def enable_all(self) -> None:
        found = await self.desk.seen(lambda conn: webhook_endpoints.find_endpoints(conn, is_live=None, limit=100))
        for endpoint in found:
            if not endpoint.is_live:
                await self._act(
                    "enable",
                    endpoint.id,
                    partial(webhook_admin.enable, id_=endpoint.id, by=self.desk.by(WHO)),
                )

    async def _of_invoice(self, kind: str, status: InvoiceStatus, verb: Callable[..., Awaitable[object]]) -> None:
        found = await self.desk.seen(lambda conn: invoices.find(conn, status=status, limit=20))
        if found:
            chosen: Invoice = self.random.choice(found)
            await self._act(kind, chosen.id, lambda conn: verb(conn, chosen.id, self.desk.by(WHO)))

    async def _assign(self) -> None:
        queue = await self.desk.seen(lambda conn: suspense.find(conn, limit=20))
        open_ = [
            invoice
            for status in (InvoiceStatus.PENDING, InvoiceStatus.PROCESSING, InvoiceStatus.EXPIRED)
            for invoice in await self.desk.seen(partial(invoices.find, status=status, limit=10))
        ]
        if queue and open_:
            transfer, invoice = self.random.choice(queue), self.random.choice(open_)
            await self._act(
                "assign",
                transfer.id,
                lambda conn: self.operating.assign(conn, transfer.id, invoice.id, self.desk.by(WHO)),
                invoice_id=invoice.id,
            )

    async def _dismiss(self) -> None:
        queue = await self.desk.seen(lambda conn: suspense.find(conn, limit=20))
        if queue:
            transfer = self.random.choice(queue)
            await self._act(
                "dismiss", transfer.id, lambda conn: self.operating.dismiss(conn, transfer.id, self.desk.by(WHO))
            )

    async def _act(self, kind: str, object_id: str, verb: Verb, **details: object) -> None:
        outcome = await self.desk.done(verb)
        if isinstance(outcome, Refused) and not outcome.was_uncertain:
            return
        self.did[kind] += 1
        self.truth.actions.append(
            Action(
                at=self.desk.now(),
                kind=kind,
                object_id=object_id,
                details=details,
                is_certain=not isinstance(outcome, Refused),
            )
        )


async def _resume(conn: AsyncConnection, *, id_: ChainId, now: datetime) -> object:
    return await chains.resume(conn, id_, now=now, who=WHO, reason="simulated")
