"""Answers that are no errors: JSON objects, new objects with their address, and pages of lists."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol, TypeVar

from aiohttp import web

from settler.api import cursor
from settler.api.errors import PROBLEM_JSON
from settler.domain.views import Json


class HasId(Protocol):
    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=HasId)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: HTTPStatus = HTTPStatus.OK
    body: Mapping[str, Any]

    def text(self) -> str:
        return json.dumps(self.body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def ok(body: Mapping[str, Any]) -> web.Response:
    return send(HTTPStatus.OK, Answer(body=body).text())


def send(
    status: int, text: str, *, location: str | None = None, headers: Mapping[str, str] | None = None
) -> web.Response:
    """JSON `text` as it is. `location`: address of the object that was made."""
    return web.Response(
        status=status,
        text=text,
        content_type="application/json" if status < HTTPStatus.BAD_REQUEST else PROBLEM_JSON,
        headers={**(headers or {}), **({"Location": location} if location else {})},
    )


def split(found: Sequence[T], limit: int) -> tuple[Sequence[T], str | None]:
    """This page's rows and the next one's cursor. `found`: one more than `limit` was asked for, to know of a next."""
    shown = found[:limit]
    return shown, cursor.encode(shown[-1].id) if len(found) > limit else None


def page(data: Sequence[Json], next_cursor: str | None) -> web.Response:
    return ok({"data": list(data), "next_cursor": next_cursor})
