"""One POST, one effect: the write transaction of every POST, with its `Idempotency-Key` if it has one. That of new
invoices is `settler.api.creating`, which promises the same.

    # first    BEGIN  claim the key  effect  keep the answer  COMMIT     answered
    # second          claim … waits for that COMMIT …                    the same answer, Idempotency-Hit: true

Key, effect and answer are committed together, so a crash leaves all or none. Answers of 500 and above are not kept:
whoever gets one repeats the request with the same key. What is refused before its body is known (401, 403, 413, broken
JSON) is not kept either. https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.api.answers import Answer, send
from settler.api.body import canonical, read_json
from settler.api.call import Call
from settler.api.errors import Problem, problem_of
from settler.api.invalid import validate
from settler.domain.errors import DomainError, InvalidInput
from settler.storage import idempotency
from settler.storage.idempotency import Claim, First, StoredAnswer

HEADER = "Idempotency-Key"
HIT_HEADER = "Idempotency-Hit"
MAX_KEY_CHARS = 255

M = TypeVar("M", bound=BaseModel)
Effect = Callable[[AsyncConnection, M], Awaitable[Answer]]


async def write_once(call: Call, model: type[M], effect: Effect[M]) -> web.Response:
    """Reads the body as `model` and carries out `effect` in one write transaction; with a key, once.

    What `effect` raises rolls it back. Raises `Problem` and the errors of the core; `problems_middleware` answers them.
    """
    assert model is call.route.body, f"{call.route.path} says it takes another body than it reads"
    sent = canonical(await read_json(call.request))
    claim = claim_of(call, sent)
    if claim is None:
        body = validate(model, sent)
        async with call.services.db.write() as conn:
            answer = await effect(conn, body)
        return send_stored(call, StoredAnswer(status=answer.status, body=answer.text()))
    async with call.services.db.write() as conn:
        first = await idempotency.claim(conn, claim, now=call.services.clock.now())
        if first is not None:
            return send_again(call, claim, first)
        stored = await _attempt(call, conn, model, sent, effect)
        await idempotency.complete(conn, claim, stored)
    return send_stored(call, stored)


async def _attempt(call: Call, conn: AsyncConnection, model: type[M], sent: str, effect: Effect[M]) -> StoredAnswer:
    """The answer to keep, a refusal too; a refused effect is undone and the key is not."""
    try:
        body = validate(model, sent)
        async with conn.begin_nested():
            answer = await effect(conn, body)
    except (DomainError, Problem) as error:
        problem = problem_of(error)
        if problem is None or problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise
        answer = Answer(status=problem.status, body=problem.body(call.request.rel_url.raw_path))
    return StoredAnswer(status=answer.status, body=answer.text())


def claim_of(call: Call, sent: str) -> Claim | None:
    """What a request's key claims; `None` without one. `sent`: its body, `canonical`. Raises `InvalidInput`."""
    keys = call.request.headers.getall(HEADER, [])
    if not keys:
        return None
    if len(keys) > 1:
        raise InvalidInput(HEADER, "is given more than once; give it once")
    key = keys[0]
    if not (1 <= len(key) <= MAX_KEY_CHARS and key.isascii() and key.isprintable()):
        raise InvalidInput(
            HEADER, f"{key[:80]!a} is no key; give 1 to {MAX_KEY_CHARS} printable ASCII characters, e.g. a UUID"
        )
    request = call.request
    whole = "\n".join((request.method, request.rel_url.raw_path, sent))
    return Claim(
        scope=call.caller.idempotency_scope,
        key=key,
        request_hash=hashlib.sha256(whole.encode()).digest(),
    )


def send_again(call: Call, claim: Claim, first: First) -> web.Response:
    """The answer that the first request with the key got. Raises `Problem` 409 where that was another request, or is
    under way.
    """
    if first.request_hash != claim.request_hash:
        raise Problem(
            HTTPStatus.CONFLICT,
            "idempotency-key-reused",
            f"{HEADER} {claim.key!r} was used for another request; use a new key for a new request",
        )
    if first.answer is None:
        raise Problem(
            HTTPStatus.CONFLICT,
            "idempotency-in-progress",
            f"the first request with {HEADER} {claim.key!r} is under way; repeat this one in a moment",
            headers={"Retry-After": "1"},
        )
    return send_stored(call, first.answer, is_hit=True)


def send_stored(call: Call, answer: StoredAnswer, *, is_hit: bool = False) -> web.Response:
    location = None
    if answer.status == HTTPStatus.CREATED:
        location = f"{call.request.rel_url.raw_path}/{json.loads(answer.body)['id']}"
    return send(answer.status, answer.body, location=location, headers={HIT_HEADER: "true"} if is_hit else None)
