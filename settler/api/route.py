"""One call of the API: what it takes, who may make it, who answers and with what.

The description (`settler.api.openapi`) is made of these, and the handlers are held to them: one that reads another
query or body than its route says fails.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

from pydantic import BaseModel

from settler.api.call import Handler
from settler.api.queries import NoQuery
from settler.storage.api_keys import Scope

JSON_TYPE = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    method: Literal["GET", "POST", "DELETE"]
    path: str
    """As aiohttp and OpenAPI both write it: `/v1/invoices/{id}`."""
    scope: Scope
    """What a key needs to make it."""
    handler: Handler
    """Its name is the operation's id, its docstring the description."""
    summary: str
    """In the imperative, a few words."""
    query: type[BaseModel] = NoQuery
    headers: tuple[tuple[str, str], ...] = ()
    """Request headers of its own, beside those of every call: name and what it says."""
    body: type[BaseModel] | None = None
    """`None`: it takes none. A POST takes an `Idempotency-Key` as well."""
    answer: Any = None
    """A `TypedDict` of the answer's JSON; `None` where there is none, or where it is not JSON."""
    status: HTTPStatus = HTTPStatus.OK
    media: str = JSON_TYPE
    """Of the answer."""

    @property
    def tag(self) -> str:
        """The collection it is about: the first part of its path after the version."""
        return self.path.removeprefix("/v1/").partition("/")[0]
