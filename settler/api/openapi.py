"""`/openapi.json`: the API described in OpenAPI 3.1, made of the models that validate and the types that render.

Nothing is written here twice: bodies and query strings come from `settler.api.models` and `queries`, answers from the
`TypedDict`s of `settler.domain.shapes` and `settler.api.shapes`, words from docstrings, calls from `settler.api.route`.
https://spec.openapis.org/oas/v3.1.1
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from types import ModuleType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, with_config
from typing_extensions import is_typeddict

from settler import __version__
from settler.api import shapes as api_shapes
from settler.api.errors import PROBLEM_JSON
from settler.api.idempotency import HEADER, HIT_HEADER, MAX_KEY_CHARS
from settler.api.route import JSON_TYPE, Route
from settler.api.shapes import ProblemShape
from settler.domain import shapes as domain_shapes
from settler.domain.events import EventType
from settler.domain.shapes import EventShape

Document = dict[str, Any]

_REFS = "#/components/schemas/{model}"
_BEARER = "key"
_TIME = re.compile(r"_at$|_time$|_until$")
_DECIMAL = r"^[0-9]+(\.[0-9]+)?$"
_INTEGER = r"^[0-9]+$"

_ABOUT = """\
Watches blockchains for stablecoin transfers, matches them to invoices, and settles what is final.

Every call under `/v1` needs `Authorization: Bearer KEY`, with a key of `settler api-key create`. Amounts are decimal
strings in units of the token (`"100.00"`), beside them integers of its smallest unit as strings (`amount_base`);
there are no floats. Times are RFC 3339 UTC. A POST may carry an `Idempotency-Key`: the same key and body gets the first
answer again, with `Idempotency-Hit: true`; with another body it is 409. Lists take `limit` and `cursor`, newest first,
and answer `data` and `next_cursor`. Errors are RFC 9457 problems. Fields may be added; those described here stay.
"""

_TAGS = {
    "invoices": "What is owed.",
    "transfers": "What arrived, matched or in suspense.",
    "holds": "What stops settlements.",
    "settlements": "The final records.",
    "events": "Every state change, in order.",
    "webhook-endpoints": "Where events are sent.",
    "webhook-deliveries": "How that went.",
    "chains": "How far chains are read, and by whom.",
}

_ERRORS = {
    HTTPStatus.BAD_REQUEST: "The request is not HTTP or its body is not JSON.",
    HTTPStatus.UNAUTHORIZED: "There is no key, or it is not known or was revoked.",
    HTTPStatus.FORBIDDEN: "The key lacks the scope or is bound to another merchant; without keys: another site asks.",
    HTTPStatus.NOT_FOUND: "There is no such object that this key may see.",
    HTTPStatus.REQUEST_TIMEOUT: "The request came too slowly.",
    HTTPStatus.CONFLICT: "The present state forbids it, or the idempotency key was used for another request.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is too large.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The body is not called JSON, or is compressed.",
    HTTPStatus.MISDIRECTED_REQUEST: 'With `auth = "none"`: called by a name that is not this machine\'s.',
    HTTPStatus.UNPROCESSABLE_ENTITY: "A field or parameter is wrong; `errors` names each with its remedy.",
    HTTPStatus.TOO_MANY_REQUESTS: "Too many requests; `Retry-After` says when to go on.",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "The address or a header is too long.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "A fault of ours; the log has it under the id in `detail`.",
    HTTPStatus.SERVICE_UNAVAILABLE: "The database is away; repeat it, with the same `Idempotency-Key`.",
}
_OF_ANY = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.MISDIRECTED_REQUEST,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
_OF_POST = (HTTPStatus.CONFLICT, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
_HEADERS = {
    "X-Request-Id": "Names the request in the log: yours, where you sent one",
    "RateLimit-Policy": "How often this caller may ask; draft-ietf-httpapi-ratelimit-headers",
    "RateLimit": "What is left of that",
}
"""Of every answer; the last two where callers are limited."""

_PROBES: dict[str, Any] = {
    "/livez": ("Is the process alive", "503: it is stuck and is to be restarted.", JSON_TYPE),
    "/readyz": ("Is it to be relied on", "503: not just now; `reasons` says why.", JSON_TYPE),
    "/metrics": ("Metrics", "Prometheus text format.", "text/plain"),
}


def document(routes: Sequence[Route], *, is_closed: bool = False) -> Document:
    """The description of these calls, and of the probes and webhooks.

    `is_closed`: answers may hold nothing but what is described, which is what tests hold them to. Clients are to take
    what is added later, so it is not what is published.
    """
    _read_docstrings(is_closed=is_closed)
    schemas = _Schemas(routes)
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    for path, (summary, description, media) in _PROBES.items():
        paths[path] = {"get": _probe(path, summary, description, media, schemas)}
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "settler",
            "version": __version__,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "security": [{_BEARER: []}],
        "paths": paths,
        "webhooks": {type_.value: {"post": _webhook(type_, schemas)} for type_ in EventType},
        "components": {
            "schemas": schemas.all,
            "responses": {
                _name_of(status): {
                    "description": text,
                    "headers": _header_references(),
                    "content": {PROBLEM_JSON: {"schema": schemas.of(ProblemShape)}},
                }
                for status, text in _ERRORS.items()
            },
            "headers": {name: {"description": text, "schema": {"type": "string"}} for name, text in _HEADERS.items()},
            "securitySchemes": {
                _BEARER: {"type": "http", "scheme": "bearer", "description": "A key of `settler api-key create`."}
            },
        },
    }


def _read_docstrings(*, is_closed: bool) -> None:
    """The docstring under a field is its description."""
    config = ConfigDict(use_attribute_docstrings=True, extra="forbid" if is_closed else "ignore")
    for shape in (*_shapes_in(domain_shapes), *_shapes_in(api_shapes)):
        with_config(config)(shape)


def _shapes_in(module: ModuleType) -> Iterator[type]:
    return (value for value in vars(module).values() if is_typeddict(value))


class _Schemas:
    """The JSON schemas of all models and shapes, each once, under short names."""

    def __init__(self, routes: Sequence[Route]) -> None:
        answers = {route.answer for route in routes if route.answer is not None}
        bodies = {route.body for route in routes if route.body is not None}
        types = [*answers, ProblemShape, EventShape, api_shapes.HealthShape, *bodies]
        inputs: list[tuple[Any, Literal["validation", "serialization"], TypeAdapter[Any]]] = [
            (type_, "validation", TypeAdapter(type_)) for type_ in sorted(types, key=str)
        ]
        made, shared = TypeAdapter.json_schemas(inputs, ref_template=_REFS)
        self._by_type = {type_: _renamed(schema) for (type_, _), schema in made.items()}
        self.all: dict[str, Any] = {
            _short(name): _with_formats(_renamed(schema)) for name, schema in sorted(shared.get("$defs", {}).items())
        }

    def of(self, type_: Any) -> Document:
        """A reference to it."""
        return dict(self._by_type[type_])

    def of_query(self, model: type[BaseModel]) -> list[Document]:
        """A query string's parameters."""
        schema = model.model_json_schema(ref_template=_REFS)
        self.all |= {_short(name): _renamed(inner) for name, inner in schema.get("$defs", {}).items()}
        required = schema.get("required", [])
        return [_parameter(name, _renamed(field), name in required) for name, field in schema["properties"].items()]


def _short(name: str) -> str:
    """`InvoiceShape` as `Invoice`, a page of them as `InvoicePage`."""
    page = re.fullmatch(r"Page_(\w+?)(?:Shape)?_", name)
    return f"{page[1]}Page" if page else name.removesuffix("Shape")


def _renamed(schema: Any) -> Any:
    """With short names in all references, and titles that only repeat a name left out."""
    match schema:
        case {"$ref": str(ref), **rest}:
            base, _, name = ref.rpartition("/")
            return {"$ref": f"{base}/{_short(name)}", **{k: v for k, v in rest.items() if k != "title"}}
        case dict():
            return {
                name: {field: _renamed(value) for field, value in inner.items()}
                if name == "properties"
                else _renamed(inner)
                for name, inner in schema.items()
                if name != "title"
            }
        case list():
            return [_renamed(inner) for inner in schema]
        case _:
            return schema


def _with_formats(schema: Document) -> Document:
    """What the names of the fields promise of their text, said to machines as well."""
    for name, field in schema.get("properties", {}).items():
        for one in (field, *field.get("anyOf", ())):
            if one.get("type") != "string":
                continue
            if _TIME.search(name):
                one["format"] = "date-time"
            elif name.startswith("amount_") and "minLength" not in one:
                one["pattern"] = _INTEGER if name.endswith("_base") else _DECIMAL
    return schema


def _parameter(name: str, field: Document, is_required: bool) -> Document:
    description = field.pop("description", None)
    # a parameter left out is left out: `null` is nothing one can write in a query string
    options = [one for one in field.get("anyOf", ()) if one != {"type": "null"}]
    if len(options) == 1:
        del field["anyOf"]
        field = {**options[0], **field}
        description = field.pop("description", description)
        if field.get("default", ...) is None:
            del field["default"]
    said = {} if description is None else {"description": description}
    return {"name": name, "in": "query", "required": is_required, **said, "schema": field}


def _operation(route: Route, schemas: _Schemas) -> Document:
    parameters = [_id_parameter(name) for name in re.findall(r"{(\w+)}", route.path)]
    parameters += schemas.of_query(route.query)
    parameters += [_header(name, description, is_required=False) for name, description in route.headers]
    if route.method == "POST":
        parameters.append(_IDEMPOTENCY_KEY)
    said = inspect.getdoc(route.handler) or ""
    needs = f"Needs a key with scope `{route.scope}`."
    operation: Document = {
        "operationId": getattr(route.handler, "__name__", route.path),
        "tags": [route.tag],
        "summary": route.summary,
        "description": f"{said}\n\n{needs}".strip(),
        "security": [{_BEARER: [route.scope.value]}],
        "parameters": parameters,
        "responses": {str(int(route.status)): _answer(route, schemas), **_problems(route)},
    }
    if route.body is not None:
        body = schemas.of(route.body)
        is_required = bool(route.body.model_json_schema().get("required"))
        operation["requestBody"] = {"required": is_required, "content": {JSON_TYPE: {"schema": body}}}
    return operation


_IDEMPOTENCY_KEY: Document = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": f"1 to {MAX_KEY_CHARS} printable ASCII characters, e.g. a UUID; kept for a day at least",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY_CHARS, "pattern": "^[ -~]+$"},
}


def _id_parameter(name: str) -> Document:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _answer(route: Route, schemas: _Schemas) -> Document:
    found: Document = {"description": HTTPStatus(route.status).phrase}
    headers: Document = _header_references()
    if route.status == HTTPStatus.CREATED:
        headers["Location"] = {"description": "The new object's address", "schema": {"type": "string"}}
    if route.method == "POST":
        headers[HIT_HEADER] = {
            "description": "`true` where this is the first answer again",
            "schema": {"type": "string", "enum": ["true"]},
        }
    found["headers"] = headers
    if route.answer is not None:
        found["content"] = {route.media: {"schema": schemas.of(route.answer)}}
    elif route.status != HTTPStatus.NO_CONTENT:
        found["content"] = {route.media: {"schema": {"type": "string"}}}
    return found


def _header_references() -> Document:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in _HEADERS}


def _problems(route: Route) -> Document:
    statuses = list(_OF_ANY)
    if "{" in route.path:
        statuses.append(HTTPStatus.NOT_FOUND)
    if route.method == "POST":
        statuses += _OF_POST
    return {str(int(s)): {"$ref": f"#/components/responses/{_name_of(s)}"} for s in sorted(statuses)}


def _name_of(status: HTTPStatus) -> str:
    return "".join(word.capitalize() for word in status.name.split("_"))


def _probe(path: str, summary: str, description: str, media: str, schemas: _Schemas) -> Document:
    is_json = media == JSON_TYPE
    content = {media: {"schema": schemas.of(api_shapes.HealthShape) if is_json else {"type": "string"}}}
    responses: Document = {"200": {"description": "OK", "content": content}}
    if is_json:
        responses["503"] = {"description": "No", "content": content}
    return {
        "operationId": path.removeprefix("/"),
        "summary": summary,
        "description": description,
        "security": [],
        "responses": responses,
    }


def _header(name: str, description: str, *, is_required: bool) -> Document:
    schema = {"type": "string"}
    return {"name": name, "in": "header", "required": is_required, "description": description, "schema": schema}


def _webhook(type_: EventType, schemas: _Schemas) -> Document:
    return {
        "operationId": "on_" + type_.value.replace(".", "_"),
        "summary": type_.value,
        "description": "Sent as Standard Webhooks 1.0 has it; verify the signature over the raw body.",
        "security": [],
        "parameters": [
            _header("webhook-id", "The event's id, the same at every attempt", is_required=True),
            _header("webhook-timestamp", "When it was sent, in seconds since 1970", is_required=True),
            _header(
                "webhook-signature",
                'One or two of `v1,` and base64 of HMAC-SHA256 over "id.timestamp.body"',
                is_required=True,
            ),
        ],
        "requestBody": {"required": True, "content": {JSON_TYPE: {"schema": schemas.of(EventShape)}}},
        "responses": {"2XX": {"description": "Received; whatever else is answered, it is sent again"}},
    }
