"""What a page's form sends, read within bounds: `application/x-www-form-urlencoded`, each name once, UTF-8."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import parse_qsl

from aiohttp import web
from pydantic import BaseModel

from settler.api.body import read_bytes
from settler.api.errors import Problem
from settler.api.invalid import validate

FORM_TYPE = "application/x-www-form-urlencoded"
MAX_FIELDS = 20

M = TypeVar("M", bound=BaseModel)


async def read_form(request: web.Request) -> dict[str, str]:
    """The fields by name. Raises `Problem`: 400 not such a form, 408 too slow, 413 too large, 415 not called one."""
    raw = await read_bytes(request)
    if raw and request.content_type != FORM_TYPE:
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", f"this takes a form, as {FORM_TYPE}")
    try:
        pairs = parse_qsl(
            raw.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(raw),
            errors="strict",
            max_num_fields=MAX_FIELDS,
        )
    except ValueError as error:  # not ASCII, not UTF-8 underneath, too many fields
        raise _malformed("it cannot be read") from error
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise _malformed("a field is given twice")
    if any("\0" in text for pair in pairs for text in pair):
        raise _malformed("it contains the character U+0000")
    return fields


def filled(model: type[M], fields: Mapping[str, str]) -> M:
    """The fields as the body that the API takes. Raises `InvalidRequest` with everything that is wrong."""
    return validate(model, json.dumps({name: text.strip() for name, text in fields.items()}))


def _malformed(what: str) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, "malformed-form", f"this is no form of ours: {what}")
