"""Makes invoices: requests that come at once share a transaction, and each is answered as it would be alone.

    # alone       BEGIN  key?  make  keep the answer  COMMIT                  answered
    # together    BEGIN  keys?  make all  keep all answers  COMMIT            each answered

What costs is the transaction, not the invoice: some twenty statements and a commit, however many are made in it. Where
one of several cannot be made, nothing is; then each is made alone, and only that one is refused. Nobody is answered
before the commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.api.answers import Answer
from settler.api.errors import Problem, problem_of
from settler.api.gathering import Gathered
from settler.clock import Clock
from settler.domain.deposits import DepositPolicy
from settler.domain.drafting import NEW_REFERENCE_BYTES, Catalog, InvoiceDefaults, InvoiceRequest, draft
from settler.domain.errors import DomainError
from settler.domain.events import Event
from settler.domain.ids import ENTROPY_BYTES, TOKEN_BYTES
from settler.storage import idempotency, invoicing
from settler.storage.engine import Database
from settler.storage.idempotency import Claim, First, StoredAnswer
from settler.storage.invoicing import New

MOST = 64
"""Invoices made in one transaction: by then the commit costs each next to nothing, and none waits long for others."""
POSTGRES_LANES = 2
"""Transactions under way: while the server works on one, the next is put together. SQLite has one writer."""
TRIES = 3
"""Of one request whose key is taken by another process just as it is answered: the next time its answer is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A request for an invoice."""

    request: InvoiceRequest | Problem | DomainError
    """What is wanted, or why it cannot be read."""
    claim: Claim | None
    path: str
    """Of the request, as a problem names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What an order came to now."""

    answer: StoredAnswer
    told: Event | None
    """Of the new invoice; `None`: it was refused."""


Outcome = Made | First
"""`First`: its key was used before."""


class _KeyTaken(Exception):
    """Another process took one of the keys just now. Everything is rolled back; caught here."""


class Creating:
    """One a process."""

    def __init__(
        self,
        *,
        db: Database,
        clock: Clock,
        catalog: Catalog,
        defaults: InvoiceDefaults,
        deposits: DepositPolicy,
        entropy: Callable[[int], bytes],
    ) -> None:
        self._db = db
        self._clock = clock
        self._catalog = catalog
        self._defaults = defaults
        self._deposits = deposits
        self._entropy = entropy
        lanes = POSTGRES_LANES if db.dialect == "postgresql" else 1
        self._gathered = Gathered[Order, Outcome](self._together, most=MOST, lanes=lanes, name="creating invoices")

    async def create(self, order: Order) -> Outcome:
        """Makes the invoice, or does not; either way it is committed. Without a key raises the refusal (`Problem`,
        `DomainError`); raises `StorageUnavailable`.
        """
        outcome = await self._gathered(order)
        if isinstance(outcome, Made) and outcome.told is not None:
            self._db.tell([outcome.told])
        return outcome

    async def end(self, _app: object = None) -> None:
        """To be called once no request is under way."""
        await self._gathered.end()

    async def _together(self, orders: Sequence[Order]) -> Sequence[Outcome | BaseException]:
        if len(orders) == 1:
            return [await self._alone(orders[0])]
        try:
            return await self._committed(orders)
        except (DomainError, Problem, SQLAlchemyError, _KeyTaken):
            # one of them cannot be made, or not now; which, shows when each is made alone
            return await asyncio.gather(*(self._alone(order) for order in orders), return_exceptions=True)

    async def _alone(self, order: Order) -> Outcome | BaseException:
        for _ in range(TRIES):
            try:
                (outcome,) = await self._committed([order])
            except _KeyTaken:
                continue
            return outcome
        assert order.claim is not None, "only a key is taken"
        return First(request_hash=order.claim.request_hash, answer=None)

    async def _committed(self, orders: Sequence[Order]) -> list[Outcome | BaseException]:
        """What each came to, in one transaction. Raises `Conflict` or `InvalidInput` where one cannot be made: without
        a key, or one of several.
        """
        async with self._db.write(is_told=False) as conn:
            claims = [order.claim for order in orders if order.claim is not None]
            first = await idempotency.answered(conn, claims) if claims else {}
            used = [None if o.claim is None else first.get((o.claim.scope, o.claim.key)) for o in orders]
            now = self._clock.now()
            fresh = [order for order, before in zip(orders, used, strict=True) if before is None]
            made = iter(await self._made(conn, fresh, now))
            outcomes = [next(made) if before is None else before for before in used]
            kept = [
                (order.claim, outcome.answer)
                for order, outcome in zip(orders, outcomes, strict=True)
                if order.claim is not None and isinstance(outcome, Made)
            ]
            if not await idempotency.keep(conn, kept, now=now):
                raise _KeyTaken
        return outcomes

    async def _made(self, conn: AsyncConnection, orders: Sequence[Order], now: datetime) -> list[Made | BaseException]:
        found = [self._new(order, now) for order in orders]
        new = [each for each in found if isinstance(each, New)]
        # with a key a refusal is an answer to be kept, so that what it undoes is not the whole transaction
        is_kept = len(orders) == 1 and orders[0].claim is not None
        try:
            async with conn.begin_nested() if is_kept and new else nullcontext():
                stored = iter(await invoicing.insert_many(conn, new, now=now, policy=self._deposits) if new else [])
        except DomainError as refusal:
            if not is_kept:
                raise
            return [_refused(orders[0], refusal)]
        done: list[Made | BaseException] = []
        for order, each in zip(orders, found, strict=True):
            one = next(stored) if isinstance(each, New) else each
            done.append(_answered(one) if isinstance(one, invoicing.Made) else _refused(order, one))
        return done

    def _new(self, order: Order, now: datetime) -> New | Problem | DomainError:
        if not isinstance(order.request, InvoiceRequest):
            return order.request
        reference = self._entropy(NEW_REFERENCE_BYTES)
        try:
            drafted = draft(
                order.request, catalog=self._catalog, defaults=self._defaults, now=now, new_reference=reference
            )
        except DomainError as refusal:
            return refusal
        return New(draft=drafted, entropy=self._entropy(ENTROPY_BYTES), secret=self._entropy(TOKEN_BYTES))


def _answered(made: invoicing.Made) -> Made:
    answer = Answer(status=HTTPStatus.CREATED, body=made.told.data)
    return Made(answer=StoredAnswer(status=answer.status, body=answer.text()), told=made.told)


def _refused(order: Order, refusal: Problem | DomainError) -> Made | BaseException:
    """What is answered to the order, and kept where it has a key."""
    problem = problem_of(refusal)
    if order.claim is None or problem is None or problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return refusal
    answer = Answer(status=problem.status, body=problem.body(order.path))
    return Made(answer=StoredAnswer(status=answer.status, body=answer.text()), told=None)
