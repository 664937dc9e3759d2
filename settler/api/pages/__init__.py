"""What people look at: the payment page of an invoice and the operator's pages. Server-rendered; no build step.

    render   templates and assets, with the headers of every page
    pay      `/pay/{token}`, for whoever is to pay
    ops      `/ops`, for who runs settler

What programs read is in `settler.api.routes`.
"""

from __future__ import annotations

from aiohttp import web

from settler.api.call import Services
from settler.api.pages import ops_site, pay
from settler.api.pages.render import STATIC_PATH, show_asset


def attach(app: web.Application, services: Services) -> None:
    """Adds all pages and what they are made of."""
    app.router.add_get(STATIC_PATH + "{name}", show_asset)
    pay.attach(app, services)
    ops_site.attach(app, services)
