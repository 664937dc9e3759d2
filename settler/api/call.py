"""One request with who sent it, and the collaborators that answer it. Handlers get a `Call` and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from aiohttp import web
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncConnection

from settler.api.auth import Caller, KeyReader, authenticate, everybody
from settler.api.creating import Creating
from settler.api.errors import Problem, not_found
from settler.api.invalid import validate_query
from settler.api.limits import NO_LIMITS, Limits
from settler.clock import Clock
from settler.domain.drafting import Catalog, InvalidRequest
from settler.domain.errors import InvalidInput
from settler.domain.ids import HoldId, InvoiceId, TransferId, looks_like_id
from settler.domain.invoices import Invoice, TransferRecord
from settler.domain.operator import By, Decided
from settler.domain.records import Hold, Settlement
from settler.health import Health
from settler.metrics import Metrics
from settler.storage.api_keys import KeyUses
from settler.storage.engine import Database

if TYPE_CHECKING:
    from settler.api.route import Route

AuthMode = Literal["keys", "none"]
M = TypeVar("M", bound=BaseModel)


class Operator(Protocol):
    """What an operator may decide; `settler.stages.operating.Operating` is one. Each in the transaction it is given;
    raises `NotFound` and `Conflict`.
    """

    async def assign(
        self, conn: AsyncConnection, id_: TransferId, invoice_id: InvoiceId, by: By
    ) -> Decided[TransferRecord]: ...
    async def dismiss(self, conn: AsyncConnection, id_: TransferId, by: By) -> TransferRecord: ...
    async def cancel(self, conn: AsyncConnection, id_: InvoiceId, by: By) -> Invoice: ...
    async def mark(self, conn: AsyncConnection, id_: InvoiceId, by: By) -> Decided[Invoice]: ...
    async def place_hold(self, conn: AsyncConnection, invoice_id: InvoiceId, by: By) -> Hold: ...
    async def release_hold(self, conn: AsyncConnection, id_: HoldId, by: By) -> Decided[Hold]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    db: Database
    clock: Clock
    catalog: Catalog
    operator: Operator
    auth: AuthMode
    """`none`: whoever reaches the port may do everything; for loopback."""
    metrics: Metrics
    health: Health
    providers: Callable[[], Sequence[Mapping[str, Any]]] | None
    """RPC providers and their health: JSON objects, each naming its `chain`. `None`: not known in this process."""
    entropy: Callable[[int], bytes]
    """That many bytes from a secure source."""
    allow_private_webhooks: bool
    key_uses: KeyUses
    """Told which keys were used; somebody else writes it down."""
    creating: Creating
    """Makes invoices."""
    keys: KeyReader
    """Looks keys up."""
    limits: Limits = NO_LIMITS
    """How often callers may ask."""


async def caller_behind(request: web.Request, services: Services) -> Caller:
    """Who asks. Raises `Problem` 401; 421 where no key is asked for and the request comes from elsewhere; 429 for who
    asks too often, with a key or without.
    """
    if services.auth == "none":
        return everybody(request)
    try:
        caller = await authenticate(request, services.keys, now=services.clock.now(), uses=services.key_uses)
    except Problem:
        services.limits.admit_address(request)
        raise
    services.limits.admit_key(request, caller.idempotency_scope)
    return caller


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    request: web.Request
    services: Services
    caller: Caller
    route: Route

    def by(self, reason: str) -> By:
        return By(who=self.caller.name, reason=reason, now=self.services.clock.now())

    def count_settled(self, settled: Iterable[Settlement]) -> None:
        """To the metrics, once it is committed."""
        for settlement in settled:
            by_token: Counter[tuple[str, str]] = Counter()
            for line in settlement.lines:
                by_token[line.chain, line.token] += line.amount_settled
            for (chain, token), amount_base in by_token.items():
                self.services.metrics.settled(chain, token, amount_base)

    def query(self, model: type[M]) -> M:
        """The query string as `model`. Raises `InvalidRequest` with all that is wrong, unknown names too."""
        assert model is self.route.query, f"{self.route.path} says it takes another query string than it reads"
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
