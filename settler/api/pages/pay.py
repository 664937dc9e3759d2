"""`/pay/{token}`: what a payer sees. The address is the only key there is, and opens nothing else.

The page works without scripts: it then loads itself again now and then. With them it follows its stream and replaces
itself by what the server shows anew; nothing of an invoice is put together in the browser.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.api.call import Services
from settler.api.errors import Problem, not_found
from settler.api.pages.paying import PayerShape, Way, closed_ways, told, ways
from settler.api.pages.render import SECURITY_HEADERS, page, with_problem_pages
from settler.api.routes.qr import SVG, svg
from settler.api.stream import STREAMS
from settler.domain.ids import looks_like_token
from settler.domain.invoices import Invoice
from settler.domain.shapes import InvoiceShape
from settler.domain.views import time_text
from settler.storage import chains, invoices, reading, transfers

PAY_PATH = "/pay/{token}"
PAYMENTS_A_REQUEST = 100
"""To read and show so many payments costs as much as a page without any."""
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
"""Of strftime's own the language depends on the machine."""
_INDEX = re.compile(r"[0-9]{1,2}", re.ASCII)


class PayPages:
    def __init__(self, services: Services) -> None:
        self._services = services

    async def show(self, request: web.Request) -> web.StreamResponse:
        now = self._services.clock.now()
        invoice, payer_shape, offered = await self._look(request, now)
        return page(
            "pay.html",
            path=request.rel_url.raw_path,
            told=payer_shape,
            ways=offered,
            way=(_chosen(request, offered, invoice) or offered[0]) if offered else None,
            now=time_text(now),
            expires=_in_words(invoice.expires_at),
            settled=None if invoice.settled_at is None else _in_words(invoice.settled_at),
        )

    async def code(self, request: web.Request) -> web.StreamResponse:
        """What a wallet scans, as long as there is something to be paid."""
        invoice, _, offered = await self._look(request, self._services.clock.now())
        if not offered:
            raise not_found("there is nothing to be paid here now")
        way = _chosen(request, offered, invoice)
        if way is None:
            raise not_found("this is not offered any more")
        return web.Response(body=svg(way.uri), content_type=SVG, headers=SECURITY_HEADERS)

    async def follow(self, request: web.Request) -> web.StreamResponse:
        async with self._services.db.read() as conn:
            invoice = await _named(request, conn)
        return await request.app[STREAMS].open(
            request,
            invoice.id,
            shown=self._told,
            holder=f"address:{self._services.limits.address_of(request)}",
            has_key=False,
        )

    async def _look(self, request: web.Request, now: datetime) -> tuple[Invoice, PayerShape, list[Way]]:
        """The invoice, what its payer is told, and the ways that are offered."""
        services = self._services
        async with services.db.read() as conn:
            invoice = await _named(request, conn)
            await self._charge(request, conn, invoice)
            (shape,) = await reading.invoice_views(conn, [invoice])
            halted = {state.chain_id for state in await chains.all_states(conn) if state.is_halted}
        closed = closed_ways(invoice, services.catalog, halted)
        payer_shape = told(invoice, shape, services.catalog, now=now, closed=closed)
        return invoice, payer_shape, list(ways(invoice, shape, closed)) if payer_shape["stage"].is_payable else []

    async def _charge(self, request: web.Request, conn: AsyncConnection, invoice: Invoice) -> None:
        """What is dear to show counts as more than one request: whoever likes can send a thousand grains of dust, and
        then ask for the page of it. Raises `Problem` 429.
        """
        limits = self._services.limits
        cost = await transfers.count_of_invoice(conn, invoice.id) // PAYMENTS_A_REQUEST
        if cost:
            limits.admit_address(request, min(cost, limits.addresses.burst // 2))

    def _told(self, invoice: Invoice, shape: InvoiceShape) -> Mapping[str, Any]:
        payer_shape: PayerShape = told(invoice, shape, self._services.catalog)
        return payer_shape


def attach(app: web.Application, services: Services) -> None:
    pages = PayPages(services)
    app.router.add_get(PAY_PATH, with_problem_pages(pages.show))
    app.router.add_get(f"{PAY_PATH}/qr.svg", pages.code)
    app.router.add_get(f"{PAY_PATH}/stream", pages.follow)


def _in_words(time: datetime) -> str:
    """`23 Nov 2026, 06:25 UTC`. Rounded down: whoever goes by it is in time."""
    at = time.astimezone(UTC)
    return f"{at.day} {_MONTHS[at.month - 1]} {at:%Y, %H:%M} UTC"


async def _named(request: web.Request, conn: AsyncConnection) -> Invoice:
    """The invoice of the path. Raises `Problem` 404, the same for every name that names none."""
    token = request.match_info["token"]
    invoice = await invoices.get_by_pay_token(conn, token) if looks_like_token(token) else None
    if invoice is None:
        raise _no_such_page()
    return invoice


def _no_such_page() -> Problem:
    return not_found("This address names no payment. Copy it whole, or ask the seller for it again.")


def _chosen(request: web.Request, offered: list[Way], invoice: Invoice) -> Way | None:
    """The way that `?option=` names, else the first; `None` where the invoice had it and it is not offered any more.

    Raises `Problem` 404 where the invoice never had such a one: the link is broken, and to show another way could send
    the money elsewhere than was meant.
    """
    text = request.query.get("option")
    if text is None:
        return offered[0]
    index = int(text) if _INDEX.fullmatch(text) else len(invoice.options)
    if index >= len(invoice.options):
        raise not_found("This payment is not offered in that way. Open the page again without `?option=`.")
    return next((way for way in offered if way.index == index), None)
