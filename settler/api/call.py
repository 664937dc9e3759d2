"""One request with who sent it, and the collaborators that answer it. Handlers get a `Call` and nothing else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from aiohttp import web
from pydantic import BaseModel

from settler.api.auth import Caller
from settler.api.errors import not_found
from settler.api.invalid import validate_query
from settler.clock import Clock
from settler.domain.drafting import Catalog, InvalidRequest, InvoiceDefaults
from settler.domain.errors import InvalidInput
from settler.domain.ids import looks_like_id
from settler.health import Health
from settler.metrics import Metrics
from settler.storage.engine import Database

AuthMode = Literal["keys", "none"]
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    db: Database
    clock: Clock
    catalog: Catalog
    defaults: InvoiceDefaults
    auth: AuthMode
    """`none`: whoever reaches the port may do everything; for loopback."""
    metrics: Metrics
    health: Health
    providers: Callable[[], Sequence[Mapping[str, Any]]] | None
    """RPC providers and their health: JSON objects, each naming its `chain`. `None`: not known in this process."""
    entropy: Callable[[int], bytes]
    """That many bytes from a secure source."""
    allow_private_webhooks: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    request: web.Request
    services: Services
    caller: Caller

    def query(self, model: type[M]) -> M:
        """The query string as `model`. Raises `InvalidRequest` with all that is wrong, unknown names too."""
        query = self.request.query
        twice = [name for name in dict.fromkeys(query) if len(query.getall(name)) > 1]
        if twice:
            raise InvalidRequest(
                tuple(InvalidInput(name[:80], "is given more than once; give it once") for name in twice)
            )
        return validate_query(model, dict(query))

    def id(self, prefix: str, kind: str) -> str:
        """The id in the path. Raises `Problem` 404 for one that cannot be."""
        id_ = self.request.match_info["id"]
        if not looks_like_id(id_, prefix):
            one = f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
            raise not_found(f"there is no {kind} {id_[:80]!r}; the id of {one} is {prefix}_ and 26 characters")
        return id_


Handler = Callable[[Call], Awaitable[web.StreamResponse]]
