"""`/docs`: the API's description (`settler.api.openapi`) as a page to read. It says nothing that is not said there."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from aiohttp import web
from markupsafe import Markup, escape

from settler.api.openapi import Document, document
from settler.api.pages.render import fill, page_of, with_problem_pages
from settler.api.route import JSON_TYPE, Route

_CODE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What a value is, in words; a part of it may be the name of a schema, to be linked."""

    parts: tuple[tuple[str, bool], ...]
    bounds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A field, parameter or answer of a table."""

    name: str
    kind: Kind
    is_required: bool
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    id: str
    method: str
    path: str
    summary: str
    description: str
    parameters: Sequence[Row]
    body: str | None
    """Name of its schema."""
    answers: Sequence[tuple[str, str, str | None]]
    """Status, what it means, and name of the schema."""
    example: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    name: str
    description: str
    rows: Sequence[Row]
    values: Sequence[str]
    """Of an enumeration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    about: str
    version: str
    groups: Sequence[tuple[str, str, Sequence[Call]]]
    """Name, description and calls."""
    events: Sequence[str]
    schemas: Sequence[Schema]


def attach(app: web.Application, routes: tuple[Route, ...]) -> None:
    async def show(_request: web.Request) -> web.StreamResponse:
        return page_of(await asyncio.to_thread(_html, routes))

    app.router.add_get("/docs", with_problem_pages(show))


@cache
def _html(routes: tuple[Route, ...]) -> str:
    """Made when it is first asked for: it takes some tenths of a second, and stays the same."""
    return fill("reference.html", reference=reference_of(document(routes)), with_code=with_code)


def with_code(text: str) -> Markup:
    """Text with what stands between backticks as code; everything is escaped."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704  # escaped first


def reference_of(described: Document) -> Reference:
    """What the page shows, from a document of OpenAPI 3.1 as `settler.api.openapi` makes it."""
    schemas = described["components"]["schemas"]
    calls: dict[str, list[Call]] = {}
    for path, item in described["paths"].items():
        for method, operation in item.items():
            tag = operation.get("tags", ["health"])[0]
            calls.setdefault(tag, []).append(_call(method, path, operation, described))
    groups = [(tag["name"], tag["description"], calls.pop(tag["name"])) for tag in described["tags"]]
    groups += [(name, "Without a key.", rest) for name, rest in calls.items()]
    return Reference(
        about=described["info"]["description"],
        version=described["info"]["version"],
        groups=groups,
        events=list(described["webhooks"]),
        schemas=[_schema(name, schema) for name, schema in sorted(schemas.items())],
    )


def _call(method: str, path: str, operation: Document, described: Document) -> Call:
    body = operation.get("requestBody")
    body_name = None if body is None else _name(body["content"][JSON_TYPE]["schema"])
    return Call(
        id=operation["operationId"],
        method=method.upper(),
        path=path,
        summary=operation["summary"],
        description=operation["description"],
        parameters=[_parameter(parameter) for parameter in operation.get("parameters", ())],
        body=body_name,
        answers=[_answer(status, answer, described) for status, answer in operation["responses"].items()],
        example=_example(method, path, operation, body_name, described["components"]["schemas"]),
    )


def _answer(status: str, answer: Document, described: Document) -> tuple[str, str, str | None]:
    if "$ref" in answer:
        answer = described["components"]["responses"][answer["$ref"].rpartition("/")[2]]
    schema = next((content.get("schema") for content in answer.get("content", {}).values()), None)
    return status, answer["description"], None if schema is None or "$ref" not in schema else _name(schema)


def _parameter(parameter: Document) -> Row:
    where = "" if parameter["in"] == "query" else f" ({parameter['in']})"
    return Row(
        name=parameter["name"] + where,
        kind=_kind(parameter["schema"]),
        is_required=parameter["required"],
        description=parameter.get("description", parameter["schema"].get("description", "")),
    )


def _schema(name: str, schema: Document) -> Schema:
    required = schema.get("required", ())
    return Schema(
        name=name,
        description=schema.get("description", ""),
        rows=[
            Row(
                name=field,
                kind=_kind(inner),
                is_required=field in required,
                description=inner.get("description", ""),
            )
            for field, inner in schema.get("properties", {}).items()
        ],
        values=[str(value) for value in schema.get("enum", ())],
    )


def _name(schema: Document) -> str:
    return str(schema["$ref"].rpartition("/")[2])


def _kind(schema: Document) -> Kind:
    return Kind(parts=tuple(_parts(schema)), bounds=tuple(_bounds(schema)))


def _parts(schema: Document) -> Iterator[tuple[str, bool]]:
    match schema:
        case {"$ref": _}:
            yield _name(schema), True
        case {"anyOf": [first, *rest]}:
            yield from _parts(first)
            for other in rest:
                yield " or ", False
                yield from _parts(other)
        case {"type": "array", "items": items}:
            yield "list of ", False
            yield from _parts(items)
        case {"type": str(type_)}:
            yield schema.get("format", type_), False
        case _:
            yield "any JSON", False


_BOUNDS = {
    "minimum": "≥ {}",
    "maximum": "≤ {}",
    "exclusiveMinimum": "> {}",
    "exclusiveMaximum": "< {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {}",
    "maxItems": "at most {}",
    "pattern": "{}",
    "default": "default {}",
}


def _bounds(schema: Document) -> Iterator[str]:
    for one in (schema, *schema.get("anyOf", ())):
        for key, words in _BOUNDS.items():
            if one.get(key) not in (None, [], {}):
                yield words.format(one[key])


def _example(method: str, path: str, operation: Document, body: str | None, schemas: Mapping[str, Document]) -> str:
    """A line for the shell. `$URL` and `$KEY` are the reader's; so is what stands in angle brackets."""
    parts = ["curl -s"]
    if operation.get("security"):
        parts.append('-H "Authorization: Bearer $KEY"')
    if method == "post":
        parts.append('-H "Content-Type: application/json" -H "Idempotency-Key: <key>"')
        sent = {} if body is None else _sample(schemas[body], schemas)
        parts.append(f"-d {shlex.quote(json.dumps(sent, ensure_ascii=False))}")
    elif method != "get":
        parts.append(f"-X {method.upper()}")
    parts.append('"$URL' + re.sub(r"{(\w+)}", r"<\1>", path) + '"')
    return " ".join(parts)


def _sample(schema: Document, schemas: Mapping[str, Document]) -> Any:
    """A value that the schema might mean: its example, else the least there can be."""
    match schema:
        case {"$ref": _}:
            return _sample(schemas[_name(schema)], schemas)
        case {"examples": [first, *_]}:
            return first
        case {"enum": [first, *_]}:
            return first
        case {"type": "object"}:
            wanted = schema.get("required", ())
            return {field: _sample(schema["properties"][field], schemas) for field in wanted}
        case {"type": "array", "items": items}:
            return [_sample(items, schemas)]
        case _:
            return "…"
