"""`/livez`, `/readyz`, `/metrics`: for the machine room, without a key."""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web

from settler.api.answers import Answer
from settler.api.call import Services


class Probes:
    """They read nothing from the database: a probe must answer while it is away."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def livez(self, _request: web.Request) -> web.StreamResponse:
        """503: this process is stuck and is to be restarted."""
        is_alive, reasons = self._services.health.alive()
        return _answer(is_alive, {"status": "alive" if is_alive else "stuck", "reasons": reasons})

    async def readyz(self, _request: web.Request) -> web.StreamResponse:
        """503: not to be relied on just now; `reasons` says why."""
        is_ready, reasons = self._services.health.ready()
        return _answer(is_ready, {"status": "ready" if is_ready else "not ready", "reasons": reasons})

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        body, content_type = self._services.metrics.scrape(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})


def _answer(is_well: bool, body: dict[str, object]) -> web.Response:
    status = HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE
    return web.Response(status=status, text=Answer(body=body).text(), content_type="application/json")
