"""What an operator does on `/ops`: the decisions of the API (`settler.api.deciding`), asked for by a form.

A form that is taken leads on to a page that says so (303); one that is refused is shown again with the reason and
with what was typed. A form sent twice has its effect once: each carries a name of its own, claimed in the transaction
of its effect.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, TypeVar

from aiohttp import web
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.api import deciding
from settler.api.errors import problem_of
from settler.api.models import (
    HoldCreate,
    HoldRelease,
    InvoiceCancel,
    InvoiceMark,
    Nothing,
    TransferAssign,
    TransferDismiss,
)
from settler.api.pages import ops
from settler.api.pages.forms import filled
from settler.api.pages.ops_visit import ONCE, Refused, Visit, page_route
from settler.domain.delivery import EndpointId
from settler.domain.drafting import InvalidRequest
from settler.domain.errors import Conflict, InvalidInput, NotFound
from settler.domain.invoices import InvoiceStatus
from settler.domain.records import Settlement
from settler.storage import idempotency
from settler.storage.api_keys import Scope
from settler.storage.idempotency import Claim, First, StoredAnswer

REPLAYED_AT_ONCE = 1_000
"""Dead letters of one endpoint, as many as the API takes at once: one short transaction."""

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What came of a form."""

    code: str
    """Of `ops_text.DONE`."""
    settled: tuple[Settlement, ...] = ()


Effect = Callable[[AsyncConnection, M], Awaitable[Done]]
Page = Callable[[Visit, Refused | None], Awaitable[web.Response]]


async def cancel(visit: Visit) -> web.Response:
    async def effect(conn: AsyncConnection, body: InvoiceCancel) -> Done:
        await deciding.cancel(visit, conn, body)
        return Done(code="canceled")

    return await _decide(visit, "cancel", InvoiceCancel, effect, page=ops.show_invoice)


async def mark(visit: Visit) -> web.Response:
    async def effect(conn: AsyncConnection, body: InvoiceMark) -> Done:
        return Done(code="marked", settled=(await deciding.mark(visit, conn, body)).settled)

    return await _decide(visit, "mark", InvoiceMark, effect, page=ops.show_invoice, status=InvoiceStatus.SETTLED.value)


async def place_hold(visit: Visit) -> web.Response:
    async def effect(conn: AsyncConnection, body: HoldCreate) -> Done:
        await deciding.place_hold(visit, conn, body)
        return Done(code="held")

    invoice_id = visit.id("inv", "invoice")
    return await _decide(visit, "hold", HoldCreate, effect, page=ops.show_invoice, invoice_id=invoice_id)


async def assign(visit: Visit) -> web.Response:
    async def effect(conn: AsyncConnection, body: TransferAssign) -> Done:
        settled = (await deciding.assign(visit, conn, body)).settled
        return Done(code="assigned_settled" if settled else "assigned", settled=settled)

    return await _decide(visit, "assign", TransferAssign, effect, page=ops.show_transfer)


async def dismiss(visit: Visit) -> web.Response:
    async def effect(conn: AsyncConnection, body: TransferDismiss) -> Done:
        await deciding.dismiss(visit, conn, body)
        return Done(code="dismissed")

    return await _decide(visit, "dismiss", TransferDismiss, effect, page=ops.show_transfer)


async def release(visit: Visit) -> web.Response:
    async def effect(conn: AsyncConnection, body: HoldRelease) -> Done:
        settled = (await deciding.release_hold(visit, conn, body)).settled
        return Done(code="released_settled" if settled else "released", settled=settled)

    return await _decide(visit, "release", HoldRelease, effect, page=ops.show_hold)


async def retry(visit: Visit) -> web.Response:
    async def effect(conn: AsyncConnection, _body: Nothing) -> Done:
        await deciding.retry_delivery(visit, conn)
        return Done(code="retried")

    return await _decide(visit, "retry", Nothing, effect, page=ops.list_dead_letters, seen_at="/ops/dead-letters")


async def replay_dead(visit: Visit) -> web.Response:
    id_ = EndpointId(visit.id("whe", "webhook endpoint"))

    async def effect(conn: AsyncConnection, _body: Nothing) -> Done:
        done = await deciding.replay_dead(visit, conn, id_, limit=REPLAYED_AT_ONCE)
        if done.after is not None:
            return Done(code="replayed_part")
        return Done(code="replayed" if done.replayed else "nothing_replayed")

    return await _decide(visit, "retry", Nothing, effect, page=ops.list_dead_letters, seen_at="/ops/dead-letters")


async def _decide(
    visit: Visit,
    form: str,
    model: type[M],
    effect: Effect[M],
    *,
    page: Page,
    seen_at: str | None = None,
    **fixed: str,
) -> web.Response:
    """Carries out `effect` in one write transaction. `page` holds the form, at the address above it where no
    `seen_at` is given; `fixed`: fields that no one types.
    """
    typed = {name: text for name, text in visit.fields.items() if name != ONCE}
    try:
        done = await _once(visit, effect, filled(model, {**typed, **fixed}))
    except (InvalidRequest, InvalidInput, Conflict, NotFound) as error:
        problem = problem_of(error)
        assert problem is not None, "errors of the core are answers"
        problems = tuple(str(each) for each in error.problems) if isinstance(error, InvalidRequest) else (str(error),)
        return await page(visit, Refused(form=form, status=problem.status, problems=problems, fields=typed))
    visit.count_settled(done.settled)
    return visit.see(seen_at or visit.request.path.rpartition("/")[0], done.code)


async def _once(visit: Visit, effect: Effect[M], body: M) -> Done:
    """What `effect` did, now or when this very form was sent before."""
    claim = _claim(visit)
    async with visit.services.db.write() as conn:
        first = None if claim is None else await idempotency.claim(conn, claim, now=visit.services.clock.now())
        if claim is not None and first is not None:
            return _again(claim, first)
        done = await effect(conn, body)
        if claim is not None:
            stored = StoredAnswer(status=HTTPStatus.SEE_OTHER, body=json.dumps({"done": done.code}))
            await idempotency.complete(conn, claim, stored)
    return done


def _claim(visit: Visit) -> Claim | None:
    if visit.once is None:
        return None
    whole = json.dumps([visit.request.path, sorted(visit.fields.items())])
    return Claim(
        scope=f"ops:{visit.caller.idempotency_scope}",
        key=visit.once,
        request_hash=hashlib.sha256(whole.encode()).digest(),
    )


def _again(claim: Claim, first: First) -> Done:
    if first.answer is None or first.request_hash != claim.request_hash:
        raise Conflict("form", "was sent already, with other words; look at what came of it before you send it again")
    return Done(code=str(json.loads(first.answer.body)["done"]))


ROUTES: Final = (
    page_route("POST", "/ops/invoices/{id}/cancel", Scope.WRITE, cancel),
    page_route("POST", "/ops/invoices/{id}/mark", Scope.OPERATE, mark),
    page_route("POST", "/ops/invoices/{id}/hold", Scope.OPERATE, place_hold),
    page_route("POST", "/ops/transfers/{id}/assign", Scope.OPERATE, assign),
    page_route("POST", "/ops/transfers/{id}/dismiss", Scope.OPERATE, dismiss),
    page_route("POST", "/ops/holds/{id}/release", Scope.OPERATE, release),
    page_route("POST", "/ops/dead-letters/{id}/retry", Scope.WRITE, retry),
    page_route("POST", "/ops/endpoints/{id}/replay", Scope.WRITE, replay_dead),
)
