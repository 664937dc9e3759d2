"""`/ops`: how the chains stand, and what waits for an operator. Looking; what is done about it is `ops_actions`.

    /ops                            chains, counts, what is wrong
    /ops/invoices  …/{id}
    /ops/suspense  /ops/transfers/{id}
    /ops/holds     …/{id}
    /ops/dead-letters

A page needs what the API's call for the same thing needs: a key with that scope, whose merchant, if it is bound to
one, bounds what is there. Nothing that is asked for with GET has an effect.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

from aiohttp import web

from settler.api import deciding
from settler.api.pages import ops_data
from settler.api.pages.ops_data import DeadLetterQuery, Rows, SuspenseQuery
from settler.api.pages.ops_visit import Refused, Visit, page_route
from settler.api.queries import HoldQuery, HoldStatus, InvoiceQuery, ListQuery
from settler.api.routes.holds import hold_rows
from settler.api.routes.invoices import invoice_rows
from settler.domain.drafting import InvalidRequest
from settler.domain.ids import looks_like_id
from settler.domain.invoices import InvoiceException, InvoiceStatus, UnmatchedReason
from settler.domain.settlement import HoldReason
from settler.storage.api_keys import Scope

Q = TypeVar("Q", bound=ListQuery)


async def show_overview(visit: Visit) -> web.Response:
    return visit.page("ops_overview.html", **await ops_data.overview(visit))


# Lists


async def list_invoices(visit: Visit) -> web.Response:
    return await _list(
        visit,
        "ops_invoices.html",
        InvoiceQuery,
        invoice_rows,
        statuses=list(InvoiceStatus),
        exceptions=list(InvoiceException),
    )


async def list_suspense(visit: Visit) -> web.Response:
    return await _list(
        visit,
        "ops_suspense.html",
        SuspenseQuery,
        ops_data.suspense_rows,
        reasons=[reason for reason in UnmatchedReason if reason is not UnmatchedReason.IGNORED_ZERO],
        chains=await ops_data.chain_names(visit),
    )


async def list_holds(visit: Visit) -> web.Response:
    return await _list(
        visit, "ops_holds.html", HoldQuery, hold_rows, statuses=list(HoldStatus), reasons=list(HoldReason)
    )


async def list_dead_letters(visit: Visit, refused: Refused | None = None) -> web.Response:
    return await _list(visit, "ops_dead_letters.html", DeadLetterQuery, ops_data.dead_letter_rows, refused=refused)


async def _list(
    visit: Visit,
    template: str,
    model: type[Q],
    read: Callable[[Visit, Q], Awaitable[Rows]],
    *,
    refused: Refused | None = None,
    **values: Any,
) -> web.Response:
    """A page of rows with its filter; of a filter that makes no sense, what is wrong with it."""
    asked = {name: text for name, text in visit.request.query.items() if name in model.model_fields}
    rows: Sequence[Mapping[str, object]] = ()
    next_path: str | None = None
    problems: tuple[str, ...] = ()
    try:
        # of a form that was refused the address is the form's
        query = visit.asked(model) if visit.request.method == "GET" else model()
        rows, next_cursor = await read(visit, query)
        next_path = None if next_cursor is None else f"?{urlencode({**asked, 'cursor': next_cursor})}"
    except InvalidRequest as error:
        problems = tuple(str(problem) for problem in error.problems)
    return visit.page(
        template,
        status=HTTPStatus.UNPROCESSABLE_ENTITY if problems else HTTPStatus.OK,
        refused=refused,
        rows=rows,
        asked=asked,
        problems=problems,
        next_path=next_path,
        **values,
    )


# Single objects; `refused`: why a form on the page was not taken


async def show_invoice(visit: Visit, refused: Refused | None = None) -> web.Response:
    async with visit.services.db.read() as conn:
        detail = await ops_data.invoice_detail(visit, conn, await deciding.seen_invoice(visit, conn))
    return visit.page("ops_invoice.html", refused=refused, **detail)


async def show_transfer(visit: Visit, refused: Refused | None = None) -> web.Response:
    """`?invoice=` fills in the invoice to assign to: a link to a candidate does without a script."""
    chosen = visit.request.query.get("invoice", "")
    async with visit.services.db.read() as conn:
        detail = await ops_data.transfer_detail(visit, conn, await deciding.seen_transfer(visit, conn))
    return visit.page(
        "ops_transfer.html", refused=refused, chosen=chosen if looks_like_id(chosen, "inv") else "", **detail
    )


async def show_hold(visit: Visit, refused: Refused | None = None) -> web.Response:
    async with visit.services.db.read() as conn:
        detail = await ops_data.hold_detail(visit, conn, await deciding.seen_hold(visit, conn))
    return visit.page("ops_hold.html", refused=refused, **detail)


ROUTES: Final = (
    page_route("GET", "/ops", Scope.READ, show_overview),
    page_route("GET", "/ops/invoices", Scope.READ, list_invoices, query=InvoiceQuery),
    page_route("GET", "/ops/invoices/{id}", Scope.READ, show_invoice),
    page_route("GET", "/ops/suspense", Scope.READ, list_suspense, query=SuspenseQuery),
    page_route("GET", "/ops/transfers/{id}", Scope.READ, show_transfer),
    page_route("GET", "/ops/holds", Scope.READ, list_holds, query=HoldQuery),
    page_route("GET", "/ops/holds/{id}", Scope.READ, show_hold),
    page_route("GET", "/ops/dead-letters", Scope.READ, list_dead_letters, query=DeadLetterQuery),
)
