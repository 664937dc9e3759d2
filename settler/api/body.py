"""A request's JSON body, read within bounds and without guessing.

JSON leaves open what a name given twice means, how deep it may nest and whether NaN is a number; here all three are
refused, so that what we store is what the caller meant. https://www.rfc-editor.org/rfc/rfc7493
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections import Counter
from http import HTTPStatus
from typing import Any

from aiohttp import web

from settler.api.errors import Problem

MAX_BODY_BYTES = 65_536
"""Far above an invoice with 50 options and 8 kB of metadata."""
MAX_DEPTH = 32
"""Levels of arrays and objects."""
_BRACKETS = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
"""A string, also one that never ends, or a bracket. Nothing is tried twice: a string that ended nowhere was looked for
again from each quote in it, which took the whole process minutes for one body.
"""
BODY_TIMEOUT_S = 10.0
"""A caller that sends more slowly than this holds a connection for nothing."""


async def read_json(request: web.Request) -> Any:
    """The body as plain JSON values; `{}` when there is none.

    Raises `Problem`: 400 not JSON, 408 too slow, 413 too large, 415 not called JSON.
    """
    raw = await read_bytes(request)
    if not raw:
        return {}
    if request.content_type != "application/json":
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            f"Content-Type is {request.content_type!r}; send JSON with Content-Type: application/json",
        )
    return parse(raw)


def parse(raw: bytes) -> Any:
    """Strict JSON. Raises `Problem` 400."""
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH:  # fewer cannot nest deeper
        _check_depth(raw)
    try:
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_object,
            parse_float=_float,
            parse_constant=_constant,
        )
    except UnicodeDecodeError as error:
        raise _malformed(f"byte {error.start} is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise _malformed(f"line {error.lineno} column {error.colno}: {error.msg}") from error
    except ValueError as error:
        # Ours from the hooks below, or an integer of more digits than Python reads.
        raise _malformed(str(error)) from error
    if b"\\u" in raw:  # UTF-8 has no half characters, and JSON no bare NUL: both come escaped or not at all
        _check(value)
    return value


def canonical(value: Any) -> str:
    """The same text for the same JSON, whatever the order of names and the white space."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


async def read_bytes(request: web.Request) -> bytes:
    """The body as it was sent, within bounds. Raises `Problem`: 400 no HTTP, 408 too slow, 413 too large, 415
    compressed.
    """
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            "Content-Encoding is not supported; send the body as it is",
            closes=True,
        )
    if request.content_length is not None and request.content_length > MAX_BODY_BYTES:
        raise _too_large()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise _too_large() from error
    except web.RequestPayloadError as error:
        raise Problem(
            HTTPStatus.BAD_REQUEST,
            "bad-request",
            "the body is not as its head says, e.g. a chunk is broken",
            closes=True,
        ) from error
    except TimeoutError as error:
        raise Problem(
            HTTPStatus.REQUEST_TIMEOUT,
            "request-timeout",
            f"the body did not arrive within {BODY_TIMEOUT_S:.0f} s",
            closes=True,
        ) from error


def _too_large() -> Problem:
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "body-too-large",
        f"the body is larger than {MAX_BODY_BYTES} bytes; send less, e.g. fewer options or metadata",
        closes=True,
    )


def _malformed(what: str) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, "malformed-json", f"the body is not valid JSON: {what}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(pairs)
    if len(named) != len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"{twice[:80]!r} is given twice in one object")
    return named


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:80]} is too large a number")
    return number


def _constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _check_depth(raw: bytes) -> None:
    """Before it is read: how deep Python's reader goes depends on what else runs in the process."""
    depth = 0
    for found in _BRACKETS.finditer(raw):
        match found[0]:
            case b"[" | b"{":
                depth += 1
            case b"]" | b"}":
                depth -= 1
            case _:  # a whole string: what is in it opens nothing
                pass
        if depth > MAX_DEPTH:
            raise _malformed(f"nested deeper than {MAX_DEPTH} levels")


def _check(value: Any) -> None:
    """What JSON allows and databases do not: NUL and half characters."""
    rest = [value]
    while rest:
        one = rest.pop()
        match one:
            case str():
                _check_text(one)
            case dict():
                rest += [part for pair in one.items() for part in pair]
            case list():
                rest += one
            case _:
                pass


def _check_text(text: str) -> None:
    if "\0" in text:
        raise _malformed(f"{text[:80]!r} contains the character U+0000, which cannot be stored; leave it out")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _malformed(f"{text[:80]!a} contains half of a surrogate pair; send both halves") from error
