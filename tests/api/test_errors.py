"""Every error is RFC 9457; ours show nothing of the inside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from settler.api import errors
from settler.api.app import make_app
from settler.api.server import serve
from settler.domain.drafting import InvoiceDefaults
from settler.domain.settlement import InvoicePolicy
from settler.metrics import Metrics
from settler.stages.operating import Operating
from settler.stages.setup import Judgement
from settler.storage.errors import StorageUnavailable
from tests.api.conftest import Api, Start, invoice
from tests.support.db import sqlite_alone

db_url = sqlite_alone


def lost(*_: object) -> Any:
    raise StorageUnavailable("server at 10.0.0.1 closed the connection")


def broken(*_: object) -> Any:
    raise RuntimeError("secret inside")


@pytest.mark.parametrize("path", ["/", "/v1", "/v2/invoices", "/v1/invoices/", "/v1/nothing", "/favicon.ico"])
async def test_an_address_of_nothing__is_404(api: Api, path: str) -> None:
    problem = await api.refused("GET", path, 404)
    assert problem["instance"] == path


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("DELETE", "/v1/invoices", "GET,HEAD,POST"), ("PUT", "/v1/chains", "GET,HEAD"), ("POST", "/livez", "GET,HEAD")],
)
async def test_a_method_not_taken__is_405_and_says_which_are(api: Api, method: str, path: str, allowed: str) -> None:
    response, problem = await api.ask(method, path)
    assert (response.status, problem["status"]) == (405, 405)
    assert response.content_type == "application/problem+json"
    assert response.headers["Allow"] == allowed


async def test_the_database_is_away__is_503_with_retry_after(start: Start) -> None:
    api = await start(providers=lost)
    response, problem = await api.ask("GET", "/v1/chains")
    assert (response.status, problem["type"]) == (503, "urn:settler:problem:unavailable")
    assert int(response.headers["Retry-After"]) > 0
    assert "10.0.0.1" not in str(problem)


async def test_a_bug__is_500_with_an_id_and_nothing_of_the_inside(
    start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    api = await start(providers=broken)
    problem = await api.refused("GET", "/v1/chains", 500)
    assert "inside" not in str(problem)
    error_id = problem["detail"].rsplit(" ", 1)[1]
    assert error_id in capsys.readouterr().out


async def test_a_request_that_takes_too_long__is_503(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as hasty:
        hasty.setattr(errors, "HANDLER_TIMEOUT_S", 0.0)
        response, problem = await api.ask("POST", "/v1/invoices", json=invoice())
    assert (response.status, problem["type"]) == (503, "urn:settler:problem:unavailable")
    assert "Retry-After" in response.headers
    assert (await api.get("/v1/invoices"))["data"] == []


async def test_answers__are_not_to_be_kept_by_caches(api: Api) -> None:
    for path in ("/v1/invoices", "/nothing", "/readyz"):
        response, _ = await api.ask("GET", path)
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert "aiohttp" not in response.headers["Server"]


async def test_head__is_get_without_the_body(api: Api) -> None:
    got, _ = await api.ask("GET", "/v1/invoices")
    head, body = await api.ask("HEAD", "/v1/invoices")
    assert (head.status, body) == (200, None)
    assert head.headers["Content-Length"] == got.headers["Content-Length"]


@asynccontextmanager
async def serving(api: Api) -> AsyncIterator[tuple[web.AppRunner, str, int]]:
    app = make_app(
        db=api.db,
        clock=api.clock,
        catalog={},
        defaults=InvoiceDefaults(),
        operator=Operating(Judgement(policy=InvoicePolicy())),
        auth="none",
        metrics=Metrics(api.clock, version="0"),
        health=api.health,
        providers=None,
        entropy=bytes,
        allow_private_webhooks=False,
    )
    runner = await serve(app, "127.0.0.1", 0)
    host, port = runner.addresses[0][:2]
    try:
        yield runner, host, port
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00garbage\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"FOO /v1/invoices HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"POST /v1/invoices HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    ],
)
async def test_what_is_not_http__is_400_and_no_error_of_ours(
    api: Api, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever reached the port could fill the log with tracebacks, as errors: one for each line that is not HTTP."""
    caplog.set_level("DEBUG")
    async with serving(api) as (_, host, port):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(sent)
        assert (await asyncio.wait_for(reader.readline(), 5)).split()[1] in {b"400", b"431"}
        writer.close()
    assert [r for r in caplog.records if r.levelname != "DEBUG" or r.exc_info] == []


async def test_serve__listens_and_stops(api: Api) -> None:
    async with serving(api) as (runner, host, port):
        await _is_served_until_cleanup(runner, host, port)


async def _is_served_until_cleanup(runner: web.AppRunner, host: str, port: int) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.close()
    await asyncio.wait_for(runner.cleanup(), 5)
    with pytest.raises(OSError):
        await asyncio.open_connection(host, port)
