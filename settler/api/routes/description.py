"""`/openapi.json`: the API's description. It tells nobody anything but what the program can do, so it needs no key."""

from __future__ import annotations

import asyncio
import json
from functools import cache

from aiohttp import web

from settler.api.openapi import document
from settler.api.route import Route


def add_routes(app: web.Application, routes: tuple[Route, ...]) -> None:
    async def show(_request: web.Request) -> web.StreamResponse:
        return web.json_response(text=await asyncio.to_thread(_text, routes))

    app.router.add_get("/openapi.json", show)


@cache
def _text(routes: tuple[Route, ...]) -> str:
    """Made when it is first asked for: it takes some tenths of a second, and stays the same."""
    return json.dumps(document(routes), ensure_ascii=False, separators=(",", ":"))
