"""The API held to its own description: whatever is sent, the answer is one that is described, and no fault of ours.

Ids are those of objects that are there as often as made-up ones, so that calls get beyond "there is no such object".
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from settler.api.app import ROUTES
from settler.api.openapi import document
from settler.clock import SystemClock
from tests.api.served import Served, served

pytestmark = pytest.mark.slow
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]
EXAMPLES = 12
"""Drawn at random for each call, beside those that follow from the description: each bound, each wrong type."""
ENOUGH = 500
"""Calls after which the most common answers have been seen, whichever operations this process was given."""
_turns = itertools.count()
_seen: Counter[int] = Counter()


@pytest.fixture(scope="module")
def api(sqlite_template: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    path = tmp_path_factory.mktemp("schemathesis") / "settler.db"
    path.write_bytes(sqlite_template.read_bytes())
    with served(f"sqlite:///{path}", SystemClock()) as running:
        yield running
        # else it showed nothing: every call was refused alike
        assert sum(_seen.values()) < ENOUGH or {200, 404, 422} <= set(_seen), _seen


DESCRIPTION = document(ROUTES, is_closed=True)
SCHEMA = schemathesis.openapi.from_dict(DESCRIPTION, config=SchemathesisConfig())


@SCHEMA.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_call__whatever_is_sent__is_answered_as_described(case: schemathesis.Case[Any], api: Served) -> None:
    _with_what_is_there(case, api)
    answer = case.call_and_validate(
        base_url=api.url, checks=CHECKS, headers={"Authorization": f"Bearer {api.key}"}, timeout=20
    )
    _seen[answer.status_code] += 1


def _with_what_is_there(case: schemathesis.Case[Any], api: Served) -> None:
    """Half of the time an id of the path and the chain, token and invoice of a body are real ones."""
    turn = next(_turns)
    if turn % 2:
        return
    if case.headers and "Idempotency-Key" in case.headers:  # made-up ones are mostly alike, and used already
        case.headers["Idempotency-Key"] = f"turn {turn}"
    there = api.ids.get(case.path.split("/")[2] if case.path.startswith("/v1/") else "", [])
    if case.path_parameters and there and not case.path.endswith("/stream"):  # a stream of a real one has no end
        case.path_parameters["id"] = there[turn // 2 % len(there)]
    body = case.body
    if isinstance(body, dict):
        if isinstance(body.get("invoice_id"), str):
            body["invoice_id"] = api.ids["invoices"][turn // 2 % len(api.ids["invoices"])]
        options = body.get("options")
        for option in options if isinstance(options, list) else []:
            if isinstance(option, dict) and {"chain", "token"} <= set(option):
                option |= {"chain": "anvil", "token": "USDC"}


def test_description__is_openapi_3_1__and_the_calls_are_all_there() -> None:
    assert DESCRIPTION["openapi"].startswith("3.1")
    described = {(method.upper(), path) for path, item in DESCRIPTION["paths"].items() for method in item}
    assert {(r.method, r.path) for r in ROUTES} <= described
