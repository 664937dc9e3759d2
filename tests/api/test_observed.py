"""The name each request has, and its span."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
import structlog
from structlog.testing import CapturingLogger

from settler.clock import FakeClock
from settler.tracing import LiveTracer, Span
from tests.api.conftest import NOW, Api, Start, invoice
from tests.support.db import sqlite_alone

db_url = sqlite_alone

CALLER = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"


@pytest.fixture
def logged() -> Iterator[list[dict[str, Any]]]:
    """Everything that is logged, as events."""
    into = CapturingLogger()
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, lambda _l, _m, event: ((), dict(event))],
        logger_factory=lambda *_: into,
        cache_logger_on_first_use=False,
    )
    found: list[dict[str, Any]] = []

    class Calls(list[Any]):
        def append(self, call: Any) -> None:
            found.append(call.kwargs)

    into.calls = Calls()
    yield found
    structlog.reset_defaults()


@pytest.mark.parametrize("sent", ["r-1", "01J0:a/b_c.d=e@f+g", "a" * 128])
async def test_request_id__a_sane_one__comes_back(api: Api, sent: str) -> None:
    for path in ("/v1/invoices", "/livez", "/nothing"):
        response, _ = await api.ask("GET", path, headers={"X-Request-Id": sent})
        assert response.headers["X-Request-Id"] == sent


@pytest.mark.parametrize("sent", ["", "a b", "é", "a" * 129, '"><script>', "a\tb"])
async def test_request_id__another__is_replaced(api: Api, sent: str) -> None:
    made = set()
    for _ in range(2):
        response, _ = await api.ask("GET", "/v1/invoices", headers={"X-Request-Id": sent})
        made.add(response.headers["X-Request-Id"])
    assert all(len(id_) == 32 and id_.isalnum() for id_ in made)
    assert len(made) == 2


async def test_request_id__is_in_the_log_lines_of_its_request(start: Start, logged: list[dict[str, Any]]) -> None:
    def broken() -> Any:
        raise RuntimeError

    api = await start(providers=broken)
    await api.refused("GET", "/v1/chains", 500, headers={"X-Request-Id": "mine-1"})
    await api.refused("GET", "/v1/chains", 500, headers={"X-Request-Id": "mine-2"})
    failures = [line for line in logged if line["event"] == "api.failed"]
    assert [line["request_id"] for line in failures] == ["mine-1", "mine-2"]


# -- its span ----------------------------------------------------------------------------------------------------------


class Sink:
    def __init__(self) -> None:
        self.spans: list[Span] = []

    def take(self, span: Span) -> None:
        self.spans.append(span)

    async def close(self, timeout_s: float) -> None:
        raise AssertionError("an application closes nothing of what it is given")


async def traced(start: Start, **changes: Any) -> tuple[Api, Sink]:
    sink, numbers = Sink(), count(1)
    tracer = LiveTracer(sink, clock=FakeClock(NOW), ratio=1, entropy=lambda size: next(numbers).to_bytes(size))
    return await start(tracer=tracer, **changes), sink


async def test_span__of_a_request__goes_on_in_the_callers_trace(start: Start) -> None:
    api, sink = await traced(start)
    made = await api.post("/v1/invoices", invoice(), headers={"traceparent": CALLER, "X-Request-Id": "checkout-7"})
    await api.get(f"/v1/invoices/{made['id']}")
    post, get = sink.spans
    assert post.parent is not None
    assert (post.place.trace_hex, post.parent.span_hex) == ("ab" * 16, "cd" * 8)
    assert (post.name, post.kind, post.error) == ("POST /v1/invoices", "server", None)
    assert post.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/invoices",
        "http.response.status_code": 201,
        "settler.request_id": "checkout-7",
    }
    assert (get.name, get.parent) == ("GET /v1/invoices/{id}", None)
    assert made["id"] not in str(get), "the pattern of the address, not what was asked for"


@pytest.mark.parametrize("sent", ["", "nonsense", CALLER.replace("00-", "ff-", 1), "00-" + "0" * 32 + CALLER[35:]])
async def test_span__with_no_caller_to_speak_of__begins_a_trace(start: Start, sent: str) -> None:
    api, sink = await traced(start)
    await api.get("/v1/invoices", headers={"traceparent": sent})
    assert [span.parent for span in sink.spans] == [None]


async def test_span__where_no_key_is_asked_for__a_stranger_does_not_say_what_is_kept(start: Start) -> None:
    """Anybody could have a page's spans kept, however few are sampled, and crowd payments out of the queue."""
    api, sink = await traced(start)
    await api.get("/openapi.json", headers={"traceparent": CALLER})
    assert [span.parent for span in sink.spans] == [None]


async def test_span__of_a_failure__says_so_also_of_a_probe(start: Start) -> None:
    def broken() -> Any:
        raise RuntimeError

    api, sink = await traced(start, providers=broken)
    await api.ask("GET", "/livez")
    assert sink.spans == [], "a probe is asked all the time"
    await api.refused("GET", "/v1/chains", 500)
    assert [(span.name, span.error) for span in sink.spans] == [("GET /v1/chains", "500")]
    api.health.draining()
    await api.ask("GET", "/readyz")
    assert sink.spans[-1].name == "GET /readyz"


async def test_span__of_what_anybody_may_send__is_not_told(start: Start) -> None:
    api, sink = await traced(start)
    await api.refused("GET", "/never/heard/of", 404)
    await api.refused("GET", "/v1/invoices", 401, key="sk_wrong")
    assert sink.spans == []
    await api.refused("GET", "/v1/invoices/inv_00000000000000000000000000", 404)
    assert [span.name for span in sink.spans] == ["GET /v1/invoices/{id}"]
