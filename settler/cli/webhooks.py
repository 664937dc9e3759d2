"""`settler webhook`: where events are sent. How that went is `settler.cli.deliveries`, whose commands hang here too."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from settler.cli import deliveries
from settler.cli.completion import words
from settler.cli.opened import operator, with_database
from settler.cli.options import CONFIG, WHE, AsJson, Config, Why, examples, group
from settler.cli.text import Columns, Json, print_list, print_one
from settler.domain.delivery import OVERLAP_MAX_S, OVERLAP_S
from settler.domain.events import EventType

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from settler.config import Settings
    from settler.domain.delivery import Endpoint
    from settler.domain.operator import By
    from settler.storage.engine import Database

    Verb = Callable[[AsyncConnection, By], Awaitable[Endpoint]]

app = group("Outgoing webhooks: where events are sent, how that went, and sending them again.")
endpoints = group("Where events are sent.")
app.add_typer(endpoints, name="endpoint")
app.add_typer(deliveries.app, name="delivery")
app.command(
    "replay",
    epilog=examples(
        "settler webhook replay --dead",
        "settler webhook replay --from 2026-01-31 --to 2026-02-01",
        f"settler webhook replay --endpoint {WHE} --from 2026-01-01T00:00:00Z --json",
    ),
)(deliveries.replay)

Id = Annotated[str, typer.Argument(metavar="ID", help="Id of the endpoint.")]

_LISTED = 1_000
"""Endpoints shown at most, live ones and such as were removed."""
_COLUMNS: Columns = {
    "id": lambda e: e["id"],
    "url": lambda e: e["url"],
    "types": lambda e: e["types"] or "all",
    "merchant": lambda e: e["merchant"],
    "created": lambda e: e["created_at"],
    "disabled": lambda e: e["disabled_at"],
    "why": lambda e: e["disabled_reason"],
}


@endpoints.command(
    epilog=examples(
        "settler webhook endpoint add https://shop.example/hooks",
        "settler webhook endpoint add https://shop.example/hooks --type invoice.settled --type invoice.reversed",
    )
)
def add(
    url: Annotated[str, typer.Argument(help="http(s) URL that takes the POST requests.", metavar="URL")],
    type_: Annotated[
        list[str] | None,
        typer.Option(
            "--type",
            help="Only events of this type; several may be given. Default: all.",
            metavar="TYPE",
            autocompletion=words(tuple(EventType)),
        ),
    ] = None,
    merchant: Annotated[
        str | None, typer.Option("--merchant", help="Only events about this merchant's invoices.", metavar="NAME")
    ] = None,
    reason: Why = "",
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Adds an endpoint and shows its signing secret, once. It gets the events from now on."""

    async def work(settings: Settings, db: Database) -> Json:
        import json

        from settler.api.invalid import validate
        from settler.api.models import EndpointCreate
        from settler.api.views import endpoint_view
        from settler.domain.delivery import Endpoint, EndpointId
        from settler.domain.ids import ENTROPY_BYTES, make_id
        from settler.storage import webhook_admin
        from settler.webhook.guard import check_url
        from settler.webhook.sign import SECRET_BYTES, new_secret

        body = {"url": url, "types": type_ or [], "merchant": merchant}
        wanted = validate(EndpointCreate, json.dumps({k: v for k, v in body.items() if v is not None}))
        check_url(wanted.url, allow_private=settings.webhooks.allow_private_addresses)
        by = _by(reason)
        endpoint = Endpoint(
            id=EndpointId(make_id("whe", by.now, os.urandom(ENTROPY_BYTES))),
            url=wanted.url,
            merchant=wanted.merchant,
            types=tuple(dict.fromkeys(wanted.types)),
            secret=new_secret(os.urandom(SECRET_BYTES)),
            previous_secret=None,
            created_at=by.now,
        )
        async with db.write() as conn:
            await webhook_admin.add(conn, endpoint, by)
        return {**endpoint_view(endpoint), "secret": endpoint.secret}

    print_one(with_database(config, work), as_json=as_json)
    _say_keep(as_json=as_json)


@endpoints.command(
    "list", epilog=examples("settler webhook endpoint list", "settler webhook endpoint list --all --json")
)
def list_(
    all_: Annotated[bool, typer.Option("--all", help="Those that were removed or disabled, too.")] = False,
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Lists endpoints, newest first; never their secrets."""

    async def work(_settings: Settings, db: Database) -> list[Json]:
        from settler.api.views import endpoint_view
        from settler.storage import webhooks

        async with db.read() as conn:
            found = await webhooks.find_endpoints(conn, is_live=None if all_ else True, limit=_LISTED)
        return [endpoint_view(endpoint) for endpoint in found]

    print_list(with_database(config, work), _COLUMNS, as_json=as_json, nothing="no webhook endpoints")


@endpoints.command(epilog=examples(f"settler webhook endpoint show {WHE}"))
def show(id_: Id, config: Config = CONFIG, as_json: AsJson = False) -> None:
    """Shows an endpoint, also one that is disabled; never its secret."""

    async def work(_settings: Settings, db: Database) -> Json:
        from settler.api.views import endpoint_view
        from settler.domain.delivery import EndpointId
        from settler.domain.errors import NotFound
        from settler.storage import webhooks

        async with db.read() as conn:
            found = await webhooks.get_endpoint(conn, EndpointId(id_))
        if found is None:
            raise NotFound(f"there is no webhook endpoint {id_!r}; see settler webhook endpoint list --all")
        return endpoint_view(found)

    print_one(with_database(config, work), as_json=as_json)


@endpoints.command(epilog=examples(f'settler webhook endpoint remove {WHE} --reason "moved to another host"'))
def remove(id_: Id, reason: Why = "", config: Config = CONFIG, as_json: AsJson = False) -> None:
    """Removes an endpoint: nothing more is sent there, what waits becomes dead letters. Again is no error."""

    async def verb(conn: AsyncConnection, by: By) -> Endpoint:
        from settler.domain.delivery import EndpointId
        from settler.storage import webhook_admin

        return await webhook_admin.remove(conn, EndpointId(id_), by)

    print_one(_changed(config, reason, verb), as_json=as_json)


@endpoints.command(epilog=examples(f'settler webhook endpoint enable {WHE} --reason "it is deployed again"'))
def enable(id_: Id, reason: Why = "", config: Config = CONFIG, as_json: AsJson = False) -> None:
    """Takes up an endpoint that was removed, or that answered 410 Gone. It gets the events from now on; what it missed
    comes by a replay.
    """

    async def verb(conn: AsyncConnection, by: By) -> Endpoint:
        from settler.domain.delivery import EndpointId
        from settler.storage import webhook_admin

        return await webhook_admin.enable(conn, EndpointId(id_), by)

    print_one(_changed(config, reason, verb), as_json=as_json)


@endpoints.command(
    epilog=examples(
        f"settler webhook endpoint rotate {WHE}",
        f'settler webhook endpoint rotate {WHE} --overlap-s 0 --reason "it stood in a log"',
    )
)
def rotate(
    id_: Id,
    overlap_s: Annotated[
        int,
        typer.Option(
            "--overlap-s",
            min=0,
            max=OVERLAP_MAX_S,
            help="Seconds for which the secret before still signs as well; 0: no longer.",
            metavar="SECONDS",
        ),
    ] = OVERLAP_S,
    reason: Why = "",
    config: Config = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Gives an endpoint a new signing secret and shows it, once. Until the overlap ends webhooks are signed with both.

    Two secrets sign at most: rotated again within the overlap, the oldest of the three is gone at once.
    """
    secrets: list[str] = []

    async def verb(conn: AsyncConnection, by: By) -> Endpoint:
        from settler.domain.delivery import EndpointId
        from settler.storage import webhook_admin
        from settler.webhook.sign import SECRET_BYTES, new_secret

        secrets.append(new_secret(os.urandom(SECRET_BYTES)))
        return await webhook_admin.rotate(conn, EndpointId(id_), by, new_secret=secrets[0], overlap_s=overlap_s)

    changed = _changed(config, reason, verb)
    print_one({**changed, "secret": secrets[0]}, as_json=as_json)
    _say_keep(as_json=as_json)


def _changed(config: Path, reason: str, verb: Verb) -> Json:
    """The endpoint as it is once `verb` is committed."""

    async def work(_settings: Settings, db: Database) -> Json:
        from settler.api.views import endpoint_view
        from settler.domain.errors import NotFound

        try:
            async with db.write() as conn:
                return endpoint_view(await verb(conn, _by(reason)))
        except NotFound as error:
            raise NotFound(f"{error}; see settler webhook endpoint list --all") from error

    return with_database(config, work)


def _by(reason: str) -> By:
    from settler.clock import SystemClock
    from settler.domain.operator import By

    return By(who=operator(), reason=reason, now=SystemClock().now())


def _say_keep(*, as_json: bool) -> None:
    if not as_json:
        print("keep the secret: it is not shown again", file=sys.stderr)
